"""What is OpenVINO's own: the IR zip, and which file is read as what."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from runtime_models import TFLITE, ir_zip, onnx_bytes, onnx_model, value, zipped

from edgewise_agent.runtimes import RuntimeFailure, open_runtime

XML = b"<?xml version='1.0'?><net name='n' version='11'><layers/><edges/></net>"


def refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "blob"
    path.write_bytes(data)
    with pytest.raises(RuntimeFailure) as caught:
        open_runtime("openvino", path)
    assert caught.value.code == "load-failed"
    return str(caught.value)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"model.xml": XML}, "expected ('model.xml', 'model.bin'), got ['model.xml']"),
        ({"model.xml": XML, "model.bin": b"", "other": b""}, "expected ('model.xml', 'model.bin'), got"),
        ({"../model.xml": XML, "model.bin": b""}, "expected ('model.xml', 'model.bin'), got"),
        ({"model.xml": b"not XML", "model.bin": b""}, "model.xml: expected XML"),
        ({"model.xml": onnx_model(), "model.bin": b""}, "model.xml: expected XML"),
        ({"model.xml": XML, "model.bin": b""}, "expected a model with inputs and outputs"),
    ],
    ids=["one", "three", "elsewhere", "text", "onnx", "no-model"],
)
def test_a_zip_of_anything_else_is_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    assert said in refusal(tmp_path, zipped(members))


def test_a_compressed_zip_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = zipped({"model.xml": XML + b" " * 10_000_000, "model.bin": b""}, zipfile.ZIP_DEFLATED)
    assert "expected model.xml stored" in refusal(tmp_path, bomb)


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(ir_zip(onnx_model(), tmp_path))
    data[data.index(b"<net") + 1] ^= 1
    assert "CRC" in refusal(tmp_path, bytes(data))


def test_no_other_frontend_reads_a_file(tmp_path: Path) -> None:
    """OpenVINO could read TFLite as well: a device that runs it takes what the compiler makes for it alone."""
    assert "cannot load" in refusal(tmp_path, TFLITE.read_bytes())
    assert "cannot load" in refusal(tmp_path, XML)


def test_outputs_of_one_tensor_keep_their_names(tmp_path: Path) -> None:
    """Where OpenVINO merges nodes, a tensor has several names."""
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"]),
        *(helper.make_node("Identity", ["hidden"], [name]) for name in ("scores", "embedding")),
    ]
    outputs = [value(name, np.float32, ["n", 2]) for name in ("scores", "hidden", "embedding")]
    model = onnx_bytes(nodes, [value("x", np.float32, ["n", 2])], outputs)
    for data in (model, ir_zip(model, tmp_path)):
        path = tmp_path / "blob"
        path.write_bytes(data)
        runtime = open_runtime("openvino", path)
        assert [tensor.name for tensor in runtime.describe()[1]] == ["scores", "hidden", "embedding"]
        got = runtime.infer({"x": np.array([[-1, 2]], dtype=np.float32)})
        assert {name: array.tolist() for name, array in got.items()} == {name: [[0, 2]] for name in got}

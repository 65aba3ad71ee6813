"""What is onnxruntime's own: every datatype, scalars, LoRA adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper
from runtime_models import onnx_bytes, string_onnx, value

from edgewise.bundle import Tensor
from edgewise_agent.runtimes import RuntimeFailure, open_runtime
from edgewise_agent.runtimes.tensors import NUMPY

RANK = 2


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("datatype", NUMPY)
def test_every_datatype_comes_and_goes_as_it_is(tmp_path: Path, name: str, datatype: str) -> None:
    dtype = NUMPY[datatype]  # type: ignore[index]
    given = np.array([0, 1, 1, 0] if datatype == "BOOL" else [0, 1, 2, 3]).astype(dtype)
    same = onnx_bytes(
        [helper.make_node("Identity", ["x"], ["y"])], [value("x", dtype, ["n"])], [value("y", dtype, ["n"])]
    )
    runtime = open_runtime(name, write(tmp_path, same))
    assert [tensor.datatype for tensors in runtime.describe() for tensor in tensors] == [datatype, datatype]
    got = runtime.infer({"x": given})["y"]
    assert got.dtype == given.dtype and not np.shares_memory(got, given)
    np.testing.assert_array_equal(got, given)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_strings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeFailure, match=r"text: cannot serve .*string.*; expected one of BOOL") as caught:
        open_runtime(name, write(tmp_path, string_onnx()))
    assert caught.value.code == "load-failed"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_bfloat16_is_refused(tmp_path: Path, name: str) -> None:
    tensors = [helper.make_tensor_value_info(each, onnx.TensorProto.BFLOAT16, ["n"]) for each in ("x", "y")]
    same = onnx_bytes([helper.make_node("Identity", ["x"], ["y"])], tensors[:1], tensors[1:])
    with pytest.raises(RuntimeFailure, match=r"x: cannot serve .*bf"):
        open_runtime(name, write(tmp_path, same))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_scalar_beside_a_batch_as_a_sample_rate(tmp_path: Path, name: str) -> None:
    """Scalar in, scalar out: what silero VAD's ``sr`` is."""
    nodes = [
        helper.make_node("Cast", ["sr"], ["rate"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "rate"], ["y"]),
        helper.make_node("Identity", ["sr"], ["same"]),
    ]
    inputs = [value("x", np.float32, ["n", 2]), value("sr", np.int64, [])]
    outputs = [value("y", np.float32, ["n", 2]), value("same", np.int64, [])]
    runtime = open_runtime(name, write(tmp_path, onnx_bytes(nodes, inputs, outputs)))
    assert Tensor(name="sr", datatype="INT64", shape=[]) in runtime.describe()[0]
    assert Tensor(name="same", datatype="INT64", shape=[]) in runtime.describe()[1]
    for rate in (16, 8):
        got = runtime.infer({"x": np.ones((3, 2), dtype=np.float32), "sr": np.array(rate)})
        assert got["y"].tolist() == [[rate, rate]] * 3
        assert got["same"].shape == () and got["same"] == rate


def lora_model() -> bytes:
    """y = x + x A B, with A and B of rank 0 unless an adapter brings others."""
    nodes = [
        helper.make_node("MatMul", ["x", "lora_A"], ["down"]),
        helper.make_node("MatMul", ["down", "lora_B"], ["up"]),
        helper.make_node("Add", ["x", "up"], ["y"]),
    ]
    parameters: list[tuple[str, list[int | str]]] = [("lora_A", [3, "rank"]), ("lora_B", ["rank", 3])]
    inputs = [value("x", np.float32, ["n", 3]), *(value(name, np.float32, shape) for name, shape in parameters)]
    empty = {"lora_A": np.zeros((3, 0), dtype=np.float32), "lora_B": np.zeros((0, 3), dtype=np.float32)}
    return onnx_bytes(nodes, inputs, [value("y", np.float32, ["n", 3])], empty)


def lora_adapter(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """An adapter file, and its A and B."""
    random = np.random.default_rng(1)
    a, b = random.normal(size=(3, RANK)).astype(np.float32), random.normal(size=(RANK, 3)).astype(np.float32)
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    values = {"lora_A": a, "lora_B": b}
    adapter.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in values.items()})
    adapter.export_adapter(str(path))
    return a, b


def test_an_adapter_is_active_in_every_inference(tmp_path: Path) -> None:
    model, path = write(tmp_path, lora_model()), tmp_path / "adapter"
    a, b = lora_adapter(path)
    plain, adapted = open_runtime("onnxruntime", model), open_runtime("onnxruntime", model, adapter=path)
    assert plain.describe() == adapted.describe()
    assert [tensor.name for tensor in adapted.describe()[0]] == ["x"]
    x = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(adapted.infer({"x": x})["y"], x + x @ a @ b, atol=1e-5)
        np.testing.assert_array_equal(plain.infer({"x": x})["y"], x)


def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    model, path = write(tmp_path, lora_model()), tmp_path / "adapter"
    for data in (b"", b"no adapter at all, but some bytes more than its header has"):
        path.write_bytes(data)
        with pytest.raises(RuntimeFailure, match="cannot load the adapter adapter: ") as caught:
            open_runtime("onnxruntime", model, adapter=path)
        assert caught.value.code == "load-failed"

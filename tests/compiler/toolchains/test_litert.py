"""ONNX -> TFLite in its own environment: every mode, on the runtime that a device uses, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgewise_agent.runtimes import open_runtime
from edgewise_compiler.toolchains import litert
from edgewise_compiler.toolchains.litert import Job, Mode, TensorSpec
from edgewise_compiler.toolchains.process import ToolchainFailed

from .conftest import OUTPUTS, Net, snr

pytestmark = pytest.mark.toolchain

LEAST_SNR: dict[Mode, float] = {"fp32": 100, "fp16": 60, "int8": 30, "int8x16": 30, "dynamic": 30, "weight4": 12}


def convert(net: Net, folder: Path, mode: Mode, *, nhwc: bool = False) -> tuple[Path, litert.Converted]:
    """Into ``folder``, whose float conversion is shared."""
    out = folder / f"{mode}.tflite"
    job = Job(
        model=net.path,
        out=out,
        mode=mode,
        inputs=net.inputs,
        outputs=OUTPUTS,
        float_model=folder / "float.tflite",
        calibration=net.calibration,
        nhwc=nhwc,
    )
    return out, litert.convert(job, lambda fraction, text: None)


@pytest.mark.parametrize("kind", ["cnn", "conv1d", "mlp"])
def test_every_mode_answers_as_the_source_and_is_smaller(kind: str, net: Callable[[str], Net], tmp_path: Path) -> None:
    made, sizes = net(kind), {}
    for mode, least in LEAST_SNR.items():
        path, converted = convert(made, tmp_path, mode)
        assert [(t.name, t.dtype) for t in converted.inputs] == [("input.1", "float32")]
        assert {(t.name, t.dtype) for t in converted.outputs} == {(name, "float32") for name in OUTPUTS}
        answers = open_runtime("litert", path).infer({"input.1": made.items})
        for name in OUTPUTS:
            assert snr(made.answers[name], answers[name]) > least, (mode, name)
            if mode == "fp32":
                np.testing.assert_allclose(answers[name], made.answers[name], rtol=1e-4, atol=1e-4)
        sizes[mode] = path.stat().st_size
    assert sizes["fp32"] > sizes["fp16"] > sizes["int8"] > sizes["weight4"]
    assert sizes["fp16"] > sizes["dynamic"]


def test_a_divisor_near_zero_is_not_rounded_to_it(net: Callable[[str], Net], tmp_path: Path) -> None:
    made = net("ratio")
    path, _ = convert(made, tmp_path, "int8")
    answers = open_runtime("litert", path).infer({"input.1": made.items})
    assert all(snr(made.answers[name], answers[name]) > 10 for name in OUTPUTS)


def test_channels_last(net: Callable[[str], Net], tmp_path: Path) -> None:
    made = net("cnn")
    for mode in ("fp32", "int8"):
        path, converted = convert(made, tmp_path, mode, nhwc=True)  # type: ignore[arg-type]
        assert converted.inputs[0].shape == (1, 12, 12, 1)
        answers = open_runtime("litert", path).infer({"input.1": np.ascontiguousarray(np.moveaxis(made.items, 1, -1))})
        assert snr(made.answers["file"], answers["file"]) > LEAST_SNR[mode]  # type: ignore[index]


def test_the_same_model_gives_the_same_bytes(net: Callable[[str], Net], tmp_path: Path) -> None:
    made = net("mlp")
    files = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        files.append([convert(made, folder, mode)[0].read_bytes() for mode in ("fp32", "int8")])
    assert files[0] == files[1]


def test_an_operator_without_a_form_is_named(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"], name="where_it_is")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2, "m"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    job = Job(
        model=tmp_path / "m.onnx",
        out=tmp_path / "out.tflite",
        mode="fp32",
        inputs=[TensorSpec("x", "float32", (1, 4))],
        outputs=["y"],
        float_model=tmp_path / "float.tflite",
    )
    with pytest.raises(ToolchainFailed, match="NonZero") as caught:
        litert.convert(job, lambda fraction, text: None)
    assert caught.value.code == "unsupported"
    assert [(node.node, node.op) for node in caught.value.unsupported] == [("where_it_is", "NonZero")]
    assert not job.out.exists() and not job.float_model.exists()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"another": np.zeros((2, 16), np.float32)}, "none came for input.1"),
        ({"input.1": np.zeros((0, 16), np.float32)}, "one item or more"),
        ({"input.1": np.zeros((2, 5), np.float32)}, "got \\[1, 5\\]"),
    ],
)
def test_calibration_data_that_does_not_fit(
    arrays: dict[str, np.ndarray], says: str, net: Callable[[str], Net], tmp_path: Path
) -> None:
    made = net("mlp")
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ToolchainFailed, match=says):
        convert(Net(made.path, tmp_path / "bad.npz", made.items, made.answers), tmp_path, "int8")


def test_a_deadline_ends_it(net: Callable[[str], Net], tmp_path: Path) -> None:
    made = net("mlp")
    job = Job(
        model=made.path,
        out=tmp_path / "out.tflite",
        mode="fp32",
        inputs=made.inputs,
        outputs=OUTPUTS,
        float_model=tmp_path / "float.tflite",
    )
    with pytest.raises(ToolchainFailed, match="not done after 0 s") as caught:
        litert.convert(job, lambda fraction, text: None, timeout=0.2)
    assert caught.value.code == "toolchain-timeout"

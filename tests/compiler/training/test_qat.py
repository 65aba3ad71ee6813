"""QAT trains the QDQ graph that is deployed, and onnxruntime answers from the written file as the module does."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from torch import nn

from edgewise_compiler.errors import CompileError
from edgewise_compiler.training.onnx_torch import OnnxModule, to_module
from edgewise_compiler.training.qat import QatModule, prepare_qat

Floats = npt.NDArray[np.float32]
TRAIN = 1200
BITS = {"conv1": 3, "conv2": 3, "conv3": 3, "hidden": 3}


class Digits:
    """The digits that come with scikit-learn: [n, 1, 8, 8] in 0..1, classes."""

    def __init__(self) -> None:
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        self.items: Floats = (images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        self.labels = labels[order].astype(np.int64)


def fit(student: nn.Module, items: Floats, wanted: torch.Tensor, epochs: int, rate: float) -> None:
    """By cross entropy against labels, or against another model's probabilities."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(student.parameters(), rate)
    inputs = torch.from_numpy(items)
    student.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(items)).split(64):
            answer = student(inputs[rows])
            scores = answer[0] if isinstance(answer, tuple) else answer
            loss = nn.functional.cross_entropy(scores, wanted[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            optimizer.step()
    student.eval()


def answers(model: onnx.ModelProto, items: Floats) -> Floats:
    """The first output, by onnxruntime."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: items})[0])


def scores_of(module: nn.Module, items: Floats) -> Floats:
    """The first output, by the module."""
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(items))[0].numpy())


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """One batch."""

    def __init__(self, items: Floats) -> None:
        self.parts = iter([{"input": items}])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self.parts, None)


def quantized(path: Path, items: Floats, kind: QuantType) -> onnx.ModelProto:
    """What onnxruntime's static quantization makes of a model, its last layer float."""
    out = path.with_suffix(".qdq.onnx")
    quantize_static(
        str(path), str(out), Reader(items), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=kind,
        weight_type=QuantType.QInt8, nodes_to_exclude=["last"],
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
    )  # fmt: skip
    return onnx.load_model(str(out))


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Made once."""
    return Digits()


@pytest.fixture(scope="module")
def source(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CNN trained on digits, as ONNX with names for its nodes."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    fit(net, digits.items[:TRAIN], torch.from_numpy(digits.labels[:TRAIN]), 12, 3e-3)
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    program = torch.onnx.export(
        net, (torch.from_numpy(digits.items[:2]),), dynamo=True, input_names=["input"], output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=20, verbose=False,
    )  # fmt: skip
    assert program is not None
    model = program.model_proto
    names = iter(["conv1", "conv2", "conv3", "hidden", "last"])
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            node.name = next(names)
    onnx.save_model(model, str(path))
    return path


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
def test_the_untrained_module_is_the_file(source: Path, digits: Digits, kind: QuantType) -> None:
    qdq = quantized(source, digits.items[:TRAIN], kind)
    prepared = prepare_qat(qdq, onnx.load_model(str(source)))
    assert prepared.unmatched == []
    items = digits.items[TRAIN:]
    expected, written = answers(qdq, items), answers(prepared.write(), items)
    got = scores_of(prepared.module, items)
    assert np.abs(got - expected).mean() < 1e-4 * np.abs(expected).max()
    assert np.abs(written - expected).mean() < 1e-4 * np.abs(expected).max()
    assert [n.op_type for n in prepared.write().graph.node].count("QuantizeLinear") == [
        n.op_type for n in qdq.graph.node
    ].count("QuantizeLinear")


def test_training_brings_narrow_weights_back(source: Path, digits: Digits) -> None:
    train, held = digits.items[:TRAIN], digits.items[TRAIN:]
    labels = digits.labels[TRAIN:]
    fp32 = onnx.load_model(str(source))
    qdq = quantized(source, train, QuantType.QUInt8)
    teacher = to_module(fp32)
    before = prepare_qat(qdq, fp32, bits=dict.fromkeys(BITS, 2))

    def accuracy(scores: Floats) -> float:
        return float((scores.argmax(1) == labels).mean())

    full = accuracy(answers(fp32, held))
    lost = accuracy(answers(before.write(), held))
    assert full - lost > 0.1, "it should hurt without training, or this test shows nothing"

    with torch.no_grad():
        wanted = teacher(torch.from_numpy(train))[0].softmax(1)
    fit(before.module, train, wanted, 15, 1e-3)
    written = before.write()
    scores, module_scores = answers(written, held), scores_of(before.module, held)
    assert full - accuracy(scores) < (full - lost) / 3
    assert (scores.argmax(1) == module_scores.argmax(1)).mean() >= 0.99
    assert np.abs(scores - module_scores).mean() < 1e-4 * np.abs(scores).max()


def test_narrow_weights_are_stored_in_half_a_byte_and_run_in_int8(source: Path, digits: Digits, tmp_path: Path) -> None:
    fp32 = onnx.load_model(str(source))
    qdq = quantized(source, digits.items[:TRAIN], QuantType.QUInt8)
    written = prepare_qat(qdq, fp32, bits=BITS).write()
    packed = [t for t in written.graph.initializer if t.data_type == TensorProto.INT4]
    assert len(packed) == len(BITS)
    assert all(np.abs(numpy_helper.to_array(t).astype(np.int8)).max() <= 3 for t in packed)
    assert written.ByteSize() < 0.75 * qdq.ByteSize()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(written.SerializeToString(), options, providers=["CPUExecutionProvider"])
    run = [node.op_type for node in onnx.load_model(options.optimized_model_filepath).graph.node]
    assert run.count("QLinearConv") == 3
    assert "Conv" not in run


def test_what_is_learned_is_written(source: Path, digits: Digits) -> None:
    """Activation scales, weight scales, and weights that stayed float."""
    fp32 = onnx.load_model(str(source))
    prepared = prepare_qat(quantized(source, digits.items[:TRAIN], QuantType.QUInt8), fp32)
    first = prepared.write()
    wanted = torch.from_numpy(digits.labels[:TRAIN])
    fit(prepared.module, digits.items[:TRAIN], wanted, 1, 1e-3)
    second = prepared.write()
    assert [t.name for t in first.graph.initializer] == [t.name for t in second.graph.initializer]
    old = {t.name: numpy_helper.to_array(t) for t in first.graph.initializer}
    changed = {t.name for t in second.graph.initializer if not np.array_equal(numpy_helper.to_array(t), old[t.name])}
    for node in second.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert node.input[1] in changed
        if node.name == "last":
            assert set(node.input[1:3]) <= changed
    assert answers(prepare_qat(second, fp32).write(), digits.items[:50]).shape == (50, 10)


def test_a_copy_can_be_trained_and_written(source: Path, digits: Digits) -> None:
    import copy

    fp32 = onnx.load_model(str(source))
    prepared: QatModule = prepare_qat(quantized(source, digits.items[:200], QuantType.QUInt8), fp32, bits={"conv3": 4})
    student: OnnxModule = copy.deepcopy(prepared.module)
    fit(student, digits.items[:200], torch.from_numpy(digits.labels[:200]), 1, 1e-3)
    items = digits.items[TRAIN : TRAIN + 200]
    written = answers(prepared.write(student), items)
    assert (written.argmax(1) == scores_of(student, items).argmax(1)).mean() >= 0.98
    assert not np.array_equal(written, answers(prepared.write(), items))


def test_packed_weights_are_known_again(source: Path, digits: Digits) -> None:
    fp32 = onnx.load_model(str(source))
    qdq = quantized(source, digits.items[:200], QuantType.QUInt8)
    narrow = prepare_qat(qdq, fp32, bits=BITS).write()
    again = prepare_qat(narrow, fp32).write()
    assert [t.data_type for t in again.graph.initializer].count(TensorProto.INT4) == len(BITS)
    items = digits.items[:200]
    assert np.abs(answers(again, items) - answers(narrow, items)).max() < 1e-2


def test_bits_for_something_else_are_refused(source: Path, digits: Digits) -> None:
    fp32 = onnx.load_model(str(source))
    qdq = quantized(source, digits.items[:200], QuantType.QUInt8)
    with pytest.raises(CompileError, match=r"quantized weight \(conv1, conv2, conv3, hidden\), got 'last'"):
        prepare_qat(qdq, fp32, bits={"last": 4})
    with pytest.raises(CompileError, match="expected 2 to 8 bits, got 1"):
        prepare_qat(qdq, fp32, bits={"conv1": 1})

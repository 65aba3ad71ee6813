"""Masks, adapters, distillation and quantization-aware training as passes, judged by onnxruntime on the digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgewise_compiler.adapter import split, write
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Refusal, find
from edgewise_compiler.training.base import Training

PASSES = ("qat", "prune", "mask", "distill", "lora")


def weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    graph = onnx.load(path).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name.endswith(".w")}


@pytest.mark.parametrize("name", PASSES)
def test_what_trains_says_so_and_has_a_process_of_its_own(name: str) -> None:
    does = find(name)
    assert isinstance(does, Training) and does.trains and does.isolated and does.seeded and does.lossy
    assert does.data == "train" and does.paper and "torch" in does.packages


def test_what_is_not_installed_is_named_with_the_command() -> None:
    class Needy(Training):
        name = "needy"
        modules = ("torch", "no_such_module_here")

    assert Needy().missing() == "pass needy needs no_such_module_here: pip install 'edgewise-compiler[torch]'"


def test_two_of_four_neighbours_are_zero_in_what_is_written(run_pass: Any, digits: Any) -> None:
    work = run_pass("mask", pattern="2:4", epochs=4)
    masked = 0
    for name, weight in weights(work.out).items():
        if weight.shape[1] % 4 or weight.size < 256:
            assert np.count_nonzero(weight) == weight.size, name
            continue
        fours = np.moveaxis(weight, 1, -1).reshape(-1, 4)
        assert (np.count_nonzero(fours, axis=1) <= 2).all(), name
        masked += 1
    assert masked == 5  # all but the stem, of one input channel, and the depthwise one
    assert digits.accuracy(work.out) > digits.accuracy(digits.model) - 0.02


def test_eighty_percent_zeros_compress_and_cost_little_when_the_rest_recovers(run_pass: Any, digits: Any) -> None:
    recovered = run_pass("mask", sparsity=0.8, steps=4, step_epochs=2, epochs=8, batch=32, learning_rate=3e-3)
    bare = run_pass("mask", sparsity=0.8, steps=1, step_epochs=0, epochs=0)
    for work in (recovered, bare):
        large = [weight for weight in weights(work.out).values() if weight.size >= 256]
        zeros = sum(int((weight == 0).sum()) for weight in large)
        assert zeros == pytest.approx(0.8 * sum(weight.size for weight in large), rel=0.01)
    source = digits.accuracy(digits.model)
    assert digits.accuracy(recovered.out) > source - 0.03
    assert digits.accuracy(bare.out) < source - 0.05
    assert any("no gain in speed" in text for text in recovered.notes)
    assert any("compressed" in text for text in recovered.notes)


def test_nothing_large_enough_to_mask_is_refused_with_the_layers(run_pass: Any) -> None:
    with pytest.raises(Refusal, match="nothing to mask") as caught:
        run_pass("mask", least=1_000_000)
    assert "block1" in {one.node for one in caught.value.unsupported}


def test_an_adapter_kept_apart_answers_as_the_one_that_was_merged(run_pass: Any, digits: Any) -> None:
    merged, apart = run_pass("lora", rank=4, epochs=3), run_pass("lora", rank=4, epochs=3, merge=False)
    model, file = onnx.load_model(str(apart.out)), apart.folder / "values.onnx_adapter"
    write(split(model), file)
    onnx.save_model(model, str(apart.out))
    base, without = digits.run(digits.model, digits.test), digits.run(apart.out, digits.test)
    adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    adapter.Load(str(file))
    options.add_active_adapter(adapter)
    with_it, together = digits.run(apart.out, digits.test, options), digits.run(merged.out, digits.test)
    for name in base:
        np.testing.assert_allclose(without[name], base[name], atol=1e-4)
        np.testing.assert_allclose(with_it[name], together[name], atol=1e-3)
        assert np.abs(with_it[name] - base[name]).max() > 0.1
    assert [one.name for one in onnxruntime.InferenceSession(str(apart.out)).get_inputs()] == ["input"]


def test_an_adapter_learns_what_the_labels_say(run_pass: Any, digits: Any) -> None:
    """Two classes change their names: the source is wrong on both, the adapter is not."""
    swap = np.array([0, 1, 2, 8, 4, 5, 6, 7, 3, 9])
    train = Data(digits.train.inputs, swap[digits.train.labels])
    work = run_pass("lora", data=train, rank=4, epochs=8, batch=32, learning_rate=3e-3)
    rows = np.isin(digits.test.labels, (3, 8))
    scores = digits.run(work.out, digits.test)["scores"]
    assert (scores.argmax(1) == swap[digits.test.labels])[rows].mean() > 0.9


def test_an_adapter_without_labels_is_refused(run_pass: Any, digits: Any) -> None:
    with pytest.raises(Refusal, match="needs labels"):
        run_pass("lora", data=Data(digits.train.inputs))


@pytest.fixture
def student(tmp_path: Path, digits: Any) -> Path:
    """The digits' net at half its width, with weights that are drawn anew by ``fresh``."""
    work = find("prune")  # the narrower graph, as pruning writes it
    path = tmp_path / "student"
    (tmp_path / "scratch").mkdir()
    from edgewise_compiler.passes import Work

    widths = {"block1": 8, "deep": 16}
    config = work.Config(widths=widths, speedup=None, round_to=4, steps=1, step_epochs=0, epochs=0)  # type: ignore[call-arg]
    work.run(
        Work(
            {"model": digits.model}, path, tmp_path / "scratch", config, digits.train, 0, "scores", "embedding", _quiet
        )
    )
    return path


def _quiet(fraction: float, text: str) -> None:
    pass


@pytest.mark.parametrize("loss", ["kd", "dkd"])
def test_a_student_from_nothing_learns_from_its_teacher_without_labels(
    loss: str, student: Path, run_pass: Any, digits: Any
) -> None:
    inputs = {"model": student, "teacher": digits.model}
    work = run_pass(
        "distill", inputs=inputs, data=Data(digits.train.inputs), fresh=True, loss=loss, temperature=2.0, epochs=15,
        batch=32, learning_rate=1e-2,
    )  # fmt: skip
    assert digits.accuracy(work.out) > digits.accuracy(digits.model) - 0.03


def test_a_student_learns_more_from_a_teacher_than_from_few_labels_alone(
    student: Path, run_pass: Any, digits: Any
) -> None:
    few = digits.train.take(slice(0, 80))
    taught, alone = (
        run_pass(
            "distill", inputs={"model": student, "teacher": digits.model}, fresh=True, epochs=40, batch=16,
            learning_rate=5e-3, **config, data=data,
        )
        for config, data in (
            ({"label_weight": 0.3}, few),
            ({"label_weight": 1.0, "feature_weight": 0.0}, few),
        )
    )  # fmt: skip
    assert digits.accuracy(taught.out) > digits.accuracy(alone.out) + 0.02


def test_a_teacher_without_the_students_outputs_is_refused(
    student: Path, tmp_path: Path, run_pass: Any, digits: Any
) -> None:
    teacher = onnx.load(digits.model)
    del teacher.graph.output[1]
    path = tmp_path / "teacher.onnx"
    onnx.save(teacher, path)
    with pytest.raises(Refusal, match="at least the outputs scores, embedding"):
        run_pass("distill", inputs={"model": student, "teacher": path}, epochs=1)


def test_data_of_another_model_is_an_error(run_pass: Any, digits: Any) -> None:
    with pytest.raises(CompileError, match="expected inputs input, got picture") as caught:
        run_pass("mask", data=Data({"picture": digits.train.inputs["input"]}))
    assert caught.value.code == "bad-data"


def test_a_graph_that_torch_has_no_form_for_is_refused_with_all_its_nodes(
    tmp_path: Path, run_pass: Any, digits: Any
) -> None:
    model = onnx.load(digits.model)
    for i, node in enumerate(node for node in model.graph.node if node.op_type == "Relu"):
        if i < 2:
            node.op_type, node.domain = "Strange", "some.where"
    model.opset_import.append(onnx.helper.make_opsetid("some.where", 1))
    path = tmp_path / "strange.onnx"
    onnx.save(model, path)
    with pytest.raises(Refusal) as caught:
        run_pass("mask", inputs={"model": path})
    assert [one.op for one in caught.value.unsupported] == ["some.where.Strange"] * 2


@pytest.mark.parametrize(
    ("name", "config"),
    [("mask", {"pattern": "2:4"}), ("lora", {"rank": 2}), ("lora", {"rank": 2, "merge": False})],
    ids=["mask", "lora", "adapter"],
)
def test_the_same_inputs_give_the_same_bytes(name: str, config: dict[str, Any], run_pass: Any) -> None:
    first, second = (run_pass(name, epochs=1, **config) for _ in range(2))
    assert first.out.read_bytes() == second.out.read_bytes()
    files = [work.folder / "values.onnx_adapter" for work in (first, second)]
    for work, file in zip((first, second), files, strict=True):
        if values := split(onnx.load_model(str(work.out))):
            write(values, file)
    assert files[0].exists() == files[1].exists() == ("merge" in config)
    assert not files[0].exists() or files[0].read_bytes() == files[1].read_bytes()


def test_quantization_aware_training_brings_three_bits_back(run_pass: Any, digits: Any) -> None:
    optimized = run_pass("optimize").out
    ranges = run_pass("calibrate", inputs={"model": optimized}, data=digits.train.take(slice(0, 200))).out
    quantized = run_pass("quantize", inputs={"model": optimized, "ranges": ranges}).out
    inputs = {"model": quantized, "float": optimized, "teacher": digits.model}
    plain = run_pass("qat", inputs=inputs, bits=3, epochs=0)
    first, second = (run_pass("qat", inputs=inputs, bits=3, epochs=6, batch=32, learning_rate=2e-3) for _ in range(2))
    wanted = digits.run(digits.model, digits.test)["scores"]

    def error(work: Any) -> float:
        return float(np.square(digits.run(work.out, digits.test)["scores"] - wanted).mean())

    assert digits.accuracy(first.out) > digits.accuracy(digits.model) - 0.01
    assert error(first) < 0.4 * error(plain)
    assert first.out.read_bytes() == second.out.read_bytes()
    assert any("[3] bits" in text for text in first.notes)

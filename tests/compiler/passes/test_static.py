"""Static int8 and what comes before and after it: calibrate, quantize, equalize, correct, sensitivity, mixed."""

from __future__ import annotations

import json
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Refusal
from edgewise_compiler.passes.calibrate import by_entropy, by_percentile
from edgewise_compiler.passes.graph import load
from edgewise_compiler.passes.mixed import choose, time_saved


def int8(bench, model, scheme="u8s8", method="minmax", **config):
    """(optimized, quantized) of a net."""
    base = bench.apply("optimize", model=bench.save(model))
    ranges = bench.apply("calibrate", model=base, method=method)
    return base, bench.apply("quantize", model=base, ranges=ranges, scheme=scheme, **config)


@pytest.mark.parametrize("scheme", ["u8s8", "s8s8"])
@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_int8_answers_as_float_does(bench, nets, scheme, method):
    base, quantized = int8(bench, nets(), scheme, method)
    assert bench.snr(base, quantized) > (20 if method == "entropy" else 25)


def test_the_last_layer_and_excluded_ones_stay_float(bench, nets):
    _, quantized = int8(bench, nets(), exclude=["depthwise1"])
    weights = {node.name: node.input[1] for node in load(quantized).graph.node if node.op_type in ("Conv", "Gemm")}
    makers = {name: node.op_type for node in load(quantized).graph.node for name in node.output}
    floats = {name for name, weight in weights.items() if weight not in makers}
    assert floats == {"head", "depthwise1"}
    assert "kept float: depthwise1, head" in bench.notes[0]


def test_the_embedding_is_not_rounded_to_256_values(bench, nets):
    _, quantized = int8(bench, nets())
    assert len(np.unique(bench.answers(quantized)[1])) > 300


def test_same_inputs_give_the_same_bytes(bench, nets):
    first, second = (int8(bench, nets())[1] for _ in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_four_bit_weights_are_half_a_byte_each(bench, nets):
    base, quantized = int8(bench, nets(), weight_bits=4)
    stored = [tensor for tensor in load(quantized).graph.initializer if tensor.data_type == TensorProto.INT4]
    assert len(stored) == 5
    assert sum(len(tensor.raw_data) for tensor in stored) <= sum(np.prod(tensor.dims) for tensor in stored) // 2 + 5
    assert bench.snr(base, quantized) > 10


@pytest.mark.parametrize("config", [{}, {"weight_bits": 4}, {"last_float": False}], ids=["8 bits", "4 bits", "all"])
def test_lightened_it_computes_in_float_with_the_weights_it_has(bench, nets, operators, config):
    base, quantized = int8(bench, nets(), **config)
    light = bench.apply("lighten", model=quantized)
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(operators(light))
    assert light.stat().st_size < quantized.stat().st_size
    assert bench.snr(base, light) >= bench.snr(base, quantized) - 1, "no activation is rounded any more"


def test_lighten_refuses_what_has_no_small_weights(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets()))
    with pytest.raises(Refusal, match="no quantized weight"):
        bench.apply("lighten", model=base)


def test_what_touches_an_infinite_mask_stays_float(make_bench, build):
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m1"], name="first"),
        helper.make_node("Add", ["m1", "mask"], ["masked"], name="mask_it"),
        helper.make_node("Softmax", ["masked"], ["soft"], name="softmax"),
        helper.make_node("MatMul", ["soft", "w2"], ["m2"], name="second"),
        helper.make_node("MatMul", ["m2", "w3"], ["scores"], name="third"),
    ]
    weights = {f"w{i}": random.normal(size=(8, 8)).astype(np.float32) for i in (1, 2, 3)}
    model = build(nodes, {"x": ["n", 8], "mask": ["n", 8]}, {"scores": ["n", 8]}, weights)
    mask = np.where(random.random((20, 8)) < 0.3, -np.inf, 0).astype(np.float32)
    bench = make_bench(Data({"x": random.normal(size=(20, 8)).astype(np.float32), "mask": mask}))
    base, quantized = int8(bench, model)
    adds = [node for node in load(quantized).graph.node if node.name == "mask_it"]
    assert list(adds[0].input)[1] == "mask"
    assert bench.snr(base, quantized) > 25


def test_a_nan_in_calibration_is_refused(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets()))
    bench.data.inputs["input"][3, 0, 0, 0] = np.nan
    with pytest.raises(CompileError, match="is NaN on calibration data") as caught:
        bench.apply("calibrate", model=base)
    assert caught.value.code == "not-finite"


def test_nothing_to_quantize_is_refused_with_the_nodes(make_bench, build):
    model = build([helper.make_node("Exp", ["x"], ["y"])], {"x": ["n", 4]}, {"y": ["n", 4]}, {})
    bench = make_bench(Data({"x": np.ones((4, 4), np.float32)}))
    with pytest.raises(Refusal, match="nothing to quantize"):
        int8(bench, model)


def test_equalize_changes_no_answer_and_saves_an_uneven_net(bench, nets):
    model = nets(uneven=3000)
    base = bench.apply("optimize", model=bench.save(model))
    even = bench.apply("equalize", model=base)
    assert bench.difference(base, even) < 1e-4
    snrs = []
    for source in (base, even):
        ranges = bench.apply("calibrate", model=source)
        snrs.append(bench.snr(base, bench.apply("quantize", model=source, ranges=ranges, per_channel=False)))
    assert snrs[1] > snrs[0] + 10


def test_equalize_saves_per_channel_quantization_too(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets(uneven=3000)))
    even = bench.apply("equalize", model=base)
    snrs = []
    for source in (base, even):
        ranges = bench.apply("calibrate", model=source)
        snrs.append(bench.snr(base, bench.apply("quantize", model=source, ranges=ranges)))
    assert snrs[1] > snrs[0] + 10


def test_equalize_refuses_where_activations_are_bounded(make_bench, build):
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "w2": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        helper.make_node("Clip", ["c1", "low", "high"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["y"]),
    ]
    model = build(nodes, {"x": ["n", 4, 3, 3]}, {"y": ["n", 4, 3, 3]}, weights)
    bench = make_bench(Data({"x": np.ones((4, 4, 3, 3), np.float32)}))
    with pytest.raises(Refusal, match="nothing to equalize"):
        bench.apply("equalize", model=bench.save(model))


def test_correct_takes_off_the_mean_error(bench, nets):
    base, quantized = int8(bench, nets(uneven=50), weight_bits=4)
    corrected = bench.apply("correct", model=quantized, float=base)

    def bias(path):
        return np.abs((bench.answers(base)[1] - bench.answers(path)[1]).mean(axis=0)).mean()

    assert bias(corrected) < 0.5 * bias(quantized)
    assert bench.snr(base, corrected, 1) > bench.snr(base, quantized, 1)


def test_sensitivity_puts_the_layer_that_hurts_first(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets(uneven=3000, blocks=1)))
    ranges = bench.apply("calibrate", model=base)
    said = json.loads(bench.apply("sensitivity", model=base, ranges=ranges).read_text())
    # The uneven channels are between these two.
    assert {layer["node"] for layer in said["layers"][:2]} == {"stem", "depthwise0"}
    snrs = [layer["snr_db"] for layer in said["layers"]]
    assert snrs == sorted(snrs)
    assert said["all_snr_db"] <= snrs[0] + 1
    stem = next(layer for layer in said["layers"] if layer["node"] == "stem")
    assert (stem["macs"], stem["weight_bytes"]) == (16 * 12 * 12 * 27, 4 * (16 * 27 + 16))


def test_mixed_keeps_its_word_on_the_noise(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets(uneven=3000, blocks=1)))
    ranges = bench.apply("calibrate", model=base)
    hurts = bench.apply("sensitivity", model=base, ranges=ranges)
    layers = [layer["node"] for layer in json.loads(hurts.read_text())["layers"]]
    speed = bench.folder / "latency"
    rows = [{"node": name, "fp32_us": 10.0, "int8_us": 5.0} for name in layers]
    speed.write_text(json.dumps({"layers": rows, "switches": [], "fp32_us": 50, "int8_us": 25}))
    made = bench.apply("mixed", model=base, ranges=ranges, sensitivity=hurts, latency=speed, min_snr_db=25.0)
    assert "of 4 layers in int8" in bench.notes[0]
    whole = bench.apply("quantize", model=base, ranges=ranges)
    assert bench.snr(base, made) > 22 > bench.snr(base, whole)


def test_layer_latency_names_every_layer(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets()))
    ranges = bench.apply("calibrate", model=base)
    said = json.loads(bench.apply("layer_latency", model=base, ranges=ranges).read_text())
    assert {layer["node"] for layer in said["layers"]} == {
        "stem", "depthwise0", "pointwise0", "depthwise1", "pointwise1", "head",
    }  # fmt: skip
    for side in ("fp32_us", "int8_us"):
        assert all(layer[side] > 0 for layer in said["layers"])
        assert 0.5 * said[side] < sum(layer[side] for layer in said["layers"]) < 2 * said[side]
    assert [(switch["first"], switch["second"]) for switch in said["switches"]] == [
        ("stem", "depthwise0"), ("depthwise0", "pointwise0"), ("pointwise0", "depthwise1"),
        ("depthwise1", "pointwise1"), ("pointwise1", "head"),
    ]  # fmt: skip


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(-5, 10), st.floats(0, 6)), min_size=1, max_size=7),
    st.floats(0.05, 3),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_choose_is_the_best_of_all_choices(layers, allowed, keep_last):
    noise, saved, costs = (np.array(column) for column in zip(*layers, strict=True))
    switches = {(i, i + 1): float(costs[i]) for i in range(len(layers) - 1)}
    stay = [len(layers) - 1] if keep_last else []
    chosen = choose(noise, saved, allowed, switches, stay)
    assert noise[chosen].sum() <= allowed * (1 + 1e-6)
    assert not chosen[stay].any()
    best = max(
        time_saved(take, saved, switches)
        for take in (np.array(bits, dtype=bool) for bits in product([False, True], repeat=len(layers)))
        if noise[take].sum() <= allowed and not take[stay].any()
    )
    assert time_saved(chosen, saved, switches) >= best - 1e-3 * max(1.0, abs(best))


def test_percentile_and_entropy_cut_a_lonely_outlier():
    values = np.concatenate([np.random.default_rng(0).normal(size=100_000), [40.0]])
    span = (float(values.min()), float(values.max()))
    counts = np.histogram(values, bins=2048, range=span)[0].astype(np.float64)
    for low, high in (by_percentile(counts, span, 99.99), by_entropy(counts, span)):
        assert -6 < low < -2
        assert 2 < high < 8


def test_a_bias_that_layers_share_is_copied_under_a_name_of_its_own(make_bench, build):
    """A TensorFlow export shares one bias of zeros, and has a tensor that is called as onnxruntime calls its copy."""
    random = np.random.default_rng(0)
    weights = {f"w{index}": random.normal(size=(4, 4, 3)).astype(np.float32) / 3 for index in range(3)}
    weights["bias"] = np.zeros(4, np.float32)
    names = ["x", "bias1", "bias2", "y"]
    nodes = [
        helper.make_node("Conv", [before, f"w{index}", "bias"], [after], name=f"conv{index}", pads=[1, 1])
        for index, (before, after) in enumerate(pairwise(names))
    ]
    bench = make_bench(Data({"x": random.normal(size=(24, 4, 16)).astype(np.float32)}))
    base, quantized = int8(bench, build(nodes, {"x": ["n", 4, 16]}, {"y": ["n", 4, 16]}, weights), last_float=False)
    assert bench.snr(base, quantized) > 20


def test_what_the_quantizer_cannot_take_stays_float(make_bench, build):
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(8, 4, 3, 3)),
        "w2": random.normal(size=(8, 4, 3, 3)),
        "b2": random.normal(size=8),
    }
    weights |= {"w3": random.normal(size=(5, 8, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["c1", "w2", "b2"], ["c2"], name="grouped", group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c2", "w3"], ["scores"], name="last"),
    ]
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    model = build(nodes, {"x": ["n", 4, 6, 6]}, {"scores": ["n", 5, 6, 6]}, weights)
    bench = make_bench(Data({"x": random.normal(size=(16, 4, 6, 6)).astype(np.float32)}))
    base, quantized = int8(bench, model)
    assert bench.notes == ["kept float: grouped, last"]
    assert bench.snr(base, quantized) > 30

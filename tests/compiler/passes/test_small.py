"""Passes that need no calibration ranges: half precision, small weights, dynamic int8, fusions."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgewise_compiler.data import Data
from edgewise_compiler.passes import Refusal
from edgewise_compiler.passes.graph import load, session, signature, whole
from edgewise_compiler.passes.grid import to_grid

WIDE, TOKENS, WORDS, HEADS = 32, 12, 200, 4


def normal(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def encoder(build):
    """ids, mask int64 [n, t] -> out [n, t, 32]: an embedding table and one BERT layer, written as torch exports it."""
    weights = {"table": normal(WORDS, WIDE), "head_shape": np.array([0, 0, HEADS, WIDE // HEADS], np.int64)}
    weights |= {"flat": np.array([0, 0, WIDE], np.int64), "scale": np.float32(np.sqrt(WIDE // HEADS))}
    weights |= {"axes": np.array([1, 2], np.int64), "one": np.float32(1), "low": np.float32(-3.4e38)}
    weights |= {"sqrt2": np.float32(np.sqrt(2)), "half": np.float32(0.5)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], name="embed"),
        helper.make_node("Unsqueeze", ["mask", "axes"], ["m1"], name="unsqueeze"),
        helper.make_node("Cast", ["m1"], ["m2"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "m2"], ["m3"], name="sub"),
        helper.make_node("Mul", ["m3", "low"], ["m4"], name="lowest"),
    ]
    for index, part in enumerate("qkv"):
        weights |= {
            f"{part}.w": normal(WIDE, WIDE, seed=index + 1, scale=0.2),
            f"{part}.b": normal(WIDE, seed=index + 5),
        }
        perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [
            helper.make_node("MatMul", ["x0", f"{part}.w"], [f"{part}.m"], name=f"{part}.product"),
            helper.make_node("Add", [f"{part}.b", f"{part}.m"], [f"{part}.a"], name=f"{part}.bias"),
            helper.make_node("Reshape", [f"{part}.a", "head_shape"], [f"{part}.r"], name=f"{part}.reshape"),
            helper.make_node("Transpose", [f"{part}.r"], [f"{part}.t"], name=f"{part}.transpose", perm=perm),
        ]
    weights |= {"n0.w": np.ones(WIDE, np.float32), "n0.b": np.zeros(WIDE, np.float32)}
    nodes.insert(1, helper.make_node("LayerNormalization", ["x", "n0.w", "n0.b"], ["x0"], name="norm0", axis=-1))
    weights |= {
        f"{name}.w": normal(*shape, seed=11, scale=0.2)
        for name, shape in {"o": (WIDE, WIDE), "up": (WIDE, 64), "down": (64, WIDE)}.items()
    }
    weights |= {f"{name}.b": normal(size, seed=12) for name, size in {"o": WIDE, "up": 64, "down": WIDE}.items()}
    nodes += [
        helper.make_node("MatMul", ["q.t", "k.t"], ["s1"], name="scores"),
        helper.make_node("Div", ["s1", "scale"], ["s2"], name="div"),
        helper.make_node("Add", ["s2", "m4"], ["s3"], name="masked"),
        helper.make_node("Softmax", ["s3"], ["s4"], name="softmax", axis=3),
        helper.make_node("MatMul", ["s4", "v.t"], ["c1"], name="context"),
        helper.make_node("Transpose", ["c1"], ["c2"], name="back", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["c2", "flat"], ["c3"], name="flatten"),
        helper.make_node("MatMul", ["c3", "o.w"], ["o1"], name="o.product"),
        helper.make_node("Add", ["o.b", "o1"], ["o2"], name="o.bias"),
        helper.make_node("Add", ["o2", "x0"], ["o3"], name="skip1"),
        helper.make_node("LayerNormalization", ["o3", "n0.w", "n0.b"], ["x1"], name="norm1", axis=-1),
        helper.make_node("MatMul", ["x1", "up.w"], ["u1"], name="up.product"),
        helper.make_node("Add", ["up.b", "u1"], ["u2"], name="up.bias"),
        helper.make_node("Div", ["u2", "sqrt2"], ["g1"], name="g.div"),
        helper.make_node("Erf", ["g1"], ["g2"], name="g.erf"),
        helper.make_node("Add", ["g2", "one"], ["g3"], name="g.add"),
        helper.make_node("Mul", ["u2", "g3"], ["g4"], name="g.mul"),
        helper.make_node("Mul", ["g4", "half"], ["g5"], name="g.half"),
        helper.make_node("MatMul", ["g5", "down.w"], ["d1"], name="down.product"),
        helper.make_node("Add", ["down.b", "d1"], ["d2"], name="down.bias"),
        helper.make_node("Add", ["d2", "x1"], ["d3"], name="skip2"),
        helper.make_node("LayerNormalization", ["d3", "n0.w", "n0.b"], ["out"], name="norm2", axis=-1),
    ]
    types = dict.fromkeys(("ids", "mask"), TensorProto.INT64)
    return build(nodes, {"ids": ["n", "t"], "mask": ["n", "t"]}, {"out": ["n", "t", WIDE]}, weights, types=types)


@pytest.fixture
def text(make_bench, build):
    """(bench, optimized encoder)."""
    random = np.random.default_rng(3)
    mask = (np.arange(TOKENS) < random.integers(6, TOKENS + 1, size=(24, 1))).astype(np.int64)
    bench = make_bench(Data({"ids": random.integers(0, WORDS, size=(24, TOKENS)), "mask": mask}))
    source = bench.save(encoder(build))
    base = bench.apply("optimize", model=source)
    assert bench.difference(source, base) < 1e-4
    return bench, base


@pytest.mark.parametrize(("bits", "least_db", "part"), [(16, 60, 0.55), (8, 30, 0.35), (4, 12, 0.30)])
def test_folded_weights_are_small_in_the_file_and_float_at_run_time(bench, nets, bits, least_db, part):
    base = bench.apply("optimize", model=bench.save(nets(blocks=2, channels=64)))
    made = bench.apply("weights", model=base, bits=bits)
    assert bench.snr(base, made) > least_db
    weights = sum(len(tensor.raw_data) + len(tensor.int32_data) for tensor in load(made).graph.initializer)
    assert weights < part * sum(len(tensor.raw_data) for tensor in load(base).graph.initializer)
    options = session(made).get_session_options()
    options.optimized_model_filepath = str(bench.folder / "loaded.onnx")
    import onnxruntime as ort

    ort.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    loaded = {node.op_type for node in load(bench.folder / "loaded.onnx").graph.node}
    assert not loaded & {"Cast", "Mul", "Reshape"}, "what brings the weights back is worked out at load"


def test_an_embedding_table_stays_int8_and_rows_are_brought_back(text):
    bench, base = text
    made = bench.apply("weights", model=base)
    assert bench.snr(base, made) > 25
    tables = [tensor for tensor in load(made).graph.initializer if list(tensor.dims) == [WORDS, WIDE]]
    assert [tensor.data_type for tensor in tables] == [TensorProto.INT8]
    gathers = [node for node in load(made).graph.node if node.op_type == "Gather"]
    assert tables[0].name in {node.input[0] for node in gathers}


@pytest.mark.parametrize(("bits", "least_db"), [(8, 25), (4, 8)])
def test_nbits(text, bits, least_db):
    bench, base = text
    made = bench.apply("weights", model=base, bits=bits, form="nbits")
    assert sum(node.op_type == "MatMulNBits" for node in load(made).graph.node) == 6
    assert bench.snr(base, made) > least_db
    assert made.read_bytes() == bench.apply("weights", model=base, bits=bits, form="nbits").read_bytes()


def test_a_large_table_of_four_bits_is_gathered_as_it_is(text):
    bench, base = text
    made = bench.apply("weights", model=base, bits=4, form="nbits", tables=4, block=16)
    codes = next(node.input[0] for node in load(made).graph.node if node.op_type == "GatherBlockQuantized")
    stored = {tensor.name: tensor for tensor in load(made).graph.initializer}
    assert stored[codes].data_type == TensorProto.UINT4
    assert list(stored[codes].dims) == [WORDS, WIDE]
    assert bench.snr(base, made) > 8
    assert made.stat().st_size < bench.apply("weights", model=base, bits=4, form="nbits", block=16).stat().st_size


def test_four_bits_for_the_largest_lose_less_than_for_all(text):
    bench, base = text
    least = bench.apply("weights", model=base, bits=4, form="nbits", tables=4, block=16)
    some = bench.apply("weights", model=base, bits=4, form="nbits", tables=4, block=16, share=0.75)
    kinds = {whole(node, "bits", 0) for node in load(some).graph.node if node.op_type == "MatMulNBits"}
    assert kinds == {4, 8}
    assert bench.snr(base, some) > bench.snr(base, least) + 1
    with pytest.raises(Refusal, match="share"):
        bench.apply("weights", model=base, form="nbits", share=0.0)


def test_fuse_then_dynamic(text):
    bench, base = text
    fused = bench.apply("fuse", model=base)
    assert bench.notes == ["fused: 1 Attention, 1 BiasGelu, 2 SkipLayerNormalization"]
    assert bench.difference(base, fused) < 2e-3
    made = bench.apply("dynamic", model=fused)
    assert bench.snr(base, made) > 20
    found = {node.op_type for node in load(made).graph.node}
    assert {"QAttention", "DynamicQuantizeLinear", "MatMulInteger"} <= found
    assert signature(load(made)) == signature(load(base))
    assert made.stat().st_size < 0.5 * base.stat().st_size


def test_dynamic_leaves_out_what_it_is_told_to(text):
    bench, base = text
    made = bench.apply("dynamic", model=base, exclude=["up.product", "down.product"], embeddings=False)
    floats = {node.name for node in load(made).graph.node if node.op_type == "MatMul"}
    assert {"up.product", "down.product"} <= floats


def test_half_is_half_and_answers_alike(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets()))
    made = bench.apply("half", model=base)
    assert bench.snr(base, made) > 50
    assert signature(load(made)) == signature(load(base))
    stored = {tensor.data_type for tensor in load(made).graph.initializer if len(tensor.dims) > 1}
    assert stored == {TensorProto.FLOAT16}


def test_half_keeps_float_what_would_overflow(make_bench, build):
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["huge"], name="first"),
        helper.make_node("Mul", ["huge", "small"], ["even"], name="scale"),
        helper.make_node("MatMul", ["even", "w2"], ["scores"], name="second"),
    ]
    weights = {"w1": normal(8, 8, scale=1e5), "w2": normal(8, 8, seed=1), "small": np.float32(1e-5)}
    model = build(nodes, {"x": ["n", 8]}, {"scores": ["n", 8]}, weights)
    bench = make_bench(Data({"x": normal(10, 8, seed=2)}))
    base = bench.apply("optimize", model=bench.save(model))
    made = bench.apply("half", model=base)
    assert np.isfinite(bench.answers(made)[0]).all()
    assert bench.snr(base, made) > 50


@pytest.mark.parametrize("name", ["weights", "dynamic", "fuse"])
def test_nothing_to_do_is_refused(make_bench, build, name):
    model = build([helper.make_node("Exp", ["x"], ["y"])], {"x": ["n", 4]}, {"y": ["n", 4]}, {})
    bench = make_bench(Data({"x": np.ones((4, 4), np.float32)}))
    with pytest.raises(Refusal):
        bench.apply(name, model=bench.apply("optimize", model=bench.save(model)))


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_the_grid_is_never_off_by_more_than_half_a_step_inside_its_edge(bits):
    weight = normal(6, 40)
    codes, scales = to_grid(weight, (1,), bits)
    top = 2 ** (bits - 1) - 1
    assert np.abs(codes).max() <= top
    inside = np.abs(weight) <= top * scales
    assert (np.abs(codes * scales - weight)[inside] <= np.broadcast_to(scales, weight.shape)[inside] * 0.5001).all()
    # Fewer levels are worth more when the edge is chosen.
    plain = np.abs(weight).max(axis=1, keepdims=True) / top
    rounded = np.clip(np.round(weight / plain), -top, top) * plain
    assert np.square(codes * scales - weight).sum() <= np.square(rounded - weight).sum() * 1.0001


def test_what_stayed_float_in_a_quantized_model_becomes_small_too(bench, nets):
    base = bench.apply("optimize", model=bench.save(nets(channels=64)))
    ranges = bench.apply("calibrate", model=base)
    quantized = bench.apply("quantize", model=base, ranges=ranges, exclude=["pointwise0"])
    made = bench.apply("weights", model=quantized)
    assert made.stat().st_size < quantized.stat().st_size - 64 * 64 * 2.5
    assert bench.snr(base, made) > bench.snr(base, quantized) - 3
    again = bench.apply("quantize", model=base, ranges=ranges, last_float=False)
    assert bench.difference(again, bench.apply("weights", model=again)) == 0
    assert bench.notes == ["no float weight left to compress"]

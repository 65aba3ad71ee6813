"""A TFLite file comes in as ONNX with the same answers, or is refused by name; damage is one line.

Small files are written here by the schema, one operator each; ``tflite/`` has nets from a real converter. One long
file, since all of it goes through ``File``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import flatbuffers
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import Refusal
from edgewise_compiler.sources.tflite import tflite_to_onnx

NETS = Path(__file__).parent / "tflite"
TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
VERSIONS = {"BROADCAST_TO": 2}
"""Versions of operators that TFLite has no first one of."""


class File:
    """A TFLite file being written: ``i = tensor(...)``, ``operator(...)``, then ``data(inputs, outputs)``."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str = "float32",
        data: np.ndarray[Any, Any] | None = None,
        scale: Any = None,
        zero: int = 0,
        axis: int = 0,
        signature: tuple[int, ...] | None = None,
    ) -> int:
        made = schema.TensorT()
        made.shape, made.type, made.name = list(shape), TYPES[dtype], f"t{len(self.graph.tensors)}".encode()
        made.shapeSignature = None if signature is None else list(signature)
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = [float(each) for each in np.atleast_1d(scale)]
            made.quantization.zeroPoint = [zero] * len(np.atleast_1d(scale))
            made.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            made.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, data: Any, **options: Any) -> int:
        array = np.asarray(data)
        array = array.astype({"float64": np.float32, "int64": np.int32}.get(array.dtype.name, array.dtype))
        return self.tensor(array.shape, array.dtype.name, array, **options)

    def operator(
        self,
        name: str,
        inputs: list[int],
        outputs: list[int],
        kind: str | None = None,
        custom: str = "",
        **options: Any,
    ) -> None:
        code = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), VERSIONS.get(name, 1)
        code.customCode = custom or None
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        if kind is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
            made.builtinOptions = getattr(schema, f"{kind}OptionsT")()
            for key, value in options.items():
                assert hasattr(made.builtinOptions, key)
                setattr(made.builtinOptions, key, value)
        self.graph.operators.append(made)

    def data(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def litert(data: bytes, feeds: list[np.ndarray[Any, Any]], exact: bool = True) -> list[np.ndarray[Any, Any]]:
    """What TFLite's own kernels answer. ``exact``: without XNNPACK."""
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if exact else OpResolverType.AUTO
    interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.resize_tensor_input(detail["index"], feed.shape)
    interpreter.allocate_tensors()
    for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], feed)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]


def answers(model: onnx.ModelProto, feeds: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {i.name: feed for i, feed in zip(session.get_inputs(), feeds, strict=True)}))


def agree(data: bytes, feeds: list[np.ndarray[Any, Any]], tolerance: float = 1e-5) -> onnx.ModelProto:
    """Converted, it answers as TFLite does; where its batch came free, also to several items at once."""
    model = tflite_to_onnx(data)
    expected, got = litert(data, feeds), answers(model, feeds)
    for want, came in zip(expected, got, strict=True):
        assert (want.shape, want.dtype) == (came.shape, came.dtype)
        np.testing.assert_allclose(came.astype(np.float64), want, rtol=tolerance, atol=tolerance)
    if all(feed.ndim and feed.shape[0] == 1 for feed in feeds) and batch(model) == "batch":
        other = [np.ascontiguousarray(feed[..., ::-1]) for feed in feeds]
        both = answers(model, [np.concatenate(pair) for pair in zip(feeds, other, strict=True)])
        for first, second, came in zip(expected, litert(data, other), both, strict=True):
            np.testing.assert_allclose(
                came.astype(np.float64), np.concatenate([first, second]), rtol=tolerance, atol=tolerance
            )
    return model


def batch(model: onnx.ModelProto) -> int | str:
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_param or int(dim.dim_value)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


MAP = (1, 6, 8, 4)
"""A picture, channels last, no two sizes alike."""


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).uniform(-2, 2, shape).astype(np.float32)


Case = tuple[str, list[Any], list[tuple[int, ...]], str | None, dict[str, Any]]


def case(name: str, inputs: list[Any], outputs: list[tuple[int, ...]], kind: str | None = None, **options: Any) -> Case:
    """Inputs: a tuple is the shape of a float input, anything else a constant."""
    return name, inputs, outputs, kind, options


CONV = {"strideH": 1, "strideW": 1}
POOL = {"filterHeight": 2, "filterWidth": 3, "strideH": 2, "strideW": 1}
CUT = {"kind": "StridedSlice"}
ON_MAPS = [
    case("ABS", [MAP], [MAP]),
    case("ADD", [MAP, MAP], [MAP], "Add", fusedActivationFunction=1),
    case("ADD", [MAP, noise(4)], [MAP], "Add", fusedActivationFunction=3),
    case("ADD", [MAP, noise(8, 1)], [MAP], "Add"),
    case("SUB", [noise(), MAP], [MAP], "Sub", fusedActivationFunction=2),
    case("MUL", [MAP, noise(1, 6, 1, 4)], [MAP], "Mul"),
    case("DIV", [MAP, noise(1, 1, 1, 4) + 5], [MAP], "Div", fusedActivationFunction=1),
    case("MAXIMUM", [MAP, noise(4)], [MAP], "MaximumMinimum"),
    case("MINIMUM", [MAP, noise(1)], [MAP], "MaximumMinimum"),
    case("SQUARED_DIFFERENCE", [MAP, noise(4)], [MAP], "SquaredDifference"),
    case("PRELU", [MAP, noise(1, 1, 4)], [MAP]),
    case("PRELU", [MAP, noise(6, 8, 4)], [MAP]),
    case("LEAKY_RELU", [MAP], [MAP], "LeakyRelu", alpha=0.2),
    *(case(name, [MAP], [MAP]) for name in ("RELU", "RELU6", "RELU_N1_TO_1", "TANH", "LOGISTIC", "ELU", "HARD_SWISH")),
    *(case(name, [MAP], [MAP]) for name in ("EXP", "NEG", "SQUARE", "FLOOR", "CEIL", "SIN", "COS")),
    case("GELU", [MAP], [MAP], "Gelu", approximate=True),
    case("GELU", [MAP], [MAP], "Gelu", approximate=False),
    case("SOFTMAX", [MAP], [MAP], "Softmax", beta=0.5),
    case("LOG_SOFTMAX", [MAP], [MAP], "LogSoftmax"),
    case("L2_NORMALIZATION", [MAP], [MAP], "L2Norm"),
    case("CONV_2D", [MAP, noise(5, 3, 3, 4), noise(5)], [(1, 6, 8, 5)], "Conv2D", **CONV, fusedActivationFunction=1),
    case("CONV_2D", [MAP, noise(5, 3, 2, 4), noise(5)], [(1, 2, 7, 5)], "Conv2D", padding=1, strideH=2, strideW=1),
    case("CONV_2D", [MAP, noise(5, 3, 2, 4), noise(5)], [(1, 3, 3, 5)], "Conv2D", strideH=2, strideW=3),
    case("CONV_2D", [MAP, noise(2, 3, 3, 4), noise(2)], [(*MAP[:3], 2)], "Conv2D", **CONV,
         dilationHFactor=2, dilationWFactor=2),
    case("DEPTHWISE_CONV_2D", [MAP, noise(1, 3, 3, 4), noise(4)], [MAP], "DepthwiseConv2D", **CONV, depthMultiplier=1),
    case(
        "DEPTHWISE_CONV_2D", [MAP, noise(1, 3, 3, 8), noise(8)], [(1, 3, 4, 8)], "DepthwiseConv2D",
        strideH=2, strideW=2, depthMultiplier=2, fusedActivationFunction=3,
    ),
    case("TRANSPOSE_CONV", [np.array([1, 12, 16, 3]), noise(3, 3, 3, 4), MAP], [(1, 12, 16, 3)], "TransposeConv",
         strideH=2, strideW=2),
    case("TRANSPOSE_CONV", [np.array([1, 13, 18, 3]), noise(3, 3, 3, 4), MAP, noise(3)], [(1, 13, 18, 3)],
         "TransposeConv", padding=1, strideH=2, strideW=2),
    case("MAX_POOL_2D", [MAP], [(1, 3, 8, 4)], "Pool2D", **POOL),
    case("AVERAGE_POOL_2D", [MAP], [(1, 3, 8, 4)], "Pool2D", **POOL),
    case("AVERAGE_POOL_2D", [MAP], [(1, 3, 6, 4)], "Pool2D", **POOL, padding=1, fusedActivationFunction=1),
    case("AVERAGE_POOL_2D", [MAP], [(1, 1, 1, 4)], "Pool2D", padding=1, filterHeight=6, filterWidth=8, strideH=6,
         strideW=8),
    case("RESIZE_BILINEAR", [MAP, np.array([12, 11])], [(1, 12, 11, 4)], "ResizeBilinear", halfPixelCenters=True),
    case("RESIZE_BILINEAR", [MAP, np.array([3, 11])], [(1, 3, 11, 4)], "ResizeBilinear", alignCorners=True),
    case("RESIZE_BILINEAR", [MAP, np.array([12, 16])], [(1, 12, 16, 4)], "ResizeBilinear"),
    case("RESIZE_NEAREST_NEIGHBOR", [MAP, np.array([12, 4])], [(1, 12, 4, 4)], "ResizeNearestNeighbor"),
    case("RESIZE_NEAREST_NEIGHBOR", [MAP, np.array([9, 12])], [(1, 9, 12, 4)], "ResizeNearestNeighbor",
         halfPixelCenters=True),
    case("RESIZE_NEAREST_NEIGHBOR", [MAP, np.array([9, 12])], [(1, 9, 12, 4)], "ResizeNearestNeighbor",
         alignCorners=True),
    case("DEPTH_TO_SPACE", [MAP], [(1, 12, 16, 1)], "DepthToSpace", blockSize=2),
    case("SPACE_TO_DEPTH", [MAP], [(1, 3, 4, 16)], "SpaceToDepth", blockSize=2),
    case("PAD", [MAP, np.array([[0, 0], [1, 2], [0, 3], [0, 1]])], [(1, 9, 11, 5)], "Pad"),
    case("PADV2", [MAP, np.array([[0, 0], [1, 2], [0, 3], [0, 0]]), noise(1)], [(1, 9, 11, 4)], "PadV2"),
    case("MIRROR_PAD", [MAP, np.array([[0, 0], [1, 2], [0, 3], [0, 0]])], [(1, 9, 11, 4)], "MirrorPad"),
    case("CONCATENATION", [MAP, (1, 6, 8, 2)], [(1, 6, 8, 6)], "Concatenation", axis=-1),
    case("CONCATENATION", [MAP, (1, 2, 8, 4)], [(*MAP[:1], 8, 8, 4)], "Concatenation", axis=1),
    case("SPLIT", [np.array(3), MAP], [(1, 6, 8, 2)] * 2, "Split", numSplits=2),
    case("SPLIT_V", [MAP, np.array([2, -1]), np.array(1)], [(1, 2, 8, 4), (1, 4, 8, 4)], "SplitV", numSplits=2),
    case("SLICE", [MAP, np.array([0, 1, 2, 1]), np.array([1, 3, -1, 2])], [(1, 3, 6, 2)], "Slice"),
    case("STRIDED_SLICE", [MAP, np.array([0, 1, -1, 0]), np.array([1, 6, 0, 4]), np.array([1, 2, -3, 1])],
         [(1, 3, 3, 4)], "StridedSlice"),
    case("STRIDED_SLICE", [MAP, np.array([0, 3, 2]), np.array([0, 4, 0]), np.array([1, 1, 1])],
         [(1, 6, 4)], "StridedSlice", beginMask=1, endMask=5, shrinkAxisMask=2, ellipsisMask=0),
    case("MEAN", [MAP, np.array([1, 2])], [(1, 4)], "Reducer", keepDims=False),
    case("MEAN", [MAP, np.array([1, 2])], [(1, 1, 1, 4)], "Reducer", keepDims=True),
    case("MEAN", [MAP, np.array([1])], [(1, 8, 4)], "Reducer", keepDims=False),
    case("SUM", [MAP, np.array([-1])], [(1, 6, 8)], "Reducer", keepDims=False),
    case("REDUCE_MAX", [MAP, np.array([3])], [(1, 6, 8, 1)], "Reducer", keepDims=True),
    case("REDUCE_MIN", [MAP, np.array([1, 3])], [(1, 8)], "Reducer", keepDims=False),
    case("RESHAPE", [MAP, np.array([1, -1])], [(1, 192)], "Reshape"),
    case("RESHAPE", [MAP], [(1, 48, 4)], "Reshape", newShape=[1, 48, 4]),
    case("EXPAND_DIMS", [MAP, np.array(1)], [(1, 1, 6, 8, 4)], "ExpandDims"),
    case("TRANSPOSE", [MAP, np.array([0, 2, 1, 3])], [(1, 8, 6, 4)], "Transpose"),
    case("TRANSPOSE", [MAP, np.array([0, 3, 1, 2])], [(1, 4, 6, 8)], "Transpose"),
    case("TRANSPOSE", [MAP, np.array([0, 2, 3, 1])], [(1, 8, 4, 6)], "Transpose"),
    case("PACK", [MAP, MAP], [(1, 6, 2, 8, 4)], "Pack", valuesCount=2, axis=2),
    case("UNPACK", [MAP], [(1, 6, 8)] * 4, "Unpack", num=4, axis=3),
    case("GATHER", [MAP, np.array([2, 0])], [(1, 6, 2, 4)], "Gather", axis=2),
    case("TILE", [MAP, np.array([1, 2, 1, 3])], [(1, 12, 8, 12)], "Tile"),
    case("FULLY_CONNECTED", [MAP, noise(5, 4), noise(5)], [(1, 6, 8, 5)], "FullyConnected", keepNumDims=True),
    case("FULLY_CONNECTED", [MAP, noise(5, 192), noise(5)], [(1, 5)], "FullyConnected", fusedActivationFunction=1),
]  # fmt: skip
ON_ROWS = [
    case("FULLY_CONNECTED", [(1, 6), noise(3, 6)], [(1, 3)], "FullyConnected"),
    case("FULLY_CONNECTED", [(3, 6), noise(3, 6), noise(3)], [(3, 3)], "FullyConnected"),
    case("BATCH_MATMUL", [(2, 3, 4), (2, 5, 4)], [(2, 3, 5)], "BatchMatMul", adjY=True),
    case("BATCH_MATMUL", [(1, 4, 3), noise(4, 5)], [(1, 3, 5)], "BatchMatMul", adjX=True),
    case("SOFTMAX", [(2, 5)], [(2, 5)], "Softmax", beta=1.0),
    case("SQUEEZE", [(1, 5, 1, 3)], [(1, 5, 3)], "Squeeze", squeezeDims=[2]),
    case("SQUEEZE", [(1, 5, 1, 3)], [(5, 3)], "Squeeze"),
    case("STRIDED_SLICE", [(3, 4), np.array([0, 1]), np.array([0, 3]), np.array([1, 1])], [(1, 2, 4)], "StridedSlice",
         newAxisMask=1),
    case("STRIDED_SLICE", [(3, 4, 5), np.array([0, 2]), np.array([0, 3]), np.array([1, 1])], [(3, 4)], "StridedSlice",
         ellipsisMask=1, shrinkAxisMask=2),
    case("STRIDED_SLICE", [(3, 4), np.array([1]), np.array([3]), np.array([1])], [(2, 4)], "StridedSlice"),
    case("RESHAPE", [(2, 6), np.array([3, 4])], [(3, 4)], "Reshape"),
    case("BROADCAST_TO", [(1, 3), np.array([2, 3])], [(2, 3)]),
]  # fmt: skip


def one(case: Case, between: bool) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
    """A file of one operator, and inputs for it. ``between``: with 1x1 convolutions around it, where it takes maps."""
    name, inputs, outputs, kind, options = case
    file = File()
    fed, given, feeds = [], [], []

    def conv(source: int, shape: tuple[int, ...]) -> int:
        out = file.tensor(shape)
        kernel, bias = file.constant(noise(shape[3], 1, 1, shape[3])), file.constant(noise(shape[3]))
        file.operator("CONV_2D", [source, kernel, bias], [out], "Conv2D", **CONV)
        return out

    for each in inputs:
        if isinstance(each, tuple):
            fed.append(file.tensor(each))
            feeds.append(noise(*each))
            given.append(conv(fed[-1], each) if between and len(each) == 4 else fed[-1])
        else:
            given.append(file.constant(each))
    made = [file.tensor(shape) for shape in outputs]
    file.operator(name, given, made, kind, **options)
    ends = [conv(i, shape) if between and len(shape) == 4 else i for i, shape in zip(made, outputs, strict=True)]
    return file.data(fed, ends), feeds


def label(case: Case) -> str:
    return case[0]


@pytest.mark.parametrize("case", [*ON_MAPS, *ON_ROWS], ids=label)
def test_an_operator_answers_as_tflite_does(case: Case) -> None:
    agree(*one(case, between=False))


LAST_ONLY = {"EXPAND_DIMS", "FULLY_CONNECTED", "GATHER", "PACK", "RESHAPE", "TILE", "TRANSPOSE", "UNPACK"}


@pytest.mark.parametrize("case", ON_MAPS, ids=label)
def test_between_convolutions_it_stays_channels_first(case: Case) -> None:
    data, feeds = one(case, between=True)
    model = agree(data, feeds, tolerance=1e-4)
    name, inputs, outputs = case[:3]
    if name not in LAST_ONLY and all(len(shape) == 4 for shape in outputs):
        ends = sum(isinstance(each, tuple) for each in inputs) + len(outputs)
        # Maps of one channel or one pixel are reshaped: nothing moves.
        moved = kinds(model)["Transpose"] + kinds(model)["Reshape"]
        assert moved == ends, kinds(model)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("net_fp32", 1e-5), ("net_fp16", 1e-5), ("net_dynamic", 1e-3), ("net_int8", 1), ("net_16x8", 2)],
)
def test_nets_of_a_real_converter(name: str, tolerance: float) -> None:
    data = (NETS / f"{name}.tflite").read_bytes()
    dtype = {"net_int8": np.int8, "net_16x8": np.int16}.get(name, np.float32)
    feed = noise(1, 16, 16, 3) if dtype == np.float32 else (noise(1, 16, 16, 3) * np.iinfo(dtype).max / 2).astype(dtype)
    model = tflite_to_onnx(data)
    (expected,), (got,) = litert(data, [feed], exact=False), answers(model, [feed])
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got.astype(np.float64), expected, rtol=0, atol=tolerance)
    assert [value.name for value in model.graph.input] == ["serving_default_args_0"]
    assert [value.name for value in model.graph.output] == ["serving_default_output_0_output"]
    assert batch(model) == "batch"
    onnx.checker.check_model(model, full_check=True)


def test_a_quantized_net_is_pairs_around_real_operators() -> None:
    model = tflite_to_onnx((NETS / "net_int8.tflite").read_bytes())
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "Add"):
            assert {made[name].op_type for name in node.input} <= {"DequantizeLinear", "Transpose"}
    assert {node.op_type for node in model.graph.node} >= {"Conv", "Gemm", "Softmax", "QuantizeLinear"}


def test_float_io_takes_and_gives_real_values() -> None:
    data = (NETS / "net_int8.tflite").read_bytes()
    model = tflite_to_onnx(data, float_io=True)
    feed = noise(1, 16, 16, 3) / 2
    (expected,) = litert((NETS / "net_fp32.tflite").read_bytes(), [feed])
    (got,) = answers(model, [feed])
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 0.05


def test_fp16_weights_come_as_fp32_constants() -> None:
    model = tflite_to_onnx((NETS / "net_fp16.tflite").read_bytes())
    constants = {weight.name: weight.data_type for weight in model.graph.initializer}
    weights = [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert [constants[name] for name in weights] == [onnx.TensorProto.FLOAT] * 5


@pytest.mark.parametrize(
    ("shape", "new", "free"),
    [((1, 4, 6), [1, 24], True), ((1, 4, 6), [-1, 24], True), ((1, 4, 6), [4, 6], False), ((2, 12), [2, 3, 4], False)],
)
def test_a_batch_is_freed_only_where_items_stay_apart(shape: tuple[int, ...], new: list[int], free: bool) -> None:
    out = tuple(np.zeros(shape).reshape(new).shape)
    model = agree(*one(case("RESHAPE", [shape, np.array(new)], [out], "Reshape"), between=False))
    assert (batch(model) == "batch") is free
    assert isinstance(batch(tflite_to_onnx(one(ON_MAPS[0], False)[0], dynamic_batch=False)), int)


@pytest.mark.parametrize(
    "mixing",
    [
        case("MEAN", [(1, 5), np.array([0])], [(1, 5)], "Reducer", keepDims=True),
        case("SOFTMAX", [(1,)], [(1,)], "Softmax", beta=1.0),
        case("CONCATENATION", [(1, 5), (1, 5)], [(2, 5)], "Concatenation", axis=0),
        case("ADD", [(1, 5), noise(3, 5)], [(3, 5)], "Add"),
        case("PAD", [(1, 5), np.array([[0, 1], [0, 0]])], [(2, 5)], "Pad"),
        case("TRANSPOSE", [(1, 5), np.array([1, 0])], [(5, 1)], "Transpose"),
        case("BATCH_MATMUL", [noise(1, 3, 1), (1, 1, 3)], [(1, 3, 3)], "BatchMatMul"),
    ],
    ids=label,
)
def test_what_mixes_items_keeps_its_batch(mixing: Case) -> None:
    assert batch(agree(*one(mixing, between=False))) == 1


def test_a_dynamic_file_keeps_its_dynamic_axes() -> None:
    """Batch and sides of any size, with the shape of the result computed as Keras writes it."""
    file = File()
    image = file.tensor((1, 6, 8, 4), signature=(-1, -1, -1, 4))
    wide = file.tensor((1, 6, 8, 3), signature=(-1, -1, -1, 3))
    file.operator(
        "CONV_2D",
        [image, file.constant(noise(3, 3, 3, 4)), file.constant(noise(3))],
        [wide],
        "Conv2D",
        strideH=2,
        strideW=2,
    )
    pooled = file.tensor((1, 3), signature=(-1, 3))
    file.operator("MEAN", [wide, file.constant([1, 2])], [pooled], "Reducer")
    sizes, first = file.tensor((2,), "int32"), file.tensor((), "int32")
    file.operator("SHAPE", [pooled], [sizes], "Shape", outType=TYPES["int32"])
    bounds = [file.constant([at]) for at in (0, 1, 1)]
    file.operator("STRIDED_SLICE", [sizes, *bounds], [first], "StridedSlice", shrinkAxisMask=1)
    wanted, out = file.tensor((3,), "int32"), file.tensor((1, 3, 1), signature=(-1, 3, 1))
    parts = [first, file.constant(3), file.constant(1)]
    file.operator("PACK", parts, [wanted], "Pack", valuesCount=3)
    file.operator("RESHAPE", [pooled, wanted], [out], "Reshape")
    data = file.data([image], [out])
    for shape in ((1, 6, 8, 4), (3, 5, 9, 4)):
        model = agree(data, [noise(*shape)])
    assert batch(model) == "batch"


def test_quantized_inputs_outputs_and_requantization() -> None:
    """uint8 in, an int8 sum, uint8 out; per-channel weights; every step of the answer within one step of TFLite's."""
    file = File()
    image = file.tensor(MAP, "uint8", scale=0.02, zero=120)
    scales = np.array([0.01, 0.02, 0.005], np.float32)
    weights = np.random.default_rng(2).integers(-127, 127, (3, 3, 3, 4)).astype(np.int8)
    as_int8 = file.tensor(MAP, "int8", scale=0.02, zero=-8)
    file.operator("QUANTIZE", [image], [as_int8])
    out = file.tensor((*MAP[:3], 3), "int8", scale=0.1, zero=3)
    bias = np.array([100, -200, 50], np.int32)
    given = [
        file.tensor(weights.shape, "int8", weights, scale=scales),
        file.tensor((3,), "int32", bias, scale=scales * 0.02),
    ]
    file.operator("CONV_2D", [as_int8, *given], [out], "Conv2D", **CONV, fusedActivationFunction=1)
    last = file.tensor((*MAP[:3], 3), "uint8", scale=0.1, zero=131)
    file.operator("QUANTIZE", [out], [last])
    feed = np.random.default_rng(3).integers(0, 255, MAP).astype(np.uint8)
    agree(file.data([image], [last]), [feed], tolerance=1)


def test_types_other_than_float() -> None:
    file = File()
    image, as_float = file.tensor((1, 5), "uint8"), file.tensor((1, 5))
    file.operator("CAST", [image], [as_float], "Cast", inDataType=TYPES["uint8"], outDataType=0)
    best, above = file.tensor((1,), "int32"), file.tensor((1, 5), "bool")
    file.operator("ARG_MAX", [as_float, file.constant(np.array(1))], [best], "ArgMax", outputType=TYPES["int32"])
    file.operator("GREATER", [as_float, file.constant(np.float32(9))], [above], "Greater")
    chosen = file.tensor((1, 5))
    file.operator("SELECT_V2", [above, as_float, file.constant(np.zeros((1, 5), np.float32))], [chosen], "SelectV2")
    agree(file.data([image], [best, above, chosen]), [np.array([[3, 12, 250, 9, 10]], np.uint8)])


def test_an_input_that_is_an_output_and_one_value_twice() -> None:
    file = File()
    source, out = file.tensor((1, 3)), file.tensor((1, 3))
    file.operator("RELU", [source], [out])
    model = tflite_to_onnx(file.data([source], [source, out, out]))
    feed = noise(1, 3)
    for want, got in zip([feed, np.maximum(feed, 0), np.maximum(feed, 0)], answers(model, [feed]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_block_sparse_weights_come_out_dense() -> None:
    """[4, 6] in blocks of 2x3, block rows in CSR: as the schema's comments lay it out."""
    dense = np.zeros((4, 6), np.float32)
    dense[0:2, 3:6] = np.arange(1, 7).reshape(2, 3)
    dense[2:4, 0:3] = -np.arange(1, 7).reshape(2, 3)
    file = File()
    stored = np.concatenate([dense[0:2, 3:6].ravel(), dense[2:4, 0:3].ravel()])
    sparse, weights = file.tensor((4, 6), data=stored), file.tensor((4, 6))
    sparsity = file.graph.tensors[sparse].sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap = [0, 1, 2, 3], [0, 1]
    levels = [schema.DimensionMetadataT() for _ in range(4)]
    for level, size in zip(levels, (2, 0, 2, 3), strict=True):
        level.denseSize = size
    levels[1].format = schema.DimensionType.SPARSE_CSR
    levels[1].arraySegmentsType = levels[1].arrayIndicesType = schema.SparseIndexVector.Uint8Vector
    levels[1].arraySegments, levels[1].arrayIndices = schema.Uint8VectorT(), schema.Uint8VectorT()
    levels[1].arraySegments.values, levels[1].arrayIndices.values = np.uint8([0, 1, 2]), np.uint8([1, 0])
    sparsity.dimMetadata = levels
    file.operator("DENSIFY", [sparse], [weights], "Densify")
    source, out = file.tensor((1, 6)), file.tensor((1, 4))
    file.operator("FULLY_CONNECTED", [source, weights], [out], "FullyConnected")
    feed = noise(1, 6)
    (got,) = answers(tflite_to_onnx(file.data([source], [out])), [feed])
    np.testing.assert_allclose(got, feed @ dense.T, rtol=1e-5)


def test_every_operator_without_a_form_is_named_with_its_reason() -> None:
    file = File()
    source, a, b, c = (file.tensor((1, 3)) for _ in range(4))
    file.operator("CUSTOM", [source], [a], custom="MyOp")
    file.operator("RELU", [a], [b])
    file.operator("WHILE", [b], [c], "While")
    with pytest.raises(Refusal) as caught:
        tflite_to_onnx(file.data([source], [c]))
    assert caught.value.code == "unsupported"
    assert [(each.node, each.op) for each in caught.value.unsupported] == [
        ("0: t1", "CUSTOM 'MyOp'"),
        ("2: t3", "WHILE"),
    ]
    assert "unroll" in (caught.value.unsupported[1].rewrite or "")
    assert "MyOp" in str(caught.value) and "WHILE" in str(caught.value) and "\n" not in str(caught.value)


def test_a_form_that_onnx_lacks_is_refused_not_guessed() -> None:
    pads = np.array([[0, 0], [1, 1]])
    data, _ = one(case("MIRROR_PAD", [(1, 4), pads], [(1, 6)], "MirrorPad", mode=1), between=False)
    with pytest.raises(Refusal, match="SYMMETRIC"):
        tflite_to_onnx(data)


def test_state_between_runs_is_refused() -> None:
    file = File()
    source, state, out = (file.tensor((1, 3)) for _ in range(3))
    file.graph.tensors[state].isVariable = True
    file.operator("ADD", [source, state], [out], "Add")
    with pytest.raises(Refusal, match="state kept between runs; make it an input"):
        tflite_to_onnx(file.data([source], [out]))


def refuses_or_converts(data: bytes) -> bool:
    """Did it convert? Else it was refused in one line."""
    try:
        tflite_to_onnx(data)
    except CompileError as error:
        assert error.code in ("bad-source", "unsupported")
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "identifier TFL3"),
        (b"PK" + bytes(100), "identifier TFL3"),
        (bytes(4) + b"TFL3" + bytes(100), "version|corrupt"),
    ],
)
def test_what_is_no_tflite_file_is_named(data: bytes, says: str) -> None:
    with pytest.raises(CompileError, match=says) as caught:
        tflite_to_onnx(data)
    assert caught.value.code == "bad-source"


@pytest.mark.parametrize("name", ["net_fp32", "net_int8"])
def test_a_truncated_file_is_refused(name: str) -> None:
    data = (NETS / f"{name}.tflite").read_bytes()
    converted = [refuses_or_converts(data[:size]) for size in range(0, len(data), 41)]
    assert not any(converted)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["net_fp32", "net_fp16", "net_int8"]),
    changes=st.lists(st.tuples(st.integers(0, 11_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_corrupt_file_is_refused_or_means_something_else(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray((NETS / f"{name}.tflite").read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    refuses_or_converts(bytes(data))


Change = Callable[[File], Any]


def set_option(**options: Any) -> Change:
    def change(file: File) -> None:
        for key, value in options.items():
            setattr(file.graph.operators[0].builtinOptions, key, value)

    return change


def set_tensor(index: int, **fields: Any) -> Change:
    def change(file: File) -> None:
        for key, value in fields.items():
            setattr(file.graph.tensors[index], key, value)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_option(strideH=0), ">= 1"),
        (set_option(dilationWFactor=-3), ">= 1"),
        (set_option(padding=7), "padding SAME or VALID"),
        (lambda file: setattr(file.graph.operators[0], "builtinOptions", None), "expected options with"),
        (lambda file: setattr(file.graph.operators[0], "opcodeIndex", 9), "operator code below 1"),
        (lambda file: setattr(file.graph.operators[0], "inputs", [0, 77]), "tensor below 3"),
        (lambda file: setattr(file.graph.operators[0], "inputs", [2, 1]), "before anything wrote it"),
        (lambda file: setattr(file.graph.operators[0], "outputs", [0]), "again"),
        (lambda file: setattr(file.graph.operators[0], "inputs", [0, -1]), "lacks an input"),
        (lambda file: setattr(file.graph, "operators", []), "nothing writes it"),
        (set_tensor(1, buffer=5), "buffer below 2"),
        (set_tensor(1, shape=[3, 1, 1, 5]), "expected 15 values"),
        (set_tensor(0, shape=[-4, 6, 8, 4]), "none negative"),
        (set_tensor(0, shape=[1, 6, 8, 5]), "weights take 4 channels"),
        (set_tensor(0, shape=[4]), "four axes"),
        (set_tensor(0, shape=[1] * 9), "at most 8 axes"),
        (lambda file: setattr(file.model, "version", 2), "schema version 3"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change: Change, says: str) -> None:
    file = File()
    source, weights, out = file.tensor(MAP), file.constant(noise(3, 1, 1, 4)), file.tensor((*MAP[:3], 3))
    file.operator("CONV_2D", [source, weights], [out], "Conv2D", **CONV)
    change(file)
    with pytest.raises(CompileError, match=says) as caught:
        tflite_to_onnx(file.data([source], [out]))
    assert caught.value.code == "bad-source"

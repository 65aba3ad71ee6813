"""The ONNX graph while it is written: which ONNX value holds which TFLite tensor, and in which layout.

Rules that hold here:
- a tensor of four axes may be known channels last (as TFLite has it), channels first (as ONNX convolutions want it) or
  both; a transpose is written when an operator asks for the one that is not there yet, and once only, so that none
  stands between two convolutions;
- quantized tensors are real values here: constants pass through a DequantizeLinear, and what an operator computes
  through a QuantizeLinear and a DequantizeLinear. 16-bit activations are clipped to their range and not rounded (ONNX
  has no 16-bit QuantizeLinear before opset 21);
- fp16 is computed as fp32, and fp16 constants are stored as fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from edgewise_compiler.sources.tflite_file import Operator, Tensor, TfliteFile, damaged
from edgewise_compiler.sources.tflite_nodes import Array, Nodes, short

ONNX_TYPES = {
    "FLOAT64": TensorProto.DOUBLE,
    "FLOAT32": TensorProto.FLOAT,
    "FLOAT16": TensorProto.FLOAT16,
    "INT64": TensorProto.INT64,
    "INT32": TensorProto.INT32,
    "UINT32": TensorProto.UINT32,
    "INT16": TensorProto.INT16,
    "UINT16": TensorProto.UINT16,
    "INT8": TensorProto.INT8,
    "UINT8": TensorProto.UINT8,
    "BOOL": TensorProto.BOOL,
}
QUANTIZED = {"INT8": np.int8, "UINT8": np.uint8}


class Layout(Enum):
    """Order of the four axes; the value gives, for each place in this layout, the place in TFLite's."""

    LAST = (0, 1, 2, 3)
    FIRST = (0, 3, 1, 2)

    def axis(self, axis: int) -> int:
        """Where TFLite's ``axis`` stands in this layout; beyond four axes layouts are the same."""
        return self.value.index(axis) if axis < 4 else axis

    def order(self, values: list[Any]) -> list[Any]:
        """One value an axis, from TFLite's order to this one."""
        return [values[axis] for axis in self.value] if len(values) == 4 else values


LAST, FIRST = Layout.LAST, Layout.FIRST
TO_FIRST, TO_LAST = list(FIRST.value), [0, 2, 3, 1]


class Cannot(Exception):
    """This operator has no form here: why, and what would help."""

    def __init__(self, why: str, rewrite: str | None = None) -> None:
        super().__init__(why)
        self.why, self.rewrite = why, rewrite


@dataclass(frozen=True)
class Stored:
    """A computed tensor as the file stores it, for outputs that keep that: the value before its DequantizeLinear."""

    name: str
    layout: Layout


class Graph(Nodes):
    """The ONNX graph of one TFLite file. Operators' writers use it; ``finish`` gives the whole."""

    def __init__(self, file: TfliteFile, *, float_io: bool = False) -> None:
        super().__init__()
        self._file, self._float_io = file, float_io
        self._values: dict[tuple[int, Layout], str] = {}
        self._same: dict[int, int] = {}
        self._stored: dict[int, Stored] = {}
        self.inputs = [self._input(file.tensors[i]) for i in file.inputs]

    # What operators ask about tensors.

    def at(self, operator: Operator) -> None:
        """Nodes from here on belong to ``operator``: they are named for its output."""
        outputs = [self._file.tensors[i].name for i in operator.outputs]
        self.prefix = short(outputs[0]) if outputs else f"{operator.name}_{operator.index}"

    def tensor(self, index: int) -> Tensor:
        """The tensor, or the constant that it is the same as. Raises Cannot for one that cannot be used."""
        if index < 0:
            raise damaged("an operator lacks an input that it needs")
        tensor = self._file.tensors[self._same.get(index, index)]
        if tensor.refused:
            raise Cannot(tensor.refused)
        return tensor

    def is_real(self, tensor: Tensor) -> bool:
        """Is it a float here: by its type, or because it is quantized?"""
        quantized = tensor.quantization is not None and tensor.dtype in ("INT8", "UINT8", "INT16", "INT4")
        return quantized or tensor.dtype in ("FLOAT32", "FLOAT16")

    def ints(self, index: int) -> list[int] | None:
        """The integers of a constant, flat; None where they are computed."""
        data = self.tensor(index).data
        if data is None:
            return None
        if data.dtype.kind not in "iu":
            raise damaged(f"tensor {self.tensor(index).name!r}: expected integers, got {self.tensor(index).dtype}")
        return [int(value) for value in data.ravel()]

    def layout(self, *indices: int) -> Layout:
        """The layout that costs no transpose: FIRST when one of these is known in that one alone."""
        for index in indices:
            tensor = self.tensor(index)
            known = (index, FIRST) in self._values and (index, LAST) not in self._values
            if tensor.rank == 4 and tensor.data is None and known:
                return FIRST
        return LAST

    # Values of tensors.

    def value(self, index: int, layout: Layout = LAST) -> str:
        """The ONNX value of a tensor; real where it is quantized."""
        tensor = self.tensor(index)
        if tensor.rank != 4:
            layout = LAST
        if (index, layout) not in self._values:
            if tensor.data is not None:
                found = self.constant_of(index, perm=layout.value if tensor.rank == 4 else None)
            else:
                found = self._transposed(index, tensor, layout)
            self._values[index, layout] = found
        return self._values[index, layout]

    def flat(self, index: int) -> str:
        """A value whose elements lie in TFLite's order, whatever its shape: for what reshapes it anyway."""
        tensor = self.tensor(index)
        if self.layout(index) is FIRST and _order_is_same(tensor.shape):
            return self.value(index, FIRST)
        return self.value(index)

    def operand(self, index: int, rank: int, layout: Layout) -> str:
        """A value to broadcast against one of ``rank`` axes in ``layout``."""
        tensor = self.tensor(index)
        if layout is LAST or tensor.rank == rank or tensor.data is None or tensor.data.size == 1:
            return self.value(index, layout)
        shape = (1,) * (rank - tensor.rank) + tensor.shape
        return self.constant_of(index, shape=shape, perm=layout.value)

    def real(self, index: int) -> str:
        """A value as float: int32 biases by their scales. Raises Cannot for one that has none."""
        tensor = self.tensor(index)
        if not self.is_real(tensor) and (tensor.quantization is None or tensor.data is None):
            raise Cannot(f"{tensor.name!r} holds {tensor.dtype} without a scale")
        return self.value(index) if self.is_real(tensor) else self.constant_of(index, real=True)

    def constant_of(
        self,
        index: int,
        *,
        shape: tuple[int, ...] | None = None,
        perm: tuple[int, ...] | None = None,
        real: bool = False,
    ) -> str:
        """A constant tensor as an ONNX value: led by 1s to ``shape``, then transposed by ``perm``.

        ``real``: by its scales also where it is of a type that is no quantized activation's (a bias).
        """
        tensor = self.tensor(index)
        data = tensor.data
        quantization = tensor.quantization if real or self.is_real(tensor) else None
        if data is None:
            raise Cannot(f"{tensor.name!r} must be a constant")
        added = 0 if shape is None else len(shape) - tensor.rank
        data = data if shape is None else data.reshape(shape)
        data = (data if perm is None else data.transpose(perm)).copy(order="C")
        if data.dtype == np.float16:
            return self.constant(data.astype(np.float32), tensor.name)
        if quantization is None or data.dtype.kind == "f":
            return self.constant(data, tensor.name)
        axis = quantization.axis + added
        axis = axis if perm is None else perm.index(axis)
        several = len(quantization.scale) > 1
        if several and data.shape[axis] != len(quantization.scale):
            raise damaged(f"tensor {tensor.name!r}: expected {data.shape[axis]} scales, got {len(quantization.scale)}")
        if data.dtype in (np.int8, np.uint8) or (data.dtype == np.int32 and not quantization.zero_point.any()):
            scale: Array = quantization.scale if several else quantization.scale[0]
            inputs = [self.constant(data, tensor.name), self.constant(np.asarray(scale), f"{tensor.name}/scale")]
            if data.dtype != np.int32:
                zero = _zero_points(tensor, quantization.zero_point, data.dtype)
                inputs.append(self.constant(zero if several else zero[0], f"{tensor.name}/zero_point"))
            return self.node("DequantizeLinear", inputs, **({"axis": axis} if several else {}))
        along = [-1 if i == axis else 1 for i in range(data.ndim)] if several else [1] * data.ndim
        scale, zero = quantization.scale.reshape(along), quantization.zero_point.reshape(along)
        return self.constant(((data.astype(np.float64) - zero) * scale).astype(np.float32), tensor.name)

    def set(self, index: int, name: str, layout: Layout = LAST) -> None:
        """``name`` now holds the tensor, as its operator computed it."""
        tensor = self._file.tensors[index]
        if tensor.refused:
            raise Cannot(tensor.refused)
        layout = layout if tensor.rank == 4 else LAST
        if tensor.quantization is not None and tensor.dtype in QUANTIZED:
            stored = self._quantize(tensor, name)
            self._stored[index] = Stored(stored, layout)
            name = self._dequantize(tensor, stored)
        elif tensor.quantization is not None and tensor.dtype == "INT16":
            step = float(self._scale(tensor)[0])
            name = self.node("Clip", [name, self.number(-32768 * step), self.number(32767 * step)])
        self._values[index, layout] = name

    def same(self, index: int, source: int) -> None:
        """``index`` is the constant ``source``, in another storage."""
        self._same[index] = self._same.get(source, source)

    def forget(self, index: int) -> None:
        """Stand-in for the output of an operator that has no form: lets the rest be looked through."""
        self._values[index, LAST] = self._unique("unsupported")

    def finish(self, name: str) -> GraphProto:
        """The whole graph, outputs under the file's names. Raises Cannot. Call once, at the end."""
        self.prefix = "output"
        outputs = []
        for index in self._file.outputs:
            tensor = self._file.tensors[index]
            value, kind = self._outgoing(index, tensor)
            outputs.append((value, helper.make_tensor_value_info(tensor.name, kind, self._shape(tensor))))
        return self.assemble(name, outputs)

    def _outgoing(self, index: int, tensor: Tensor) -> tuple[str, int]:
        """(value, ONNX type) of an output: as the file stores it, or real with ``float_io``."""
        value, real = self.value(index), self.is_real(self.tensor(index))
        if not real:
            return value, ONNX_TYPES[tensor.dtype]
        if tensor.dtype == "FLOAT16":
            return self.node("Cast", [value], to=TensorProto.FLOAT16), TensorProto.FLOAT16
        if tensor.dtype == "FLOAT32" or self._float_io:
            return value, TensorProto.FLOAT
        stored = self._stored.get(index)
        if stored is not None and (stored.layout is LAST):
            return stored.name, ONNX_TYPES[tensor.dtype]
        return self._quantize(tensor, value), ONNX_TYPES[tensor.dtype]

    def _input(self, tensor: Tensor) -> ValueInfoProto:
        if tensor.refused:
            raise damaged(f"input: {tensor.refused}")
        name = self._unique(tensor.name)
        quantized = (
            self.is_real(tensor) and tensor.quantization is not None and tensor.dtype not in ("FLOAT32", "FLOAT16")
        )
        kind = TensorProto.FLOAT if quantized and self._float_io else ONNX_TYPES.get(tensor.dtype)
        if kind is None:
            raise damaged(f"input {tensor.name!r}: cannot be {tensor.dtype}")
        value = name
        if quantized and tensor.dtype in QUANTIZED:
            value = self._dequantize(tensor, self._quantize(tensor, name) if self._float_io else name)
        elif quantized and not self._float_io:
            assert tensor.quantization is not None
            real = self.node("Cast", [name], to=TensorProto.FLOAT)
            value = self.node("Mul", [real, self.number(float(tensor.quantization.scale[0]))])
        elif tensor.dtype == "FLOAT16":
            value = self.node("Cast", [name], to=TensorProto.FLOAT)
        self._values[tensor.index, LAST] = value
        return helper.make_tensor_value_info(name, kind, self._shape(tensor))

    def _shape(self, tensor: Tensor) -> list[int | str]:
        return [
            size if size >= 0 else ("batch" if axis == 0 else f"{tensor.name}_{axis}")
            for axis, size in enumerate(tensor.shape)
        ]

    def _transposed(self, index: int, tensor: Tensor, layout: Layout) -> str:
        other = LAST if layout is FIRST else FIRST
        if (index, other) not in self._values:
            raise damaged(f"tensor {tensor.name!r} is read before anything wrote it")
        value = self._values[index, other]
        if _order_is_same(tensor.shape):  # one pixel or one channel: no element moves
            shape = [
                0 if place == 0 else -1 if size == -1 else size
                for place, size in enumerate(layout.order(list(tensor.shape)))
            ]
            return self.node("Reshape", [value, self.numbers(shape)])
        return self.node("Transpose", [value], perm=TO_FIRST if layout is FIRST else TO_LAST)

    def _scale(self, tensor: Tensor) -> tuple[np.float32, Array]:
        assert tensor.quantization is not None
        if len(tensor.quantization.scale) != 1 or not tensor.quantization.scale[0] > 0:
            raise Cannot(f"{tensor.name!r} is computed, and quantized other than by one scale > 0")
        return tensor.quantization.scale[0], tensor.quantization.zero_point

    def _quantize(self, tensor: Tensor, value: str) -> str:
        scale, zero = self._scale(tensor)
        if tensor.dtype in QUANTIZED:
            return self.node("QuantizeLinear", [value, *self._parameters(tensor)])
        if tensor.dtype != "INT16" or zero[0] != 0:
            raise Cannot(f"{tensor.name!r}: activations cannot be {tensor.dtype} with zero point {zero[0]}")
        steps = self.node("Round", [self.node("Div", [value, self.number(float(scale))])])
        clipped = self.node("Clip", [steps, self.number(-32768), self.number(32767)])
        return self.node("Cast", [clipped], to=TensorProto.INT16)

    def _dequantize(self, tensor: Tensor, value: str) -> str:
        return self.node("DequantizeLinear", [value, *self._parameters(tensor)])

    def _parameters(self, tensor: Tensor) -> list[str]:
        scale, zero = self._scale(tensor)
        stored = _zero_points(tensor, zero, np.dtype(QUANTIZED[tensor.dtype]))
        return [
            self.constant(np.asarray(scale), f"{tensor.name}/scale"),
            self.constant(stored[0], f"{tensor.name}/zero_point"),
        ]


def _order_is_same(shape: tuple[int, ...]) -> bool:
    """Do channels first and channels last hold their elements in one order: one pixel, or one channel?"""
    return len(shape) == 4 and (shape[1] == shape[2] == 1 or shape[3] == 1)


def _zero_points(tensor: Tensor, zero_point: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    if (zero_point < limits.min).any() or (zero_point > limits.max).any():
        raise damaged(f"tensor {tensor.name!r}: expected zero points that fit {dtype.name}")
    return zero_point.astype(dtype)

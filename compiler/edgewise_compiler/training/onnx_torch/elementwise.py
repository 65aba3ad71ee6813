"""Operators that work element by element: arithmetic, comparison, activation, casts, fake quantization."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from .graph import Node
from .registry import Facts, Host, host_op, op, symbolic

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16, TensorProto.DOUBLE: torch.float64,
    TensorProto.BFLOAT16: torch.bfloat16, TensorProto.INT8: torch.int8, TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64, TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}  # fmt: skip

UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh,
    "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh,
    "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "IsNaN": torch.isnan, "Log": torch.log,
    "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": torch.relu,
    "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh,
    "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
    "HardSwish": F.hardswish, "Mish": F.mish,
}  # fmt: skip

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Equal": operator.eq, "Less": operator.lt,
    "LessOrEqual": operator.le, "Greater": operator.gt, "GreaterOrEqual": operator.ge,
}  # fmt: skip

LOGIC: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
}  # fmt: skip


_sym_float: Callable[[Any], Any] = torch.sym_float


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Node, *inputs: Any) -> Any:
        return function(*inputs)

    return run


for _name, _function in UNARY.items():
    op(_name)(_plain(_function))
for _name, _either in BINARY.items():
    op(_name, scalars=True)(_plain(_either))
    host_op(_name)(_plain(_either))
for _name, _logic in LOGIC.items():
    op(_name)(_plain(_logic))
for _name, _host in {"And": np.logical_and, "Or": np.logical_or, "Not": np.logical_not, "Neg": np.negative}.items():
    host_op(_name)(_plain(_host))


@op("Identity", "Dropout", check=lambda node, facts: _one_output(node, facts))
def identity(node: Node, x: Any, *_: Any) -> Any:
    """Dropout does nothing when a model answers."""
    return x


host_op("Identity")(identity)


def _one_output(node: Node, facts: Facts) -> str | None:
    more = [name for name in node.outputs[1:] if name in facts.used]
    return f"its output {more[0]!r} is read" if more else None


@op("Div", scalars=True)
def divide(node: Node, x: Any, y: Any) -> Any:
    """Integers are divided towards zero."""
    if any(isinstance(part, torch.Tensor) and not part.is_floating_point() for part in (x, y)):
        return torch.div(x, y, rounding_mode="trunc")
    return x / y


@host_op("Div")
def divide_host(node: Node, x: Host, y: Host) -> Any:
    """Sizes are not negative, symbolic ones included: floor division is theirs."""
    if symbolic(x) or symbolic(y):
        return x // y
    return x / y if np.issubdtype(x.dtype, np.floating) else (np.trunc(x / y)).astype(x.dtype)


@op("Pow", scalars=True)
def power(node: Node, x: Any, y: Any) -> Any:
    """The result has the base's type."""
    if isinstance(x, torch.Tensor):
        return torch.pow(x, y).to(x.dtype)
    return torch.pow(x, y)


@op("Mod", scalars=True)
def modulo(node: Node, x: Any, y: Any) -> Any:
    """``fmod`` takes the sign of the dividend, else of the divisor."""
    return torch.fmod(x, y) if node.get("fmod", 0) else torch.remainder(x, y)


@host_op("Mod")
def modulo_host(node: Node, x: Host, y: Host) -> Any:
    """The same for sizes."""
    return np.fmod(x, y) if node.get("fmod", 0) else x % y


@op("Max", "Min", scalars=True)
def extreme(node: Node, *inputs: Any) -> Any:
    """Of any number of inputs."""
    largest = node.op == "Max"

    def two(x: Any, y: Any) -> Any:
        if not isinstance(y, torch.Tensor):
            return torch.clamp(x, min=y) if largest else torch.clamp(x, max=y)
        if not isinstance(x, torch.Tensor):
            return torch.clamp(y, min=x) if largest else torch.clamp(y, max=x)
        return torch.maximum(x, y) if largest else torch.minimum(x, y)

    ordered = sorted(inputs, key=lambda value: not isinstance(value, torch.Tensor))
    return functools.reduce(two, ordered)


@host_op("Max", "Min")
def extreme_host(node: Node, *inputs: Host) -> Any:
    """The same for sizes."""
    return functools.reduce(np.maximum if node.op == "Max" else np.minimum, inputs)


@op("Sum", "Mean")
def total(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    """Element by element over any number of inputs."""
    added = functools.reduce(operator.add, inputs)
    return added / len(inputs) if node.op == "Mean" else added


@op("Where")
def where(node: Node, condition: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Both branches are computed."""
    return torch.where(condition, x, y)


@host_op("Where")
def where_host(node: Node, condition: Host, x: Host, y: Host) -> Any:
    """The same for sizes."""
    return np.where(condition.astype(bool), x, y)


@op("IsInf")
def is_infinite(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Either sign, unless told otherwise."""
    found = torch.isinf(x)
    if not node.get("detect_negative", 1):
        found = found & (x > 0)
    return found if node.get("detect_positive", 1) else found & (x < 0)


def _castable(node: Node, facts: Facts) -> str | None:
    to = node.get("to", TensorProto.FLOAT)
    return None if to in DTYPES else f"casts to {helper.tensor_dtype_to_string(to).removeprefix('TensorProto.')}"


@op("Cast", check=_castable)
def cast(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Towards zero from float to integer."""
    return x.to(DTYPES[node.get("to")])


@host_op("Cast")
def cast_host(node: Node, x: Host) -> Any:
    """Symbolic sizes stay what they are as integers; as floats they are symbolic floats."""
    to = DTYPES[node.get("to")]
    if not symbolic(x):
        return x.astype(helper.tensor_dtype_to_np_dtype(node.get("to")))
    if to.is_floating_point:
        made = np.empty(x.shape, object)
        made.reshape(-1)[:] = [_sym_float(part) for part in x.reshape(-1)]
        return made
    return x


@op("CastLike")
def cast_like(node: Node, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """To the type of the second input."""
    return x.to(like.dtype)


@op("Clip", scalars=True)
def clip(node: Node, x: torch.Tensor, low: Any = None, high: Any = None) -> torch.Tensor:
    """Bounds may be left out."""
    low, high = node.get("min", low), node.get("max", high)
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype))
    return x if low is None and high is None else torch.clamp(x, low, high)


@op("LeakyRelu")
def leaky_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Slope ``alpha`` below zero."""
    return F.leaky_relu(x, node.get("alpha", 0.01))


@op("PRelu")
def prelu(node: Node, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Slopes of any shape that broadcasts."""
    return torch.where(x >= 0, x, slope * x)


@op("Elu")
def elu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """``alpha (exp(x) - 1)`` below zero."""
    return F.elu(x, node.get("alpha", 1.0))


@op("Celu")
def celu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Continuously differentiable ELU."""
    return F.celu(x, node.get("alpha", 1.0))


@op("Selu")
def selu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Scaled ELU, its constants as attributes."""
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    scaled: torch.Tensor = gamma * F.elu(x, alpha)
    return scaled


@op("ThresholdedRelu")
def thresholded_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Zero up to ``alpha``."""
    return torch.where(x > node.get("alpha", 1.0), x, torch.zeros_like(x))


@op("HardSigmoid")
def hard_sigmoid(node: Node, x: torch.Tensor) -> torch.Tensor:
    """``clip(alpha x + beta, 0, 1)``."""
    return torch.clamp(x * node.get("alpha", 0.2) + node.get("beta", 0.5), 0.0, 1.0)


@op("Gelu")
def gelu(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Exact, or by tanh."""
    return F.gelu(x, approximate=node.get("approximate", "none"))


@op("Swish")
def swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    """``x sigmoid(alpha x)``."""
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@op("Softmax", "LogSoftmax")
def softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Before opset 13, over all axes from ``axis`` on."""
    function = F.softmax if node.op == "Softmax" else F.log_softmax
    if node.opset >= 13:
        return function(x, dim=node.get("axis", -1))
    axis = node.get("axis", 1) % x.ndim
    return function(x.flatten(axis), dim=axis).reshape(x.shape)

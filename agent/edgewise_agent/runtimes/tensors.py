"""Tensors between numpy and the Open Inference Protocol: which datatype is which dtype, and do these arrays fit?

BF16 has a name on the wire but no dtype in numpy, so no runtime here serves it; BYTES has no name (see ``Datatype``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgewise.bundle import Datatype, Tensor
from edgewise_agent.runtimes import Arrays, RuntimeFailure

NUMPY: dict[Datatype, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""What can be served, and as what."""


def tensor(name: str, datatype: Datatype | None, native: object, shape: Sequence[int]) -> Tensor:
    """A described tensor. ``native``: what the library calls its type; ``datatype``: ours, None when there is none.

    Raises RuntimeFailure (code ``load-failed``) for a type that cannot be served.
    """
    if datatype is None:
        raise RuntimeFailure(f"{name}: cannot serve {native}; expected one of {', '.join(NUMPY)}", code="load-failed")
    return Tensor(name=name, datatype=datatype, shape=[int(size) for size in shape])


class Signature:
    """The inputs of a model, against which arrays are checked where the library would convert or overlook them."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = {t.name: (np.dtype(NUMPY[t.datatype]), tuple(t.shape)) for t in inputs}

    def check(self, inputs: Arrays) -> None:
        """Raises RuntimeFailure unless there is an array of the right dtype and shape for each input, and no other."""
        if inputs.keys() != self._inputs.keys():
            raise RuntimeFailure(f"inputs: expected {sorted(self._inputs)}, got {sorted(inputs)}")
        for name, (dtype, shape) in self._inputs.items():
            array = inputs[name]
            if array.dtype != dtype:
                raise RuntimeFailure(f"input {name}: expected {dtype}, got {array.dtype}")
            if len(shape) != array.ndim or any(
                want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)
            ):
                raise RuntimeFailure(f"input {name}: expected shape {list(shape)}, got {list(array.shape)}")

"""Does a request fit the model? Pure: arrays and manifest in, an answer out; the counting is the collector's.

In order: the inputs are those of the signature; dtype and shape fit (else ``refused``); every value is finite (else
``nonfinite``); values outside the range of the reference are answered, and counted by item.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgewise.bundle import Manifest
from edgewise.errors import EdgewiseError
from edgewise_agent.runtimes import Arrays
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_agent.serving.model import batch_sizes, batched, nonfinite_rows


class InputRefused(EdgewiseError):
    """A request that is not run. ``count``: the counter of the window that it belongs to; ``items``: how many."""

    code = "input-refused"

    def __init__(self, message: str, count: Literal["refused", "nonfinite_inputs"], items: int = 1) -> None:
        super().__init__(message)
        self.count, self.items = count, items


def check(manifest: Manifest, inputs: Arrays) -> tuple[int, int]:
    """(items, items out of bounds) of a request that fits. Raises InputRefused."""
    expected = {tensor.name: tensor for tensor in manifest.inputs}
    if set(inputs) != set(expected):
        raise InputRefused(f"inputs: expected {sorted(expected)}, got {sorted(inputs)}", "refused")
    for name, tensor in expected.items():
        array = inputs[name]
        fits = array.ndim == len(tensor.shape) and all(
            want in (-1, got) for want, got in zip(tensor.shape, array.shape, strict=True)
        )
        if not fits:
            raise InputRefused(f"input {name}: expected shape {tensor.shape}, got {list(array.shape)}", "refused")
        if array.dtype != NUMPY[tensor.datatype]:
            raise InputRefused(f"input {name}: expected {tensor.datatype}, got {array.dtype}", "refused")
    sizes = batch_sizes(manifest.inputs, inputs)
    if len(sizes) != 1 or 0 in sizes:
        raise InputRefused(f"inputs: expected one batch size above zero, got {sizes}", "refused")
    items = sizes[0]
    bad = nonfinite_rows(manifest.inputs, inputs, items)
    if bad.any():
        raise InputRefused("inputs: expected finite values, got NaN or infinity", "nonfinite_inputs", int(bad.sum()))
    outside = np.zeros(items, dtype=np.bool_)
    for name, bounds in manifest.bounds.items():
        if name in inputs:
            flat = inputs[name].reshape(items if batched(expected[name]) else 1, -1).astype(np.float64)
            outside |= ((flat < bounds.low) | (flat > bounds.high)).any(axis=1)
    return items, int(outside.sum())

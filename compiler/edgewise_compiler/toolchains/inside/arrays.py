"""Arrays of a model's inputs and outputs, in npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_ITEMS = 512
"""Items that are calibrated with."""


def items(
    path: str, inputs: Sequence[dict[str, Any]], limit: int | None = MAX_ITEMS
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """At most ``limit`` items by input name, each of the input's static shape, from arrays [n, ...].

    Raises ValueError for an array that is missing, empty, or of another shape.
    """
    with np.load(path, allow_pickle=False) as arrays:
        missing = [spec["name"] for spec in inputs if spec["name"] not in arrays]
        if missing:
            raise ValueError(f"calibration: expected an array for each input, none came for {', '.join(missing)}")
        given = {spec["name"]: arrays[spec["name"]] for spec in inputs}
    count = min(len(array) for array in given.values())
    if not count:
        raise ValueError("calibration: expected one item or more, got none")
    for index in range(count if limit is None else min(count, limit)):
        item = {}
        for spec in inputs:
            one = given[spec["name"]][index : index + 1]
            if one.size != int(np.prod(spec["shape"])):
                raise ValueError(
                    f"calibration: input {spec['name']!r}: expected {spec['shape']}, got {list(one.shape)}"
                )
            item[spec["name"]] = one.reshape(spec["shape"]).astype(spec["dtype"], order="C")
        yield item


def save(path: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an npz. (``np.savez`` takes no array named ``file``.)"""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)

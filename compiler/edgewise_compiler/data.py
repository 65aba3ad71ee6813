"""Data sets: what a model is calibrated, trained and judged on. Arrays by input name, one item at each first index.

An item is one feed of the model. Two forms, told apart by the number of axes:
- as many axes as the model's input: the first axis is the batch (an item is a slice of length one);
- one axis more: an item is the whole tensor (a state [2, 1, 128], a scalar), and items go one by one.

``labels`` is no input. Data keeps its order of time.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgewise_compiler.errors import CompileError, one_line

Array = npt.NDArray[np.generic]
Feed = dict[str, Array]
"""What a runtime is given: arrays by input name."""

MAX_DATA = 8 * 1024**3


@dataclass(frozen=True)
class Data:
    """``inputs`` by name, each [n, ...]; ``labels`` int64 [n] where there are any."""

    inputs: Mapping[str, Array]
    labels: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Data:
        """Some of the items."""
        return Data(
            {name: array[rows] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[rows],
        )

    def spread(self, n: int) -> Data:
        """At most ``n`` items, evenly spaced over all, in order."""
        if len(self) <= n:
            return self
        return self.take(np.unique(np.linspace(0, len(self) - 1, n).astype(np.int64)))

    def feeds(self, ranks: Mapping[str, int], batch: int) -> Iterator[Feed]:
        """Feeds of up to ``batch`` items. ``ranks``: the number of axes of each input of the model.

        Where an array has one axis more than its input, feeds hold one item each, whatever ``batch`` says.
        """
        whole = {name for name, array in self.inputs.items() if array.ndim == ranks[name] + 1}
        step = 1 if whole else batch
        for start in range(0, len(self), step):
            yield {
                # A scalar of numpy is no array: keep what is indexed an array.
                name: np.asarray(array[start]) if name in whole else np.ascontiguousarray(array[start : start + step])
                for name, array in self.inputs.items()
            }

    def narrowed(self, dtypes: Mapping[str, np.dtype[np.generic]]) -> Data:
        """With integers of 64 bits as 32 where the model's file wants that (TFLite's kernels do), if all fit."""
        limits = np.iinfo(np.int32)
        inputs = {
            name: array.astype(np.int32)
            if dtypes.get(name) == np.int32
            and array.dtype == np.int64
            and limits.min <= array.min() <= array.max() <= limits.max
            else array
            for name, array in self.inputs.items()
        }
        return Data(inputs, self.labels)

    def digest(self) -> str:
        """sha256 of everything, hex."""
        labels = () if self.labels is None else (("", self.labels),)
        return digest_of_arrays(*sorted(self.inputs.items()), *labels)

    def save(self, path: Path) -> None:
        """As an npz that ``load`` reads: ``inputs/NAME`` and ``labels``, uncompressed."""
        arrays = {f"inputs/{name}": array for name, array in self.inputs.items()}
        if self.labels is not None:
            arrays["labels"] = self.labels
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)

    @staticmethod
    def load(path: Path) -> Data:
        """Read what ``save`` wrote. Raises CompileError (code ``bad-data``)."""
        arrays = read_npz(path)
        labels = arrays.pop("labels", None)
        return Data(
            {name.removeprefix("inputs/"): array for name, array in arrays.items()},
            None if labels is None else labels.astype(np.int64),
        )


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an npz, without pickles. Raises CompileError (code ``bad-data``)."""
    try:
        if path.stat().st_size > MAX_DATA:
            raise CompileError(f"{path.name}: at most {MAX_DATA} bytes, got {path.stat().st_size}", code="bad-data")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > MAX_DATA:
                raise CompileError(f"{path.name}: at most {MAX_DATA} bytes unpacked, got {unpacked}", code="bad-data")
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CompileError(f"{path.name}: expected an npz of arrays: {one_line(error)}", code="bad-data") from error


def digest_of_arrays(*arrays: tuple[str, Array]) -> str:
    """sha256 of named arrays with their dtypes and shapes, hex."""
    sha256 = hashlib.sha256()
    for name, array in arrays:
        sha256.update(f"{name}:{array.dtype.str}{array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()

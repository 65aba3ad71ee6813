"""Load what a bundle's windows are held against: ``reference.npz`` and the sketch spec, both blobs on the hub.

The file is checked as if it came from a stranger: its size, its arrays' shapes, kinds and ranges; no pickles.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewise.errors import EdgewiseError
from edgewise.sketch import SketchSpec, WindowSketches
from edgewise_hub.monitoring.drift.reference import Reference

MAX_FILE = 64 * 1024**2
MAX_UNPACKED = 256 * 1024**2
MIN_ITEMS = 200
"""A tenth of it is the largest span: fewer than 20 items say nothing."""


class BadReferenceError(EdgewiseError):
    """A reference that is not what its spec says."""

    code = "bad-reference"


def load(path: Path, spec: SketchSpec) -> Reference:
    """Read ``reference.npz``. Raises BadReferenceError."""
    if path.stat().st_size > MAX_FILE:
        raise BadReferenceError(f"reference: at most {MAX_FILE} bytes, got {path.stat().st_size}")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise BadReferenceError(f"reference: at most {MAX_UNPACKED} bytes unpacked, got {unpacked}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise BadReferenceError(f"reference: expected an npz of plain arrays: {error}") from error
    return from_arrays(arrays, spec)


def from_arrays(arrays: dict[str, npt.NDArray[Any]], spec: SketchSpec) -> Reference:
    """Check arrays as in ``edgewise_compiler.reference`` and put them together. Raises BadReferenceError."""
    found = [arrays[name] for name in ("features", "classes", "confidence") if name in arrays]
    if not found or not found[0].ndim:
        raise BadReferenceError(f"reference: expected features, classes or confidence, got {sorted(arrays)}")
    m = len(found[0])
    if m < MIN_ITEMS:
        raise BadReferenceError(f"reference: expected at least {MIN_ITEMS} items, got {m}")
    features = _array(arrays, "features", "i", (m, spec.embedding.features)) if spec.embedding else None
    classes = _array(arrays, "classes", "iu", (m,)) if spec.classes else None
    if classes is not None and spec.classes and not 0 <= int(classes.min()) <= int(classes.max()) < spec.classes:
        raise BadReferenceError(f"reference: classes: expected 0 to {spec.classes - 1}")
    confidence = _array(arrays, "confidence", "f", (m,)) if spec.classes and spec.confidence_edges else None
    if confidence is not None and not (np.isfinite(confidence).all() and (abs(confidence - 0.5) <= 0.5001).all()):
        raise BadReferenceError("reference: confidence: expected shares from 0 to 1")
    correct = _array(arrays, "correct", "b", (m,)) if "correct" in arrays else None
    labels = _array(arrays, "labels", "iu", (m,)) if "labels" in arrays else None
    window = WindowSketches(spec)
    embedding, sizes = spec.embedding, dict[str, int]()
    cells = distances = None
    if embedding is not None and embedding.cells:
        sizes["cells"] = embedding.cells
        cells = _places(arrays, "cells", (m,), embedding.cells)
    if embedding is not None and embedding.distance_edges:
        sizes["distances"] = len(embedding.distance_edges) + 1
        edges = np.array(embedding.distance_edges, dtype=np.float32)
        distances = np.searchsorted(edges, _array(arrays, "distances", "f", (m,)), side="right")
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, sketch in (("feature_places", window.features), ("category_places", window.categories)):
        if sketch is not None:
            width, sizes[name] = sketch.counts.shape
            columns[name] = _places(arrays, name, (m, width), sizes[name])
    return Reference(
        m=m,
        scale=spec.embedding.scale if spec.embedding else 1,
        features=features,
        classes=classes,
        class_count=spec.classes or 0,
        confidence=confidence,
        edges=tuple(spec.confidence_edges),
        correct=correct,
        labels=labels,
        cells=cells,
        distances=distances,
        **columns,
        sizes=sizes,
    )


def _places(arrays: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], count: int) -> npt.NDArray[Any]:
    """Integers from 0 to ``count`` - 1."""
    array = _array(arrays, name, "iu", shape)
    if not 0 <= int(array.min()) <= int(array.max()) < count:
        raise BadReferenceError(f"reference: {name}: expected 0 to {count - 1}")
    return array


def _array(arrays: dict[str, npt.NDArray[Any]], name: str, kinds: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """One array of one of ``kinds`` (numpy's letters) and ``shape``."""
    array = arrays.get(name)
    if array is None:
        raise BadReferenceError(f"reference: expected {name}, since the sketch spec has it")
    if array.dtype.kind not in kinds or array.shape != shape:
        raise BadReferenceError(
            f"reference: {name}: expected kind {kinds} of shape {list(shape)}, "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    return array

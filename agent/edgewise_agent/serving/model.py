"""One model, opened from its bundle: verified, loaded, compared with its manifest, tried by its smoke inference.

Every way to fail is a ``ModelFailure`` whose code goes to the hub: ``bad-blob`` (bytes on disk are damaged),
``load-failed`` (the runtime will not have it, or it is not what the manifest says), ``smoke-failed``.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgewise.bundle import MAX_ENVELOPE, Blob, Envelope, Manifest, Tensor
from edgewise.errors import EdgewiseError
from edgewise.sketch.spec import SketchSpec, projection_matrix
from edgewise.wire.codec import decode_json
from edgewise_agent.runtimes import Arrays, Runtime, RuntimeFailure, open_runtime
from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_agent.serving.batching import BatchingRuntime
from edgewise_agent.serving.options import Options
from edgewise_agent.store.blobs import hash_file

MAX_SMOKE = 16 * 1024 * 1024
FEW = 4096
"""Values of which no BLAS shares the work with a thread of its own."""


class ModelFailure(EdgewiseError):
    """A bundle that cannot be served."""

    code = "load-failed"


@dataclass(frozen=True)
class Model:
    """A model that passed its smoke inference."""

    bundle: str
    manifest: Manifest
    runtime: Runtime
    spec: SketchSpec
    spec_digest: str
    projection: npt.NDArray[np.float32] | None


def open_model(bundle: str, blobs: Path, threads: int | None = None) -> Model:
    """Open the bundle whose blobs are in the folder ``blobs``, on at most ``threads``. Raises ModelFailure."""
    try:
        manifest = _manifest(bundle, blobs)
        model_path = _checked(blobs, manifest.blobs["model"])
        spec = decode_json(_bytes(blobs, manifest.blobs["sketch"], SketchSpec.bound), SketchSpec)
        adapter = _checked(blobs, manifest.blobs["adapter"]) if "adapter" in manifest.blobs else None
        fewest = min(manifest.threads, threads or manifest.threads)
        runtime = open_runtime(manifest.runtime, model_path, fewest, adapter)
        inputs, outputs = runtime.describe()
        _compare("input", manifest.inputs, inputs)
        _compare("output", manifest.outputs, outputs)
        model = Model(
            bundle, manifest, runtime, spec, manifest.blobs["sketch"].sha256, _projection(manifest, spec, blobs)
        )
        _smoke(model, _bytes(blobs, manifest.blobs["smoke"], MAX_SMOKE))
    except ModelFailure:
        raise
    except RuntimeFailure as error:
        raise ModelFailure(str(error), code=error.code if error.code != "runtime-failed" else "load-failed") from error
    except (EdgewiseError, KeyError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFailure(f"bundle {bundle[:12]}: {error}") from error
    except OSError as error:
        raise ModelFailure(f"bundle {bundle[:12]}: {error.strerror}", code="bad-blob") from error
    return model


def batching(model: Model, options: Options) -> Model:
    """The same model, which runs requests that come together as one where the options say so."""
    if options.batch == 1:
        return model
    return replace(model, runtime=BatchingRuntime(model.runtime, options.batch, options.batch_wait_s))


def batched(tensor: Tensor) -> bool:
    """Does it hold one value an item? A scalar, or a state of another first axis, belongs to the whole request."""
    return tensor.shape[:1] == [-1]


def batch_sizes(tensors: list[Tensor], arrays: Arrays) -> list[int]:
    """The sizes of the batch axis that arrays have, each once; [1] where no tensor has a batch axis."""
    return sorted({len(arrays[t.name]) if arrays[t.name].ndim else 0 for t in tensors if batched(t)}) or [1]


def all_finite(arrays: Arrays) -> bool:
    """Is no value NaN or infinity?"""
    return all(map(_finite, arrays.values()))


def _finite(array: npt.NDArray[np.generic]) -> bool:
    """Of few values the sum of squares says so at once, where it does not overflow."""
    if array.dtype.kind != "f" or (array.size <= FEW and math.isfinite(np.vdot(array, array))):  # type: ignore[arg-type]
        return True
    return bool(np.isfinite(array).all())


def nonfinite_rows(tensors: list[Tensor], arrays: Arrays, items: int) -> npt.NDArray[np.bool_]:
    """Which items [items] hold NaN or infinity in any floating array; all of them where it is in none's own part."""
    rows = np.zeros(items, dtype=np.bool_)
    for tensor in tensors:
        array = arrays[tensor.name]
        if _finite(array):
            continue
        if batched(tensor) and len(array) == items:
            rows |= ~np.isfinite(array).reshape(items, -1).all(axis=1)
        else:
            rows[:] = True
    return rows


def _manifest(bundle: str, blobs: Path) -> Manifest:
    """The supervisor checked the signature; the digest pins the bytes."""
    data = _bytes(blobs, Blob(sha256=bundle, size=MAX_ENVELOPE), MAX_ENVELOPE)
    return decode_json(bytes(msgspec.json.decode(data, type=Envelope).signed), Manifest)


def _bytes(blobs: Path, blob: Blob, bound: int) -> bytes:
    with (blobs / blob.sha256).open("rb") as file:
        data = file.read(bound + 1)
    if len(data) > bound:
        raise ModelFailure(f"blob {blob.sha256[:12]}: expected at most {bound} bytes")
    if hashlib.sha256(data).hexdigest() != blob.sha256:
        raise ModelFailure(f"blob {blob.sha256[:12]}: its bytes on disk have another sha256", code="bad-blob")
    return data


def _checked(blobs: Path, blob: Blob) -> Path:
    """The path of a blob whose bytes were hashed just now."""
    path = blobs / blob.sha256
    if hash_file(path)[0] != blob.sha256:
        raise ModelFailure(f"blob {blob.sha256[:12]}: its bytes on disk have another sha256", code="bad-blob")
    return path


def _projection(manifest: Manifest, spec: SketchSpec, blobs: Path) -> npt.NDArray[np.float32] | None:
    if spec.embedding is None:
        return None
    blob = manifest.blobs.get("projection")
    if blob is None or blob.sha256 != spec.embedding.projection:
        raise ModelFailure(f"sketch spec: expected the projection {spec.embedding.projection[:12]} among the blobs")
    expected = spec.embedding.rows * spec.embedding.dimension * 4
    return projection_matrix(spec.embedding, _bytes(blobs, blob, expected))


def _compare(what: str, promised: list[Tensor], found: list[Tensor]) -> None:
    by_name = {tensor.name: tensor for tensor in found}
    if sorted(by_name) != sorted(tensor.name for tensor in promised):
        raise ModelFailure(f"{what}s: the manifest says {[t.name for t in promised]}, the model has {sorted(by_name)}")
    for tensor in promised:
        got = by_name[tensor.name]
        same_shape = len(got.shape) == len(tensor.shape) and all(
            a == b or -1 in (a, b) for a, b in zip(tensor.shape, got.shape, strict=True)
        )
        if got.datatype != tensor.datatype or not same_shape:
            raise ModelFailure(
                f"{what} {tensor.name}: the manifest says {tensor.datatype} {tensor.shape}, "
                f"the model has {got.datatype} {got.shape}"
            )


def _smoke(model: Model, data: bytes) -> None:
    """Run the bundle's own inputs; outputs must be finite and of the promised shape."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            inputs: Arrays = {tensor.name: file[tensor.name] for tensor in model.manifest.inputs}
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ModelFailure(
            f"smoke inputs: expected an npz with one array an input: {error}", code="smoke-failed"
        ) from error
    sizes = batch_sizes(model.manifest.inputs, inputs)
    if len(sizes) != 1 or 0 in sizes:
        raise ModelFailure(f"smoke inputs: expected one batch size above zero, got {sizes}", code="smoke-failed")
    n = sizes[0]
    for tensor in model.manifest.inputs:
        inputs[tensor.name] = inputs[tensor.name].astype(NUMPY[tensor.datatype], copy=False)
    try:
        outputs = model.runtime.infer(inputs)
    except RuntimeFailure as error:
        raise ModelFailure(f"smoke inference: {error}", code="smoke-failed") from error
    for tensor in model.manifest.outputs:
        shape = list(outputs[tensor.name].shape)
        expected = [n, *tensor.shape[1:]] if batched(tensor) else tensor.shape
        if len(shape) != len(expected) or any(want not in (-1, got) for want, got in zip(expected, shape, strict=True)):
            raise ModelFailure(
                f"smoke inference: output {tensor.name}: expected {expected}, got {shape}", code="smoke-failed"
            )
    bad = int(nonfinite_rows(model.manifest.outputs, outputs, n).sum())
    if bad:
        raise ModelFailure(f"smoke inference: {bad} of {n} items gave a value that is not finite", code="smoke-failed")

"""What compiling gives: a bundle's files, its manifest (unsigned), the reference and the report."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from edgewise.bundle import Blob, Manifest, digest
from edgewise.profile import Profile
from edgewise.wire.codec import encode_json
from edgewise_compiler import adapter
from edgewise_compiler.data import Array
from edgewise_compiler.errors import CompileError, one_line
from edgewise_compiler.model import Model
from edgewise_compiler.reference import Reference
from edgewise_compiler.report import Report
from edgewise_compiler.targets import Target

FILES = {"sketch": "sketch.json", "projection": "projection.bin", "smoke": "smoke.npz"}
"""A bundle's files by blob role, beside ``model`` with its target's suffix; ``projection`` is absent without an
embedding sketch."""
REFERENCE = "reference.npz"


@dataclass(frozen=True)
class Identity:
    """What a manifest says beside what was computed. ``created_at``: Unix seconds; ``seed`` fixes what is drawn."""

    tenant: str
    model: str
    version: int
    release: int
    created_at: float
    seed: int = 0


@dataclass(frozen=True)
class CompiledBundle:
    """``manifest``: unsigned, the hub signs it. ``files``: path by blob role. ``report``: a ``Report``, JSON-able."""

    manifest: Manifest
    files: dict[str, Path]
    reference: Path
    report: dict[str, Any]


def write_bundle(
    folder: Path,
    identity: Identity,
    profile: Profile,
    target: Target,
    file: Path,
    signature: Model,
    labels: list[str],
    reference: Reference,
    report: Report,
) -> CompiledBundle:
    """Write a bundle's files into ``folder`` and make its manifest. ``file``: the model; ``signature``: its inputs and
    outputs, from the file itself where a runtime of the agent's opens it, else from the source.

    Raises CompileError (code ``bad-source``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {role: folder / name for role, name in FILES.items()}
    files["model"] = folder / f"model{target.suffix}"
    if values := _place(file, files["model"], target):
        files["adapter"] = folder / "adapter.onnx_adapter"
        adapter.write(values, files["adapter"])
    files["sketch"].write_bytes(encode_json(reference.spec))
    write_npz(files["smoke"], reference.smoke)
    if reference.projection is None:
        del files["projection"]
    else:
        files["projection"].write_bytes(reference.projection)
    write_npz(folder / REFERENCE, reference.arrays)
    manifest = Manifest(
        tenant=identity.tenant,
        model=identity.model,
        version=identity.version,
        release=identity.release,
        profile=profile.name,
        runtime=target.name,
        threads=profile.limits.threads,
        inputs=signature.inputs,
        outputs=signature.outputs,
        scores=signature.scores,
        embedding=signature.embedding,
        labels=labels,
        bounds=reference.bounds,
        blobs={role: _blob(path) for role, path in files.items()},
        created_at=identity.created_at,
    )
    try:
        # Structs do not check what they are made of; what a device would refuse is refused here.
        msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    except msgspec.ValidationError as error:
        raise CompileError(f"manifest: {one_line(error)}; rename it in the model", code="bad-source") from error
    return CompiledBundle(manifest, files, folder / REFERENCE, msgspec.to_builtins(report))


def _place(file: Path, place: Path, target: Target) -> dict[str, Array]:
    """Put the model in its place, without its adapters' values where it has some: those are given back."""
    shutil.copyfile(file, place)
    if target.kind != "onnx":
        return {}
    model = onnx.load_model(str(file))
    if values := adapter.split(model):
        onnx.save_model(model, str(place))
    return values


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """An npz of ``arrays``: compressed, no pickles, without times, so that equal arrays are equal bytes.

    (numpy's ``savez`` takes names as keyword arguments, and so refuses an input called ``file``.)
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), allow_pickle=False)


def _blob(path: Path) -> Blob:
    data = path.read_bytes()
    return Blob(sha256=digest(data), size=len(data))

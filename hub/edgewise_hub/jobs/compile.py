"""The job ``compile``: one version for several profiles, in one go; all its bundles are saved, or none.

Payload: {"model", "version", "profiles"} and the fields of ``submit.Wishes`` (absent from rows of older hubs).
Result: {"bundles": [{"profile", "digest", "total_size", "report"}], "refused": [{"profile", "code", "detail"}]}.

A profile that no target can take is refused, and the others keep their bundles; the job fails where all are. A budget
that is not met fails the job, and no bundle is kept, unless ``allow_over_budget``.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import structs

from edgewise.errors import EdgewiseError
from edgewise_compiler.budget import Budget
from edgewise_compiler.bundle import CompiledBundle
from edgewise_compiler.compile import compile
from edgewise_compiler.errors import CompileError
from edgewise_compiler.sources import OnnxSource, RecipeSource, Source, open_source
from edgewise_compiler.techniques import Techniques
from edgewise_hub.jobs import submit
from edgewise_hub.jobs.work import Work
from edgewise_hub.registry.tables import Version
from edgewise_hub.registry.versions import add_bundle


def run(work: Work) -> None:
    """Compile and register the bundles.

    Raises CompileError (``refused``: no profile's target takes the model), JobError (code ``bad-budget``,
    ``over-budget``), BlobError, LeaseLost.
    """
    hub, payload = work.hub, work.payload
    version = _version(work, payload)
    submit.check_profiles(hub, payload["profiles"])
    refused: dict[str, CompileError] = {}
    compiled = compile(
        source_of(work, version.source),
        [hub.profiles[name] for name in payload["profiles"]],
        work.folder / "out",
        tenant=hub.tenant,
        model=version.model,
        version=version.version,
        release=version.release,
        created_at=work.created_at,
        budget=budget_of(payload),
        training=payload.get("training"),
        techniques=techniques_of(work),
        cache=hub.settings.data / "compile-cache",
        refused=lambda profile, error: refused.update({profile: error}),
        progress=work.part(0.0, 0.95),
    )
    if not compiled:
        raise CompileError("; ".join(str(error) for error in refused.values()), code="refused")
    if payload.get("budget") and not payload.get("allow_over_budget"):
        refuse_over_budget(compiled)
    with work.saving() as session:
        bundles: list[dict[str, Any]] = []
        for made in compiled:
            bundle = add_bundle(session, hub, made.manifest, made.files, made.reference, made.report, time.time())
            bundles.append(
                {
                    "profile": bundle.profile,
                    "digest": bundle.digest,
                    "total_size": bundle.total_size,
                    "report": bundle.report,
                }
            )
        told = [{"profile": name, "code": error.code, "detail": str(error)} for name, error in refused.items()]
        work.finish(session, {"bundles": bundles, "refused": told})


def techniques_of(work: Work) -> Techniques:
    """Those of a job, checked; the student is the version's model, as a file. Raises JobError (code ``cannot-plan``),
    CompileError, BlobError."""
    asked = dict(work.payload.get("techniques") or {})
    student = asked.pop("student", None)
    try:
        techniques = msgspec.convert(asked, Techniques)
    except msgspec.ValidationError as error:
        raise submit.JobError(f"techniques: {error}", code="cannot-plan") from error
    if student is None:
        return techniques
    folder = work.folder / "student"
    folder.mkdir()
    opened = open_source(source_of(work, _version(work, student).source, "student-"), folder)
    return structs.replace(techniques, student=opened.model)


def _version(work: Work, named: dict[str, Any]) -> Version:
    with work.hub.database.read() as session:
        version = session.get(Version, (work.hub.tenant, named["model"], named["version"]))
    if version is None:
        raise EdgewiseError(f"{named['model']} version {named['version']}: there is none", code="no-version")
    return version


def budget_of(payload: dict[str, Any]) -> Budget:
    """The budget of a job, checked. Raises JobError (code ``bad-budget``)."""
    try:
        return msgspec.convert(payload.get("budget") or {}, Budget)
    except msgspec.ValidationError as error:
        raise submit.JobError(f"budget: {error}", code="bad-budget") from error


def refuse_over_budget(compiled: list[CompiledBundle]) -> None:
    """Raises JobError (code ``over-budget``) that says what is missing, by profile."""
    over = [made.report for made in compiled if not made.report["meets"]]
    if over:
        missed = "; ".join(f"{one['profile']}: {one['scheme']} lacks {', '.join(one['missing'])}" for one in over)
        raise submit.JobError(
            f"no bundle meets the budget: {missed}. Ask for less, or allow_over_budget to keep the nearest",
            code="over-budget",
        )


def source_of(work: Work, source: dict[str, Any], prefix: str = "") -> Source:
    """``Version.source`` with its blobs as files, their names after ``prefix``. Raises BlobError when one is not on
    this hub."""
    if source["kind"] == "onnx":
        model, data = work.blob(source["model"], f"{prefix}model.onnx"), work.blob(source["data"], f"{prefix}data.npz")
        return OnnxSource(model=model, data=data)
    return RecipeSource(
        recipe=work.blob(source["recipe"], f"{prefix}recipe.py"),
        weights=work.blob(source["weights"], f"{prefix}weights.safetensors"),
        config=source["config"],
    )

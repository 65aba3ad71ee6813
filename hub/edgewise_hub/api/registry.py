"""The registry: blobs, models, versions with their lineage, bundles, device profiles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import anyio.from_thread
from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import ApiError, not_found
from edgewise_hub.api.pages import Cursor, Limit, page
from edgewise_hub.api.schemas import (
    AgentSource,
    BundleOut,
    ModelOut,
    ModelPatch,
    NameStr,
    Page,
    ProfileOut,
    QualityRules,
    Sha256,
    VersionIn,
    VersionOut,
)
from edgewise_hub.fleet import desired
from edgewise_hub.fleet.tables import Device
from edgewise_hub.hub import Hub
from edgewise_hub.registry import releases, versions
from edgewise_hub.registry.tables import Bundle, Model, Version

router = APIRouter(tags=["registry"])

ModelName = Annotated[NameStr, Path()]
Digest = Annotated[Sha256, Path()]


@router.put("/blobs/{sha256}", status_code=204, response_class=Response)
async def put_blob(sha256: Digest, request: Request, hub: HubDep) -> Response:
    """Upload a blob; the body is its bytes, streamed to disk and kept only where they are of this sha256."""
    stream = request.stream().__aiter__()

    async def read() -> bytes | None:
        return await anext(stream, None)

    def chunks() -> Iterator[bytes]:
        while (chunk := anyio.from_thread.run(read)) is not None:
            yield chunk

    await run_in_threadpool(hub.blobs.put_chunks, chunks(), sha256)
    return Response(status_code=204)


@router.head("/blobs/{sha256}", response_class=Response)
def has_blob(sha256: Digest, hub: HubDep) -> Response:
    """200 when the blob is here, else 404."""
    return Response(status_code=200 if sha256 in hub.blobs else 404)


@router.get("/profiles")
def list_profiles(hub: HubDep) -> Page[ProfileOut]:
    """All device profiles by name."""
    return Page(
        items=[
            ProfileOut(
                name=profile.name,
                title=profile.title,
                architecture=profile.architecture,
                runtimes=profile.runtimes,
                dtypes=list(profile.dtypes),
            )
            for _, profile in sorted(hub.profiles.items())
        ]
    )


@router.get("/models")
def list_models(hub: HubDep, cursor: Cursor = None, limit: Limit = 100) -> Page[ModelOut]:
    """Models by name."""
    rows = select(Model).where(Model.tenant_id == hub.tenant)
    with hub.database.read() as session:
        found, after = page(session, rows, (Model.name,), cursor, limit, newest_first=False)
        return Page(items=_models(session, hub, found), next=after)


@router.get("/models/{model}")
def get_model(model: ModelName, hub: HubDep) -> ModelOut:
    """One model."""
    with hub.database.read() as session:
        row = session.get(Model, (hub.tenant, model))
        if row is None:
            raise not_found("model", model)
        return _models(session, hub, [row])[0]


@router.patch("/models/{model}")
def patch_model(model: ModelName, body: ModelPatch, hub: HubDep) -> ModelOut:
    """Say what becomes of inputs that do not look right; every device that serves the model is told at once."""
    if model == releases.AGENT:
        raise ApiError(f"{model} is the agent itself, which takes no inputs", status=422, code="reserved-model")
    with hub.database.write() as session:
        row = session.get(Model, (hub.tenant, model))
        if row is None:
            raise not_found("model", model)
        row.quality = body.quality.model_dump(exclude_none=True)
        desired.refresh(session, hub, desired.serving(session, hub, model), time.time())
        shown = _models(session, hub, [row])[0]
    desired.publish_pending(hub)
    return shown


@router.post("/models/{model}/versions", status_code=201)
def create_version(model: ModelName, body: VersionIn, hub: HubDep) -> VersionOut:
    """Register a version; its blobs are uploaded before. The model is made at its first version."""
    source, now = body.source.model_dump(), time.time()
    for role in ("recipe", "weights", "model", "data"):
        if role in source and source[role] not in hub.blobs:
            raise ApiError(f"{role}: blob {source[role][:12]} is not on this hub", status=422, code="no-blob")
    if (model == releases.AGENT) != isinstance(body.source, AgentSource):
        raise ApiError(
            f"{releases.AGENT} is the agent itself: expected a source of kind agent for it, and for no other model",
            status=422,
            code="reserved-model",
        )
    if isinstance(body.source, AgentSource):
        releases.check(hub, body.source.wheels)
    with hub.database.write() as session:
        version = versions.register(session, hub, model, source, {"origin": "registered"}, {}, body.note, now)
        if isinstance(body.source, AgentSource):
            releases.add_bundles(session, hub, version, body.source.wheels, now)
        return _versions(session, hub, [version])[0]


@router.get("/models/{model}/versions")
def list_versions(model: ModelName, hub: HubDep, cursor: Cursor = None, limit: Limit = 100) -> Page[VersionOut]:
    """A model's versions, newest first."""
    rows = select(Version).where(Version.tenant_id == hub.tenant, Version.model == model)
    with hub.database.read() as session:
        if session.get(Model, (hub.tenant, model)) is None:
            raise not_found("model", model)
        found, after = page(session, rows, (Version.version,), cursor, limit)
        return Page(items=_versions(session, hub, found), next=after)


@router.get("/models/{model}/versions/{version}")
def get_version(model: ModelName, version: int, hub: HubDep) -> VersionOut:
    """One version with its lineage and its bundles."""
    with hub.database.read() as session:
        row = session.get(Version, (hub.tenant, model, version))
        if row is None:
            raise not_found("version", f"{model} {version}")
        return _versions(session, hub, [row])[0]


@router.get("/bundles/{digest}")
def get_bundle(digest: Digest, hub: HubDep) -> BundleOut:
    """One bundle."""
    with hub.database.read() as session:
        row = session.get(Bundle, (hub.tenant, digest))
    if row is None:
        raise not_found("bundle", digest)
    return _bundle(row)


def _bundle(row: Bundle) -> BundleOut:
    return BundleOut(
        digest=row.digest,
        model=row.model,
        version=row.version,
        profile=row.profile,
        total_size=row.total_size,
        report=row.report,
        created_at=row.created_at,
    )


def _versions(session: Session, hub: Hub, rows: list[Version]) -> list[VersionOut]:
    """Versions of one model with their bundles."""
    bundles: dict[int, list[BundleOut]] = {row.version: [] for row in rows}
    if rows:
        of_versions = (
            select(Bundle)
            .where(Bundle.tenant_id == hub.tenant, Bundle.model == rows[0].model, Bundle.version.in_(bundles))
            .order_by(Bundle.profile, Bundle.created_at.desc())
        )
        for bundle in session.scalars(of_versions):
            bundles[bundle.version].append(_bundle(bundle))
    return [
        VersionOut(
            model=row.model,
            version=row.version,
            source=row.source,
            lineage=row.lineage,
            metrics=row.metrics,
            note=row.note,
            created_at=row.created_at,
            bundles=bundles[row.version],
        )
        for row in rows
    ]


def _models(session: Session, hub: Hub, rows: list[Model]) -> list[ModelOut]:
    names = [row.name for row in rows]
    counted = session.execute(
        select(Version.model, func.count(), func.max(Version.version))
        .where(Version.tenant_id == hub.tenant, Version.model.in_(names))
        .group_by(Version.model)
    )
    counts = {model: (count, latest) for model, count, latest in counted}
    serving = _serving(session, hub, names)
    return [
        ModelOut(
            name=row.name,
            versions=counts.get(row.name, (0, None))[0],
            latest=counts.get(row.name, (0, None))[1],
            floor=row.floor,
            quality=QualityRules.model_validate(row.quality),
            serving=serving[row.name],
            created_at=row.created_at,
        )
        for row in rows
    ]


def _serving(session: Session, hub: Hub, names: list[str]) -> dict[str, dict[str, int]]:
    """Devices by confirmed version, for each model."""
    of_models = select(Bundle.digest, Bundle.version).where(Bundle.tenant_id == hub.tenant, Bundle.model.in_(names))
    version_of = dict(session.execute(of_models).all())
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    reports = session.scalars(
        select(Device.reported).where(Device.tenant_id == hub.tenant, Device.revoked_at.is_(None))
    )
    for reported in reports:
        for model, there in (reported or {}).get("models", {}).items():
            version = version_of.get(there.get("confirmed"))
            if model in counts and version is not None:
                counts[model][str(version)] += 1
    return {name: dict(sorted(counter.items())) for name, counter in counts.items()}

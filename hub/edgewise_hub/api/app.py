"""The web application: every resource's router behind the guard, the OpenAPI document, and the console.

Access is decided here, once: a router in PROTECTED asks for a bearer token or a console session, all of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.routing import APIRoute

from edgewise import __version__
from edgewise.wire.enrollment import EnrollRequest, EnrollResponse
from edgewise_hub.api import (
    accuracy,
    auth,
    calibrations,
    devices,
    drift,
    enroll,
    errors,
    events,
    experiments,
    guard,
    jobs,
    learning,
    registry,
    rollouts,
    system,
)
from edgewise_hub.api.schemas import Problem
from edgewise_hub.hub import Hub

API = "/api/v1"
CONSOLE = Path(__file__).parent.parent / "console_dist"
PROTECTED: tuple[APIRouter, ...] = (
    system.router,
    enroll.router,
    devices.router,
    registry.router,
    jobs.router,
    rollouts.router,
    experiments.router,
    drift.router,
    calibrations.router,
    accuracy.router,
    learning.router,
    events.router,
)
PUBLIC: tuple[APIRouter, ...] = (system.public, enroll.public)
_NOT_BUILT = (
    "<!doctype html><title>Edgewise</title><p>The console is not built here: run <code>scripts/setup</code>. "
    "The API is at <code>/api/v1</code>, its document at <code>/api/v1/openapi.json</code>."
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "What is wrong with the request, and what to do."}
}


def create_app(hub: Hub, console: Path = CONSOLE) -> FastAPI:
    """The application of one hub. ``console``: the folder of the built console."""
    app = _bare_app()
    app.state.hub = hub
    app.state.streams = events.Streams()
    app.state.sign_in_limit = auth.TryLimit()
    app.include_router(system.outside)
    _serve_console(app, console)
    app.add_middleware(guard.Guard, hosts=guard.own_hosts(hub.settings.host, hub.settings.port))
    return app


def openapi() -> dict[str, Any]:
    """The OpenAPI document; needs no hub."""
    return _bare_app().openapi()


def _bare_app() -> FastAPI:
    """The API's routes and errors, without a hub."""
    app = FastAPI(
        title="Edgewise hub",
        version=__version__,
        description="Registry, fleet, rollouts, monitoring and learning. Errors are problem+json with a stable `code`.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    errors.install(app)
    for router in PUBLIC:
        app.include_router(router, prefix=API, responses=_PROBLEMS)
    for router in PROTECTED:
        app.include_router(router, prefix=API, responses=_PROBLEMS, dependencies=[Depends(auth.require_access)])
    made = app.openapi

    def with_wire_messages() -> dict[str, Any]:
        document = made()
        _, wire = msgspec.json.schema_components(
            [EnrollRequest, EnrollResponse], ref_template="#/components/schemas/{name}"
        )
        document["components"]["schemas"].update(wire)
        return document

    app.openapi = with_wire_messages  # type: ignore[method-assign]
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _serve_console(app: FastAPI, console: Path) -> None:
    """The console's files; any other path that is not the API's is a route of the console itself."""
    files = {path.relative_to(console).as_posix(): path for path in console.rglob("*") if path.is_file()}

    @app.get("/{path:path}", include_in_schema=False)
    def serve_console(path: str, request: Request) -> Response:
        if path.startswith("api/"):
            raise errors.not_found("address", request.url.path)
        if path in files:
            return FileResponse(files[path])
        if "index.html" in files:
            return FileResponse(files["index.html"], headers={"Cache-Control": "no-cache"})
        return HTMLResponse(_NOT_BUILT)

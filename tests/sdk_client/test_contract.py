"""Every request that the client can make is one that the hub's OpenAPI document knows: method, path, parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewise.client import Client, HubError
from edgewise.resources import Budget
from edgewise.wire.quality import Quality

CALLS: dict[str, Callable[[Client, Path], object]] = {
    "system": lambda c, _: c.system(),
    "sign_in_code": lambda c, _: c.sign_in_code(),
    "upload": lambda c, file: c.upload(file),
    "put_blob": lambda c, file: c._transport.put_blob("ab", file),
    "compile": lambda c, _: c.compile("m", 1, ["p"], budget=Budget(max_size=1.0), training=False),
    "accuracy": lambda c, _: c.accuracy("m", since=1.0, group="g"),
    "events": lambda c, _: next(c.events()),
    "devices.list": lambda c, _: c.devices.list(group="g", state="online"),
    "devices.get": lambda c, _: c.devices.get("d"),
    "devices.health": lambda c, _: c.devices.health("d", since=1.0),
    "devices.set_groups": lambda c, _: c.devices.set_groups("d", ["g"]),
    "devices.revoke": lambda c, _: c.devices.revoke("d"),
    "groups.list": lambda c, _: c.groups.list(),
    "profiles.list": lambda c, _: c.profiles.list(),
    "tokens.create": lambda c, _: c.tokens.create(["g"], 2),
    "tokens.list": lambda c, _: c.tokens.list(),
    "tokens.delete": lambda c, _: c.tokens.delete("t"),
    "models.list": lambda c, _: c.models.list(),
    "models.get": lambda c, _: c.models.get("m"),
    "models.versions": lambda c, _: c.models.versions("m"),
    "models.version": lambda c, _: c.models.version("m", 1),
    "models.bundle": lambda c, _: c.models.bundle("b"),
    "models.set_quality": lambda c, _: c.models.set_quality("m", Quality(missing="flag")),
    "models.register": lambda c, _: c.models._register("m", {}, ""),
    "jobs.list": lambda c, _: c.jobs.list(),
    "jobs.get": lambda c, _: c.jobs.get("j"),
    "rollouts.create": lambda c, _: c.rollouts.create("m", 1),
    "rollouts.list": lambda c, _: c.rollouts.list(model="m", state="running"),
    "rollouts.get": lambda c, _: c.rollouts.get("r"),
    "rollouts.pause": lambda c, _: c.rollouts.pause("r"),
    "rollouts.resume": lambda c, _: c.rollouts.resume("r"),
    "rollouts.abort": lambda c, _: c.rollouts.abort("r"),
    "experiments.create": lambda c, _: c.experiments.create("m", {"kind": "shadow"}, candidate=2),
    "experiments.list": lambda c, _: c.experiments.list(model="m", state="running"),
    "experiments.get": lambda c, _: c.experiments.get("e"),
    "experiments.stop": lambda c, _: c.experiments.stop("e"),
    "experiments.promote": lambda c, _: c.experiments.promote("e"),
    "drift.show": lambda c, _: c.drift.show("m", "g", 3),
    "drift.calibrate": lambda c, _: c.drift.calibrate("m", 1, 300),
    "drift.calibrations": lambda c, _: c.drift.calibrations("m"),
    "drift.calibration": lambda c, _: c.drift.calibration("j"),
    "drift.calibration_page": lambda c, _: c.drift.calibration_page("j"),
    "alerts.list": lambda c, _: c.alerts.list(open=True),
    "samples.request": lambda c, _: c.samples.request("m", "g", 1, 1),
    "samples.get": lambda c, _: c.samples.get("s"),
    "samples.list": lambda c, _: c.samples.list(),
    "samples.close": lambda c, _: c.samples.close("s"),
    "training.start": lambda c, _: c.training.start("m"),
    "training.get": lambda c, _: c.training.get("t"),
    "training.list": lambda c, _: c.training.list(model="m"),
    "triggers.create": lambda c, _: c.triggers.create("m"),
    "triggers.list": lambda c, _: c.triggers.list(),
    "triggers.delete": lambda c, _: c.triggers.delete("t"),
}


@pytest.fixture(scope="module")
def operations() -> list[tuple[str, re.Pattern[str], set[str], str]]:
    """(method, pattern of its path, names of its query parameters, path) of each operation of the hub."""
    from edgewise_hub.api.app import openapi

    return [
        (
            method.upper(),
            re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)),
            {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"},
            path,
        )
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
    ]


@pytest.mark.parametrize("name", CALLS)
def test_the_hub_knows_the_request(name: str, server: Any, operations: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    server.answer = lambda asked: server.reply(418)
    with Client(server.url, "ew_token") as client, pytest.raises(HubError, match="answered 418"):
        CALLS[name](client, tmp_path / "file")
    (asked,) = server.asked
    known = [query for method, path, query, _ in operations if method == asked.method and path.fullmatch(asked.path)]
    assert known, f"{asked.method} {asked.path}"
    assert set(asked.query) - {"cursor", "limit"} <= known[0]
    if "limit" in asked.query:
        # Lists that the hub gives whole take no limit, and need none; a long one must take both.
        assert known[0] >= {"cursor", "limit"} or name in ("groups.list", "profiles.list")


def test_every_operation_can_be_asked_for(operations: Any, server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    server.answer = lambda asked: server.reply(418)
    with Client(server.url, "ew_token") as client:
        for call in CALLS.values():
            with pytest.raises(HubError):
                call(client, tmp_path / "file")
    asked_for = {
        path
        for method, pattern, _, path in operations
        if any(asked.method == method and pattern.fullmatch(asked.path) for asked in server.asked)
    }
    # Devices enroll by the agent; sessions are the console's; the rest is for monitoring systems.
    others = {"/api/v1/enroll", "/api/v1/session", "/metrics", "/healthz", "/readyz"}
    assert {path for _, _, _, path in operations} - others <= asked_for

"""``edgewise experiment`` as a person or a script meets it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest

from edgewise import cli

EXPERIMENT: dict[str, Any] = {
    "id": "e7f3", "model": "digits", "kind": "canary-requests", "policy": {"kind": "canary-requests", "share": 0.1},
    "group": None, "control": 1, "candidate": 2, "metric": "accuracy", "margin": 0.01, "min_samples": 200,
    "alpha": 0.05, "state": "ended", "decision": "candidate-wins", "reason": "+5.0 points of accuracy", "effect": 0.05,
    "low": 0.01, "high": 0.09, "n": 40, "items": {"control": 900, "candidate": 100}, "devices_total": 3,
    "devices_left_out": 1, "rollout": None, "created_at": 1.0, "updated_at": 2.0, "ended_at": 2.0,
    "arms": [
        {"role": role, "version": version, "requests": 900, "errors": 0, "labelled": 900, "correct": 800, "clicks": 0,
         "wins": 0, "accuracy": 0.889, "latency_p50_ms": 1.0, "latency_p95_ms": 2.0}
        for role, version in (("control", 1), ("candidate", 2))
    ],
    "compared": 0, "agreed": 0, "dropped": 0, "ties": 0,
    "escalated": {"asked": 0, "answered": 0, "fallbacks": 0, "changed": 0, "bytes": 0},
    "devices": [
        {"device": "cam-1", "state": "taking-part", "reason": "", "joined_at": 1.0, "requests": 900, "values": 20}
    ],
    "history": [{"at": 2.0, "n": 40, "effect": 0.05, "low": 0.01, "high": 0.09}],
}  # fmt: skip


SYSTEM = {
    "version": "0.1.0", "tenant": "main", "started_at": 1.0, "broker_connected": True, "devices": 0,
    "devices_online": 0, "windows": 0, "window_bytes": 0, "blob_bytes_sent": 0,
}  # fmt: skip


@pytest.fixture
def run(server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line against a hub that answers with EXPERIMENT, or ``changes``: (code, stdout, stderr)."""

    def ran(*arguments: str, **changes: Any) -> tuple[int, str, str]:
        page = {"items": [{**EXPERIMENT, **changes}], "next": None}
        answers = {"/api/v1/system": SYSTEM, "/api/v1/experiments": page}
        server.answer = lambda asked: server.json(
            answers.get(asked.path, page["items"][0]) if asked.method == "GET" else page["items"][0]
        )
        monkeypatch.setenv("EDGEWISE_URL", server.url)
        monkeypatch.setenv("EDGEWISE_TOKEN", "ew_token")
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["edgewise", "experiment", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return ran


@pytest.mark.parametrize(
    ("arguments", "policy"),
    [
        (["shadow", "digits:2", "--share", "0.5"], {"kind": "shadow", "share": 0.5}),
        (["ab", "digits:2", "--share", "0.3", "--by-device"], {"kind": "ab", "weight": 0.3, "by": "device"}),
        (["canary-requests", "digits:2"], {"kind": "canary-requests"}),
        (["interleave", "digits:2", "--output", "scores"], {"kind": "interleave", "output": "scores"}),
        (
            ["escalate", "digits", "--url", "https://server.example", "--server-model", "big"],
            {"kind": "escalate", "url": "https://server.example", "model": "big", "threshold": 0.6},
        ),
    ],
)
def test_every_kind_is_asked_for_in_one_line(
    run: Any, server: Any, arguments: list[str], policy: dict[str, object]
) -> None:
    code, out, _ = run("create", *arguments, "--json")
    assert code == 0 and msgspec.json.decode(out)["id"] == "e7f3"
    asked = server.asked[-1]
    body = msgspec.json.decode(asked.body)
    assert (body["policy"], body["model"]) == (policy, "digits")
    assert body["candidate"] == (None if arguments[0] == "escalate" else 2)
    assert "latency_ratio" not in body["guardrails"], "the hub's own, which depends on the kind"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shadow", "digits"], "shadow: expected a candidate such as digits:3"),
        (["escalate", "digits:2", "--url", "https://x"], "escalate: expected a candidate such as digits,"),
        (["interleave", "digits:2"], "expected --output"),
        (["shadow", "digits:2", "--by-device"], "--by-device is for ab, not for shadow"),
    ],
)
def test_what_does_not_fit_is_wrong_usage(run: Any, server: Any, arguments: list[str], words: str) -> None:
    code, _, err = run("create", *arguments)
    assert code == 2 and words in " ".join(err.replace("│", " ").split()) and not server.asked


def test_tables_for_people_and_an_exit_code_for_scripts(run: Any, server: Any) -> None:
    code, out, _ = run("list")
    assert code == 0 and "candidate-wins" in out and "v2 against v1" in out
    code, out, _ = run("show", "e7f3", "--watch")
    assert code == 0 and "+5.0 points of accuracy" in out and "cam-1" in out
    assert run("show", "e7f3", "--watch", decision="broken")[0] == 3
    code, out, _ = run("promote", "e7f3", "--stage", "100%", "--json", rollout="r1")
    assert code == 0 and msgspec.json.decode(out)["rollout"] == "r1"
    assert msgspec.json.decode(server.asked[-1].body)["stages"] == [{"count": None, "percent": 100.0}]
    assert run("stop", "e7f3")[0] == 0

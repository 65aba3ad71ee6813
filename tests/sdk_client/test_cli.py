"""The command as a person meets it: streams, exit codes, one line for an error."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from edgewise import cli
from edgewise.cli.watch import headline, picture
from edgewise.resources import RolloutDetail

ROLLOUT: dict[str, Any] = {
    "id": "r7f3", "model": "digits", "from_version": 1, "to_version": 2, "group": None, "state": "running", "stage": 1,
    "stages": [
        {"index": 0, "title": "1 device", "devices": 1, "state": "passed"},
        {"index": 1, "title": "25%", "devices": 3, "state": "running"},
        {"index": 2, "title": "100%", "devices": 12, "state": "waiting"},
    ],
    "gates": [
        {"gate": "install", "state": "pass", "value": 0.0, "limit": 0.0, "n": 3, "words": "0 of 3 devices failed"},
        {"gate": "mix", "state": "wait", "value": None, "limit": 0.1, "n": 40, "words": "40 of 200 inferences seen"},
    ],
    "reason": "stage 2 waits for evidence", "deadline_at": 1060.0, "devices_total": 12, "devices_confirmed": 3,
    "created_at": 900.0, "updated_at": 1000.0, "events": [],
    "devices": [
        {"device": f"camera-{n}", "groups": [], "stage": 1, "draw": n / 12, "state": state, "reason": ""}
        for n, state in enumerate(["confirmed"] * 3 + ["waiting"] * 9)
    ],
}  # fmt: skip


def rollout(**changes: Any) -> RolloutDetail:
    return msgspec.convert({**ROLLOUT, **changes}, RolloutDetail)


class Ran:
    """What a command line came to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["edgewise", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        self.code = code if isinstance(code, int) else 0 if code is None else 1
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: Ran(monkeypatch, capsys, *arguments)


@pytest.fixture
def hub(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, answering /system as a hub does, and ``server.answers`` by path."""
    system = {
        "version": "0.1.0", "tenant": "main", "started_at": 1.0, "broker_connected": True, "devices": 0,
        "devices_online": 0, "windows": 0, "window_bytes": 0, "blob_bytes_sent": 0,
    }  # fmt: skip
    server.answers = {"/api/v1/system": system}
    server.answer = lambda asked: server.json(server.answers[asked.path]) if asked.path in server.answers else (
        server.json({"title": "Not Found", "status": 404, "detail": "there is none", "code": "not-found"}, 404)
    )  # fmt: skip
    monkeypatch.setenv("EDGEWISE_URL", server.url)
    monkeypatch.setenv("EDGEWISE_TOKEN", "ew_token")
    return server


def test_profiles_as_json_and_as_a_table(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'schema = 1\nname = "mine"\ntitle = "Mine"\narchitecture = "riscv64"\nruntimes = ["onnxruntime"]\n'
    )
    ran = run("profile", "list", "--profiles", str(tmp_path), "--json")
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
    assert {"linux-x86-64", "raspberry-pi-5", "mine"} <= {p["name"] for p in msgspec.json.decode(ran.out)}
    table = run("profile", "list")
    assert "raspberry-pi-5" in table.out and "mine" not in table.out
    assert max(len(line) for line in table.out.splitlines()) <= 80


def test_one_profile_as_json_and_as_fields(run: Any) -> None:
    ran = run("profile", "show", "raspberry-pi-5", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert msgspec.json.decode(ran.out)["hardware"]["soc"] == "Broadcom BCM2712"
    shown = run("profile", "show", "raspberry-pi-5").out
    for part in ("onnxruntime, litert", "fp32, fp16, int8, int4", "Cortex-A76", "s8s8, u8s8", "2048 MB"):
        assert part in shown
    ran = run("profile", "show", "toaster")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("edgewise: unknown device profile 'toaster'") and ran.err.count("\n") == 1


def test_a_wrong_profile_is_one_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("schema = 2\n")
    ran = run("compile", "digits:1", "--profiles", str(tmp_path))
    assert ran.code == 1 and ran.out == ""
    assert ran.err.startswith(f"edgewise: {tmp_path / 'mine.toml'}: ") and ran.err.count("\n") == 1


def test_no_hub_is_one_line(run: Any) -> None:
    ran = run("device", "list", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("edgewise: no hub known: expected") and ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["device", "list", "--nonsense"],
        ["compile", "digits:1"],
        ["compile", "digits:1", "--profile", "p", "--budget", "size=small"],
        ["rollout", "create", "digits"],
        ["rollout", "create", "digits:1", "--stage", "much"],
        ["rollout", "create", "digits:1", "--max-errors", "-1"],
        ["model", "train", "digits", "--config", "epochs"],
        ["model", "train", "digits", "--strategy", "magic"],
        ["model", "quality", "digits", "--missing", "drop"],
        ["device", "list", "--token", "ew_secret"],
    ],
)
def test_wrong_usage_is_2_and_asks_no_hub(run: Any, hub: Any, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert [asked.path for asked in hub.asked if asked.path != "/api/v1/system"] == []


def test_an_empty_list_is_an_empty_document_or_a_sentence(run: Any, hub: Any) -> None:
    hub.answers["/api/v1/devices"] = {"items": [], "next": None}
    assert run("device", "list", "--json").out == "[]\n"
    assert "edgewise-agent enroll" in run("device", "list").out


def test_a_refusal_of_the_hub_is_one_line(run: Any, hub: Any) -> None:
    ran = run("rollout", "pause", "r1")
    assert (ran.code, ran.out, ran.err) == (1, "", "edgewise: there is none\n")


def test_the_token_comes_from_a_file(run: Any, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWISE_TOKEN")
    (tmp_path / "token").write_text("ew_of_the_file\n")
    hub.answers["/api/v1/triggers"] = {"items": [], "next": None}
    assert run("--token-file", str(tmp_path / "token"), "trigger", "list").code == 0
    assert {asked.headers["Authorization"] for asked in hub.asked} == {"Bearer ew_of_the_file"}
    missing = run("--token-file", str(tmp_path / "none"), "trigger", "list")
    assert missing.code == 1 and "no such file" in missing.err


def test_what_is_rolled_out_is_what_was_typed(run: Any, hub: Any) -> None:
    hub.answers["/api/v1/rollouts"] = ROLLOUT
    ran = run(
        "rollout", "create", "digits:2", "--group", "district-b", "--stage", "1", "--stage", "25%",
        "--max-latency-ratio", "off", "--deadline", "5min", "--json",
    )  # fmt: skip
    assert ran.code == 0 and msgspec.json.decode(ran.out)["id"] == "r7f3"
    assert msgspec.json.decode(hub.asked[-1].body) == {
        "model": "digits", "version": 2, "group": "district-b",
        "stages": [{"count": 1, "percent": None}, {"count": None, "percent": 25.0}],
        "gates": {
            "install_failures": 0.0, "errors": 0.01, "latency_ratio": None, "mix_distance": 0.1,
            "min_inferences": 200, "soak": 0.0, "deadline": 300.0,
        },
    }  # fmt: skip


def test_a_release_of_the_agent_is_its_wheels(run: Any, hub: Any, tmp_path: Path) -> None:
    wheels = [tmp_path / "edgewise-1-py3-none-any.whl", tmp_path / "edgewise_agent-1-py3-none-any.whl"]
    for wheel in wheels:
        wheel.write_bytes(wheel.name.encode())
        hub.answers[f"/api/v1/blobs/{hashlib.sha256(wheel.read_bytes()).hexdigest()}"] = {}
    hub.answers["/api/v1/models/edgewise-agent/versions"] = {
        "model": "edgewise-agent", "version": 4, "release": 4, "metrics": {}, "source": {}, "lineage": {}, "note": "",
        "created_at": 1.0, "bundles": [],
    }  # fmt: skip
    ran = run("agent", "release", *map(str, wheels), "--note", "the fourth")
    assert ran.code == 0 and "next: edgewise rollout create edgewise-agent:4 --stage 1 --stage 100%" in ran.out
    digests = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
    assert msgspec.json.decode(hub.asked[-1].body) == {
        "source": {"kind": "agent", "wheels": digests}, "note": "the fourth"
    }  # fmt: skip
    missing = run("agent", "release", str(tmp_path / "none.whl"))
    assert (missing.code, missing.out) == (1, "") and "cannot be read" in missing.err and missing.err.count("\n") == 1
    assert run("agent", "release").code == 2


def test_rules_for_inputs_are_shown_and_one_is_changed_at_a_time(run: Any, hub: Any) -> None:
    quality = {"out_of_bounds": "flag", "not_finite": None, "missing": "count", "unknown_inputs": None}
    hub.answers["/api/v1/models/digits"] = {
        "name": "digits", "versions": 1, "latest": 1, "floor": 1, "quality": quality, "serving": {}, "created_at": 1.0,
    }  # fmt: skip
    shown = run("model", "quality", "digits")
    assert shown.code == 0 and [line.split() for line in shown.out.splitlines()] == [
        ["out", "of", "bounds", "flag"], ["not", "finite", "refuse", "(default)"], ["missing", "count"],
        ["unknown", "inputs", "refuse", "(default)"],
    ]  # fmt: skip
    assert {asked.method for asked in hub.asked} == {"GET"}, "looking changes nothing"
    assert run("model", "quality", "digits", "--out-of-bounds", "refuse", "--missing", "default").code == 0
    assert (hub.asked[-1].method, hub.asked[-1].path) == ("PATCH", "/api/v1/models/digits")
    assert msgspec.json.decode(hub.asked[-1].body) == {
        "quality": {"out_of_bounds": "refuse", "not_finite": None, "missing": None, "unknown_inputs": None}
    }


JOB: dict[str, Any] = {
    "id": "j1", "kind": "compile", "state": "done", "progress": 1.0, "progress_text": "", "result": None, "error": None,
    "created_at": 1.0, "started_at": 1.0, "finished_at": 2.0,
}  # fmt: skip


def test_a_budget_goes_to_the_hub_and_one_that_is_not_met_is_3(run: Any, hub: Any) -> None:
    error = {"code": "over-budget", "detail": "no bundle meets the budget: p: u8s8 lacks size 0.4 of fp32"}
    hub.answers["/api/v1/profiles"] = {
        "items": [{"name": "p", "title": "p", "architecture": "x", "runtimes": [], "dtypes": []}], "next": None
    }  # fmt: skip
    hub.answers["/api/v1/compiles"] = {**JOB, "state": "queued"}
    hub.answers["/api/v1/jobs/j1"] = {**JOB, "state": "failed", "error": error}
    ran = run("compile", "digits:1", "--profile", "p", "--budget", "size=0.25x,drop=0.005", "--no-training")
    assert (ran.code, ran.out) == (3, "")
    assert "edgewise: compile j1 failed: no bundle meets the budget: p: u8s8 lacks" in ran.err
    (body,) = [msgspec.json.decode(asked.body) for asked in hub.asked if asked.path == "/api/v1/compiles"]
    limits = {name: value for name, value in body.pop("budget").items() if value is not None}
    assert limits == {"max_size_ratio": 0.25, "max_metric_drop": 0.005}
    assert body == {
        "model": "digits",
        "version": 1,
        "profiles": ["p"],
        "training": False,
        "allow_over_budget": False,
        "techniques": None,
    }


def test_techniques_by_name_go_to_the_hub(run: Any, hub: Any) -> None:
    hub.answers["/api/v1/profiles"] = {
        "items": [{"name": "p", "title": "p", "architecture": "x", "runtimes": [], "dtypes": []}], "next": None
    }  # fmt: skip
    hub.answers["/api/v1/compiles"] = {**JOB, "state": "queued"}
    options = ("--steps", "50", "--loss", "dkd", "--mask", "0.8", "--student", "small:2")
    ran = run("compile", "digits:1", "--profile", "p", "--no-wait", *options)
    assert ran.code == 0, ran.err
    (body,) = [msgspec.json.decode(asked.body) for asked in hub.asked if asked.path == "/api/v1/compiles"]
    given = {name: value for name, value in body["techniques"].items() if value not in (None, False)}
    assert given == {"steps": 50, "loss": "dkd", "mask": "0.8", "student": {"model": "small", "version": 2}}
    assert run("compile", "digits:1", "--profile", "p", "--student", "small.onnx").code == 2
    assert run("compile", "digits:1", "--profile", "p", "--loss", "l2").code == 2


def test_a_profile_that_the_hub_refused_is_1_and_the_others_are_shown(run: Any, hub: Any) -> None:
    hub.answers["/api/v1/profiles"] = {
        "items": [{"name": "p", "title": "p", "architecture": "x", "runtimes": [], "dtypes": []}], "next": None
    }  # fmt: skip
    hub.answers["/api/v1/compiles"] = {**JOB, "state": "queued"}
    refused = [{"profile": "p", "code": "refused", "detail": "litert cannot take If 'x'"}]
    hub.answers["/api/v1/jobs/j1"] = {**JOB, "result": {"bundles": [], "refused": refused}}
    hub.answers["/api/v1/models/digits/versions/1"] = {
        "model": "digits", "version": 1, "release": 1, "metrics": {}, "source": {}, "lineage": {}, "note": "",
        "created_at": 1.0, "bundles": [],
    }  # fmt: skip
    ran = run("compile", "digits:1", "--profile", "p")
    assert ran.code == 1 and ran.err.endswith("edgewise: p: litert cannot take If 'x'\n")
    assert "Not compiled yet" in ran.out


@pytest.mark.parametrize(
    ("state", "code"), [("completed", 0), ("rolled-back", 3), ("aborted", 3)], ids=["completed", "back", "aborted"]
)
def test_watching_ends_with_the_rollout(run: Any, hub: Any, state: str, code: int) -> None:
    hub.answers["/api/v1/rollouts/r7f3"] = {**ROLLOUT, "state": state, "reason": "mix moved by 0.31"}
    ran = run("rollout", "watch", "r7f3")
    assert ran.code == code and ran.out.endswith(f"{state}: mix moved by 0.31\n")
    lines = run("rollout", "watch", "r7f3", "--json").out.splitlines()
    assert [msgspec.json.decode(line)["state"] for line in lines] == [state]


def test_one_look_does_not_wait(run: Any, hub: Any) -> None:
    hub.answers["/api/v1/rollouts/r7f3"] = ROLLOUT
    ran = run("rollout", "watch", "r7f3", "--once")
    assert ran.code == 0 and "stage 2 waits for evidence" in ran.out


def test_the_picture_holds_stages_gates_and_devices() -> None:
    console = Console(width=80, record=True, file=open(os.devnull, "w"), markup=False)  # noqa: PTH123, SIM115
    console.print(picture(rollout(), now=1000.0))
    text = console.export_text()
    assert "digits v1 to v2, every device, rollout r7f3: running" in text
    assert "1 device (1) passed  >  25% (3) running  >  100% (12) waiting" in text
    assert "pass  install  0 of 3 devices failed" in text and "wait  mix" in text
    assert "devices: 9 waiting, 3 confirmed" in text
    assert "deadline is in 1 min" in text and "stage 2 waits for evidence" in text


def test_the_headline_changes_with_what_happens_and_not_with_growing_evidence() -> None:
    before = headline(rollout())
    assert before == "running, stage 2 of 3 (25%), 3 of 12 devices confirmed, waits for mix"
    more = [ROLLOUT["gates"][0], {**ROLLOUT["gates"][1], "n": 150, "words": "150 of 200 inferences seen"}]
    assert headline(rollout(gates=more)) == before
    failed = [{**ROLLOUT["gates"][1], "state": "fail", "words": "mix moved by 0.31, limit 0.1"}]
    assert headline(rollout(gates=failed)).endswith("mix moved by 0.31, limit 0.1")
    assert headline(rollout(devices_confirmed=4)) != before


def test_a_command_of_a_distribution_that_is_not_there_says_how_to_get_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewise.cli.app.entry_points", lambda group: ())
    ran = run("hub", "up", "--port", "1")
    assert (ran.code, ran.err) == (1, "edgewise: hub: not installed here: pip install edgewise-hub\n")
    assert "edgewise-hub" in run("--help").out


def test_the_base_package_needs_no_http_and_no_terminal() -> None:
    program = (
        "import sys, edgewise, edgewise.bundle, edgewise.profile, edgewise.sketch, edgewise.wire.windows;"
        "print(sorted({'httpx', 'rich', 'typer'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"


def test_an_interrupt_is_130_without_a_traceback(server: Any) -> None:
    server.answer = lambda asked: server.reply(hang=True)
    environment = {**os.environ, "EDGEWISE_URL": server.url, "EDGEWISE_TOKEN": "ew_token"}
    program = [sys.executable, "-c", "from edgewise.cli import main; main()", "device", "list"]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        assert server.came.wait(30)
        ran.send_signal(2)
        out, err = ran.communicate(timeout=30)
    assert (ran.returncode, out) == (130, "") and "Traceback" not in err

"""A converter that hangs, dies, or talks nonsense is one clear error, and leaves nothing running."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewise_compiler.toolchains import environment, process
from edgewise_compiler.toolchains.environment import STAMP
from edgewise_compiler.toolchains.process import ToolchainFailed

DEADLINE_S = 20.0
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Run]:
    """``converter(script)``: a toolchain whose Python is that shell script; returns what runs a job with it."""
    monkeypatch.setenv(environment.FOLDER, str(tmp_path))

    def make(script: str) -> Run:
        python = tmp_path / "litert" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{script}\n")
        python.chmod(0o755)
        (tmp_path / "litert" / STAMP).write_text(environment.digest("litert"))

        def run(job: dict[str, Any] | None = None, timeout: float = DEADLINE_S, **options: Any) -> dict[str, Any]:
            options.setdefault("progress", lambda fraction, text: None)
            return process.run("litert", "convert_litert", job or {}, timeout=timeout, **options)

        return run

    return make


def gone(pid: int) -> bool:
    """Has the process ended, before the deadline?"""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":  # nobody reaps it in a container without an init
            return True
        time.sleep(0.01)
    return False


def test_the_job_goes_in_progress_and_the_result_come_out(converter: Callable[[str], Run], tmp_path: Path) -> None:
    run = converter(
        """read job; printf '%s' "$job" >job.json; echo noise >&2
        echo '{"progress": 0.5, "text": "half"}'; echo '{"result": {"made": 3}}'; sleep 100"""
    )
    heard: list[tuple[float, str]] = []
    result = run({"mode": "fp32"}, memory=1 << 30, progress=lambda fraction, text: heard.append((fraction, text)))
    assert result == {"made": 3} and heard == [(0.5, "half")]
    assert (tmp_path / "job.json").read_text() == '{"mode":"fp32","memory":1073741824}'


def test_a_deadline_ends_the_whole_group(converter: Callable[[str], Run], tmp_path: Path) -> None:
    run = converter("sleep 100 & echo $! >child; wait")
    with pytest.raises(ToolchainFailed, match="not done after 1 s") as caught:
        run(timeout=1.0)
    assert caught.value.code == "toolchain-timeout"
    assert gone(int((tmp_path / "child").read_text()))


def test_an_interrupted_caller_leaves_nothing_behind(converter: Callable[[str], Run], tmp_path: Path) -> None:
    run = converter("""sleep 100 & echo $! >child; echo '{"progress": 0.1, "text": "begun"}'; wait""")

    def interrupt(fraction: float, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=interrupt)
    assert gone(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo one >&2; echo two >&2; exit 3", "status 3 and no result: one | two"),
        ("kill -9 $$", "ended by SIGKILL"),
    ],
)
def test_one_that_dies(script: str, says: str, converter: Callable[[str], Run]) -> None:
    with pytest.raises(ToolchainFailed) as caught:
        converter(script)()
    assert caught.value.code == "worker-died" and says in str(caught.value)


@pytest.mark.parametrize(
    "script",
    ["echo not json; sleep 100", """echo '{"result": 3}'; sleep 100""", "head -c 3000000 /dev/zero; sleep 100"],
)
def test_an_answer_that_is_none(script: str, converter: Callable[[str], Run]) -> None:
    with pytest.raises(ToolchainFailed, match="expected a line of JSON") as caught:
        converter(script)()
    assert len(str(caught.value)) < 500


def test_an_error_names_the_nodes(converter: Callable[[str], Run]) -> None:
    node = '{"node": "n1", "op": "Loop", "why": "data", "rewrite": "unroll it"}'
    run = converter(f"""echo '{{"error": {{"code": "unsupported", "message": "cannot", "unsupported": [{node}]}}}}'""")
    with pytest.raises(ToolchainFailed, match=r"^cannot$") as caught:
        run()
    assert [str(node) for node in caught.value.unsupported] == ["Loop 'n1': data; unroll it"]


def test_secrets_of_our_environment_stay_here(
    converter: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEWISE_SECRET", "s3cret")
    converter("""env >seen; echo '{"result": {}}'""")()
    seen = (tmp_path / "seen").read_text()
    assert "s3cret" not in seen and f"PATH={os.environ['PATH']}" in seen and "OMP_NUM_THREADS=1" in seen

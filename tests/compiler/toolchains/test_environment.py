"""An environment is whole or it is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewise_compiler.toolchains import environment
from edgewise_compiler.toolchains.__main__ import main
from edgewise_compiler.toolchains.environment import NAMES, STAMP, ToolchainError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where toolchains are, empty."""
    monkeypatch.setenv(environment.FOLDER, str(tmp_path))
    return tmp_path


def whole(folder: Path, name: str) -> Path:
    """An environment with a stamp, and nothing else in it."""
    (folder / name).mkdir()
    (folder / name / STAMP).write_text(environment.digest(name))
    return folder / name


def test_the_folder_is_given_or_xdgs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(environment.FOLDER, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert environment.folder() == tmp_path / "edgewise" / "toolchains"
    monkeypatch.setenv(environment.FOLDER, str(tmp_path / "mine"))
    assert environment.folder() == tmp_path / "mine"


def test_one_without_a_stamp_or_with_another_locks_is_none(folder: Path) -> None:
    assert environment.find("litert") is None
    home = whole(folder, "litert")
    assert environment.find("litert") == home / "bin" / "python"
    (home / STAMP).write_text(environment.digest("executorch"))
    assert environment.find("litert") is None
    (home / STAMP).unlink()
    assert environment.find("litert") is None


def test_what_is_missing_comes_with_the_command_that_installs_it(folder: Path) -> None:
    with pytest.raises(ToolchainError, match=r"python -m edgewise_compiler\.toolchains install litert") as caught:
        environment.require("litert")
    assert caught.value.code == "toolchain-missing"
    with pytest.raises(ToolchainError, match="expected one of executorch, litert"):
        environment.find("../../etc")


def test_a_whole_one_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = whole(folder, "litert")
    said: list[str] = []
    assert environment.install("litert", lambda fraction, text: said.append(text)) == home / "bin" / "python"
    assert not said and [path.name for path in home.iterdir()] == [STAMP]
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["executorch: not installed", f"litert: {home}/bin/python"]


def test_an_installation_that_fails_leaves_none_and_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(name, value)
    left = folder / "litert" / "left from before"
    left.parent.mkdir()
    left.touch()
    assert main(["install", "litert"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "install torch==2.13.0" in said[-2] and said[-1].startswith("cannot install torch==2.13.0: ")
    assert environment.find("litert") is None and not left.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_pins_every_package_exactly(name: str) -> None:
    pins = [line for line in environment.lock(name).splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and "@" not in line and "+" not in line for line in pins)
    assert "torch==2.13.0" in pins

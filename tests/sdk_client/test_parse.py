"""What a person types on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from edgewise.cli import output, parse, plan
from edgewise.cli.app import subcommand
from edgewise.resources import DEFAULT_STAGES, Gates, Stage


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("digits", ("digits", None)), ("digits:3", ("digits", 3)), ("a.b-c_9:v12", ("a.b-c_9", 12))],
)
def test_a_model_with_or_without_a_version(text: str, parsed: tuple[str, int | None]) -> None:
    assert parse.model_version(text) == parsed


@pytest.mark.parametrize(
    "text", ["", ":3", "digits:", "digits:x", "digits:-1", "dig its", "digits:3:4", "../x", "x" * 65]
)
def test_what_is_no_model_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected MODEL"):
        parse.model_version(text)


def test_a_rollout_needs_the_version() -> None:
    assert parse.exact_version("digits:3") == ("digits", 3)
    with pytest.raises(typer.BadParameter, match="digits:3"):
        parse.exact_version("digits")


def test_stages() -> None:
    assert plan.stages(None) == plan.stages([]) == list(DEFAULT_STAGES)
    assert plan.stages(["1", "25%", "100%"]) == [Stage(count=1), Stage(percent=25), Stage(percent=100)]
    with pytest.raises(typer.BadParameter, match="25%"):
        plan.stages(["1", "much"])


def test_gates_can_be_left_out() -> None:
    wanted = plan.gates(
        max_install_failures=0.1, max_errors="off", max_latency_ratio="2.5", max_mix_distance="0.1",
        min_inferences=100, deadline="5min", soak="0",
    )  # fmt: skip
    assert wanted == Gates(
        install_failures=0.1, errors=None, latency_ratio=2.5, mix_distance=0.1, min_inferences=100, deadline=300, soak=0
    )


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "many"])
def test_a_limit_is_a_number_or_off(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="or off"):
        parse.limit(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5min", 90), ("5m", 300), ("2h", 7200), ("1 d", 86400)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5", "5 weeks", "1e9", "5;"])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a time"):
        parse.seconds(text)


def test_a_configuration_is_a_file_and_what_is_set_over_it(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"epochs": 2, "data": "here"}')
    assert parse.config(["epochs=3", "contrast=true", "data=/there", "name=a=b", "list=[1, 2]"], file) == {
        "epochs": 3, "contrast": True, "data": "/there", "name": "a=b", "list": [1, 2],
    }  # fmt: skip


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00"])
def test_a_configuration_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(typer.BadParameter, match=r"config\.json: expected a JSON object"):
        parse.config([], tmp_path / "config.json")
    with pytest.raises(typer.BadParameter, match="cannot be read"):
        parse.config([], tmp_path / "none.json")


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_an_assignment_has_a_key_and_a_value(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse.config([text])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["device", "show", "hub"], "device"),
        (["--url", "hub", "device", "list"], "device"),
        (["--url=hub", "hub", "up"], "hub"),
        (["--help"], None),
        (["--url"], None),
        ([], None),
    ],
)
def test_the_subcommand_is_the_first_word(arguments: list[str], name: str | None) -> None:
    assert subcommand(arguments) == name


def test_figures_in_words() -> None:
    assert [output.duration(s) for s in (-3, 0, 59.6, 61, 3600, 3900, 90000)] == [
        "0 s", "0 s", "1 min", "1 min 1 s", "1 h", "1 h 5 min", "1 d 1 h",
    ]  # fmt: skip
    assert [output.size(n) for n in (0, 999, 1000, 123_456, 9_990_000, 5_000_000_000)] == [
        "0 B", "999 B", "1.0 KB", "123 KB", "10.0 MB", "5.0 GB",
    ]  # fmt: skip
    assert (output.share(0.9731), output.share(1, 2), output.share(None)) == ("97.3%", "100.00%", "-")
    assert (output.ago(None), output.ago(100, now=145)) == ("never", "45 s ago")


def test_a_device_cannot_command_the_terminal() -> None:
    assert output.clean("red\x1b[31m\x07 \x9b2J\u202e") == "red�[31m� �2J�"

"""Write docs/agent-configuration.md from the agent's code, or with ``--check`` say whether it is up to date."""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import sys
import typing
from pathlib import Path

import msgspec

from edgewise.wire.quality import Quality
from edgewise_agent import main
from edgewise_agent.commands.parts import DATA_VARIABLE
from edgewise_agent.serving.options import PREFIX, Options, Privacy

ROOT = Path(__file__).parents[1]
AGENT = ROOT / "agent" / "edgewise_agent"
PAGE = ROOT / "docs" / "agent-configuration.md"
GROUPS: dict[str, type[msgspec.Struct]] = {"SERVE": Options, "QUALITY": Quality, "PRIVACY": Privacy}
"""Variables of the environment, a group for each struct: ``EDGEWISE_AGENT_SERVE_QUEUE`` is ``Options.queue``."""


def one_line(text: str) -> str:
    """For a cell of a table."""
    return " ".join(inspect.cleandoc(text).split()).replace("|", "\\|").replace("``", "`")


def docstrings(body: list[ast.stmt]) -> dict[str, str]:
    """Name -> the string below its assignment."""
    found: dict[str, str] = {}
    for statement, below in zip(body, [*body[1:], None], strict=True):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[target.id] = str(below.value.value)
    return found


def constants() -> dict[str, str]:
    """Variable of the environment -> what it is for: each ``..._VARIABLE`` of the agent has a docstring."""
    found: dict[str, str] = {}
    for path in sorted(AGENT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        texts = docstrings(tree.body)
        for statement in tree.body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                continue
            name, value = statement.targets[0].id, statement.value
            if name.endswith("_VARIABLE") and isinstance(value, ast.Constant):
                if name not in texts:
                    sys.exit(f"{path.relative_to(ROOT)}: {name}: expected a docstring below it")
                found[str(value.value)] = texts[name]
    return found


def kind(annotation: object) -> str:
    """A field's type and bounds, in words."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metas = typing.get_args(annotation)
        bounds = [
            f"{word} {value}"
            for meta in metas
            if isinstance(meta, msgspec.Meta)
            for word, value in ((">", meta.gt), (">=", meta.ge), ("<", meta.lt), ("<=", meta.le))
            if value is not None
        ]
        return f"{kind(inner)} {', '.join(bounds)}".strip()
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return "words with commas"
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    if parts:
        return kind(parts[0])
    return {int: "whole number", float: "number", str: "text"}.get(annotation, str(annotation))  # type: ignore[call-overload]


def fields() -> list[tuple[str, str, str, str]]:
    """(variable, kind, default, what it is for) of each field of the groups."""
    rows = []
    for group, struct in GROUPS.items():
        tree = ast.parse(inspect.getsource(struct))
        texts = docstrings(tree.body[0].body)  # type: ignore[attr-defined]
        annotations = typing.get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                continue
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            shown = "" if default is None or default == [] else f"`{default}`"
            text = texts.get(field.name)
            if text is None:
                sys.exit(f"{struct.__name__}.{field.name}: expected a docstring below it")
            rows.append((f"{PREFIX}{group}_{field.name.upper()}", kind(annotations[field.name]), shown, text))
    return rows


def commands() -> list[str]:
    """The command line, as it says itself."""
    lines = []
    os.environ.pop(DATA_VARIABLE, None)  # the page says what holds without it
    parser = main.parser()
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, sub in subparsers.choices.items():
        lines += [f"### edgewise-agent {name}", "", str(sub.description), ""]
        rows = [action for action in sub._actions if action.dest != "help"]
        lines += ["| argument | what it is for |", "|---|---|"]
        for action in rows:
            shown = ", ".join(action.option_strings) or str(action.metavar or action.dest).upper()
            default = action.default if isinstance(action.default, str | int) and action.default is not False else None
            text = one_line(action.help or "")
            lines.append(f"| `{shown}` | {text}{f' (`{default}`)' if default not in (None, '') else ''} |")
        lines.append("")
    return lines


def page() -> str:
    """The whole page."""
    lines = [
        "# The agent's configuration",
        "",
        "Made by `scripts/reference.py` from the agent's code; `scripts/check` says when it is behind.",
        "",
        "What a device does is the hub's desired state; what its owner allows, and how it serves, is set here: by the",
        "environment of `edgewise-agent run` (in a systemd unit: `Environment=`), and by the command line.",
        "",
        "## Environment",
        "",
        "| variable | what it is for |",
        "|---|---|",
        *(f"| `{name}` | {one_line(text)} |" for name, text in sorted(constants().items())),
        "",
        "## Serving, quality and privacy",
        "",
        "| variable | value | default | what it is for |",
        "|---|---|---|---|",
        *(f"| `{name}` | {what} | {default} | {one_line(text)} |" for name, what, default, text in fields()),
        "",
        "## Commands",
        "",
        *commands(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def run() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the page is behind the code")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit("docs/agent-configuration.md is behind the code: run scripts/reference.py")


if __name__ == "__main__":
    run()

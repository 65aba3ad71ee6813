"""HTML and SVG that escape by default: only what was built here, or said to be ``Html``, goes out as it is."""

from __future__ import annotations

import html

Part = str | int | float | None
VOID = frozenset(("meta", "br"))


class Html(str):
    """Markup: it is not escaped again."""


def tag(name: str, /, *parts: Part, **attributes: Part) -> Html:
    """An element. Text is escaped; a part or an attribute that is None is left out.

    ``class_`` is ``class``, and ``_`` inside an attribute's name is ``-``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*parts)}</{name}>")


def join(*parts: Part) -> Html:
    """Parts one after another, text escaped."""
    return Html(
        "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in parts if part is not None)
    )

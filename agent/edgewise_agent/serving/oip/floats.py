"""Bodies of many floats in JSON, read by simdjson where it is installed (``edgewise-agent[json]``).

It takes half of msgspec's time, since no number becomes an object of its own on its way into an array.

Rules that hold here:
- only what means the same to both readers is taken: no key twice, flat data; all else is left to msgspec (None), which
  reads it or says what is wrong;
- bodies of ``LEAST`` to ``MOST`` bytes: below it does not pay, and the parser keeps as much memory as its largest.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

simdjson: Any
try:
    simdjson = import_module("simdjson")
except ImportError:
    simdjson = None

LEAST, MOST = 4 * 1024, 2 * 1024 * 1024
Floats = npt.NDArray[np.float64]


class Reader:
    """One parser, for several threads: it holds the interpreter's lock anyway."""

    def __init__(self) -> None:
        self._parser = None if simdjson is None else simdjson.Parser()
        self._lock = threading.Lock()

    def read(self, body: memoryview) -> tuple[dict[str, Any], list[Floats]] | None:
        """The body without the data of its inputs, and the data of each; None: let msgspec read it."""
        if self._parser is None or not LEAST <= len(body) <= MOST:
            return None
        with self._lock:
            try:
                return _take(self._parser.parse(body), _brackets(body))
            except (ValueError, TypeError, RuntimeError, KeyError, AttributeError):
                return None


def _take(document: Any, brackets: int) -> tuple[dict[str, Any], list[Floats]] | None:
    content: dict[str, Any] = {}
    data: list[Floats] = []
    inputs = []
    for key in _keys(document):
        if key != "inputs":
            content[key] = _plain(document[key])
    for tensor in document["inputs"]:
        inputs.append({key: _plain(tensor[key]) for key in _keys(tensor) if key != "data"})
        data.append(np.frombuffer(tensor["data"].as_buffer(of_type="d")))
    content["inputs"] = inputs
    return (content, data) if brackets == _lists(content) + len(data) else None


def _lists(value: object) -> int:
    """How many lists there are in it."""
    if isinstance(value, dict):
        return sum(map(_lists, value.values()))
    return 1 + sum(map(_lists, value)) if isinstance(value, list) else 0


def _brackets(body: memoryview) -> int:
    """``[`` in the body: more than there are lists, and data is nested (or a text holds one)."""
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord("[")))


def _keys(value: Any) -> Sequence[str]:
    keys: list[str] = list(value.keys())
    if len(set(keys)) != len(keys):
        raise ValueError("a key twice")
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return {key: _plain(value[key]) for key in _keys(value)}
    return [_plain(one) for one in value] if isinstance(value, simdjson.Array) else value

"""Decoders for use by several threads.

msgspec (0.22) works out a struct's fields when it first meets the struct, field by field; a second thread that decodes
one meanwhile reads fields that are not there yet, and the process ends with SIGSEGV. So types are worked out by one
thread at a time: a process that starts threads calls ``ready`` before, and what decodes in anybody's threads takes its
decoders from here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_working_out = threading.Lock()
_json: dict[Any, msgspec.json.Decoder[Any]] = {}
_msgpack: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of JSON for a type."""
    found = _json.get(kind)
    if found is None:
        with _working_out:
            found = _json[kind] = msgspec.json.Decoder(kind)
    return found


def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """The decoder of MessagePack for a type."""
    found = _msgpack.get(kind)
    if found is None:
        with _working_out:
            found = _msgpack[kind] = msgspec.msgpack.Decoder(kind)
    return found


def ready() -> None:
    """Work out every struct that has been imported so far. Milliseconds."""
    with _working_out:
        for kind in _structs(msgspec.Struct):
            with suppress(TypeError, NameError):  # what cannot be decoded is not
                _: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)


def _structs(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _structs(kind)

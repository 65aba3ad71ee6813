"""Encode and decode wire messages.

Rules that hold here:
- every message is a frozen ``Message`` with a ``schema`` number; an unknown number is refused, never guessed at;
- every message type states its bound in bytes, checked before a byte is parsed;
- unknown fields are ignored, so that an older device reads a newer hub.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeVar

import msgspec

from edgewise.decoding import json_decoder, msgpack_decoder
from edgewise.errors import WireError

SCHEMA = 1
MAX_MESSAGE = 128 * 1024  # AWS IoT Core's limit, so that any cloud broker carries us.

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all wire messages."""

    bound: ClassVar[int] = 16 * 1024
    schema: int = SCHEMA


M = TypeVar("M", bound=Message)


def encode_json(message: Message) -> bytes:
    """Control messages: JSON with sorted keys, so that equal messages are equal bytes."""
    return _bounded(message, msgspec.json.encode(message, order="sorted"))


def encode_msgpack(message: Message) -> bytes:
    """Windows, samples and blocks: MessagePack."""
    return _bounded(message, msgspec.msgpack.encode(message))


def decode_json(data: bytes, kind: type[M]) -> M:
    """Decode a control message. Raises WireError (code ``too-large``, ``bad-schema`` or ``bad-message``)."""
    _check_size(data, kind)
    try:
        return _check_schema(json_decoder(kind).decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{kind.__name__}: {error}") from error


def decode_msgpack(data: bytes, kind: type[M]) -> M:
    """Decode a window, sample or block message. Raises WireError as ``decode_json`` does."""
    _check_size(data, kind)
    try:
        return _check_schema(msgpack_decoder(kind).decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{kind.__name__}: {error}") from error


def _bounded(message: Message, data: bytes) -> bytes:
    _check_size(data, type(message))
    return data


def _check_size(data: bytes, kind: type[Message]) -> None:
    if len(data) > kind.bound:
        raise WireError(f"{kind.__name__}: at most {kind.bound} bytes, got {len(data)}", code="too-large")


def _check_schema(message: M) -> M:
    if message.schema != SCHEMA:
        raise WireError(
            f"{type(message).__name__}: expected schema {SCHEMA}, got {message.schema}; update this side",
            code="bad-schema",
        )
    return message

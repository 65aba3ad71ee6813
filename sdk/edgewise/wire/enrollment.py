"""Enrollment: a join token and the device's own key in, an identity out. JSON over HTTPS (HTTP on loopback).

The device signs ``EnrollRequest`` bytes with its key (header ``Edgewise-Signature``, base64 Ed25519), so a token alone
cannot take another device's key. The same key asking again gets its identity again and spends no further use of the
token: a power cut between the hub's commit and the device's save loses nothing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from edgewise.wire.codec import Message, Name, Text

SIGNATURE_HEADER = "Edgewise-Signature"


class EnrollRequest(Message, frozen=True, kw_only=True):
    """``name`` is wished for and becomes the device's id if free. ``public_key``: raw Ed25519, base64."""

    bound: ClassVar[int] = 16 * 1024
    token: Annotated[str, msgspec.Meta(min_length=8, max_length=200)]
    name: Name
    profile: Name
    public_key: Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
    facts: Annotated[dict[Name, str | int | float | bool], msgspec.Meta(max_length=64)] = {}


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key that the device pins: raw Ed25519, base64; ``keyid`` is the sha256 of the raw key, hex."""

    keyid: Name
    public_key: Text


class EnrollResponse(Message, frozen=True, kw_only=True):
    """The device's identity: its broker account and the pinned signing keys. ``password`` is shown this once."""

    tenant: Name
    device: Name
    profile: Name
    broker_url: Text
    username: Text
    password: Text
    keys: Annotated[list[SigningKey], msgspec.Meta(min_length=1, max_length=8)]
    time: float

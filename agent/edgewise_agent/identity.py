"""Who this device is: its own key, and the identity that the hub gave it at enrollment.

The private key never leaves the device; it and the broker password are in files readable by their owner alone.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgewise.bundle import Verify
from edgewise.errors import EdgewiseError
from edgewise.wire.codec import Name, Text
from edgewise.wire.enrollment import EnrollResponse, SigningKey
from edgewise_agent.store.disk import Disk, read

KEY_FILE = "device.key"
IDENTITY_FILE = "identity.json"
_BOUND = 64 * 1024


class IdentityError(EdgewiseError):
    """The device has no identity, or one that cannot be used."""

    code = "no-identity"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``identity.json``: the hub's answer to the enrollment."""

    hub: Text
    tenant: Name
    device: Name
    profile: Name
    broker_url: Text
    username: Text
    password: Text
    keys: Annotated[list[SigningKey], msgspec.Meta(min_length=1, max_length=8)]
    time: float
    """The hub's clock at enrollment: signed states from before it are older than we are."""


def from_response(hub: str, response: EnrollResponse) -> Identity:
    """The identity to keep. Raises IdentityError for a signing key that is none."""
    identity = Identity(
        hub=hub,
        tenant=response.tenant,
        device=response.device,
        profile=response.profile,
        broker_url=response.broker_url,
        username=response.username,
        password=response.password,
        keys=response.keys,
        time=response.time,
    )
    verifier(identity.keys)
    return identity


def load(data: Path) -> Identity:
    """The identity in a data folder. Raises IdentityError that says how to enroll."""
    content = read(data / IDENTITY_FILE, _BOUND)
    if content is None:
        raise IdentityError(f"{data}: this device is not enrolled; run edgewise-agent enroll first")
    try:
        return msgspec.json.decode(content, type=Identity)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IdentityError(f"{data / IDENTITY_FILE}: {error}; enroll again") from error


def save(disk: Disk, data: Path, identity: Identity) -> None:
    """Write the identity, durably. Raises DiskError."""
    disk.replace(data / IDENTITY_FILE, msgspec.json.format(msgspec.json.encode(identity)))


def device_key(disk: Disk, data: Path) -> Ed25519PrivateKey:
    """The device's own key: read, or made and saved durably before anybody hears of it. Raises IdentityError."""
    path = data / KEY_FILE
    content = read(path, 1024)
    if content is None:
        key = Ed25519PrivateKey.generate()
        disk.replace(path, base64.b64encode(key.private_bytes_raw()))
        return key
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(content, validate=True))
    except ValueError as error:
        raise IdentityError(f"{path}: expected a base64 Ed25519 key of 32 bytes: {error}") from error


def public_key(key: Ed25519PrivateKey) -> str:
    """Raw Ed25519 public key, base64."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def verifier(keys: list[SigningKey]) -> Verify:
    """Checks signatures by the pinned keys alone. Raises IdentityError for a key that is none."""
    pinned: dict[str, Ed25519PublicKey] = {}
    for key in keys:
        try:
            pinned[key.keyid] = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public_key, validate=True))
        except (binascii.Error, ValueError) as error:
            raise IdentityError(f"signing key {key.keyid[:12]}: expected raw Ed25519 in base64: {error}") from error

    def verify(keyid: str, signature: bytes, payload: bytes) -> bool:
        if keyid not in pinned:
            return False
        try:
            pinned[keyid].verify(signature, payload)
        except InvalidSignature:
            return False
        return True

    return verify

"""The hub's signing key: Ed25519, made at first start, kept in one file that only its owner reads."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgewise.wire.enrollment import SigningKey


class Signer:
    """Signs manifests and desired states; ``public`` is what devices pin at enrollment."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = SigningKey(keyid=hashlib.sha256(raw).hexdigest(), public_key=base64.b64encode(raw).decode())

    @classmethod
    def load_or_create(cls, path: Path) -> Signer:
        """The key at ``path`` (32 raw bytes, mode 0600), made when there is none."""
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(path.read_bytes()))
        except FileNotFoundError:
            pass
        key = Ed25519PrivateKey.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes_raw())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return cls(key)

    def sign(self, payload: bytes) -> tuple[str, bytes]:
        """(keyid, raw signature), as ``edgewise.bundle.seal`` asks."""
        return self.public.keyid, self._key.sign(payload)

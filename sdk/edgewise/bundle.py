"""A bundle: one version compiled for one profile. Its manifest names every blob by sha256 and travels signed.

Rules that hold here:
- a blob *is* its sha256; a bundle's digest is the sha256 of its envelope's bytes, so one digest pins everything;
- a signature covers the exact bytes of ``signed`` as they travelled: nothing is re-encoded before it is checked;
- nothing here knows a key: who signs and who verifies passes a function (no cryptography in the base sdk).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

from edgewise.errors import BundleError
from edgewise.wire.codec import Count, Digest, Message, Name, Text, decode_json

MAX_ENVELOPE = 96 * 1024

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
]
"""Open Inference Protocol names. BYTES stays out: its items have no size of their own, so neither the quality check nor
a bound on a request nor a sketch can say anything of them."""


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output. ``shape`` has -1 for the batch axis, which comes first, and is empty for a scalar."""

    name: Name
    datatype: Datatype
    shape: Annotated[list[int], msgspec.Meta(max_length=8)]


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by digest."""

    sha256: Digest
    size: Count


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Range of an input over the reference, for the quality check. ``features``: of an input [-1, n] with few enough,
    (low, high) of each; else none."""

    low: float
    high: float
    features: Annotated[list[tuple[float, float]], msgspec.Meta(max_length=256)] = []


class Manifest(Message, frozen=True, kw_only=True):
    """What a device needs to know of a bundle. Blob roles now: ``model``, ``sketch`` (the sketch spec), ``projection``,
    ``smoke`` (an npz of inputs for the smoke inference), ``adapter`` (a LoRA adapter of onnxruntime's, active in every
    inference).

    A release of the agent itself is a bundle too, of the model ``edgewise-agent`` and the runtime ``agent``: its blobs
    are wheels (``wheel-0``, ``wheel-1``...), and it has neither inputs nor outputs, which every other bundle has.

    ``release`` rises with each version registered, and is what the signed floor is compared with.
    """

    bound: ClassVar[int] = MAX_ENVELOPE
    tenant: Name
    model: Name
    version: Count
    release: Count
    profile: Name
    runtime: Name
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    inputs: Annotated[list[Tensor], msgspec.Meta(max_length=32)]
    outputs: Annotated[list[Tensor], msgspec.Meta(max_length=32)]
    scores: Name | None = None
    """The output that holds class scores (logits), shape [-1, classes]."""
    embedding: Name | None = None
    """The output that holds the embedding, shape [-1, d]."""
    labels: Annotated[list[Text], msgspec.Meta(max_length=4096)] = []
    bounds: dict[Name, Bounds] = {}
    blobs: Annotated[dict[Name, Blob], msgspec.Meta(max_length=32)]
    created_at: float


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Base64 of a raw Ed25519 signature by the key whose sha256 is ``keyid``."""

    keyid: Name
    sig: Text


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """``{signed, signatures}``; ``signed`` is kept as raw bytes."""

    signed: msgspec.Raw
    signatures: Annotated[list[Signature], msgspec.Meta(min_length=1, max_length=8)]


Sign = Callable[[bytes], tuple[str, bytes]]
"""payload -> (keyid, raw signature)"""
Verify = Callable[[str, bytes, bytes], bool]
"""(keyid, raw signature, payload) -> is it a signature by a key that is trusted?"""


def digest(data: bytes) -> str:
    """sha256, hex."""
    return hashlib.sha256(data).hexdigest()


def seal(message: Message, sign: Sign) -> bytes:
    """Sign a message and return its envelope's bytes."""
    payload = msgspec.json.encode(message, order="sorted")
    keyid, signature = sign(payload)
    envelope = Envelope(
        signed=msgspec.Raw(payload),
        signatures=[Signature(keyid=keyid, sig=base64.b64encode(signature).decode())],
    )
    return msgspec.json.encode(envelope)


M = TypeVar("M", bound=Message)


def unseal(data: bytes, kind: type[M], verify: Verify) -> M:
    """Check an envelope and decode what it signs; at least one signature must verify.

    Raises BundleError (code ``bad-envelope`` or ``bad-signature``) and, for the signed content, WireError.
    """
    if len(data) > MAX_ENVELOPE:
        raise BundleError(f"envelope: at most {MAX_ENVELOPE} bytes, got {len(data)}", code="bad-envelope")
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"envelope: {error}", code="bad-envelope") from error
    payload = bytes(envelope.signed)
    for signature in envelope.signatures:
        try:
            raw = base64.b64decode(signature.sig, validate=True)
        except ValueError:
            continue
        if verify(signature.keyid, raw, payload):
            return decode_json(payload, kind)
    names = ", ".join(signature.keyid[:12] for signature in envelope.signatures)
    raise BundleError(f"{kind.__name__}: expected a signature by a pinned key, got {names}", code="bad-signature")

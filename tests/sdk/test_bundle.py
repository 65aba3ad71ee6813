"""The signed envelope: it opens for a pinned key alone, and one changed byte closes it."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edgewise import bundle
from edgewise.errors import BundleError, WireError
from edgewise.wire.control import Presence


class Key:
    """An Ed25519 key that signs, and that a device may pin."""

    def __init__(self, seed):
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.keyid = hashlib.sha256(self._private.public_key().public_bytes_raw()).hexdigest()

    def sign(self, payload):
        return self.keyid, self._private.sign(payload)

    def verify(self, keyid, signature, payload):
        try:
            self._private.public_key().verify(signature, payload)
        except InvalidSignature:
            return False
        return keyid == self.keyid


KEY, OTHER = Key(1), Key(2)
MESSAGE = Presence(device="camera-1", online=True, session=4)


def test_a_sealed_message_opens_with_the_pinned_key():
    data = bundle.seal(MESSAGE, KEY.sign)
    assert bundle.unseal(data, Presence, KEY.verify) == MESSAGE
    assert len(bundle.digest(data)) == 64


def test_another_key_is_refused_and_named():
    with pytest.raises(BundleError, match=f"expected a signature by a pinned key, got {OTHER.keyid[:12]}") as caught:
        bundle.unseal(bundle.seal(MESSAGE, OTHER.sign), Presence, KEY.verify)
    assert caught.value.code == "bad-signature"


@given(st.data())
def test_one_changed_byte_closes_the_envelope(data):
    sealed = bytearray(bundle.seal(MESSAGE, KEY.sign))
    start = sealed.index(b'"signatures"')
    position = data.draw(st.integers(len('{"signed":'), start - 2))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleError) as caught:
        bundle.unseal(bytes(sealed), Presence, KEY.verify)
    assert caught.value.code in ("bad-envelope", "bad-signature")


def test_the_signature_covers_the_bytes_as_they_travelled():
    """The same content with other spaces is other bytes."""
    envelope = msgspec.json.decode(bundle.seal(MESSAGE, KEY.sign), type=bundle.Envelope)
    spaced = bytes(envelope.signed).replace(b":", b": ")
    again = msgspec.json.encode(bundle.Envelope(signed=msgspec.Raw(spaced), signatures=envelope.signatures))
    with pytest.raises(BundleError, match="expected a signature"):
        bundle.unseal(again, Presence, KEY.verify)


def test_one_good_signature_among_others_is_enough():
    envelope = msgspec.json.decode(bundle.seal(MESSAGE, KEY.sign), type=bundle.Envelope)
    noise = [bundle.Signature(keyid="x", sig="not base64!"), bundle.Signature(keyid=OTHER.keyid, sig="AAAA")]
    data = msgspec.json.encode(bundle.Envelope(signed=envelope.signed, signatures=[*noise, *envelope.signatures]))
    assert bundle.unseal(data, Presence, KEY.verify) == MESSAGE
    without = msgspec.json.encode(bundle.Envelope(signed=envelope.signed, signatures=noise))
    with pytest.raises(BundleError, match="expected a signature"):
        bundle.unseal(without, Presence, KEY.verify)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"signed":{}}', b'{"signed":{},"signatures":[]}', b"\xff\xfe", b"[" * 50_000,
        msgspec.json.encode({"signed": {}, "signatures": [{"keyid": "k", "sig": "AA=="}] * 9}),
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(data):
    with pytest.raises(BundleError) as caught:
        bundle.unseal(data, Presence, KEY.verify)
    assert caught.value.code == "bad-envelope"


def test_an_envelope_over_its_bound_is_refused_before_it_is_parsed():
    with pytest.raises(BundleError, match="at most 98304 bytes, got 98305"):
        bundle.unseal(b"{" * (bundle.MAX_ENVELOPE + 1), Presence, KEY.verify)


@pytest.mark.parametrize("payload", [b"{}", b'{"schema":9,"device":"a","online":true,"session":1}'])
def test_signed_content_still_has_to_be_of_its_schema(payload):
    keyid, signature = KEY.sign(payload)
    signatures = [bundle.Signature(keyid=keyid, sig=base64.b64encode(signature).decode())]
    data = msgspec.json.encode(bundle.Envelope(signed=msgspec.Raw(payload), signatures=signatures))
    with pytest.raises(WireError):
        bundle.unseal(data, Presence, KEY.verify)

"""Wire messages: what is encoded comes back, and nothing over its bound, of another schema or damaged is taken."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import WireError
from edgewise.wire import blocks, codec, control, enrollment, windows

DIGEST = "ab" * 32
KINDS = [
    control.Desired, control.Reported, control.Presence, control.Progress,
    windows.Window, windows.Samples, windows.Ack, blocks.BlockRequest, blocks.Block,
    enrollment.EnrollRequest, enrollment.EnrollResponse,
]  # fmt: skip


def window(**changes):
    values = {
        "device": "camera-1", "epoch": 3, "first": 7, "last": 9, "start": 1.5, "duration": 60.0, "model": "digits",
        "version": 2, "bundle": DIGEST, "spec": DIGEST, "counters": windows.Counters(inferences=5),
        "sketches": {"classes": b"\x02"},
    }  # fmt: skip
    return windows.Window(**{**values, **changes})


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
counts = st.integers(0, 2**53 - 1)


@given(names, counts, counts, st.dictionaries(names, st.binary(max_size=300), max_size=8))
def test_a_window_comes_back_as_it_was(device, first, last, sketches):
    sent = window(device=device, first=first, last=last, sketches=sketches)
    assert codec.decode_msgpack(codec.encode_msgpack(sent), windows.Window) == sent


@given(names, st.booleans(), counts)
def test_a_control_message_comes_back_and_equal_messages_are_equal_bytes(device, online, session):
    sent = control.Presence(device=device, online=online, session=session)
    data = codec.encode_json(sent)
    assert codec.decode_json(data, control.Presence) == sent
    assert data == codec.encode_json(control.Presence(session=session, online=online, device=device))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decode", [codec.decode_json, codec.decode_msgpack])
@given(data=st.binary(max_size=200))
def test_damage_is_a_wire_error_and_nothing_else(kind, decode, data):
    with pytest.raises(WireError) as caught:
        decode(data, kind)
    assert caught.value.code == "bad-message"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decode", [codec.decode_json, codec.decode_msgpack])
def test_a_message_over_its_bound_is_refused_before_it_is_parsed(kind, decode):
    assert kind.bound <= codec.MAX_MESSAGE
    with pytest.raises(WireError, match=f"at most {kind.bound} bytes, got {kind.bound + 1}") as caught:
        decode(b"{" * (kind.bound + 1), kind)
    assert caught.value.code == "too-large"


def test_a_message_over_its_bound_is_not_sent():
    large = window(sketches={f"s{i}": bytes(8000) for i in range(3)})
    with pytest.raises(WireError, match="at most 16384 bytes") as caught:
        codec.encode_msgpack(large)
    assert caught.value.code == "too-large"


def test_another_schema_is_refused_and_says_what_to_do():
    data = msgspec.json.encode({"schema": 2, "device": "a", "online": True, "session": 1})
    with pytest.raises(WireError, match="expected schema 1, got 2; update this side") as caught:
        codec.decode_json(data, control.Presence)
    assert caught.value.code == "bad-schema"


def test_an_older_side_reads_a_newer_ones_fields():
    data = msgspec.json.encode({"device": "a", "online": True, "session": 1, "mood": "good"})
    assert codec.decode_json(data, control.Presence) == control.Presence(device="a", online=True, session=1)


def test_deep_nesting_is_a_wire_error():
    data = b'{"device":"a","profile":"p","agent":"x","generation":1,"unknown":' + b"[" * 60_000
    with pytest.raises(WireError):
        codec.decode_json(data, control.Reported)


@pytest.mark.parametrize(
    "changes",
    [
        {"device": ""}, {"device": "a/b"}, {"device": "a" * 65}, {"device": "+"}, {"bundle": "AB" * 32},
        {"bundle": "ab" * 31}, {"first": -1}, {"last": 2**53}, {"duty": "shadowy"},
        {"sketches": {"classes": bytes(8193)}}, {"sketches": {f"s{i}": b"" for i in range(33)}},
        {"counters": {"inferences": -1}}, {"device": "a\n"}, {"bundle": "ab" * 32 + "\n"},
    ],
)  # fmt: skip
def test_a_window_with_a_field_out_of_bounds_is_refused(changes):
    data = msgspec.msgpack.encode({**msgspec.to_builtins(window(), builtin_types=(bytes,)), **changes})
    with pytest.raises(WireError, match="Window"):
        codec.decode_msgpack(data, windows.Window)


@given(st.sets(st.integers(0, 31), min_size=1), st.integers(0, 2**40))
def test_a_block_request_asks_for_just_those_blocks(offsets, start):
    wanted = sorted(start + offset for offset in offsets)
    base, bitmap = blocks.bitmap(wanted)
    request = blocks.BlockRequest(digest=DIGEST, base=base, bitmap=bitmap)
    assert blocks.asked(codec.decode_msgpack(codec.encode_msgpack(request), blocks.BlockRequest)) == wanted


@pytest.mark.parametrize("wanted", [[], [5, 5 + blocks.MAX_BLOCKS_ASKED]])
def test_no_block_or_blocks_too_far_apart_are_no_request(wanted):
    with pytest.raises(ValueError, match="expected"):
        blocks.bitmap(wanted)


def test_the_largest_block_fits_its_message():
    block = blocks.Block(digest=DIGEST, index=0, total=2**52, data=bytes(120 * 1024))
    assert len(codec.encode_msgpack(block)) <= codec.MAX_MESSAGE

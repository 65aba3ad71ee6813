"""However the bytes of an event stream are cut, the same events come out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import WireError
from edgewise.sse import MAX_MESSAGE, SseDecoder, SseMessage

STREAM = (
    b': welcome\r\n\r\nretry: 250\n\nevent: rollout\ndata: {"id": "7f3"}\n\n'
    b"data: two\r\ndata:lines\r\n\r\nevent: empty\n\nid: 4\nevent: device\rdata: \xc3\xa9\r\r"
    b"event: cut off\ndata: never ends"
)
MESSAGES = [SseMessage("rollout", '{"id": "7f3"}'), SseMessage("message", "two\nlines"), SseMessage("device", "é")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    decoder = SseDecoder()
    places = [0, *sorted(cuts), len(STREAM)]
    messages = [m for a, b in pairwise(places) for m in decoder.feed(STREAM[a:b])]
    assert messages == MESSAGES
    assert decoder.retry_s == 0.25


@given(st.binary(max_size=200))
def test_noise_is_harmless(data: bytes) -> None:
    decoder = SseDecoder()
    for byte in data:
        decoder.feed(bytes([byte]))


@pytest.mark.parametrize("line", [b"data: ", b"data: x\ndata: "], ids=["one line", "two lines"])
def test_an_endless_message_is_refused(line: bytes) -> None:
    decoder = SseDecoder()
    decoder.feed(line)
    with pytest.raises(WireError, match="at most"):
        for _ in range(MAX_MESSAGE // 1000 + 1):
            decoder.feed(b"x" * 1000)

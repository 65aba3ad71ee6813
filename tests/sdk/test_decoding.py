"""Decoding by several threads at once, from the first message on, in a process of its own: a race ends it."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from edgewise.decoding import json_decoder, msgpack_decoder, ready

RACE = """
import sys, threading
import msgspec
from edgewise import decoding

sys.setswitchinterval(1e-6)

class Inner(msgspec.Struct):
    a: int = 0
    b: str | None = None
    c: list[int] = []

class Middle(msgspec.Struct):
    a: Inner | None = None
    b: dict[str, Inner] = {}

class Outer(msgspec.Struct):
    i: Middle
    j: list[Middle]
    k: Inner

DATA = {"i": {"a": {"c": [1]}, "b": {"x": {"a": 2}}}, "j": [{"a": {"b": "y"}}], "k": {"c": [3]}}
JSON, MSGPACK = msgspec.json.encode(DATA), msgspec.msgpack.encode(DATA)
if sys.argv[1] == "ready":
    decoding.ready()
go, right = threading.Barrier(16), []

def decode():
    go.wait()
    if sys.argv[1] == "ready":
        found = msgspec.json.decode(JSON, type=Outer)
    else:
        found = decoding.json_decoder(Outer).decode(JSON)
        decoding.msgpack_decoder(Middle).decode(msgspec.msgpack.encode(DATA["i"]))
    right.append(found.k.c == [3])

threads = [threading.Thread(target=decode) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert right == [True] * 16
"""


@pytest.mark.parametrize("how", ["ready", "decoders"])
def test_threads_that_decode_a_type_first_together_all_get_it(how: str) -> None:
    for _ in range(3):
        ran = subprocess.run([sys.executable, "-c", RACE, how], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr


def test_what_cannot_be_decoded_does_not_stop_the_others() -> None:
    class Unresolved(msgspec.Struct):
        x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037

    ready()
    assert msgpack_decoder(int) is msgpack_decoder(int)
    assert json_decoder(list[int]).decode(b"[1]") == [1]
    assert Unresolved

"""Many floats in JSON mean the same to simdjson and to msgspec, or only msgspec reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_agent.serving.oip import floats, messages
from edgewise_agent.serving.oip.floats import LEAST, MOST, Reader
from edgewise_agent.serving.oip.messages import Request, read_request
from edgewise_agent.serving.oip.tensors import BadTensor

pytest.importorskip("simdjson")
PADDING = " " * LEAST


def body(data: str, shape: str = "[4]", more: str = "", tensor: str = "") -> bytes:
    text = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":{shape},"data":{data}{tensor}}}]{more}}}{PADDING}'
    return text.encode()


def slowly(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Request | str:
    with monkeypatch.context() as patch:
        patch.setattr(floats, "LEAST", MOST + 1)
        return read(data)


def read(data: bytes) -> Request | str:
    try:
        return read_request(memoryview(data), None, floats=True)
    except BadTensor as error:
        return str(error)


def same(a: Request | str, b: Request | str) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    arrays = a.inputs.keys() == b.inputs.keys() and all(
        np.array_equal(a.inputs[name], b.inputs[name], equal_nan=True) and a.inputs[name].dtype == b.inputs[name].dtype
        for name in a.inputs
    )
    return arrays and (a.id, a.outputs, a.binary, a.parameters) == (b.id, b.outputs, b.binary, b.parameters)


@pytest.mark.parametrize(
    ("data", "quickly"),
    [
        (body("[1,2.5,-3e-3,4]"), True),
        (body("[1,2,3,4]", more=',"id":"r-1","parameters":{"key":"k","n":3},"outputs":[{"name":"y"}]'), True),
        (body("[1,2,3,4]", shape="[2,2]"), True),
        (body("[1,2,3]"), True),
        (body("[]", shape="[0]"), True),
        (body("[1,2,3,4]", tensor=',"parameters":{"shared_memory_region":"r"}'), True),
        (body("[[1,2],[3,4]]", shape="[2,2]"), False),
        (body("[1,[2,3],[],4]"), False),
        (body("[1,2,3,true]"), False),
        (body('[1,2,3,"4"]'), False),
        (body("[1,2,3,null]"), False),
        (body("[1,2,3,NaN]"), False),
        (body("[1,2,3,1e400]"), False),
        (body("[1,2,3,4"), False),
        (body("[1,2,3,4]", more=',"id":"a","id":"b"'), False),
        (body("[1,2,3,4]", tensor=',"data":[5,6,7,8]'), False),
        (body("[1,2,3,4]", more=',"parameters":{"key":"a[b"}'), False),
        (body("[1,2,3,4]", tensor=',"parameters":{"binary_data_size":16}'), True),
        (b"[" * LEAST, False),
        (b"{}" + PADDING.encode(), False),
    ],
)
def test_both_read_or_refuse_the_same(data: bytes, quickly: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Reader().read(memoryview(data)) is not None) == quickly
    assert same(read(data), slowly(data, monkeypatch))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62), max_size=40))
def test_numbers_become_the_same_floats(values: list[float]) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(values)], "data": values}
    data = (json.dumps({"inputs": [tensor]}) + PADDING).encode()
    quick = Reader().read(memoryview(data))
    assert quick is not None
    assert np.array_equal(quick[1][0], np.array(values, np.float64))
    assert np.array_equal(messages.read_request(memoryview(data), None, floats=True).inputs["x"], quick[1][0])


def test_only_bodies_of_a_middle_size_are_read() -> None:
    small = body("[1,2,3,4]").rstrip()
    assert Reader().read(memoryview(small)) is None
    assert Reader().read(memoryview(small + b" " * MOST)) is None

"""Tensors and request bodies: what was written is read again; anything else is a ``BadTensor`` by name, never more."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_agent.serving.oip.messages import Request, read_request, write_answer
from edgewise_agent.serving.oip.tensors import DATATYPES, BadTensor, from_binary, from_json, to_binary, to_json

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
FINITE = {"allow_nan": False, "allow_infinity": False}


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    datatype = draw(st.sampled_from([*NUMPY, "BYTES"]))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        array = np.empty(shape, np.object_)
        for index in np.ndindex(shape):
            array[index] = draw(st.text(max_size=5)).encode()
        return datatype, array
    dtype = np.dtype(NUMPY[datatype])  # type: ignore[index]
    elements = FINITE if dtype.kind == "f" else None
    return datatype, draw(hnp.arrays(dtype, shape, elements=elements))


@given(tensors())
def test_binary_data_is_read_as_it_was_written(case: tuple[str, np.ndarray]) -> None:
    datatype, array = case
    data = memoryview(bytes(to_binary(array)))
    again = from_binary("x", datatype, array.shape, data)
    assert again.dtype == array.dtype and again.shape == array.shape
    assert (again == array).all()


@given(tensors())
def test_json_data_is_read_as_it_was_written_flat_and_nested(case: tuple[str, np.ndarray]) -> None:
    datatype, array = case
    flat = json.loads(json.dumps(to_json(array)))
    again = from_json("x", datatype, array.shape, flat)
    assert again.dtype == array.dtype and again.shape == array.shape
    assert (again == array).all()
    if array.ndim > 1 and array.size:
        nested = np.reshape(np.array(flat, dtype=np.object_), array.shape).tolist()
        assert (from_json("x", datatype, array.shape, nested) == array).all()


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2), elements=st.floats(width=16, **FINITE)))
def test_bfloat16_widens_exactly(array: np.ndarray) -> None:
    high = (array.view(np.uint32) >> 16).astype("<u2")
    expected = (high.astype(np.uint32) << 16).view(np.float32).reshape(array.shape)
    again = from_binary("x", "BF16", array.shape, memoryview(high.tobytes()))
    assert again.dtype == np.float32 and (again == expected).all()


def test_binary_data_is_not_copied_and_always_aligned() -> None:
    raw = bytearray(np.arange(8, dtype="<f4").tobytes() + b"x")
    array = from_binary("x", "FP32", [8], memoryview(raw)[:32])
    raw[0:4] = struct.pack("<f", 9.0)
    assert array[0] == 9.0
    shifted = from_binary("x", "FP32", [7], memoryview(raw)[1:29])
    assert shifted.flags.aligned


BAD_BINARY: list[tuple[str, list[int], bytes, str]] = [
    ("FP32", [2], b"1234567", "8 bytes, got 7"),
    ("FP32", [-1, -2], b"12345678", "none negative"),
    ("FP32", [2**31, 2**31, 2**31, 2**31], b"", "fewer than"),
    ("FP32", [2**32, 2**32], b"", "fewer than"),
    ("UINT8", [2**30, 4], b"", "fewer than"),
    ("UINT8", [2**31 - 1, 0, 2**31 - 1], b"", "fewer than"),
    ("UINT8", [1] * 9, b"1", "8 axes"),
    ("BOOL", [2], b"\x00\x02", "0 or 1"),
    ("BYTES", [2], b"\x01\x00\x00\x00a", "BYTES"),
    ("BYTES", [1], b"\xff\xff\xff\xffa", "BYTES"),
    ("BYTES", [1], b"\x01\x00\x00\x00ab", "BYTES"),
    ("BYTES", [2**30], b"\x00\x00\x00\x00", "BYTES"),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "says"), BAD_BINARY)
def test_binary_data_that_does_not_fit(datatype: str, shape: list[int], data: bytes, says: str) -> None:
    with pytest.raises(BadTensor, match=f"^x: .*{says}"):
        from_binary("x", datatype, shape, memoryview(data))


BAD_JSON: list[tuple[str, list[int], list[Any], str]] = [
    ("FP32", [2], [1.0], "does not hold 1"),
    ("FP32", [2], [1.0, True], "expected data of FP32"),
    ("FP32", [2], [1.0, None], "expected data of FP32"),
    ("FP32", [2, 2], [[1.0, 2.0], [3.0]], "inhomogeneous"),
    ("FP32", [2], [[1.0], 2.0], "inhomogeneous"),
    ("INT8", [1], [128], "range of INT8"),
    ("UINT64", [1], [-1], "range of UINT64"),
    ("UINT64", [1], [2**64], "range of UINT64"),
    ("INT64", [1], [2**63], "range of INT64"),
    ("INT32", [1], [1.0], "expected data of INT32"),
    ("FP64", [1], [10**400], "range of FP64"),
    ("BOOL", [1], [0], "expected data of BOOL"),
    ("BYTES", [1], [1], "expected strings"),
    ("BF16", [1], [1.0], "BF16 has no form in JSON"),
]


@pytest.mark.parametrize(("datatype", "shape", "data", "says"), BAD_JSON)
def test_json_data_that_does_not_fit(datatype: str, shape: list[int], data: list[Any], says: str) -> None:
    with pytest.raises(BadTensor, match=f"^x: .*{says}"):
        from_json("x", datatype, shape, data)


@given(st.sampled_from(DATATYPES), st.lists(st.integers(-2, 2**33), max_size=10), st.binary(max_size=64), st.booleans())
def test_any_binary_data_is_read_or_refused(datatype: str, shape: list[int], data: bytes, shift: bool) -> None:
    try:
        array = from_binary("x", datatype, shape, memoryview(data)[int(shift) :])
    except BadTensor:
        return
    assert list(array.shape) == shape


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(DATATYPES), st.lists(st.integers(-1, 5), max_size=4), st.lists(JSON_VALUES, max_size=6))
def test_any_json_data_is_read_or_refused(datatype: str, shape: list[int], data: list[Any]) -> None:
    try:
        array = from_json("x", datatype, shape, data)
    except BadTensor:
        return
    assert list(array.shape) == shape


def body(*inputs: dict[str, Any], binary: bytes = b"", **more: Any) -> tuple[memoryview, int]:
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    return memoryview(head + binary), len(head)


def described(name: str, datatype: str, shape: list[int], size: Any = None, **more: Any) -> dict[str, Any]:
    parameters = {} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": name, "datatype": datatype, "shape": shape, **parameters, **more}


def test_binary_and_json_tensors_share_a_request() -> None:
    data, length = body(
        described("a", "FP32", [2], 8),
        described("b", "INT64", [1, 2], data=[5, 6]),
        described("c", "UINT8", [3], 3),
        binary=struct.pack("<2f3B", 1, 2, 7, 8, 9),
        id="r1",
        parameters={"key": "k", "n": 2, "binary_data_output": True},
        outputs=[{"name": "o", "parameters": {"binary_data": False}}, {"name": "p"}],
    )
    request = read_request(data, length)
    assert {name: array.tolist() for name, array in request.inputs.items()} == {
        "a": [1, 2],
        "b": [[5, 6]],
        "c": [7, 8, 9],
    }
    assert (request.id, request.binary, request.outputs) == ("r1", True, {"o": False, "p": True})
    assert request.parameters == {"key": "k", "n": 2, "binary_data_output": True}


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize(
    ("case", "says"),
    [
        (body(), "length >= 1"),
        (body(described("a", "FP32", [2], 9), binary=bytes(8)), "binary_data_size: expected at most the 8 bytes"),
        (body(described("a", "FP32", [2], 8), binary=bytes(9)), "the tensors have 8 bytes, got 9"),
        (body(described("a", "FP32", [2], -8), binary=bytes(8)), "binary_data_size"),
        (body(described("a", "FP32", [2], True), binary=bytes(8)), "binary_data_size"),
        (body(described("a", "FP32", [2], "8"), binary=bytes(8)), "binary_data_size"),
        (body(described("a", "FP32", [2], 8, data=[1, 2]), binary=bytes(8)), "got both"),
        (body(described("a", "FP32", [2])), "expected data, or binary_data_size"),
        (body(described("a", "FLOAT", [1], data=[1])), "datatype: expected one of"),
        (body(described("a", "FP32", [-1], data=[1])), ">= 0"),
        (body(described("a", "FP32", [2**31], data=[1])), "< 2147483648|<= 2147483647"),
        (body(described("a", "FP32", [1.5], data=[1])), "int"),
        (body(described("a", "FP32", [1], data=[1]), described("a", "FP32", [1], data=[1])), "expected once"),
        (body(*[described(str(i), "FP32", [1], data=[1]) for i in range(33)]), "length <= 32"),
        (body(described("a", "FP32", [1], data=[1]), parameters={"binary_data_output": 1}), "true or false"),
        (body(described("a", "FP32", [1], data=[1]), parameters={"sequence_id": 1}), "sequences"),
        (
            body({**described("a", "FP32", [1]), "parameters": {"shared_memory_region": "r"}}),
            "shared memory",
        ),
        ((memoryview(b"{}"), 3), "at most 2, got 3"),
        ((memoryview(b"\xff\xfe"), None), "malformed|utf-8|invalid"),
        ((memoryview(b'{"inputs":' + b"[" * 100_000), None), "expected `object`, got `array`"),
        ((memoryview(b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":' + b"[" * 5000), None), ""),
    ],
)
def test_bodies_that_are_no_request(case: tuple[memoryview, int | None], says: str, floats: bool) -> None:
    with pytest.raises(BadTensor, match=f"(?i){says}"):
        read_request(*case, floats=floats)


@given(st.binary(max_size=200), st.none() | st.integers(0, 300), st.booleans())
def test_any_bytes_are_a_request_or_refused(data: bytes, length: int | None, floats: bool) -> None:
    try:
        read_request(memoryview(data), length, floats=floats)
    except BadTensor:
        pass


TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", ""]),
        "datatype": st.sampled_from([*DATATYPES, "TEXT"]),
        "shape": st.lists(st.integers(-1, 4) | st.just(2**31 - 1), max_size=9),
    },
    optional={
        "data": st.lists(JSON_VALUES, max_size=4) | JSON_VALUES,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "classification", "x"]), JSON_VALUES, max_size=2
        ),
    },
)


@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(TENSOR, max_size=3)},
        optional={
            "id": JSON_VALUES,
            "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "key"]), JSON_VALUES, max_size=2),
            "outputs": st.lists(st.fixed_dictionaries({"name": JSON_VALUES}), max_size=2),
        },
    ),
    st.binary(max_size=32),
    st.booleans(),
)
def test_any_json_of_the_kind_is_a_request_or_refused(message: object, binary: bytes, floats: bool) -> None:
    head = msgspec.json.encode(message)
    try:
        read_request(memoryview(head + binary), len(head), floats=floats)
    except BadTensor:
        pass


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), tensors(), min_size=1), st.booleans(), st.data())
def test_an_answer_says_where_each_output_lies(
    outputs: dict[str, tuple[str, np.ndarray]], binary: bool, data: st.DataObject
) -> None:
    chosen = {name: data.draw(st.booleans()) for name in outputs if data.draw(st.booleans())}
    request = Request("r", {}, chosen, binary)
    answer = write_answer("m", 4, request, "r", {name: array for name, (_, array) in outputs.items()}, {"arm": "b"})
    whole = b"".join(map(bytes, answer.parts))
    length = int(answer.headers.get("inference-header-content-length", len(whole)))
    said, at = json.loads(whole[:length]), length
    assert (said["model_name"], said["model_version"], said["id"]) == ("m", "4", "r")
    assert said["parameters"] == {"arm": "b"}
    for tensor in said["outputs"]:
        datatype, array = outputs[tensor["name"]]
        assert ("data" not in tensor) == chosen.get(tensor["name"], binary)
        if "data" in tensor:
            again = from_json("x", datatype, tensor["shape"], tensor["data"])
        else:
            size = tensor["parameters"]["binary_data_size"]
            again = from_binary("x", datatype, tensor["shape"], memoryview(whole)[at : at + size])
            at += size
        assert tensor["datatype"] == datatype and (again == array).all()
    assert at == len(whole)

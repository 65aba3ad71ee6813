"""What is LiteRT's own: names, batches, quantized tensors, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tflite_files import add_one

from edgewise.bundle import Datatype, Tensor
from edgewise_agent.runtimes import Runtime, RuntimeFailure, open_runtime


def opened(tmp_path: Path, data: bytes) -> Runtime:
    path = tmp_path / "blob"
    path.write_bytes(data)
    return open_runtime("litert", path)


def described(datatype: Datatype, shape: list[int], names: tuple[str, str] = ("x", "y")) -> tuple[list[Tensor], ...]:
    return tuple([Tensor(name=name, datatype=datatype, shape=shape)] for name in names)


def test_names_are_the_signatures(tmp_path: Path) -> None:
    runtime = opened(tmp_path, add_one([1, 4], signatures=["serving_default"]))
    assert runtime.describe() == described("FP32", [-1, 4])


def test_without_a_signature_names_are_the_tensors_cleaned(tmp_path: Path) -> None:
    runtime = opened(tmp_path, add_one([1, 4]))
    assert runtime.describe() == described("FP32", [-1, 4], ("x", "StatefulPartitionedCall"))


def test_of_several_signatures_the_default_one_is_served(tmp_path: Path) -> None:
    runtime = opened(tmp_path, add_one([1, 4], signatures=["other", "serving_default"]))
    assert runtime.infer({"x": np.zeros((1, 4), dtype=np.float32)})["y"].tolist() == [[1, 1, 1, 1]]
    with pytest.raises(RuntimeFailure, match=r"expected one signature or one called serving_default, got \['a', 'b'\]"):
        opened(tmp_path, add_one([1, 4], signatures=["a", "b"]))


def test_tensors_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="different names") as caught:
        opened(tmp_path, add_one([1, 4], names=("", "y")))
    assert caught.value.code == "load-failed"


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_batch_of_one_in_the_file_and_a_dynamic_one_take_any(tmp_path: Path, dynamic: bool) -> None:
    runtime = opened(tmp_path, add_one([1, 4], dynamic=dynamic, signatures=["serving_default"]))
    assert runtime.describe() == described("FP32", [-1, 4])
    for items in (1, 5, 2, 1):
        x = np.random.default_rng(items).normal(size=(items, 4)).astype(np.float32)
        np.testing.assert_allclose(runtime.infer({"x": x})["y"], x + 1, atol=1e-6)


@pytest.mark.parametrize("shape", [[2, 4], [4], []])
def test_other_static_shapes_stay_as_they_are(tmp_path: Path, shape: Sequence[int]) -> None:
    runtime = opened(tmp_path, add_one(shape, dtype=np.int32, signatures=["serving_default"]))
    assert runtime.describe() == described("INT32", list(shape))
    got = runtime.infer({"x": np.zeros(shape, dtype=np.int32)})["y"]
    assert isinstance(got, np.ndarray) and got.shape == tuple(shape) and (got == 1).all()
    with pytest.raises(RuntimeFailure, match="expected shape"):
        runtime.infer({"x": np.zeros([1, *shape], dtype=np.int32)})


def test_quantized_tensors_are_served_as_they_are(tmp_path: Path) -> None:
    """Steps of 0.5: 3 is 1.5, and one more is 5."""
    runtime = opened(tmp_path, add_one([1, 2], dtype=np.int8, scale=0.5, signatures=["serving_default"]))
    assert runtime.describe() == described("INT8", [-1, 2])
    got = runtime.infer({"x": np.array([[3, -4], [0, 126]], dtype=np.int8)})["y"]
    assert got.dtype == np.int8 and got.tolist() == [[5, -2], [2, 127]]


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"expected one batch size above zero, got \[0\]"):
        opened(tmp_path, add_one([1, 4])).infer({"x": np.zeros((0, 4), dtype=np.float32)})

"""LiteRT (``ai-edge-litert``; ``tflite_runtime`` where only that is installed) on the CPU, with XNNPACK.

Rules that hold here:
- names are those of the signature where the file has one, else of its tensors, without ``serving_default_`` and ``:0``;
- a file whose inputs and outputs all have a first axis of 1 (as litert-torch writes them) takes any batch: it is run
  item by item, since it cannot be resized where a 1 is baked into it;
- an interpreter is not thread-safe and holds a model's memory: there is one, under a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgewise.bundle import Datatype, Tensor
from edgewise_agent.runtimes import Arrays, RuntimeFailure, reason
from edgewise_agent.runtimes.tensors import NUMPY, Signature, tensor

_DATATYPES: dict[np.dtype[Any], Datatype] = {np.dtype(kind): datatype for datatype, kind in NUMPY.items()}
_DEFAULT_SIGNATURE = "serving_default"
_LIBRARIES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}

Details = Mapping[str, Mapping[str, Any]]
"""Tensor details, as the interpreter gives them, by name."""


def _import() -> tuple[ModuleType, str]:
    """The interpreter's module, and the library's version. Raises ImportError of the first library."""
    errors: list[ImportError] = []
    for module, distribution in _LIBRARIES.items():
        try:
            return import_module(f"{module}.interpreter"), f"{distribution} {metadata.version(distribution)}"
        except ImportError as error:
            errors.append(error)
    raise errors[0]


_LIBRARY, _VERSION = _import()


class LiteRtRuntime:
    """One interpreter, under a lock."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        try:
            self._interpreter = _LIBRARY.Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = _details(self._interpreter)
        except (ValueError, RuntimeError) as error:
            raise RuntimeFailure(f"litert cannot load {path.name}: {reason(error)}", code="load-failed") from error
        self._inputs, self._outputs = _tensors(inputs), _tensors(outputs)
        self._input_index = {name: int(details["index"]) for name, details in inputs.items()}
        self._output_index = {name: int(details["index"]) for name, details in outputs.items()}
        self._shapes = {name: tuple(details["shape"]) for name, details in inputs.items()}
        self._by_item = all(t.shape[:1] == [1] for t in (*self._inputs, *self._outputs))
        if self._by_item:
            self._inputs, self._outputs = _any_batch(self._inputs), _any_batch(self._outputs)
        self._signature = Signature(self._inputs)
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Library and version."""
        return _VERSION

    def describe(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs as the file says, but for a first axis of 1 in all of them: -1, any batch."""
        return self._inputs, self._outputs

    def infer(self, inputs: Arrays) -> Arrays:
        """Run once, or once an item. Raises RuntimeFailure."""
        self._signature.check(inputs)
        try:
            with self._lock:
                return self._run_items(inputs) if self._by_item else self._run(inputs)
        except (ValueError, RuntimeError) as error:
            raise RuntimeFailure(f"litert failed: {reason(error)}") from error

    def _run_items(self, inputs: Arrays) -> Arrays:
        sizes = {len(array) for array in inputs.values()}
        if len(sizes) != 1 or 0 in sizes:
            raise RuntimeFailure(f"inputs: expected one batch size above zero, got {sorted(sizes)}")
        size = sizes.pop()
        if size == 1:
            return self._run(inputs)
        answers = [self._run({name: array[i : i + 1] for name, array in inputs.items()}) for i in range(size)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in self._output_index}

    def _run(self, inputs: Arrays) -> Arrays:
        resized = {name: array.shape for name, array in inputs.items() if array.shape != self._shapes.get(name)}
        if resized:
            for name, shape in resized.items():
                self._shapes.pop(name, None)  # until it is allocated
                self._interpreter.resize_tensor_input(self._input_index[name], shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shapes.update(resized)
        for name, array in inputs.items():
            self._interpreter.set_tensor(self._input_index[name], array)
        self._interpreter.invoke()
        # asarray, since a scalar does not come as an array
        return {name: np.asarray(self._interpreter.get_tensor(index)) for name, index in self._output_index.items()}


def _details(interpreter: Any) -> tuple[Details, Details]:
    """Inputs and outputs by name. Raises ValueError for a file that cannot be run as one function."""
    signatures = interpreter.get_signature_list()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if not signatures:
        return _by_tensor_name(inputs), _by_tensor_name(outputs)
    key = _DEFAULT_SIGNATURE if _DEFAULT_SIGNATURE in signatures else next(iter(signatures))
    if key != _DEFAULT_SIGNATURE and len(signatures) > 1:
        raise ValueError(f"expected one signature or one called {_DEFAULT_SIGNATURE}, got {sorted(signatures)}")
    # The runner is let go at once: while it lives, the interpreter refuses to be invoked.
    runner = interpreter.get_signature_runner(key)
    named_inputs, named_outputs = runner.get_input_details(), runner.get_output_details()
    whole = _tensor_names(named_inputs.values()) == _tensor_names(inputs)
    if not whole or not _tensor_names(named_outputs.values()) <= _tensor_names(outputs):
        raise ValueError(f"signature {key}: expected the inputs and outputs of the first subgraph")
    return named_inputs, named_outputs


def _tensor_names(details: Any) -> set[tuple[int, str]]:
    return {(int(one["index"]), one["name"]) for one in details}


def _by_tensor_name(details: Sequence[Mapping[str, Any]]) -> Details:
    named = {one["name"].removeprefix(f"{_DEFAULT_SIGNATURE}_").removesuffix(":0"): one for one in details}
    if len(named) != len(details) or "" in named:
        raise ValueError(f"expected tensors of different names, got {[one['name'] for one in details]}")
    return named


def _tensors(details: Details) -> list[Tensor]:
    return [
        tensor(name, _DATATYPES.get(np.dtype(one["dtype"])), np.dtype(one["dtype"]), one["shape_signature"])
        for name, one in details.items()
    ]


def _any_batch(tensors: list[Tensor]) -> list[Tensor]:
    return [Tensor(name=t.name, datatype=t.datatype, shape=[-1, *t.shape[1:]]) for t in tensors]

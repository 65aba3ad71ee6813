"""What passes share to read, write and run an ONNX graph.

Rules that hold here:
- a file is written deterministically: no time, no random name, the order of nodes as it was;
- every node has a name, the same whenever the graph is the same;
- a weight is an initializer: weights in ``Constant`` nodes are moved there first (``tidy``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from edgewise_compiler.data import Array, Data
from edgewise_compiler.errors import CompileError, one_line

Floats = npt.NDArray[np.float32]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BATCH = 64
ITEMS_AT_ONCE_BYTES = 256 * 1024**2
STANDARD = ("", "ai.onnx")


def load(path: Path) -> onnx.ModelProto:
    """Read a model. Raises CompileError (code ``bad-source``)."""
    try:
        return onnx.load_model(str(path))
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise CompileError(f"{path.name}: expected an ONNX model: {one_line(error)}", code="bad-source") from error


def load_ready(path: Path) -> onnx.ModelProto:
    """Read a model, tidied, with the types of its inner tensors. Raises CompileError (code ``bad-source``)."""
    model = load(path)
    tidy(model)
    try:
        ready = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise CompileError(f"shapes cannot be inferred: {one_line(error)}", code="bad-source") from error
    return ready


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model in one file, the same bytes whenever it is the same."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=1)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, then those inside its nodes (``If``, ``Loop``, ``Scan``), depth first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)
            for inner in attribute.graphs:
                yield from graphs(inner)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of inner graphs too."""
    for part in graphs(graph):
        yield from part.node


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """An attribute's value; ``default`` where the node does not have it."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def whole(node: onnx.NodeProto, name: str, default: int) -> int:
    """An attribute that is an integer."""
    value = attribute(node, name, default)
    assert isinstance(value, int)
    return value


def tidy(model: onnx.ModelProto) -> None:
    """Weights in ``Constant`` nodes become initializers, initializers are no inputs, every node has its own name."""
    for graph in graphs(model.graph):
        _constants_to_initializers(graph)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in stored]
    if len(inputs) != len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)  # the first where an initializer need not be an input
    name_nodes(model.graph)


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    outputs = {output.name for output in graph.output}
    kept = []
    for node in graph.node:
        tensor = _constant(node) if node.op_type == "Constant" and node.domain in STANDARD else None
        # An output that is a constant stays one: not every runtime takes an initializer there.
        if tensor is None or node.output[0] in outputs:
            kept.append(node)
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    if len(kept) != len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    value = node.attribute[0]
    if value.name == "value":
        return onnx.TensorProto.FromString(value.t.SerializeToString())
    if value.name in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.array(helper.get_attribute_value(value), dtype=np.float32))
    if value.name in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.array(helper.get_attribute_value(value), dtype=np.int64))
    return None


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name that no other has: its own, else its operator's with a number."""
    seen: set[str] = set()
    count = 0
    for node in nodes(graph):
        if not node.name or node.name in seen:
            while f"{node.op_type}_{count}" in seen:
                count += 1
            node.name = f"{node.op_type}_{count}"
        seen.add(node.name)


def anonymize(model: onnx.ModelProto) -> None:
    """Take out what tools leave behind: documentation, metadata, imports of domains that no node is of."""
    model.doc_string = ""
    model.producer_name, model.producer_version = "", ""
    del model.metadata_props[:]
    for graph in graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for part in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]:
            part.doc_string = ""
            del part.metadata_props[:]
    used = {node.domain for node in nodes(model.graph)} | {
        node.domain for function in model.functions for node in function.node
    }
    imports = [entry for entry in model.opset_import if entry.domain in STANDARD or entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(sorted(imports, key=lambda entry: entry.domain))


def sweep(model: onnx.ModelProto) -> None:
    """Take out nodes whose answers nobody reads, initializers that nobody reads, and what was said of such tensors."""
    graph = model.graph
    while True:
        read = {name for node in nodes(graph) for name in node.input}
        read |= {output.name for part in graphs(graph) for output in part.output}
        live = [node for node in graph.node if any(name in read for name in node.output if name)]
        if len(live) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(live)
    stored = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(stored) != len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(stored)
    known = {name for node in graph.node for name in node.output}
    said = [info for info in graph.value_info if info.name in known]
    if len(said) != len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(said)


def sort(graph: onnx.GraphProto) -> None:
    """Put each node after those whose answers it reads; otherwise the order stays."""
    made = {name for node in graph.node for name in node.output if name}
    ready: set[str] = set()
    waiting, done = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            reads = {name for inner in _reads(node) for name in inner}
            if reads & made <= ready:
                done.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise CompileError("the graph has a cycle: not an ONNX model", code="bad-source")
        waiting = later
    del graph.node[:]
    graph.node.extend(done)


def _reads(node: onnx.NodeProto) -> Iterator[Sequence[str]]:
    yield node.input
    for found in node.attribute:
        if found.type == onnx.AttributeProto.GRAPH:
            for inner in nodes(found.g):
                yield inner.input
            yield [output.name for output in found.g.output]


class Links:
    """Who makes and who reads each tensor of one graph. Made anew after a change."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output if name}
        self.outputs = {output.name for output in graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for names in _reads(node):
                for name in names:
                    if name and node not in self.readers.setdefault(name, []):
                        self.readers[name].append(node)

    def array(self, name: str) -> Array:
        """An initializer's value."""
        value: Array = numpy_helper.to_array(self.weights[name])
        return value

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor; None when others do, or when it is an output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def is_float(self, name: str) -> bool:
        """Is this a float32 initializer?"""
        return name in self.weights and self.weights[name].data_type == TensorProto.FLOAT


def set_array(graph: onnx.GraphProto, name: str, value: Array) -> None:
    """Put a value in an initializer's place, or add it."""
    made = numpy_helper.from_array(np.ascontiguousarray(value), name)
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(made)
            return
    graph.initializer.append(made)


def weighted(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The layers with float weights: those of ``WEIGHTED`` whose second input is a float32 initializer, in order."""
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    return [node for node in graph.node if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in floats]


def out_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of a weight that counts the layer's output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if whole(node, "transB", 0) else 1
    return rank - 1


def session(model: onnx.ModelProto | Path, *, optimized: bool = True, threads: int = 1) -> ort.InferenceSession:
    """A model on onnxruntime. Raises CompileError (code ``cannot-load``)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, with no common base but Exception
        raise CompileError(f"onnxruntime cannot load the model: {one_line(error)}", code="cannot-load") from error


def feeds(opened: ort.InferenceSession, data: Data, batch: int = BATCH) -> Iterator[dict[str, Array]]:
    """Feeds of a session: up to ``batch`` items each where every input's first axis is free, else one."""
    inputs = opened.get_inputs()
    free = all(given.shape and not isinstance(given.shape[0], int) for given in inputs)
    return data.feeds({given.name: len(given.shape) for given in inputs}, batch if free else 1)


def collect(
    model: onnx.ModelProto, tensors: Iterable[str], data: Data, *, batch: int = BATCH, optimized: bool = False
) -> Iterator[dict[str, Array]]:
    """What inner tensors are, feed by feed. Nothing is fused (unless ``optimized``), so that each is as the file says.

    Raises CompileError (codes ``cannot-load``, ``bad-data``).
    """
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    wanted = [name for name in dict.fromkeys(tensors) if name not in {given.name for given in model.graph.input}]
    have = {output.name: output for output in model.graph.output}
    del tapped.graph.output[:]
    tapped.graph.output.extend(have[name] if name in have else onnx.ValueInfoProto(name=name) for name in wanted)
    opened = session(tapped, optimized=optimized)
    passed = [name for name in dict.fromkeys(tensors) if name not in wanted]
    for feed in feeds(opened, data, batch):
        feed = {given.name: feed[given.name] for given in opened.get_inputs()}
        yield dict(zip(wanted, run(opened, wanted, feed), strict=True)) | {name: feed[name] for name in passed}


def run(opened: ort.InferenceSession, names: list[str] | None, feed: Mapping[str, Array]) -> list[Array]:
    """Run once. Raises CompileError (code ``bad-data``)."""
    try:
        answers: list[Array] = opened.run(names, dict(feed))
    except Exception as error:  # as in ``session``
        raise CompileError(f"the model fails on calibration data: {one_line(error)}", code="bad-data") from error
    return answers


def signature(model: onnx.ModelProto) -> tuple[list[tuple[str, int, int]], list[tuple[str, int]]]:
    """(name, type, rank) of the inputs, (name, type) of the outputs: what every pass keeps."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return (
        [
            (given.name, given.type.tensor_type.elem_type, len(given.type.tensor_type.shape.dim))
            for given in model.graph.input
            if given.name not in stored
        ],
        [(output.name, output.type.tensor_type.elem_type) for output in model.graph.output],
    )


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let every node of a graph, and of those inside it, read other tensors."""
    for part in graphs(graph):
        for node in part.node:
            for index, name in enumerate(node.input):
                if name in names:
                    node.input[index] = names[name]
        for output in part.output:
            if part is not graph and output.name in names:
                output.name = names[output.name]


def fresh(graph: onnx.GraphProto) -> Callable[[str], str]:
    """A giver of names that no tensor has yet: the one asked for, else with a number behind."""
    taken = {tensor.name for part in graphs(graph) for tensor in part.initializer}
    taken |= {name for node in nodes(graph) for name in [*node.input, *node.output]}
    taken |= {given.name for part in graphs(graph) for given in part.input}

    def give(name: str) -> str:
        found, count = name, 1
        while found in taken:
            found, count = f"{name}_{count}", count + 1
        taken.add(found)
        return found

    return give

"""Channels cut out of a graph, with everything that depends on them: dependency groups (DepGraph, Fang et al. 2023).

Rules that hold here:
- this is the only file that knows torch-pruning;
- a group of channels may be cut only where a trial proves it: the cut model answers as the whole one does when what
  reads those channels is zero, in torch and, once written, in onnxruntime;
- outputs keep their shapes; the embedding's may change where that is asked for;
- a model goes in and a model comes out: nothing here holds state.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
import torch_pruning
from torch import Tensor, nn

from edgewise_compiler.errors import Unsupported, one_line
from edgewise_compiler.training.latency import session
from edgewise_compiler.training.onnx_torch import OnnxModule, to_module, write_back
from edgewise_compiler.training.recover import Feeds

Channels = Mapping[str, list[int]]
"""What to cut: by the group's root layer, which of its output channels."""
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (*CONVS, *TRANSPOSED, nn.Linear)

SAME = 1e-3
"""Largest difference, relative to the largest output, in a trial."""


@dataclass(frozen=True)
class Group:
    """Channels that go together. ``root``: the layer they are named after; ``layers``: all whose outputs they are."""

    root: str
    width: int
    layers: tuple[str, ...]


def find_groups(
    model: onnx.ModelProto, example: tuple[Tensor, ...], round_to: int, free: str | None
) -> tuple[list[Group], list[Unsupported]]:
    """Groups that may be cut, and why the others may not. ``free``: the output whose width may change.

    ``example``: inputs of the size that the graph is written for.
    """
    found: list[Group] = []
    refused: list[Unsupported] = []
    module = to_module(model)
    graph = _graph(module, example)
    names = {layer: name for name, layer in module.named_modules()}
    for parts in graph.get_all_groups(root_module_types=WEIGHTED):
        root = parts[0].dep.target.module
        name, width = names[root], graph.get_out_channels(root)
        why = _why_not(parts, width, round_to)
        if why is None:
            why = _trial(model, example, name, list(range(min(round_to, width // 2))), free)
        if why is not None:
            refused.append(Unsupported(node=name, op=type(root).__name__, why=why))
            continue
        layers = {names[part.dep.target.module] for part in parts if _writes(graph, part)}
        found.append(Group(name, width, tuple(sorted(layers))))
    return found, refused


def _why_not(parts: Any, width: int, round_to: int) -> str | None:
    if width <= round_to:
        return f"its {width} channels are no more than {round_to}, the multiple that widths are kept to"
    for part in parts:
        layer = part.dep.target.module
        if isinstance(layer, (*CONVS, *TRANSPOSED)) and layer.groups > 1 and not _depthwise(layer):
            return f"its channels meet a convolution in {layer.groups} groups, which would have to stay equal"
    return None


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, CONVS) and layer.groups == layer.in_channels == layer.out_channels


def _graph(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unknown operations: the trial judges what they come to
        return torch_pruning.DependencyGraph().build_dependency(
            module,
            example,
            output_transform=lambda outputs: [output for output in outputs if output.grad_fn is not None],
            verbose=False,
        )


def _writes(graph: Any, part: Any) -> bool:
    return isinstance(part.dep.target.module, WEIGHTED) and graph.is_out_channel_pruning_fn(part.dep.handler)


def _reads(graph: Any, part: Any) -> bool:
    """Whether a part of a group is the input side of a layer that mixes channels."""
    layer = part.dep.target.module
    if not isinstance(layer, WEIGHTED) or _depthwise(layer):
        return False
    return bool(graph.is_in_channel_pruning_fn(part.dep.handler))


def _axis(layer: nn.Module) -> int:
    """The axis of a weight that runs over the inputs."""
    return 0 if isinstance(layer, TRANSPOSED) else 1


def _group(graph: Any, module: OnnxModule, root: str, channels: list[int]) -> Any:
    """The dependency group of some channels of a layer."""
    layer = module.get_submodule(root)
    return graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, channels)


def _trial(
    model: onnx.ModelProto, example: tuple[Tensor, ...], root: str, channels: list[int], free: str | None
) -> str | None:
    """Why these channels may not be cut; None when the cut model answers as it must."""
    whole = to_module(model)
    graph = _graph(whole, example)
    readers = 0
    group = _group(graph, whole, root, channels)
    with torch.no_grad():
        for part in group:
            if _reads(graph, part):
                layer = part.dep.target.module
                layer.weight.index_fill_(_axis(layer), torch.tensor(sorted(set(part.idxs))), 0.0)
                readers += 1
        if not readers:
            return "no layer with weights reads its channels: they go straight to an output"
        wanted = whole(*example)
    try:
        made = cut(model, example, {root: channels}, free)
        with torch.no_grad():
            given = to_module(made)(*example)
        names = [info.name for info in made.graph.input]
        ran = session(made).run(None, {name: array.numpy() for name, array in zip(names, example, strict=True)})
    except (
        Exception
    ) as error:  # torch, torch-pruning and onnxruntime each raise many classes for shapes that do not fit
        return f"its channels are part of a shape that is fixed in the graph ({one_line(error, 120)})"
    for info, want, got, written in zip(model.graph.output, wanted, given, ran, strict=True):
        if want.shape != got.shape:
            if info.name == free:
                continue
            return f"it would change the shape of output {info.name!r} from {list(want.shape)} to {list(got.shape)}"
        if not _same(want, got):
            return "its channels are computed with each other (normalised, or moved to another axis)"
        if not _same(got, torch.from_numpy(np.asarray(written))):
            return "the cut graph answers otherwise on onnxruntime"
    return None


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(one.abs().max())) if one.numel() else 1.0
    return bool(torch.allclose(one.double(), other.double(), rtol=0, atol=SAME * scale, equal_nan=True))


def cut(
    model: onnx.ModelProto, example: tuple[Tensor, ...], channels: Channels, free: str | None = None
) -> onnx.ModelProto:
    """The model without these channels and all that depends on them. ``example``: its inputs, of any items."""
    module = to_module(model)
    for root, of_root in channels.items():
        _group(_graph(module, example), module, root, of_root).prune()
    made = write_back(module, model)
    if free is not None:
        with torch.no_grad():
            shape = module(*example)[list(module.output_names).index(free)].shape
        for info in made.graph.output:
            if info.name == free and info.type.tensor_type.HasField("shape"):
                info.type.tensor_type.shape.dim[len(shape) - 1].dim_value = shape[-1]
    return made


def widths(module: OnnxModule, groups: list[Group]) -> dict[str, int]:
    """The present width of each group."""
    found = {}
    for group in groups:
        layer = module.get_submodule(group.root)
        assert isinstance(layer, WEIGHTED)
        found[group.root] = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return found


@dataclass(frozen=True)
class Weights:
    """A layer's weight as part of a group. ``axis``: the one that runs over the group's channels; ``channels`` along it
    go with the ``roots`` of the root layer. ``reads``: it takes those channels in (else it makes them)."""

    layer: Any
    axis: int
    channels: Tensor
    roots: Tensor
    reads: bool


def weights_of(module: OnnxModule, groups: list[Group], example: tuple[Tensor, ...]) -> dict[str, list[Weights]]:
    """The weights of each group, by its root; without depthwise convolutions, which only pass channels on."""
    graph = _graph(module, example)
    found: dict[str, list[Weights]] = {}
    for root, width in widths(module, groups).items():
        found[root] = []
        for part in _group(graph, module, root, list(range(width))):
            layer = part.dep.target.module
            reads = _reads(graph, part)
            if reads or (_writes(graph, part) and not _depthwise(layer)):
                axis = _axis(layer) if reads else 1 - _axis(layer)
                at = Weights(layer, axis, torch.tensor(part.idxs), torch.tensor(part.root_idxs), reads)
                found[root].append(at)
    return found


def count_macs(model: onnx.ModelProto, feeds: Feeds) -> int:
    """Multiply-adds of one item in the layers with weights."""
    module = to_module(model)
    rows = np.arange(feeds.chunk or 1, dtype=np.int64)
    found = 0

    def add(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal found
        assert isinstance(layer.weight, Tensor)
        if isinstance(layer, TRANSPOSED):
            found += inputs[0].numel() * layer.weight[0].numel()
        else:
            found += output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(add) for layer in module.modules() if isinstance(layer, WEIGHTED)]
    with torch.no_grad():
        module(*feeds.at(rows))
    for hook in hooks:
        hook.remove()
    return found // len(rows)


def count_parameters(model: onnx.ModelProto) -> int:
    """Elements of the float initializers."""
    return sum(
        int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT
    )

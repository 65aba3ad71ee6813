"""Low-rank adapters on a graph's layers (LoRA, Hu et al. 2021), by peft: merged into the weights, or kept apart.

Kept apart, the graph computes ``base(x) + B(A(x))`` with A and B as inputs that may be left out: they are zero then,
and the graph answers as the base. An adapter file of onnxruntime holds their trained values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from edgewise_compiler.adapter import PREFIX
from edgewise_compiler.training.onnx_torch import OnnxModule, fold, to_module, write_back

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ADAPTER = "default"
MIN_IR = 4
"""The first in which an initializer may be an input too."""


def targets(module: OnnxModule) -> list[str]:
    """Layers that take an adapter: products and convolutions that are not in groups."""
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, CONVS) and layer.groups == 1)
    ]


def adapt(module: OnnxModule, names: list[str], rank: int, alpha: int) -> nn.Module:
    """Put adapters on layers, in place: they alone train. ``A`` is drawn from torch's random numbers, ``B`` is zero."""
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0)
    adapted: nn.Module = inject_adapter_in_model(config, module, ADAPTER)
    for name in names:
        layer = _layer(adapted, name)
        if isinstance(layer.get_base_layer(), CONVS):
            layer.kernel_size = layer.get_base_layer().kernel_size  # what the graph's padding is computed from
    return adapted


def merge(module: nn.Module, names: list[str], model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the adapters of ``module`` added to its weights."""
    fresh = to_module(model)
    with torch.no_grad():
        for name in names:
            weight, adapter = fresh.get_submodule(name).weight, _layer(module, name)
            assert isinstance(weight, Tensor)
            weight += adapter.get_delta_weight(ADAPTER)
    return write_back(fresh, model)


def _layer(module: nn.Module, name: str) -> Any:
    return module.get_submodule(name)


def apart(module: nn.Module, names: list[str], model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """``model`` with inputs for adapters, whose defaults are the trained values; and the bytes of those.

    The scale alpha / rank is in the values of B.
    """
    made = fold(model)
    made.ir_version = max(made.ir_version, MIN_IR)
    graph = made.graph
    base = to_module(model)
    node_of = {
        bound.path.removesuffix(".weight"): bound.node for bound in base.bindings if bound.path.endswith(".weight")
    }
    names_of = {step.node.name: step.node.outputs[0] for step in base.steps}
    makers = {node.output[0]: node for node in graph.node if node.output}
    size = 0
    behind: dict[str, list[onnx.NodeProto]] = {}
    for name in names:
        node = makers[names_of[node_of[name]]]
        adapter = _layer(module, name)
        scale = adapter.scaling[ADAPTER]
        down = adapter.lora_A[ADAPTER].weight.detach().numpy()
        up = adapter.lora_B[ADAPTER].weight.detach().numpy() * np.float32(scale)
        output = node.output[0]
        a, b, inner, low = (f"{PREFIX}{name}/{part}" for part in ("A", "B", "inner", "low"))
        if node.op_type == "Conv":
            same = [attribute for attribute in node.attribute if attribute.name != "group"]
            first = helper.make_node("Conv", [node.input[0], a], [inner], name=inner)
            first.attribute.extend(same)
            second = helper.make_node("Conv", [inner, b], [low], name=low)
        else:
            down, up = down.T, up.T
            first = helper.make_node("MatMul", [node.input[0], a], [inner], name=inner)
            second = helper.make_node("MatMul", [inner, b], [low], name=low)
        node.output[0] = f"{PREFIX}{name}/base"
        total = helper.make_node("Add", [node.output[0], low], [output], name=f"{PREFIX}{name}/add")
        behind[node.output[0]] = [first, second, total]
        for key, value in ((a, down), (b, up)):
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), key))
            size += 4 * value.size
            graph.input.append(helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, value.shape))
    ordered = [part for node in graph.node for part in (node, *behind.get(node.output[0] if node.output else "", ()))]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
    return made, size

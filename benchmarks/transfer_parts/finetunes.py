"""Int8 fine-tunes of a sentence encoder, as a hub would register them one after another; and deltas between them."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from compile_tasks import minilm
from compile_tasks.data import sentences
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgewise_compiler.training import lora
from edgewise_compiler.training.onnx_torch import OnnxModule, fold, to_module, write_back
from edgewise_hub.registry.diff import diff

BATCH, STEPS, TEMPERATURE, MASK_TOKEN, MASKED = 16, 40, 0.05, 103, 0.15


def make(folder: Path) -> dict[str, Path]:
    """``base`` and its fine-tunes ``last layer``, ``LoRA merged`` and ``everything``, each int8, one weight scale a
    channel."""
    folder.mkdir()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    source = fold(onnx.load(minilm()))
    models = {"base": _quantize(source, folder / "base.onnx")}
    for kind, rate in (("last layer", 1e-4), ("LoRA merged", 1e-4), ("everything", 2e-5)):
        models[kind] = _quantize(_tune(source, kind, rate), folder / f"{kind}.onnx")
    return models


def compare(models: dict[str, Path]) -> dict[str, list[tuple[str, int, int]]]:
    """For each fine-tune, by method: (method, bytes of the whole, bytes of the delta)."""
    old = models["base"].read_bytes()
    rows: dict[str, list[tuple[str, int, int]]] = {}
    for kind, path in models.items():
        if kind != "base":
            new = path.read_bytes()
            rows[kind] = [(name, len(new), make_it(old, new)) for name, make_it in _methods().items()]
    return rows


def _methods() -> dict[str, Callable[[bytes, bytes], int]]:
    methods: dict[str, Callable[[bytes, bytes], int]] = {
        "in place (ours)": lambda old, new: len(diff(old, new)),
        "after 1 KiB is put in at the front (ours, aligned)": lambda old, new: len(diff(old, bytes(1024) + new)),
        "in place, xz": lambda old, new: len(lzma.compress(_subtracted(old, new))),
    }
    if find_spec("bsdiff4"):
        methods["bsdiff4"] = lambda old, new: len(__import__("bsdiff4").diff(old, new))
    if find_spec("zstandard"):
        methods["zstd 19, patch from"] = _zstd
    return methods


def _subtracted(old: bytes, new: bytes) -> bytes:
    return (np.frombuffer(new, np.uint8) - np.frombuffer(old, np.uint8)).tobytes()


def _zstd(old: bytes, new: bytes) -> int:
    zstd: Any = __import__("zstandard")
    parameters = zstd.ZstdCompressionParameters.from_level(19, window_log=25, enable_ldm=True)
    dictionary = zstd.ZstdCompressionDict(old, dict_type=zstd.DICT_TYPE_RAWCONTENT)
    return len(zstd.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(new))


def _quantize(model: onnx.ModelProto, path: Path) -> Path:
    whole = path.with_suffix(".fp32")
    onnx.save(model, whole)
    quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()
    return path


def _tune(source: onnx.ModelProto, kind: str, rate: float) -> onnx.ModelProto:
    """Contrastive training of sentences against themselves with words masked (SimCSE, Gao et al. 2021)."""
    module = to_module(source)
    trained: torch.nn.Module = module
    layers = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)]
    if kind == "LoRA merged":
        layers = lora.targets(module)
        trained = lora.adapt(module, layers, 8, 16)
    elif kind == "last layer":
        module.requires_grad_(False)
        module.get_submodule(layers[-1]).requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=rate)
    data, rng = sentences()["train"], np.random.default_rng(0)
    names = [value.name for value in source.graph.input]
    for _ in range(STEPS):
        rows = rng.integers(0, len(data[names[0]]), BATCH)
        first, second = (_embed(trained, names, data, rows, rng) for _ in range(2))
        loss = torch.nn.functional.cross_entropy(first @ second.T / TEMPERATURE, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lora.merge(trained, layers, source) if kind == "LoRA merged" else write_back(_plain(trained), source)


def _plain(module: torch.nn.Module) -> OnnxModule:
    assert isinstance(module, OnnxModule)
    return module


def _embed(module: torch.nn.Module, names: list[str], data: Any, rows: Any, rng: np.random.Generator) -> torch.Tensor:
    inputs = {name: np.array(data[name][rows]) for name in names}
    tokens = inputs["input_ids"]
    masked = rng.random(tokens.shape) < MASKED
    masked[:, 0] = False
    inputs["input_ids"] = np.where(masked & (tokens != 0), MASK_TOKEN, tokens)
    outputs = module(*(torch.from_numpy(inputs[name]) for name in names))
    values = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
    found = [value for value in values if value.is_floating_point()][-1]
    pooled = found.mean(1) if found.ndim == 3 else found
    return torch.nn.functional.normalize(pooled, dim=-1)

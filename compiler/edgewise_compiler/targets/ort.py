"""onnxruntime on Linux (x86-64, arm64), and onnxruntime-web in browsers: ONNX files.

onnxruntime-web's WASM runtime is built from the same kernels; what it lacks is refused here. Its latency is the
browser's: it is not measured here, nor taken from the native runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import onnx

from edgewise.profile import Scheme
from edgewise_compiler.errors import Unsupported
from edgewise_compiler.plan import Step, node
from edgewise_compiler.targets import Ask, Target, chains

SHARES = (1.0, 0.9, 0.7)
"""How much of the weights gets 4 bits, one after another; the smaller matrices, which hurt more for their size, 8."""
STANDARD = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml")


class OnnxRuntime(Target):
    """The CPU execution provider."""

    name = "onnxruntime"
    runtime: ClassVar[str | None] = "onnxruntime"

    def unsupported(self, model: onnx.ModelProto) -> list[Unsupported]:
        """Operators of domains that a plain onnxruntime does not have."""
        return [
            Unsupported(
                node=found.name or found.output[0],
                op=f"{found.domain}.{found.op_type}",
                why="a custom operator: no runtime of a device has it",
                rewrite="export the model with standard operators",
            )
            for found in nodes(model.graph)
            if found.domain not in STANDARD and found.domain not in {f.domain for f in model.functions}
        ]

    def candidates(self, rung: str, ask: Ask) -> Iterator[tuple[str, Step]]:
        """As ``ladder.RUNGS`` names them."""
        for name, step in self._chains(rung, ask):
            yield name, node("strip", model=step)

    def _chains(self, rung: str, ask: Ask) -> Iterator[tuple[str, Step]]:
        from edgewise_compiler.passes.weights import Weights

        base, schemes = chains.optimized(ask), list(ask.profile.quantization.schemes)
        if rung == "fp32":
            yield "fp32, adapter" if ask.techniques.apart else "fp32", base
        if "quantized" in ask.source.traits or ask.techniques.apart:
            return
        fused = node("fuse", model=base)
        if rung == "fp32" and self._fuses(ask):
            yield "fp32, fused", fused
        elif rung == "fp16" and "fp16" in ask.profile.dtypes:
            yield "fp16", node("half", model=base)
        elif rung == "fp16":
            yield "fp16 weights", node("weights", Weights.Config(bits=16), model=base)
        elif rung == "weights":
            yield "int8 weights", node("weights", model=base)
        elif rung == "ptq":
            for scheme in schemes:
                yield scheme, chains.static(ask, scheme)
            for scheme in schemes[:1]:
                yield f"{scheme}, all layers", chains.static(ask, scheme, last_float=False)
                yield f"{scheme}, int8 weights in the rest", node("weights", model=chains.static(ask, scheme))
            if schemes and ask.operators & chains.DYNAMIC:
                yield "dynamic", node("dynamic", model=fused if self._fuses(ask) else base)
        elif rung == "ptq+":
            yield from chains.careful(ask, schemes)
        elif rung == "mixed" and schemes:
            yield from chains.mixed(ask, schemes[0])
        elif rung == "qat":
            for scheme in schemes[:1]:
                yield f"{scheme}, QAT", chains.trained(ask, chains.static(ask, scheme), base)
                whole = chains.static(ask, scheme, last_float=False)
                yield f"{scheme}, all layers, QAT", chains.trained(ask, whole, base)
        elif rung == "4-bit" and "MatMul" in ask.operators:
            for share in SHARES:
                config = Weights.Config(
                    bits=4, form="nbits", share=share, tables=4 if "int4" in ask.profile.dtypes else 8
                )
                yield "4-bit weights" + (f" in {share:.0%}" if share < 1 else ""), node("weights", config, model=base)
        elif rung == "4-bit+":
            yield from self._four_bits(ask, schemes)
        elif rung == "student" and (small := chains.student(ask)) is not None:
            yield "student", small
            for scheme in schemes[:1]:
                yield f"student, {scheme}", chains.static(ask, scheme, of=small)
        elif rung == "prune":
            for speedup in chains.speedups(ask):
                less = chains.pruned(ask, speedup)
                yield f"pruned {speedup:.1f}x", less
                for scheme in schemes[:1]:
                    small = chains.static(ask, scheme, of=less, last_float=False)
                    yield f"pruned {speedup:.1f}x, {scheme}", small
                    yield f"pruned {speedup:.1f}x, {scheme}, QAT", chains.trained(ask, small, less)

    def _fuses(self, ask: Ask) -> bool:
        return "MatMul" in ask.operators and bool(ask.operators & {"Softmax", "LayerNormalization", "Erf"})

    def _four_bits(self, ask: Ask, schemes: Sequence[Scheme]) -> Iterator[tuple[str, Step]]:
        base = chains.optimized(ask)
        for scheme in schemes[:1]:
            whole = chains.static(ask, scheme, last_float=False)
            trained = chains.trained(ask, whole, base, bits=4)
            yield f"{scheme}, 4-bit weights, QAT", trained
            yield "4-bit weights, QAT, computed in float", node("lighten", model=trained)


class OnnxRuntimeWeb(OnnxRuntime):
    """onnxruntime-web: what is compiled for it is checked on the native runtime, and never measured here."""

    name = "onnxruntime-web"
    runtime: ClassVar[str | None] = None

    def unsupported(self, model: onnx.ModelProto) -> list[Unsupported]:
        """Besides: 64-bit inputs cost, and sequence operators are left out of its build."""
        more = [
            Unsupported(
                node=found.name or found.output[0],
                op=found.op_type,
                why="sequences and optionals are not in onnxruntime-web",
                rewrite="use tensors: Concat and Split instead of sequences",
            )
            for found in nodes(model.graph)
            if found.op_type.startswith(("Sequence", "Optional")) or found.op_type == "StringNormalizer"
        ]
        return super().unsupported(model) + more


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of inner graphs too."""
    for found in graph.node:
        yield found
        for attribute in found.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)

"""LiteRT (TensorFlow Lite): phones, small boards. Converted by litert-torch in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import onnx

from edgewise_compiler.errors import Unsupported
from edgewise_compiler.plan import Step, node
from edgewise_compiler.targets import Ask, Target, chains
from edgewise_compiler.toolchains import environment


class LiteRt(Target):
    """The CPU by XNNPACK. Its int8 is its own quantizer's: activations and weights signed."""

    name = "litert"
    kind = "tflite"
    suffix = ".tflite"
    runtime = "litert"

    def missing(self) -> str | None:
        """The runtime, to check what comes out, and the converter's environment."""
        if not any(find_spec(name) for name in ("ai_edge_litert", "tflite_runtime")):
            return "LiteRT is not installed: pip install 'edgewise-agent[litert]'"
        return None if environment.find("litert") else environment.hint("litert")

    def unsupported(self, model: onnx.ModelProto) -> list[Unsupported]:
        """What the importer to torch has no form of."""
        from edgewise_compiler.passes.litert import unsupported

        return unsupported(model)

    def candidates(self, rung: str, ask: Ask) -> Iterator[tuple[str, Step]]:
        """As ``ladder.RUNGS`` names them."""
        from edgewise_compiler.passes.litert import LiteRtQuantize, Mode

        if ask.techniques.apart:
            return
        if ask.original is not None and rung == "fp32":
            yield "litert, as it came", ask.original
        base = chains.optimized(ask)
        integer = "int8" in ask.profile.dtypes and "quantized" not in ask.source.traits
        even = node("equalize", model=base)

        def lowered(mode: Mode, of: Step = base) -> Step:
            return node("litert_quantize", LiteRtQuantize.Config(mode=mode), model=node("litert", model=of))

        if rung == "fp32":
            yield "litert fp32", node("litert", model=base)
        elif not integer:
            return
        elif rung == "fp16":
            yield "litert fp16", lowered("fp16")
        elif rung == "weights":
            yield "litert dynamic int8", lowered("dynamic")
        elif rung == "ptq":
            yield "litert int8", lowered("int8")
        elif rung == "ptq+":
            yield "litert int8, equalized", lowered("int8", even)
            yield "litert int8x16", lowered("int8x16")
        elif rung == "4-bit":
            yield "litert 4-bit weights", lowered("weight4")
        elif rung == "student" and (small := chains.student(ask)) is not None:
            yield "litert student", node("litert", model=small)
            yield "litert student, int8", lowered("int8", small)
        elif rung == "prune":
            for speedup in chains.speedups(ask):
                yield f"litert pruned {speedup:.1f}x, int8", lowered("int8", chains.pruned(ask, speedup))

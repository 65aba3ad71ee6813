"""OpenVINO on x86-64: the same ONNX chains, converted to its own form at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import onnx

from edgewise.profile import Scheme
from edgewise_compiler.errors import Unsupported
from edgewise_compiler.plan import Step, node
from edgewise_compiler.targets import Ask, Target, chains
from edgewise_compiler.targets.ort import nodes


class OpenVino(Target):
    """The CPU plugin. int8 by the same QDQ models, which it fuses on its own."""

    name = "openvino"
    kind = "openvino"
    suffix = ".openvino"
    runtime = "openvino"

    def missing(self) -> str | None:
        """The library."""
        return None if find_spec("openvino") else "openvino is not installed: pip install 'edgewise-agent[openvino]'"

    def unsupported(self, model: onnx.ModelProto) -> list[Unsupported]:
        """Operators of onnxruntime's own. What else its frontend refuses, the conversion says."""
        return [
            Unsupported(
                node=found.name or found.output[0],
                op=f"{found.domain}.{found.op_type}",
                why="not a standard operator: OpenVINO's ONNX frontend has no form of it",
                rewrite="export the model with standard operators",
            )
            for found in nodes(model.graph)
            if found.domain not in ("", "ai.onnx")
        ]

    def candidates(self, rung: str, ask: Ask) -> Iterator[tuple[str, Step]]:
        """As ``ladder.RUNGS`` names them."""
        if ask.techniques.apart:
            return
        base, schemes = chains.optimized(ask), list(ask.profile.quantization.schemes)
        for name, step in self._chains(rung, ask, base, schemes):
            yield name, node("openvino", model=step)

    def _chains(self, rung: str, ask: Ask, base: Step, schemes: Sequence[Scheme]) -> Iterator[tuple[str, Step]]:
        if rung == "fp32":
            yield "openvino fp32", base
        if "quantized" in ask.source.traits:
            return
        if rung == "fp16":
            yield "openvino fp16 weights", node("half", model=base)
        elif rung == "weights":
            yield "openvino int8 weights", node("weights", model=base)
        elif rung == "ptq":
            for scheme in schemes[:1]:
                yield f"openvino {scheme}", chains.static(ask, scheme)
        elif rung == "ptq+":
            for name, step in chains.careful(ask, schemes[:1]):
                yield f"openvino {name}", step
        elif rung == "qat":
            for scheme in schemes[:1]:
                yield f"openvino {scheme}, QAT", chains.trained(ask, chains.static(ask, scheme), base)
        elif rung == "student" and (small := chains.student(ask)) is not None:
            yield "openvino student", small
            for scheme in schemes[:1]:
                yield f"openvino student, {scheme}", chains.static(ask, scheme, of=small)
        elif rung == "prune":
            for speedup in chains.speedups(ask):
                less = chains.pruned(ask, speedup)
                for scheme in schemes[:1]:
                    small = chains.static(ask, scheme, of=less)
                    yield f"openvino pruned {speedup:.1f}x, {scheme}", small
                    yield f"openvino pruned {speedup:.1f}x, {scheme}, QAT", chains.trained(ask, small, less)

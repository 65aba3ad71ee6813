"""ExecuTorch: .pte files for Android and iOS applications, by way of XNNPACK. Converted in an environment of its own.

Its Python runtime imports torch: it is no runtime of the agent's, so a .pte file is checked in the environment that
made it, and its latency is the phone's: not measured here.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgewise_compiler.errors import Unsupported
from edgewise_compiler.plan import Step, node
from edgewise_compiler.targets import Ask, Target, chains
from edgewise_compiler.toolchains import environment


class ExecuTorch(Target):
    """XNNPACK-partitioned programs."""

    name = "executorch"
    kind = "pte"
    suffix = ".pte"

    def missing(self) -> str | None:
        """The converter's environment."""
        return None if environment.find("executorch") else environment.hint("executorch")

    def unsupported(self, model: onnx.ModelProto) -> list[Unsupported]:
        """What the importer to torch has no form of."""
        from edgewise_compiler.passes.litert import unsupported

        return unsupported(model)

    def candidates(self, rung: str, ask: Ask) -> Iterator[tuple[str, Step]]:
        """As ``ladder.RUNGS`` names them."""
        from edgewise_compiler.passes.executorch import ExecuTorch as Convert

        base = chains.optimized(ask)
        if rung == "fp32":
            yield "executorch fp32", node("executorch", Convert.Config(mode="fp32"), model=base)
        elif "quantized" in ask.source.traits or "int8" not in ask.profile.dtypes:
            return
        elif rung == "ptq":
            yield "executorch int8", node("executorch", Convert.Config(mode="int8"), model=base)
        elif rung == "prune":
            for speedup in chains.speedups(ask):
                less = chains.pruned(ask, speedup)
                yield (
                    f"executorch pruned {speedup:.1f}x, int8",
                    node("executorch", Convert.Config(mode="int8"), model=less),
                )

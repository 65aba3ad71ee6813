"""The chains of passes that several targets share, by rung: ONNX in, ONNX out. Pure but for what ``Ask.run`` tells.

What two targets or profiles ask for alike is one node, and is computed once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal

from edgewise.profile import Scheme
from edgewise_compiler.plan import Step, node
from edgewise_compiler.runner import Ok
from edgewise_compiler.targets import Ask

Method = Literal["minmax", "entropy", "percentile"]

DYNAMIC = {"MatMul", "Gemm", "LSTM", "GRU", "Attention"}
EXCLUDE = (1, 2, 4, 8)
"""How many of the most sensitive layers are left in float, one after another."""
CLOSE_DB = 3.0
STUDENT_TIMES = 4
"""A student that has all to learn trains this many times as long as what only recovers."""
MIXED_DB = (30.0, 24.0, 18.0)
"""Signal-to-noise ratios that the integer program may trade against latency."""


def optimized(ask: Ask) -> Step:
    """The source with standard operators only, BatchNorm folded, then masked or fine-tuned where that was asked for.
    An already quantized source stays as it is."""
    if "quantized" in ask.source.traits:
        return ask.source
    base = node("optimize", model=ask.source)
    if (masking := ask.techniques.masking()) is not None:
        base = node("mask", masking, model=base)
    if (adapting := ask.techniques.adapting()) is not None:
        base = node("lora", adapting, model=base)
    return base


def ranges(ask: Ask, method: Method = "minmax", of: Step | None = None) -> Step:
    """Calibration of a float model."""
    from edgewise_compiler.passes.calibrate import Calibrate

    return node("calibrate", Calibrate.Config(method=method), model=of or optimized(ask))


def static(
    ask: Ask,
    scheme: Scheme,
    *,
    method: Method = "minmax",
    of: Step | None = None,
    exclude: tuple[str, ...] = (),
    last_float: bool = True,
) -> Step:
    """Static int8 of a float model. ``last_float``: the last layer stays float, and weights its full size."""
    from edgewise_compiler.passes.quantize import Quantize

    base = of or optimized(ask)
    config = Quantize.Config(
        scheme=scheme, per_channel=ask.profile.quantization.per_channel, exclude=exclude, last_float=last_float
    )
    return node("quantize", config, model=base, ranges=ranges(ask, method, base))


def corrected(quantized: Step, of: Step) -> Step:
    """With bias correction against the float model that it came from."""
    return node("correct", model=quantized, float=of)


def sensitivity(ask: Ask, scheme: Scheme) -> Step:
    """How much each layer hurts when it alone is quantized."""
    from edgewise_compiler.passes.sensitivity import Sensitivity

    config = Sensitivity.Config(scheme=scheme)
    return node("sensitivity", config, model=optimized(ask), ranges=ranges(ask))


def careful(ask: Ask, schemes: Sequence[Scheme]) -> Iterator[tuple[str, Step]]:
    """The rung ``ptq+``: other ranges, equalization, bias correction, then the worst layers left in float."""
    base, even = optimized(ask), node("equalize", model=optimized(ask))
    for scheme in schemes[:2]:
        yield f"{scheme}, bias-corrected", corrected(static(ask, scheme), base)
        yield f"{scheme}, percentile", static(ask, scheme, method="percentile")
        yield f"{scheme}, equalized", static(ask, scheme, of=even)
        yield f"{scheme}, equalized, bias-corrected", corrected(static(ask, scheme, of=even), even)
        yield f"{scheme}, entropy, bias-corrected", corrected(static(ask, scheme, method="entropy"), base)
    for scheme in schemes[:1]:
        worst = _worst(ask, scheme)
        for count in EXCLUDE:
            if count >= len(worst):
                break
            exclude = tuple(sorted(worst[:count]))
            kept = static(ask, scheme, exclude=exclude)
            yield f"{scheme}, bias-corrected, without {count}", corrected(kept, base)


def mixed(ask: Ask, scheme: Scheme) -> Iterator[tuple[str, Step]]:
    """The rung ``mixed``."""
    from edgewise_compiler.passes.layer_latency import LayerLatency
    from edgewise_compiler.passes.mixed import Mixed

    base = optimized(ask)
    speed = node(
        "layer_latency",
        LayerLatency.Config(scheme=scheme, threads=ask.profile.limits.threads),
        model=base,
        ranges=ranges(ask),
    )
    for least in MIXED_DB:
        config = Mixed.Config(scheme=scheme, min_snr_db=least)
        chosen = node(
            "mixed", config, model=base, ranges=ranges(ask), sensitivity=sensitivity(ask, scheme), latency=speed
        )
        yield f"{scheme}, mixed at {least:.0f} dB", chosen


def trained(ask: Ask, quantized: Step, of: Step, bits: int = 8) -> Step:
    """Trained as it is quantized, by distillation from the source (QAT)."""
    from edgewise_compiler.passes.qat import Qat

    how = ask.techniques
    config = Qat.Config(bits=bits, epochs=how.epochs, max_steps=how.steps, loss=how.loss)
    return node("qat", config, model=quantized, float=of, teacher=optimized(ask))


def pruned(ask: Ask, speedup: float) -> Step:
    """Pruned by measured latency, recovered by distillation, optimized again. A raw export writes sizes as operators
    (``Shape``, ``Expand``), across which no channel can be followed: the optimized form is cut."""
    from edgewise_compiler.passes.prune import Prune

    how = ask.techniques
    config = Prune.Config(speedup=speedup, epochs=how.epochs, max_steps=how.steps, loss=how.loss)
    return node("optimize", model=node("prune", config, model=optimized(ask)))


def student(ask: Ask) -> Step | None:
    """The student, taught by the source, optimized; None where there is none. Its batch normalization is not folded
    before it has learned."""
    if ask.student is None:
        return None
    from edgewise_compiler.passes.distill import Distill

    how = ask.techniques
    config = Distill.Config(epochs=STUDENT_TIMES * how.epochs, max_steps=STUDENT_TIMES * how.steps, loss=how.loss)
    return node("optimize", model=node("distill", config, model=ask.student, teacher=optimized(ask)))


def speedups(ask: Ask) -> tuple[float, ...]:
    """How much faster pruning shall make the model: by the budget's latency where int8 does not reach it."""
    ratio = ask.budget.max_latency_ratio or ask.budget.max_size_ratio
    return (1.5, 2.5) if ratio is None else tuple(sorted({1.5, min(4.0, max(1.5, 0.6 / ratio))}))


def _worst(ask: Ask, scheme: Scheme) -> list[str]:
    made = ask.run(sensitivity(ask, scheme))
    if not isinstance(made, Ok):
        return []
    return [layer["node"] for layer in json.loads(made.file.read_text())["layers"]]

"""What the compiler says of a bundle: JSON-able, kept by the hub beside the version, shown to people."""

from __future__ import annotations

import msgspec

from edgewise_compiler.errors import Unsupported


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One item at a time, in milliseconds. ``spread``: half the interquartile range of the rounds' medians, relative.

    ``peak_rss_mb``: the largest resident set of the process that measured, Python and runtime with it.
    """

    p50_ms: float
    p95_ms: float
    spread: float
    peak_rss_mb: float


class CandidateReport(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate that was tried. ``figures``: the metric, fidelity to the source, and all of the recipe's.

    ``price_s``: seconds of work that it took beyond the candidates before it, as it was when it was done. ``lacks``:
    what is missing to meet the budget, in sentences; ``latency``: in the run that compared all of them.
    """

    name: str
    rung: str
    target: str
    size: int
    metric: float
    figures: dict[str, float]
    nonfinite: int
    price_s: float = 0.0
    latency: Latency | None = None
    on_front: bool = False
    lacks: list[str] = []
    notes: list[str] = []


class RungReport(msgspec.Struct, frozen=True, kw_only=True):
    """One rung of the ladder: what it gave, or why it was left out or gave nothing."""

    name: str
    title: str
    price_s: float
    candidates: list[str] = []
    skipped: str | None = None
    refused: list[str] = []
    """Sentences: which pass refused or failed, why, and where the reproducer is."""


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much one layer's quantization costs: the model's SNR in dB when it alone is int8."""

    node: str
    op: str
    snr_db: float


class TargetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One target of the profile. ``missing``: what is not installed; ``unsupported``: nodes that it cannot take."""

    name: str
    missing: str | None = None
    unsupported: list[Unsupported] = []
    ops: int = 0
    """How many operators the model has, for the share that is covered."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``metric``: the figure's name; ``fidelity`` where there was no other. ``metric_before``: the source, in fp32
    (torch where it is torch); ``metric_after``: this bundle; both over the reference. ``size_before``: bytes of the
    source's fp32 ONNX file, optimized. ``latency`` by candidate, or None with ``not_measured`` saying why. ``parity``:
    largest difference between the source and its export; None where the source is ONNX. ``scheme``: the chosen
    candidate's name. ``meets``: does it meet the budget? If not, ``missing`` says what it lacks.
    """

    profile: str
    target: str
    runtime: str
    scheme: str
    rung: str
    metric: str
    metric_before: float
    metric_after: float
    items: int
    size_before: int
    size_after: int
    latency: dict[str, Latency] | None
    not_measured: str | None
    parity: float | None
    notes: list[str]
    candidates: list[CandidateReport]
    rungs: list[RungReport]
    front: list[str]
    layers: list[LayerReport]
    targets: list[TargetReport]
    budget: dict[str, float]
    meets: bool
    missing: list[str]
    unchecked: list[str]
    digests: dict[str, str]
    environment: dict[str, str]
    seconds: float

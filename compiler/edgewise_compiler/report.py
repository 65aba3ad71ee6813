"""What the compiler says of a bundle: JSON-able, kept by the hub beside the version, shown to people."""

from __future__ import annotations

import msgspec


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """One item at a time, in milliseconds. ``spread``: half the interquartile range of the rounds' medians, relative.

    ``peak_rss_mb``: the largest resident set of the process that measured, Python and runtime with it.
    """

    p50_ms: float
    p95_ms: float
    spread: float
    peak_rss_mb: float


class CandidateReport(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate that was tried. ``figures``: all of the recipe's ``evaluate``, or accuracy, or fidelity."""

    name: str
    size: int
    metric: float
    figures: dict[str, float]
    nonfinite: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``metric``: the figure's name; ``fidelity`` is top-1 agreement with the source, where no labels came.

    ``metric_before``: the source, in fp32 (torch where it is torch); ``metric_after``: this bundle; both over the
    reference. ``size_before``: bytes of the fp32 ONNX file. ``latency`` by candidate, or None with ``not_measured``
    saying why. ``parity``: largest difference between torch and ONNX, None for an ONNX source. ``digests`` of what came
    in. ``scheme``: ``fp32``, ``u8s8`` or ``s8s8``.
    """

    profile: str
    runtime: str
    scheme: str
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
    digests: dict[str, str]
    environment: dict[str, str]

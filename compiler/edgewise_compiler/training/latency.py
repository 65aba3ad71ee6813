"""How long onnxruntime takes for models side by side: one item, one thread, in turn, in time of the processor.

Pruning asks it what a narrower layer saves. Only differences are wanted, so the models take turns, and a machine that
slows down slows all of them.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime

from edgewise_compiler.data import Array

LEAST_ROUNDS, MOST_ROUNDS = 9, 60
LEAST_SAMPLE_NS = 400_000
"""One sample of one model runs it as often as fills this: the clock's own cost is small against it."""


@dataclass(frozen=True)
class Timing:
    """``ms``: the rounds' first quartile, since what else runs on the machine only adds to them, and as much to the
    narrower model, which would then look hardly faster. ``noise_ms``: its standard error, from the quartiles."""

    ms: float
    noise_ms: float


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """On the CPU, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def compare(models: Sequence[onnx.ModelProto], feed: Mapping[str, Array], seconds: float) -> list[Timing]:
    """Time each model on one feed, in rounds, for about ``seconds`` in all (and ``LEAST_ROUNDS`` at least)."""
    sessions = [session(model) for model in models]
    given = {name: np.ascontiguousarray(array) for name, array in feed.items()}
    repeats = [_repeats(one, given) for one in sessions]
    times: list[list[float]] = [[] for _ in models]
    end = time.monotonic() + seconds
    for i in range(MOST_ROUNDS):
        if i >= LEAST_ROUNDS and time.monotonic() > end:
            break
        for one, times_of, runs in zip(sessions, times, repeats, strict=True):
            times_of.append(_sample(one, given, runs) / 1e6)
    return [_timing(times_of) for times_of in times]


def _repeats(one: onnxruntime.InferenceSession, given: Mapping[str, Array]) -> int:
    _sample(one, given, 3)
    return max(1, math.ceil(LEAST_SAMPLE_NS / max(1.0, _sample(one, given, 3))))


def _sample(one: onnxruntime.InferenceSession, given: Mapping[str, Array], runs: int) -> float:
    """Nanoseconds a run. With one thread a session computes in the thread that calls."""
    start = time.thread_time_ns()
    for _ in range(runs):
        one.run(None, given)
    return (time.thread_time_ns() - start) / runs


def _timing(times: Sequence[float]) -> Timing:
    low, _, high = statistics.quantiles(times, n=4)
    # Of a normal distribution: sigma = IQR / 1.349, and a quartile's standard error is 1.362 sigma / sqrt(n).
    return Timing(low, 1.362 * (high - low) / 1.349 / math.sqrt(len(times)))

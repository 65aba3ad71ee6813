"""What the drift benchmark's harness says of detectors whose run length, delay and alarms are known."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "drift_parts"))

import harness  # what peers' environments run: it imports none of this project


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    """Numbers below 1 where nothing drifts, 1 to 2 after it."""
    rng = np.random.default_rng(0)
    rest, shifted = rng.random((4000, 1)), 1 + rng.random((500, 1))
    return {"reference": rest, "rest": rest, "shift:more": shifted, "shift:more:confidence": shifted[:, 0]}


def one_in_a_hundred() -> Callable[[np.ndarray], bool]:
    return lambda x: bool(x[0] > 0.99)


def test_run_length_of_a_detector_that_alarms_once_in_a_hundred_items(data: dict[str, np.ndarray]) -> None:
    found = harness.streams(data, one_in_a_hundred, count=200)
    assert 70 < found["run_length"] < 140
    assert found["alarms"] == 200
    assert found["delay"] == {"more": 1.0}


def test_streams_without_an_alarm_count_to_their_end(data: dict[str, np.ndarray]) -> None:
    found = harness.streams(data, lambda: lambda x: False, count=3)
    assert (found["alarms"], found["items"]) == (0, 3 * harness.MOST)
    assert found["delay"] == {"more": harness.LATEST}


def test_delay_counts_from_the_change(data: dict[str, np.ndarray]) -> None:
    def third_beyond_one() -> Callable[[np.ndarray], bool]:
        seen = 0

        def step(x: np.ndarray) -> bool:
            nonlocal seen
            seen += x[0] >= 1
            return seen >= 3

        return step

    assert harness.streams(data, third_beyond_one, count=3)["delay"] == {"more": 3.0}


def test_share_of_windows_that_alarm(data: dict[str, np.ndarray]) -> None:
    level = 0.5 + 1.28 * math.sqrt(1 / 12 / harness.N)  # the mean of N uniform numbers is above it once in ten

    def drifted(many: np.ndarray) -> list[bool]:
        return [bool(window.mean() > level) for window in many]

    found = harness.windows(data, drifted, null=1000, each=5)
    assert 0.06 < found["false_alarms"] < 0.14
    assert found["power"] == {"more": 1.0}

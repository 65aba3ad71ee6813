"""Zero-concentrated differential privacy: what noise costs, and an exact sampler of it. Standard library only.

- The sampler is exact: rational arithmetic on a source of uniform integers, no floats (Canonne, Kamath and Steinke,
  "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, algorithms 1 to 3).
- Noise of variance s^2 on integers that one item changes by at most D in L2 norm costs rho = D^2 / (2 s^2) of
  zero-concentrated privacy (their theorem 14); rho adds up over whatever is published, and gives
  epsilon = rho + 2 sqrt(rho ln(1/delta)) (Bun and Steinke, 2016, proposition 1.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

Below = Callable[[int], int]
"""n -> a uniform integer from 0 to n - 1, from a source that cannot be foreseen."""


def epsilon_of(rho: float, delta: float) -> float:
    """The epsilon that ``rho`` gives at ``delta``."""
    return rho + 2.0 * math.sqrt(rho * math.log(1.0 / delta))


def rho_of(epsilon: float, delta: float) -> float:
    """The largest rho that gives at most ``epsilon`` at ``delta``."""
    log = math.log(1.0 / delta)
    return (math.sqrt(log + epsilon) - math.sqrt(log)) ** 2


def discrete_gaussian(variance: int, below: Below) -> int:
    """An integer x with probability proportional to exp(-x^2 / (2 variance)), exactly."""
    scale = math.isqrt(variance) + 1
    while True:
        found = _discrete_laplace(scale, below)
        if _bernoulli_exp((abs(found) * scale - variance) ** 2, 2 * variance * scale**2, below):
            return found


def _discrete_laplace(scale: int, below: Below) -> int:
    """x with probability proportional to exp(-|x| / scale)."""
    while True:
        rest = below(scale)
        if not _bernoulli_exp(rest, scale, below):
            continue
        whole = 0
        while _bernoulli_exp(1, 1, below):
            whole += 1
        size, negative = rest + scale * whole, below(2)
        if size or not negative:
            return -size if negative else size


def _bernoulli_exp(numerator: int, denominator: int, below: Below) -> bool:
    """True with probability exp(-numerator / denominator)."""
    while numerator > denominator:
        if not _bernoulli_exp(1, 1, below):
            return False
        numerator -= denominator
    tried = 1
    while below(denominator * tried) < numerator:
        tried += 1
    return tried % 2 == 1

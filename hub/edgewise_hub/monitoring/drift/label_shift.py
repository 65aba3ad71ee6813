"""Label shift: how often each class comes now, estimated from predictions alone, and the prior corrected for it.

If only p(Y) changed, the predictions are the reference's confusion matrix times the new prior, C q = p (Lipton, Wang
and Smola, 2018: black-box shift estimation). Inverting C gives negative shares where classes are hard to tell apart, so
the prior is the one of greatest likelihood, by expectation maximization (Saerens, Latinne and Decaestecker, 2002), on
hard predictions. It is an estimate and is marked as such: under any other drift it says how the predictions moved,
not how the labels did. True labels, where they come, are tested as they are (``classes``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewise_hub.monitoring.drift.summary import Counts

STEPS = 500
SMOOTHING = 0.5
"""Added to each cell of the confusion matrix: a class of few labels is not known to be told apart always."""
Z95 = 1.96

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """Shares [K] of each class: now, with a 95% interval from sampling alone, and in the reference."""

    now: Shares
    low: Shares
    high: Shares
    reference: Shares

    @property
    def weights(self) -> Shares:
        """How much more often each class comes: what a prediction's score is multiplied by, before it is normalized."""
        found: Shares = self.now / np.maximum(self.reference, 1e-9)
        return found


def confusion(labels: Counts, predicted: Counts, classes: int) -> Shares:
    """p(predicted | label) [K predicted, K label], from the reference's labels and predictions [m]."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1.0)
    counts += SMOOTHING * (np.eye(classes) + 1.0 / classes) / 2
    found: Shares = counts / counts.sum(axis=0, keepdims=True)
    return found


def estimate(matrix: Shares, reference: Shares, predicted: Counts) -> Prior | None:
    """The prior that explains counts of predicted classes [K] best; None where nothing was predicted.

    ``matrix``: as ``confusion``; ``reference``: the reference's shares of labels [K].
    """
    n = int(predicted.sum())
    if not n:
        return None
    seen = predicted / n
    prior = np.maximum(reference, 1.0 / (n + len(reference)))
    prior = prior / prior.sum()
    for _ in range(STEPS):
        joint = matrix * prior
        posterior = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
        following = seen @ posterior
        if np.abs(following - prior).max() < 1e-9:
            break
        prior = following
    # Observed information of the multinomial mixture, on the simplex: J = n M' diag(1/p) M.
    expected = np.maximum(matrix @ prior, 1e-9)
    information = n * (matrix.T / expected) @ matrix
    spread = np.sqrt(np.maximum(np.diag(np.linalg.pinv(information)) - prior**2 / n, 0.0))
    return Prior(prior, np.maximum(prior - Z95 * spread, 0.0), np.minimum(prior + Z95 * spread, 1.0), reference)

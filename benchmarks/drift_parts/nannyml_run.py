"""NannyML on the same embeddings, in windows as its chunks: ``python nannyml_run.py INPUT.npz OUTPUT.json PEER``.

Its defaults throughout, which state no level: three standard deviations of the reference's own chunks
(reconstruction), one of 64 columns (univariate), AUROC outside .45 to .65 (domain classifier).
"""

from __future__ import annotations

import time
from typing import Any

import harness
import nannyml
import numpy as np
import pandas as pd
from harness import Data, N
from nannyml.drift.multivariate.domain_classifier.calculator import DEFAULT_LGBM_HYPERPARAMS

CHUNK = 500
"""Items a chunk whose accuracy is estimated."""


def _columns(width: int) -> list[str]:
    return [f"e{i}" for i in range(width)]


def _windows(data: Data, calculator: Any, null: int = harness.NULL, each: int = harness.DRIFTED) -> dict[str, Any]:
    """A calculator of chunks of N items: any alert in a chunk is its alarm."""
    names = _columns(data["reference"].shape[1])
    start = time.process_time()
    calculator.fit(pd.DataFrame(data["reference"], columns=names))
    setup = time.process_time() - start

    def drifted(many: Any) -> list[bool]:
        found = calculator.calculate(pd.DataFrame(many.reshape(-1, len(names)), columns=names))
        table = found.filter(period="analysis").to_df()
        alerts = table.loc[:, [column for column in table.columns if column[-1] == "alert"]]
        return [bool(alert) for alert in alerts.any(axis=1)]

    return harness.windows(data, drifted, null, each) | {"setup_s": setup}


def reconstruction(data: Data) -> dict[str, Any]:
    names = _columns(data["reference"].shape[1])
    return _windows(data, nannyml.DataReconstructionDriftCalculator(column_names=names, chunk_size=N))


def univariate(data: Data) -> dict[str, Any]:
    names = _columns(data["reference"].shape[1])
    return _windows(
        data,
        nannyml.UnivariateDriftCalculator(column_names=names, chunk_size=N, continuous_methods=["kolmogorov_smirnov"]),
    )


def domain_classifier(data: Data) -> dict[str, Any]:
    names = _columns(data["reference"].shape[1])
    quiet = {key: value for key, value in DEFAULT_LGBM_HYPERPARAMS.items() if key != "silent"}
    calculator = nannyml.DomainClassifierCalculator(
        feature_column_names=names, chunk_size=N, hyperparameters={**quiet, "n_jobs": 1, "verbosity": -1}
    )
    return _windows(data, calculator, 20, 10)


def cbpe(data: Data) -> dict[str, Any]:
    """``errors``: |estimated - true accuracy| of chunks of CHUNK items in order, by shift."""

    def table(name: str) -> pd.DataFrame:
        scores = data[f"{name}:scores"].astype(np.float64)
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        found = pd.DataFrame(chances, columns=[f"p{i}" for i in range(chances.shape[1])])
        return found.assign(predicted=chances.argmax(axis=1), label=data[f"{name}:labels"])

    reference = table("reference")
    estimator = nannyml.CBPE(
        metrics=["accuracy"],
        y_pred_proba={i: f"p{i}" for i in range(reference.shape[1] - 2)},
        y_pred="predicted",
        y_true="label",
        problem_type="classification_multiclass",
        chunk_size=CHUNK,
    ).fit(reference)
    errors, took, items = {}, 0.0, 0
    for shift in ["rest", *(f"shift:{name}" for name in harness.shifts(data))]:
        found = table(shift)
        found = found.iloc[: len(found) // CHUNK * CHUNK]
        start = time.process_time()
        estimated = estimator.estimate(found.drop(columns="label")).filter(period="analysis").to_df()
        took, items = took + time.process_time() - start, items + len(found)
        right = (found["predicted"] == found["label"]).to_numpy().reshape(-1, CHUNK).mean(axis=1)
        errors[shift.removeprefix("shift:")] = float(np.abs(estimated[("accuracy", "value")] - right).mean())
    return {"errors": errors, "item_us": took / items * 1e6}


PEERS = {
    "NannyML reconstruction": reconstruction,
    "NannyML univariate KS": univariate,
    "NannyML domain classifier": domain_classifier,
    "NannyML CBPE": cbpe,
}

if __name__ == "__main__":
    harness.main(PEERS)

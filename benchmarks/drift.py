"""Drift: Edgewise's tests beside alibi-detect's, Evidently's, NannyML's and River's, on the same embeddings.

Each part is kept as it is done, by the digest of the code that made it (``kept``). Peers live in environments of their
own (``environments``); one that cannot run is named with its error.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from drift_parts import costs, embeddings, fleet, kept, memory_streams, others, ours, pictures, tables, watching
from report import markdown, write

HERE = Path(__file__).parent
CODE = [
    HERE.parent / "hub/edgewise_hub/monitoring/drift",
    HERE.parent / "sdk/edgewise/sketch/histogram.py",
    *(HERE / "drift_parts" / f"{name}.py" for name in ("ours", "watching", "fleet", "memory_streams")),
]
"""What makes Edgewise's own figures, besides the embeddings."""
SIZES = {"mnist": (50, 200), "molecules": (200, 1000)}
"""Items a window, of sets that have more than one size; 200 of the others, and under corruptions."""
LARGEST = 200
"""Where nothing drifts: larger windows of the few items left would be much the same ones."""
SHIFTS = (*others.TOLD, "rotation 5", "dim .7")
"""Of the watch."""
EXPLANATION = (HERE / "drift_parts" / "explanation.md").read_text().strip()


def own() -> dict[str, Any]:
    """Edgewise's figures."""
    every = {name: embeddings.digest(name) for name in embeddings.NAMES}
    code = kept.digest(*CODE)

    def part(name: str, make: Any, of: str = "mnist") -> Any:
        return kept.part(name, f"ours-{code}-{every[of]}", make)

    found: dict[str, Any] = {"false": {}, "power": {}, "corrupted": {}}
    for name in embeddings.NAMES:
        for n in [n for n in SIZES.get(name, (200,)) if n <= LARGEST]:
            found["false"][f"{name}, n = {n}"] = part(
                f"false-{name}-{n}", lambda name=name, n=n: ours.false_alarms(name, n, splits=6, windows=50), name
            )
    for n in (25, 50):
        found["false"][f"watch, {n} in a row of one recording"] = part(
            f"runs-watch-{n}",
            lambda n=n: ours.false_alarms("watch", n, splits=6, windows=50, consecutive=True),
            "watch",
        )
    for phi in (0.5, 0.9, 0.97):
        found["false"][f"memory, phi = {phi}, 200 in a row"] = part(
            f"memory-{phi}", lambda phi=phi: memory_streams.memory(phi)
        )
    for name in embeddings.NAMES:
        for shift in embeddings.shifts(name):
            corrupted = shift.endswith(tables.CORRUPTED)
            for n in (200,) if corrupted else SIZES.get(name, (200,)):
                share = part(
                    f"power-{name}-{shift}-{n}", lambda name=name, shift=shift, n=n: ours.power(name, shift, n), name
                )
                found["corrupted" if corrupted else "power"][name, shift, n] = share
    found["watch"] = part("watch", lambda: watching.measured(watching.online(), SHIFTS))
    found["watch of windows"] = part("watch-windows", lambda: watching.measured(watching.online(50), SHIFTS))
    found["watch as peers"] = part(
        "watch-as-peers", lambda: watching.measured(watching.online(as_the_peers=True), others.TOLD)
    )
    found["panel as peers"] = part("panel-as-peers", lambda: ours.beside_peers(others.TOLD))
    found["accuracy"] = part("accuracy", lambda: ours.accuracy_errors(others.TOLD))
    found["fleet"] = part("fleet", lambda: fleet.fleet(100))
    return found


def main() -> None:
    """Every part, then the tables and the pictures."""
    found, peers = own(), others.everyone()
    scripts = (HERE / "drift_parts" / f"{name}.py" for name in ("costs", "device_run", "online_cost_run"))
    of = kept.digest(*CODE, HERE.parent / "sdk/edgewise/sketch", *scripts)
    rounds = [kept.part(f"cost-{i}", of, costs.once) for i in range(costs.ROUNDS)]
    cost = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    pictures.draw(found, peers)
    columns, rows = tables.main(found, peers)
    further = {
        "Corruptions": tables.corruptions(found["corrupted"]),
        "Cost": tables.costs(cost, peers),
    }
    explanation = EXPLANATION.replace("GOALS", markdown(*tables.goals(found, cost)))
    write("drift", "Drift", explanation, columns, rows, further)


if __name__ == "__main__":
    main()

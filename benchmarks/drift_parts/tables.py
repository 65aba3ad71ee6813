"""The benchmark's figures as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drift_parts import embeddings, others
from drift_parts.costs import REFERENCES, WINDOWS

CORRUPTED = " (imagecorruptions)"
"""How the names of those shifts end."""
SEVERITIES = (1, 2, 3)
FLEET = "fleet of 1,000 devices x 50 items, 1 of 20 groups turned 10 degrees"
END = "1,000 is the end"
DELAYS = {"noise .1": 110, "rotation 10": 115, "shift 2 px": 30}
"""Goals, in items."""
Row = list[Any]
Table = tuple[list[str], list[Row]]


def goals(found: dict[str, Any], cost: dict[str, float]) -> Table:
    """What was promised beside what came."""
    rows: list[Row] = []

    def row(goal: str, measured: str, met: bool) -> None:
        rows.append([goal, measured, "met" if met else "**missed**"])

    for what, memory in (("", False), (", streams with memory", True)):
        shares = {name: share for name, (share, _) in found["false"].items() if name.startswith("memory") == memory}
        outside = [f"{name}: {share:.3g}" for name, share in shares.items() if not 0.03 <= share <= 0.07]
        within = f"{len(shares) - len(outside)} of {len(shares)} within" + (
            f"; {'; '.join(outside)}" if outside else ""
        )
        row(f"false alarms at .05 within [.03, .07]{what}", within, not outside)
    for who, said in (("", found["watch"]), (", the peers' reference", found["watch as peers"])):
        length = said["run_length"]
        row(f"run length within 30% of 1,000{who}", f"{length:,.0f}", 700 <= length <= 1300)
    for shift, most in DELAYS.items():
        late = found["watch"]["delay"][shift]
        row(f"median delay, {shift}, at most {most} items", f"{late:.3g}", late <= most)
    fleet = found["fleet"]
    row("fleet: drifted group named, at least .99", f"{fleet['found']:.3g}", fleet["found"] >= 0.99)
    row("fleet: false discovery rate, at most .10", f"{fleet['fdr']:.3g}", fleet["fdr"] <= 0.10)
    for size in REFERENCES:
        ratio = cost[f"alibi, {size}"] / (cost["device, 32"] + cost["watch, 50"])
        row(
            f"100 times cheaper an item (batches of 32, windows of 50) than MMDDriftOnline of a reference of {size}",
            f"{ratio:.3g} times",
            ratio >= 100,
        )
    return ["goal", "measured", ""], rows


def main(found: dict[str, Any], peers: dict[str, Any]) -> Table:
    """One table: what, of which data, who, the figure."""
    return ["what", "data", "who", "figure", "of"], [*_own(found), *_as_peers(found), *_peers(peers)]


def _own(found: dict[str, Any]) -> Iterator[Row]:
    for what, (share, windows) in found["false"].items():
        yield ["false alarms at .05", what, "Edgewise panel", share, f"{windows} windows"]
    for (name, shift, n), share in found["power"].items():
        what = "alarms, no drift" if "control" in shift else "power at .05"
        right = embeddings.accuracy(name, shift)
        of = "60 windows" + ("" if right is None else f", accuracy {right:.3g}")
        yield [what, f"{name}: {shift}, n = {n}", "Edgewise panel", share, of]
    yield from _over_time("Edgewise watch", found["watch"], "120 streams of up to 2,000")
    yield from _over_time("Edgewise watch, windows of 50", found["watch of windows"], "120 streams of up to 2,000")
    fleet = found["fleet"]
    for key, what in (("found", "drifted group named"), ("right", "named first"), ("fdr", "false discovery rate")):
        yield [what, FLEET, "Edgewise, e-BH", fleet[key], f"{fleet['trials']} fleets"]


def _as_peers(found: dict[str, Any]) -> Iterator[Row]:
    """Edgewise with what peers have."""
    panel = found["panel as peers"] | {"windows": 300}
    yield from _windows("Edgewise panel, the peers' reference", panel)
    yield from _over_time("Edgewise watch, the peers' reference", found["watch as peers"], "120 streams of up to 2,000")
    yield from _accuracy("Edgewise", found["accuracy"])


def _peers(peers: dict[str, Any]) -> Iterator[Row]:
    for peer, said in peers.items():
        if "error" in said:
            yield ["cannot run", "", peer, said["error"], ""]
        if "false_alarms" in said:
            yield from _windows(peer, said)
        if "run_length" in said:
            of = f"{said['alarms']} alarms in {said['items']:,} items"
            each = said.get("each")
            yield from _over_time(peer, said, of + (f"; by reference {_list(each)}" if each else ""))
        if "errors" in said:
            yield from _accuracy(peer, said["errors"])


def _windows(who: str, said: dict[str, Any]) -> Iterator[Row]:
    yield ["false alarms at .05", "mnist, n = 50", who, said["false_alarms"], f"{said['windows']} windows"]
    for shift, share in said["power"].items():
        yield ["power at .05", f"mnist: {shift}, n = 50", who, share, ""]


def _over_time(who: str, said: dict[str, Any], of: str) -> Iterator[Row]:
    length = said["run_length"] if said.get("alarms", 1) else f"over {said['items']:,}"
    yield ["run length, promised 1,000", "mnist", who, length, of]
    for shift, late in said["delay"].items():
        yield ["median delay, items", f"mnist: {shift}", who, "-" if late is None else late, END]


def _accuracy(who: str, errors: dict[str, float]) -> Iterator[Row]:
    for shift, error in errors.items():
        what = "no drift" if shift == "rest" else shift
        yield ["error of the estimated accuracy", f"mnist: {what}", who, error, "chunks of 500"]


def _list(numbers: list[float]) -> str:
    return ", ".join(f"{number:,.0f}" for number in numbers)


def corruptions(shares: dict[tuple[str, str, int], float]) -> Table:
    """Alarms of 60 windows of 200 at each severity, and the net's accuracy there."""
    sets = list(dict.fromkeys(name for name, _, _ in shares))
    kinds = list(dict.fromkeys(shift.removesuffix(CORRUPTED)[:-2] for _, shift, _ in shares))
    columns = [
        "alarms at .05 (accuracy)",
        *(f"{name}, severity {severity}" for name in sets for severity in SEVERITIES),
    ]
    rows = []
    for kind in kinds:
        cells = [(name, f"{kind} {severity}{CORRUPTED}") for name in sets for severity in SEVERITIES]
        told = [f"{shares[name, shift, 200]:.3g} ({embeddings.accuracy(name, shift):.3g})" for name, shift in cells]
        rows.append([kind.replace("_", " "), *told])
    return columns, rows


def costs(cost: dict[str, float], peers: dict[str, Any]) -> Table:
    """CPU and set-up, memory, what a device must send."""
    columns = ["who", "CPU an item, us", "set-up, CPU s", "memory, MB", *(f"bytes, {n} items" for n in WINDOWS)]
    sent = [cost[f"bytes, {n}"] for n in WINDOWS]
    blank = [""] * len(WINDOWS)
    rows: list[Row] = [
        *(
            [
                f"Edgewise device, all sketches, batches of {batch}",
                cost[f"device, {batch}"],
                "",
                cost["device, MB"],
                *sent,
            ]
            for batch in (128, 32, 1)
        ),
        ["Edgewise hub, panel, windows of 50", cost["panel, 50"], "", "", *blank],
        ["Edgewise hub, watch of one device, windows of 50", cost["watch, 50"], "", "", *blank],
        ["Edgewise hub, watch of one device, item by item", cost["watch, 1"], "", "", *blank],
        ["Edgewise watch, item by item, 120 streams at once", cost["watch, many"], "", "", *blank],
        *(
            [
                f"alibi-detect MMDDriftOnline, in the same rounds, reference of {size}",
                cost[f"alibi, {size}"],
                "",
                "",
                *blank,
            ]
            for size in REFERENCES
        ),
    ]
    for peer, said in peers.items():
        if "item_us" in said:
            bytes_sent = [n * others.SENT.get(peer, others.EMBEDDING) for n in WINDOWS]
            rows.append([peer, said["item_us"], said.get("setup_s", ""), said["peak_mb"], *bytes_sent])
    for what, ours in {
        "batches of 128, as a busy agent makes them, watched in windows of 50": cost["device, 128"] + cost["watch, 50"],
        "batches of 32, watched in windows of 50": cost["device, 32"] + cost["watch, 50"],
        "batches of 32, 120 streams watched item by item": cost["device, 32"] + cost["watch, many"],
        "one at a time, one stream watched item by item": cost["device, 1"] + cost["watch, 1"],
    }.items():
        ratios = [f"{cost[f'alibi, {size}'] / ours:.3g} times ({size})" for size in REFERENCES]
        rows.append([f"MMDDriftOnline (its reference) over Edgewise, {what}", " / ".join(ratios), "", "", *blank])
    return columns, rows

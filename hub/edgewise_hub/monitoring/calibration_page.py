"""A calibration as one self-contained page: no scripts, nothing fetched. Pure: the job's result in, HTML out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 320, 180, 40, 28, 10
CSS = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #667; --line: #d5d8dd; --mark: #2458c5; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa3ad; --line: #3a4048; --mark: #7aa7ff; --paper: #15181c } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.plots { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; max-width: 100% }
figcaption { color: var(--soft) } svg { max-width: 100%; height: auto }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.axis { stroke: var(--line) } .due { stroke: var(--soft); stroke-dasharray: 4 3 }
.curve { fill: none; stroke: var(--mark); stroke-width: 2 } .dot { fill: var(--mark) }
.low { color: #b3261e } @media (prefers-color-scheme: dark) { .low { color: #ff9a90 } }
.wide { overflow-x: auto; margin-top: 1.5rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: right;
  border-bottom: 1px solid var(--line) } td:first-child, th:first-child { text-align: left }
"""


def page(result: Mapping[str, Any]) -> str:
    """HTML of a ``calibrate`` job's result."""
    title = f"Drift alarms of {result['model']} version {result['version']}, calibrated on its own reference"
    parts = [_bundle(digest, one) for digest, one in result["bundles"].items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style><h1>{escape(title)}</h1>{''.join(parts)}"
        "<p>Power is the share of spans with the shift that raise an alarm at the policy's level. A move of the "
        "embedding is in the unit in which a verdict shows its effect. All figures are from halves of the "
        "reference.</p></html>"
    )


def _bundle(digest: str, one: Mapping[str, Any]) -> str:
    head = f"<h2>{escape(one['profile'])}, bundle {escape(digest[:12])}</h2>"
    if "error" in one:
        return f'{head}<p class="low">{escape(one["error"])}</p>'
    said = [f"<p>{escape(text)}</p>" for text in one["words"]]
    if not one["enough"]:
        said[-1] = f'<div class="low">{said[-1]}</div>'
    words = "".join(said)
    facts = f"<p>{one['m']:,} items; they depend on each other over {one['block']}; spans of {one['span']}.</p>"
    rate = one["false_alarms"]
    plots = [] if rate is None else [_rate_plot(rate)]
    shifts = dict.fromkeys(point["shift"] for point in one["power"])
    plots += [_power_plot(shift, [p for p in one["power"] if p["shift"] == shift]) for shift in shifts]
    return f'{head}{words}{facts}<div class="plots">{"".join(plots)}</div>{_table(one["power"])}'


def _rate_plot(rate: Mapping[str, Any], due: float = 0.05) -> str:
    most = max(0.15, 1.2 * rate["high"])

    def x(value: float) -> float:
        return float(LEFT + (WIDTH - LEFT - 10) * value / most)

    middle = HEIGHT / 2
    body = (
        f'<line class="due" x1="{x(due):.1f}" x2="{x(due):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<line class="curve" x1="{x(rate["low"]):.1f}" x2="{x(rate["high"]):.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="dot" r="5" cx="{x(rate["rate"]):.1f}" cy="{middle}"/>'
        + _ticks_x([(x(v), f"{v:.0%}") for v in (0.0, due, 0.1) if v <= most])
    )
    told = f"False alarms: {rate['rate']:.1%}, 95% interval {rate['low']:.1%} to {rate['high']:.1%}; due: {due:.0%}"
    return _figure(told, body)


def _power_plot(shift: str, points: list[Mapping[str, Any]]) -> str:
    most = max(point["size"] for point in points)

    def x(value: float) -> float:
        return float(LEFT + (WIDTH - LEFT - 20) * value / most)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value

    line = " ".join(f"{x(p['size']):.1f},{y(p['power']):.1f}" for p in points)
    body = (
        "".join(
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.0%}</text>'
            for v in (0.0, 0.5, 1.0)
        )
        + f'<polyline class="curve" points="{line}"/>'
        + "".join(f'<circle class="dot" r="3.5" cx="{x(p["size"]):.1f}" cy="{y(p["power"]):.1f}"/>' for p in points)
        + _ticks_x([(x(p["size"]), f"{p['size']:g}") for p in points])
    )
    return _figure(f"Power: {shift} ({points[0]['n']} items a span)", body)


def _ticks_x(ticks: Iterable[tuple[float, str]]) -> str:
    """Those that would touch the one before are left out."""
    found, last = [], -100.0
    for at, text in ticks:
        if at - last >= 7 * len(text) + 4:
            found.append(f'<text x="{at:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{text}</text>')
            last = at
    return "".join(found)


def _figure(caption: str, body: str) -> str:
    said = escape(caption)
    return (
        f'<figure><svg role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f"{body}</svg><figcaption>{said}</figcaption></figure>"
    )


def _table(power: Iterable[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(p['shift'])}</td><td>{p['size']:g}</td><td>{p['n']}</td><td>{p['power']:.0%}</td></tr>"
        for p in power
    )
    head = "<tr><th>shift</th><th>size</th><th>items a span</th><th>power</th></tr>"
    return f'<div class="wide"><table>{head}{rows}</table></div>' if rows else ""

"""Pictures of the benchmark's results as SVG, drawn here: bars with their limit."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[2] / "docs" / "benchmarks"
ROW, LEFT, WIDE = 22, 330, 380
INK, MUTED, ACCENT, OTHER, BAD = "#1f2933", "#6b7785", "#2563a8", "#a8b3bf", "#b3261e"


def draw(found: dict[str, Any], peers: dict[str, Any]) -> None:
    """drift-false-alarms.svg, drift-power.svg, drift-delay.svg."""
    bars = [(f"Edgewise: {what}", share, True) for what, (share, _) in found["false"].items()]
    bars.append(("Edgewise, the peers' reference: mnist, n = 50", found["panel as peers"]["false_alarms"], True))
    bars += [
        (f"{peer}: mnist, n = 50", each["false_alarms"], False)
        for peer, each in peers.items()
        if "false_alarms" in each
    ]
    _save("drift-false-alarms", "Undrifted windows that alarm at level .05", bars, 0.05, 1.0)
    bars = []
    for (name, shift, n), share in found["power"].items():
        if name == "mnist" and n == 50:
            bars.append((f"Edgewise: {shift}", share, True))
            bars += _beside("power", shift, found["panel as peers"], peers)
    _save("drift-power", "Drifted windows of 50 items that alarm (MNIST)", bars, None, 1.0)
    bars = []
    for shift, late in found["watch"]["delay"].items():
        bars.append((f"Edgewise: {shift}", late, True))
        bars += _beside("delay", shift, found["watch as peers"], peers)
    title = "Items from the change to the alarm, one false alarm in 1,000 promised (MNIST; 1,000: not seen)"
    _save("drift-delay", title, bars, None, 1000.0)


def _beside(what: str, shift: str, as_peers: dict[str, Any], peers: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """One shift's bars of those that have the peers' reference."""
    everyone = [
        ("Edgewise, the peers' reference", as_peers, True),
        *((peer, each, False) for peer, each in peers.items()),
    ]
    return [
        (f"{who}: {shift}", each[what][shift], own)
        for who, each, own in everyone
        if each.get(what, {}).get(shift) is not None
    ]


def _save(name: str, title: str, bars: list[tuple[str, float, bool]], limit: float | None, most: float) -> None:
    height, width = ROW * len(bars) + 50, LEFT + WIDE + 70
    head = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="22" font-size="14" fill="{INK}">{escape(title)}</text>',
    ]
    for i, (label, value, is_ours) in enumerate(bars):
        y = 36 + ROW * i
        long = max(1.0, WIDE * min(value / most, 1.0))
        ink, fill = (INK, ACCENT) if is_ours else (MUTED, OTHER)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end" fill="{ink}">{escape(label)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y + 3}" width="{long:.1f}" height="{ROW - 7}" fill="{fill}"/>')
        figure = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
        parts.append(f'<text x="{LEFT + long + 6:.1f}" y="{y + 14}" fill="{INK}">{figure}</text>')
    if limit is not None:
        x = LEFT + WIDE * limit / most
        parts.append(f'<line x1="{x}" x2="{x}" y1="34" y2="{height - 12}" stroke="{BAD}" stroke-dasharray="4 3"/>')
    PLACE.joinpath(f"{name}.svg").write_text("\n".join([*parts, "</svg>"]) + "\n")

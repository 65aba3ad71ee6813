"""Pictures of the benchmark's results as SVG, drawn here: bars with their limit."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[2] / "docs" / "benchmarks"
ROW, LEFT, WIDE = 22, 330, 380
INK, MUTED, ACCENT, OTHER, BAD = "#1f2933", "#6b7785", "#2563a8", "#a8b3bf", "#b3261e"


def draw(powers: dict[Any, float], own: Any, others: Any, false: dict[str, Any]) -> None:
    """drift-false-alarms.svg, drift-power.svg, drift-delay.svg."""
    bars = [(f"Edgewise: {what}", share, True) for what, (share, _) in false.items()]
    bars += [
        (f"{peer}: mnist, n = 50", each["false_alarms"], False)
        for peer, each in others.items()
        if "false_alarms" in each
    ]
    _save("drift-false-alarms", "Undrifted windows that alarm at level .05", bars, 0.05, 1.0)
    bars = []
    for (name, shift, n), share in powers.items():
        if name == "mnist" and n == 50:
            bars.append((f"Edgewise: {shift}", share, True))
            bars += [
                (f"{peer}: {shift}", each["power"][shift], False)
                for peer, each in others.items()
                if shift in each.get("power", {})
            ]
    _save("drift-power", "Drifted windows of 50 items that alarm (MNIST)", bars, None, 1.0)
    bars = []
    for shift, late in own["delay"].items():
        bars.append((f"Edgewise: {shift}", late, True))
        bars += [
            (f"{peer}: {shift}", each["delay"][shift], False)
            for peer, each in others.items()
            if each.get("delay", {}).get(shift) is not None
        ]
    _save(
        "drift-delay",
        "Items from the change to the alarm, one false alarm in 1,000 promised (MNIST; 1,000: not seen)",
        bars,
        None,
        1000.0,
    )


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
        parts.append(f'<text x="{LEFT + long + 6:.1f}" y="{y + 14}" fill="{INK}">{value:.3g}</text>')
    if limit is not None:
        x = LEFT + WIDE * limit / most
        parts.append(f'<line x1="{x}" x2="{x}" y1="34" y2="{height - 12}" stroke="{BAD}" stroke-dasharray="4 3"/>')
    PLACE.joinpath(f"{name}.svg").write_text("\n".join([*parts, "</svg>"]) + "\n")

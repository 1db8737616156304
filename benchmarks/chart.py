"""Lines over logarithmic axes as SVG, small panels side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Series = Mapping[str, Mapping[str, float]]
"""name -> x -> y; x as text, as JSON has it."""

_COLOURS = {
    "qfilter native": "#c2410c",
    "qfilter reference": "#eab308",
    "C loop": "#1d4ed8",
    "iptables": "#15803d",
    "nft": "#7e22ce",
    "no queue": "#6b7280",
}
_WIDTH, _HEIGHT = 600, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 34, 46  # on the right stand the names, up to 27 letters


def render(panels: Mapping[str, Series], y_label: str) -> str:
    """One SVG with a panel for each entry, two in a row; what is on x is the entry's key."""
    rows = math.ceil(len(panels) / 2)
    size = f'width="{2 * _WIDTH}" height="{rows * _HEIGHT}" viewBox="0 0 {2 * _WIDTH} {rows * _HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (label, series) in enumerate(panels.items()):
        place = f"translate({number % 2 * _WIDTH},{number // 2 * _HEIGHT})"
        parts += [f'<g transform="{place}">', *_panel(label, y_label, series), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(x_label: str, y_label: str, series: Series) -> list[str]:
    columns = sorted({int(x) for line in series.values() for x in line})
    values = [y for line in series.values() for y in line.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x: int) -> float:
        first, last = math.log10(columns[0]), math.log10(columns[-1])
        return _LEFT + inner_width * (math.log10(x) - first) / ((last - first) or 1)

    def up(y: float) -> float:
        return _TOP + inner_height * (high - math.log10(y)) / ((high - low) or 1)

    parts = [_text(_LEFT, 20, f"{y_label} over {x_label}", weight="bold")]
    for power in range(low, high + 1):
        y = up(10.0**power)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_LEFT + inner_width}" stroke="#e5e7eb"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{10.0**power:,g}", anchor="end"))
    parts += [_text(across(x), _HEIGHT - 24, f"{x:,}", anchor="middle") for x in columns]
    ends = _apart([(up(list(line.values())[-1]), name) for name, line in series.items()])
    for name, line in series.items():
        points = [(across(int(x)), up(y)) for x, y in line.items()]
        parts += _line(points, _colour(name), dashed="," in name)
        parts.append(_text(_LEFT + inner_width + 8, ends[name] + 4, name, colour=_colour(name)))
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    return [line, *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)]


def _apart(ends: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Where the names stand beside the ends of their lines: in order, and never on each other."""
    places: dict[str, float] = {}
    last = -math.inf
    for y, name in sorted(ends):
        last = places[name] = max(y, last + 14)
    return places


def _colour(name: str) -> str:
    return next(colour for start, colour in _COLOURS.items() if name.startswith(start))


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#111827", weight: str = "normal"
) -> str:
    look = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'

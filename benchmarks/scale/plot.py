"""Plots as SVG, with both axes logarithmic. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 30, 44
_FONT = 'font-family="sans-serif" font-size="11"'
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


@dataclass(frozen=True)
class Line:
    """A line through points (x, y), all above 0."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    level: tuple[float, str] | None = None


def draw(panels: Sequence[Panel]) -> str:
    """Return the panels side by side as one SVG document."""
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" {_FONT}>',
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_draw(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _draw(panel: Panel) -> list[str]:
    points = [point for line in panel.lines for point in line.points]
    heights = [y for _, y in points] + ([panel.level[0]] if panel.level else [])
    x_range, y_range = _decades([x for x, _ in points]), _decades(heights)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + _share(x, x_range) * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - _share(y, y_range) * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<text x="{_LEFT}" y="18" font-weight="bold">{panel.title}</text>']
    for power in range(x_range[0], x_range[1] + 1):
        x, bottom = place(10.0**power, 10.0 ** y_range[0])
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{_label(power)}</text>')
    for power in range(y_range[0], y_range[1] + 1):
        x, y = place(10.0 ** x_range[0], 10.0**power)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_label(power)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{HEIGHT - 10}">{panel.x_title}; y: {panel.y_title}</text>')
    if panel.level:
        x, y = place(10.0 ** x_range[0], panel.level[0])
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - _RIGHT}" stroke="black" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="{y - 4:.1f}">{panel.level[1]}</text>')
    for number, line in enumerate(panel.lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _TOP + 12 + 16 * number
        parts.append(f'<text x="{WIDTH - _RIGHT + 8}" y="{y}" fill="{colour}">{line.name}</text>')
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _share(value: float, decades: tuple[int, int]) -> float:
    return (math.log10(value) - decades[0]) / (decades[1] - decades[0])


def _label(power: int) -> str:
    value = 10.0**power
    return f"{value:,.0f}" if power >= 0 else f"{value:g}"

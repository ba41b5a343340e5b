"""Draw compare.py's JSON as SVG bars: CPU time per request of each server, by operation, at 8 connections."""

import json
import pathlib
import sys

TITLE = "CPU time of the server per request, microseconds (8 connections, one core)"
WIDTH, LEFT, BAR, GAP = 760, 150, 16, 14
COLOURS = {"own": "#2a6f97", "constant": "#a0a0a0", "local-kms": "#c9703d", "moto": "#8c564b"}
#: Longer bars are cut: moto's would make all others invisible.
LONGEST_US = 150


def draw(rows):
    """Return the picture; rows are those of compare.py."""
    rows = [row for row in rows if row["connections"] == 8]
    parts, y = [], 34
    for operation in sorted({row["operation"] for row in rows}):
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{operation}</text>')
        y += 10
        for row in (row for row in rows if row["operation"] == operation):
            parts += _draw_bar(row, y)
            y += BAR + 4
        y += GAP + 12
    size = f'width="{WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    title = f'<text x="10" y="16">{TITLE}</text>'
    return "\n".join([head, f'<rect {size} fill="white"/>', title, *parts, "</svg>"]) + "\n"


def _draw_bar(row, y):
    micros = row["cpu_us"]
    length = min(micros, LONGEST_US) / LONGEST_US * (WIDTH - LEFT - 150)
    colour = next(colour for name, colour in COLOURS.items() if row["server"].startswith(name))
    cut = " (cut)" if micros > LONGEST_US else ""
    return [
        f'<text x="{LEFT - 6}" y="{y + BAR - 4}" text-anchor="end">{row["server"]}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="{BAR}" fill="{colour}"/>',
        f'<text x="{LEFT + length + 6:.0f}" y="{y + BAR - 4}">{micros:.0f}{cut}, {row["rate"]:,.0f}/s</text>',
    ]


if __name__ == "__main__":
    source, target = map(pathlib.Path, sys.argv[1:])
    target.write_text(draw(json.loads(source.read_text())["servers"]))

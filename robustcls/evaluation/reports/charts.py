"""Line charts as inline SVG: small, sharp in print, with text that can be selected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from robustcls.runs import write_text

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 44
# Colours that colour-blind readers tell apart (Okabe and Ito, 2008), and dashes for print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07800", "#56b4e9", "#444444")
DASHES = ("none", "7 3", "2 3", "9 3 2 3")

# More points than that make a curve without them.
MOST_DOTS = 20
# Of a chart in a file of its own; in a page the page has it.
_STYLE = (
    "text{font:12px sans-serif;fill:#3d444d}polyline{fill:none;stroke-width:2}"
    "line{stroke:#e4e8ec}.tick{stroke:#8c959f}"
)
_ROW = 18

Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]


def line_chart(
    lines: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[float] | None = None,
    diagonal: bool = False,
    percent: bool = True,
) -> Markup:
    """Returns a figure with a line for each name.

    Args:
        lines: (x, y) points by name, at least one.
        title: what the chart shows; with the values it is the text in the figure's place.
        x_label: below the axis.
        y_label: beside the axis.
        ticks: marks of the x axis; about five round numbers from 0 on if None.
        diagonal: draw the line from (0, 0) to (1, 1).
        percent: y is in [0, 1] and shown in %; else it is >= 0 and shown as it is.
    """
    marks = _drawing(lines, x_label, y_label, ticks, diagonal, percent)
    return Markup(
        '<figure><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>{}</figure>'
    ).format(WIDTH, HEIGHT, _in_words(title, lines, percent), marks, _legend(lines))


def write_chart(
    lines: Mapping[str, Points], path: Path | str, *, title: str, x_label: str, y_label: str
) -> None:
    """Writes a chart as an SVG file, whole or not at all.

    Args:
        lines: as for `line_chart`.
        path: the file.
        title: what the chart shows; with the values it is the text in its place.
        x_label: below the axis, which begins at 0.
        y_label: beside the axis.

    Raises:
        InputError: it cannot be written.
    """
    marks = _drawing(lines, x_label, y_label)
    for number, name in enumerate(lines):
        y = HEIGHT + _ROW * number
        key = Markup('<g transform="translate({} {})">{}</g>')
        marks += key.format(LEFT, y, _key(number)) + _text(LEFT + 36, y + 8, name, "start")
    height = HEIGHT + _ROW * len(lines)
    drawing = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<style>{}</style><rect width="100%" height="100%" fill="#fff"/>{}</svg>\n'
    )
    write_text(path, drawing.format(WIDTH, height, _in_words(title, lines), _STYLE, marks))


def _drawing(
    lines: Mapping[str, Points],
    x_label: str,
    y_label: str,
    ticks: Sequence[float] | None = None,
    diagonal: bool = False,
    percent: bool = True,
) -> Markup:
    """The axes and the lines, in a box of `WIDTH` by `HEIGHT`."""
    values = [x for points in lines.values() for x, _ in points]
    ticks = _round_numbers(max(values)) if ticks is None else ticks
    low, high = min(ticks), max([*ticks, *values])
    high = high if high > low else low + 1
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    if not percent:
        shares = _round_numbers(max(_values(lines)))
    top = max([*shares, *(() if percent else _values(lines))])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        up = y / top
        return round(LEFT + across, 1), round(TOP + (1 - up) * (HEIGHT - TOP - BOTTOM), 1)

    levels = {share: f"{100 * share:.0f}" if percent else f"{share:g}" for share in shares}
    marks = _grid(place, low, high, ticks, levels)
    if diagonal:
        marks += _segment(place(0, 0), place(1, 1), "diagonal")
    for number, points in enumerate(lines.values()):
        marks += _curve([place(x, y) for x, y in points], number)
    middle = (LEFT + WIDTH - RIGHT) / 2
    marks += _text(middle, HEIGHT - 6, x_label)
    height = (TOP + HEIGHT - BOTTOM) / 2
    side = '<text transform="translate(11 {}) rotate(-90)" style="text-anchor: middle">{}</text>'
    marks += Markup(side).format(height, y_label)
    return marks


def _grid(
    place: Place, low: float, high: float, ticks: Sequence[float], levels: Mapping[float, str]
) -> Markup:
    marks = Markup("")
    for level, words in levels.items():
        left, right = place(low, level), place(high, level)
        marks += _segment(left, right, "grid")
        marks += _text(left[0] - 6, left[1] + 4, words, "end")
    for tick in ticks:
        x, y = place(tick, 0)
        marks += _segment((x, y), (x, y + 4), "tick")
        marks += _text(x, y + 17, f"{tick:.6g}")
    return marks


def _curve(points: Sequence[tuple[float, float]], number: int) -> Markup:
    colour, dash = _look(number)
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    marks = Markup('<polyline points="{}" stroke="{}" stroke-dasharray="{}"/>').format(
        path, colour, dash
    )
    for x, y in points if len(points) <= MOST_DOTS else ():
        marks += Markup('<circle cx="{}" cy="{}" r="3" fill="{}"/>').format(x, y, colour)
    return marks


def _segment(start: tuple[float, float], end: tuple[float, float], kind: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(*start, *end, kind)


def _text(x: float, y: float, words: str, anchor: str = "middle") -> Markup:
    return Markup('<text x="{}" y="{}" style="text-anchor: {}">{}</text>').format(
        x, y, anchor, words
    )


def _legend(lines: Mapping[str, Points]) -> Markup:
    entries = Markup("")
    for number, name in enumerate(lines):
        entries += Markup(
            '<li><svg class="key" viewBox="0 0 28 8" aria-hidden="true">{}</svg>{}</li>'
        ).format(_key(number), name)
    return Markup('<figcaption><ul class="legend">{}</ul></figcaption>').format(entries)


def _key(number: int) -> Markup:
    colour, dash = _look(number)
    return Markup('<polyline points="0,4 28,4" stroke="{}" stroke-dasharray="{}"/>').format(
        colour, dash
    )


def _look(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]


def _values(lines: Mapping[str, Points]) -> list[float]:
    return [y for points in lines.values() for _, y in points]


def _in_words(title: str, lines: Mapping[str, Points], percent: bool = True) -> str:
    def value(y: float) -> str:
        return f"{100 * y:.1f} %" if percent else f"{y:.4g}"

    described = [
        f"{name}: " + ", ".join(f"{value(y)} at {x:.3g}" for x, y in points)
        for name, points in lines.items()
    ]
    return f"{title}. " + "; ".join(described)


def _round_numbers(high: float) -> list[float]:
    """Returns multiples of 1, 2 or 5 times a power of ten from 0 to about `high`."""
    if high <= 0:
        return [0.0, 1.0]
    rough = high / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [round(index * step, 12) for index in range(int(high / step * 1.0001) + 1)]

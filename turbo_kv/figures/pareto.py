"""Every method's size against its damage, both on logarithms, as SVG text: drawn in a moment.

Knows names and two numbers a method. Ink is the page's own text colour. Labels that would lie on
each other are moved apart and tied to their points, or left to the pointer; what is exact has no
place on a logarithm and stands on the axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

from turbo_kv.figures.style import PARTS

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 700, 16, 390
BITS = (1.9, 20.0)
BIT_TICKS = (2, 3, 4, 6, 8, 16)
LINE = 14
"""From one label to the next, in the drawing's units as all lengths here."""

LETTER, WIDE = 6.6, 12.5
"""A letter's width, generously, and that of a Chinese one."""

FRONT, BEATEN, PICKED = PARTS["codes"], "#8494a8", PARTS["exact_window"]


@dataclass(frozen=True)
class Dot:
    """One method. best: on the front. picked: one of the two that are compared."""

    name: str
    bits_per_value: float
    kl: float
    best: bool
    picked: bool


class Words(NamedTuple):
    """What the drawing says beside names: both axes, where bf16 lies, and a point's own numbers.

    point names its parts {name}, {bits} and {kl}.
    """

    bits: str
    kl: str
    exact: str
    point: str


def pareto(dots: Sequence[Dot], finding: str, words: Words) -> str:
    """Attention KL (nats) over bits per value, the front as a line, bf16 at its end."""
    exponents = [math.log10(dot.kl) for dot in dots] or [0.0]
    low, high = math.floor(min(exponents) - 0.3), math.ceil(max(exponents) + 0.1)

    def x(bits: float) -> float:
        share = math.log(bits / BITS[0]) / math.log(BITS[1] / BITS[0])
        return LEFT + share * (RIGHT - LEFT)

    def y(kl: float) -> float:
        return BOTTOM - (math.log10(kl) - low) / (high - low) * (BOTTOM - TOP)

    placed = [(dot, x(dot.bits_per_value), y(dot.kl)) for dot in dots]
    best = sorted((px, py) for dot, px, py in placed if dot.best)
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in best)
    return (
        f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg" '
        f'role="img" aria-label="{escape(finding)}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="currentColor">'
        + _axes(x, y, range(low, high + 1), words)
        + f'<polyline points="{line}" fill="none" stroke="{FRONT}" stroke-width="1.5"/>'
        + "".join(_point(dot, px, py, words.point) for dot, px, py in placed)
        + _labels(placed, best)
        + _exact(x(16), words.exact)
        + "</svg>"
    )


def _axes(x, y, decades: range, words: Words) -> str:
    parts = [
        f'<text x="{x(bits):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{bits}</text>'
        f'<path d="M{x(bits):.1f} {TOP}V{BOTTOM}" stroke="currentColor" opacity=".15"/>'
        for bits in BIT_TICKS
    ]
    parts += [
        f'<text x="{LEFT - 8}" y="{y(10.0**decade) + 4:.1f}" text-anchor="end">'
        f"{10.0**decade:g}</text>"
        f'<path d="M{LEFT} {y(10.0**decade):.1f}H{RIGHT}" stroke="currentColor" opacity=".15"/>'
        for decade in decades
    ]
    middle = (TOP + BOTTOM) / 2
    return "".join(parts) + (
        f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="currentColor"/>'
        f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(words.bits)}</text>"
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(words.kl)}</text>"
    )


def _point(dot: Dot, x: float, y: float, words: str) -> str:
    said = words.format(name=dot.name, bits=f"{dot.bits_per_value:.2f}", kl=f"{dot.kl:.2g}")
    title = f"<title>{escape(said)}</title>"
    if dot.picked:
        return f'<path d="M{x:.1f} {y - 8:.1f}l8 8-8 8-8-8z" fill="{PICKED}">{title}</path>'
    fill = FRONT if dot.best else "none"
    stroke = FRONT if dot.best else BEATEN
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="2" pointer-events="all">{title}</circle>'
    )


Box = tuple[float, float, float, float]
"""Left, right, top, bottom."""


def _labels(placed: Sequence[tuple[Dot, float, float]], line: Sequence[tuple[float, float]]) -> str:
    """Names beside their points, first of those compared, then of the front.

    None lies on a point, on the front's line or on another name. A name without room is left out:
    its point says it when pointed at, and so does the table.
    """
    taken: list[Box] = [(x - 8, x + 8, y - 6, y + 6) for _, x, y in placed]
    for (x0, y0), (x1, y1) in pairwise(line):
        shares = [step / 40 for step in range(41)]
        along = [(x0 + share * (x1 - x0), y0 + share * (y1 - y0)) for share in shares]
        taken += [(x - 1, x + 1, y - 1, y + 1) for x, y in along]
    taken.append((RIGHT - 190, RIGHT, BOTTOM - LINE - 4, BOTTOM))
    drawn = []
    for dot, x, y in sorted(placed, key=lambda each: (not each[0].picked, not each[0].best)):
        steps = [way * far for far in range(9 if dot.picked or dot.best else 2) for way in (1, -1)]
        for step, side in ((step, side) for step in steps for side in (1, -1)):
            near = x + side * 14
            ends = sorted((near, near + side * _width(dot.name)))
            place = y - (8 if dot.best else 0) + step * LINE  # beside the front's line, not on it
            box = (*ends, place - LINE / 2, place + LINE / 2)
            if _inside(box) and not any(_meet(box, other) for other in taken):
                taken.append(box)
                drawn.append(_label(dot, x, y, near, place))
                break
    return "".join(drawn)


def _width(name: str) -> float:
    """A name's width, generously: Chinese letters are as wide as high."""
    return sum(LETTER if letter < "⺀" else WIDE for letter in name)


def _inside(box: Box) -> bool:
    left, right, top, bottom = box
    return left >= LEFT and right <= WIDTH and top >= TOP - LINE and bottom <= BOTTOM


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _label(dot: Dot, x: float, y: float, near: float, place: float) -> str:
    side = 1 if near > x else -1
    tie = f'<path d="M{x:.1f} {y:.1f}L{near - 2 * side:.1f} {place:.1f}" stroke="currentColor" '
    weight = ' font-weight="700"' if dot.picked else ""
    anchor = "" if side > 0 else ' text-anchor="end"'
    return (tie + 'opacity=".4"/>' if abs(place - y) > 9 else "") + (
        f'<text x="{near:.1f}" y="{place + 4:.1f}"{anchor}{weight}>{escape(dot.name)}</text>'
    )


def _exact(x: float, words: str) -> str:
    return (
        f'<path d="M{x:.1f} {BOTTOM}l-6-10h12z" fill="{FRONT}"/>'
        f'<text x="{x - 10:.1f}" y="{BOTTOM - 6}" text-anchor="end">{escape(words)}</text>'
    )

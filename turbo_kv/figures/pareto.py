"""Every method's size against its damage, both on logarithms, as SVG text: drawn in a moment.

Knows names and two numbers a method. Ink is the page's own text colour. Labels that would lie on
each other are moved apart and tied to their points, or left to the pointer; what is exact has no
place on a logarithm and stands on the axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from turbo_kv.figures.style import PARTS

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 700, 16, 390
BITS = (1.9, 20.0)
BIT_TICKS = (2, 3, 4, 6, 8, 16)
LINE = 14
"""From one label to the next, in the drawing's units as all lengths here."""

LETTER = 7
"""A letter's width, generously."""

FRONT, BEATEN, PICKED = PARTS["codes"], "#8494a8", PARTS["exact_window"]


@dataclass(frozen=True)
class Dot:
    """One method. best: on the front. picked: one of the two that are compared."""

    name: str
    bits_per_value: float
    kl: float
    best: bool
    picked: bool


def pareto(dots: Sequence[Dot], finding: str) -> str:
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
        + _axes(x, y, range(low, high + 1))
        + f'<polyline points="{line}" fill="none" stroke="{FRONT}" stroke-width="1.5"/>'
        + "".join(_point(dot, px, py) for dot, px, py in placed)
        + _labels(placed)
        + _exact(x(16))
        + "</svg>"
    )


def _axes(x, y, decades: range) -> str:
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
        "bits per value, logarithmic; everything stored counts</text>"
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        "attention KL, nats, logarithmic</text>"
    )


def _point(dot: Dot, x: float, y: float) -> str:
    title = f"<title>{escape(dot.name)}: {dot.bits_per_value:.2f} bits, {dot.kl:.2g} nats</title>"
    if dot.picked:
        return f'<path d="M{x:.1f} {y - 8:.1f}l8 8-8 8-8-8z" fill="{PICKED}">{title}</path>'
    fill = FRONT if dot.best else "none"
    stroke = FRONT if dot.best else BEATEN
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="2" pointer-events="all">{title}</circle>'
    )


def _labels(placed: Sequence[tuple[Dot, float, float]]) -> str:
    """Names to the right of their points, first of those compared, then of the front.

    A name without room is left out: its point says it when pointed at, and so does the table.
    """
    taken: list[tuple[float, float, float]] = []  # left, right, y
    drawn = []
    for dot, x, y in sorted(placed, key=lambda each: (not each[0].picked, not each[0].best)):
        right = x + 14 + LETTER * len(dot.name)
        must = dot.picked or dot.best
        for step in (0, -1, 1, -2, 2, -3, 3, -4, 4) if must else (0, -1, 1):
            place = y - (8 if dot.best else 0) + step * LINE  # beside the front's line, not on it
            if TOP <= place <= BOTTOM and not any(
                x < other_right and other < right and abs(place - other_y) < LINE
                for other, other_right, other_y in taken
            ):
                taken.append((x, right, place))
                drawn.append(_label(dot, x, y, place))
                break
    return "".join(drawn)


def _label(dot: Dot, x: float, y: float, place: float) -> str:
    tie = f'<path d="M{x:.1f} {y:.1f}L{x + 12:.1f} {place:.1f}" stroke="currentColor" '
    weight = ' font-weight="700"' if dot.picked else ""
    return (tie + 'opacity=".4"/>' if abs(place - y) > 9 else "") + (
        f'<text x="{x + 14:.1f}" y="{place + 4:.1f}"{weight}>{escape(dot.name)}</text>'
    )


def _exact(x: float) -> str:
    return (
        f'<path d="M{x:.1f} {BOTTOM}l-6-10h12z" fill="{FRONT}"/>'
        f'<text x="{x - 10:.1f}" y="{BOTTOM - 6}" text-anchor="end">bf16: exact, KL 0</text>'
    )

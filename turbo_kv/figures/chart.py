"""A chart as HTML: shapes in an SVG that stretches, and all text around it as text.

So letters keep their size at any width and everything follows the page's colours. A shape's class
names what it stands for; the style sheet says how that looks. Knows numbers only, no report.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Axis:
    """One axis: its ends, its marks as (value, label), and what it measures with its unit."""

    name: str
    low: float
    high: float
    ticks: Ticks
    log: bool = False

    def place(self, values: float | np.ndarray) -> np.ndarray:
        """Where values lie, 0 at `low` and 100 at `high`; what lies beyond stands at the end."""
        ends = np.array([self.low, self.high], dtype=float)
        values = np.clip(np.asarray(values, dtype=float), *ends)
        if self.log:
            values, ends = np.log(values), np.log(ends)
        return 100 * (values - ends[0]) / (ends[1] - ends[0])


@dataclass(frozen=True)
class Plot:
    """Two axes, and the shapes that can be drawn on them."""

    x: Axis
    y: Axis

    def line(self, xs: Iterable[float], ys: Iterable[float], kind: str) -> str:
        """A line through points."""
        places = zip(self._across(xs), self._down(ys))
        return _path("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in places), f"line {kind}")

    def dots(self, xs: Iterable[float], ys: Iterable[float], kind: str) -> str:
        """A dot at every point."""
        places = zip(self._across(xs), self._down(ys))
        return _path("".join(f"M{x:.2f} {y:.2f}h0" for x, y in places), f"dots {kind}")

    def bars(self, lefts: np.ndarray, rights: np.ndarray, ys: np.ndarray, kind: str) -> str:
        """Bars from the axis to every value."""
        places = zip(self._across(lefts), self._across(rights), self._down(ys))
        shapes = "".join(f"M{a:.2f} 100V{y:.2f}H{b:.2f}V100z" for a, b, y in places)
        return _path(shapes, f"bars {kind}")

    def upright(self, xs: Iterable[float], kind: str) -> str:
        """A line from top to bottom at every value."""
        return _path("".join(f"M{x:.2f} 0V100" for x in self._across(xs)), f"line {kind}")

    def level(self, y: float, kind: str) -> str:
        """A line from side to side."""
        return _path(f"M0 {self._down([y])[0]:.2f}H100", f"line {kind}")

    def label(self, x: float, y: float, text: str, kind: str = "") -> str:
        """Words beside a point, on the side where there is room, or "above" it."""
        left, top = self._across([x])[0], self._down([y])[0]
        side = kind or ("right" if left <= 55 else "left")
        return (
            f'<span class="plot-label {side}" style="left:{left:.2f}%;top:{top:.2f}%">'
            f"{escape(text)}</span>"
        )

    def html(self, title: str, alt: str, shapes: Iterable[str], labels: Iterable[str] = ()) -> str:
        """The chart. `alt` says in words what it shows."""
        levels = "".join(self.level(value, "grid-line") for value, _ in self.y.ticks)
        return (
            f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
            f'<div class="plot" role="img" aria-label="{escape(alt)}">'
            f'<div class="plot-name">{escape(self.y.name)}</div>'
            f'<div class="plot-y">{_ticks(self.y, "top", flip=True)}</div>'
            '<div class="plot-area"><svg viewBox="0 0 100 100" preserveAspectRatio="none" '
            f'aria-hidden="true">{levels}{"".join(shapes)}</svg>{"".join(labels)}</div>'
            f'<div class="plot-x">{_ticks(self.x, "left")}</div>'
            f'<div class="plot-name across">{escape(self.x.name)}</div></div></figure>'
        )

    def _across(self, xs: Iterable[float]) -> np.ndarray:
        return self.x.place(np.asarray(list(xs)))

    def _down(self, ys: Iterable[float]) -> np.ndarray:
        return 100 - self.y.place(np.asarray(list(ys)))


def legend(*entries: tuple[str, str, str]) -> str:
    """What the shapes stand for: (shape, kind, words) each."""
    items = "".join(
        f'<li><i class="key {shape} {kind}"></i>{escape(words)}</li>'
        for shape, kind, words in entries
    )
    return f'<ul class="key-list">{items}</ul>'


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]], unfold: str) -> str:
    """The numbers behind a chart, folded away behind `unfold`; the first column names the row."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<details class="as-table"><summary>{escape(unfold)}</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
        f'<table class="layers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></details>"
    )


def _path(shape: str, kind: str) -> str:
    return f'<path class="{kind}" vector-effect="non-scaling-stroke" d="{shape}"/>'


def _ticks(axis: Axis, edge: str, flip: bool = False) -> str:
    places = [float(axis.place(value)) for value, _ in axis.ticks]
    return "".join(
        f'<span style="{edge}:{100 - place if flip else place:.2f}%">{escape(label)}</span>'
        for place, (_, label) in zip(places, axis.ticks)
    )

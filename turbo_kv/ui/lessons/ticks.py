"""Marks along the lessons' axes: few, round, and zero among them where the axis holds it."""

import math

from turbo_kv.figures.chart import Ticks


def upto(high: float, form: str = "{:g}", steps: int = 5) -> Ticks:
    """Zero and at most so many round steps, none beyond `high`."""
    decade = 10 ** math.floor(math.log10(high))
    for step in (decade * factor for factor in (0.2, 0.25, 0.5, 1, 2, 5)):
        count = math.floor(1.0001 * high / step)
        if count <= steps:
            break
    return [(step * index, form.format(step * index)) for index in range(count + 1)]


def around(reach: float) -> Ticks:
    """From minus to plus `reach`, zero between."""
    return [(-reach, f"−{reach:.2g}"), (0, "0"), (reach, f"{reach:.2g}")]


def layers(count: int) -> Ticks:
    """Every layer, or every so many when there are many."""
    step = math.ceil(count / 12)
    return [(layer, str(layer)) for layer in range(0, count, step)]


def decades(low: int, high: int) -> Ticks:
    """10^low to 10^high, for a logarithmic axis."""
    return [(10.0**power, f"{10.0**power:g}") for power in range(low, high + 1)]

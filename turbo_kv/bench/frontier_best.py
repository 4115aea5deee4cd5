"""What is best at each width, in one line each, from the frontier's result files. Measures nothing.

Ours are held against Lloyd-Max on the same predictions, result by result. Other caches are held
against ours on the first text alone, which has them all: the one of least KL that takes no more
than a bit more.
"""

from collections import Counter
from math import hypot
from typing import Any

MORE = 0.75  # bits
CHOSEN = "query-trellis"  # with 16-bit or 8-bit scales
STRONGEST = "windows"  # the group without which nothing is said of other caches

Found = dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]]  # by group and method


def best(found: list[Found]) -> str:
    """Markdown lines, one for each width of the first result, the names of its groups."""
    widths = dict.fromkeys(group for group, _ in found[0] if group.endswith(" bits"))
    return "".join(f"- {_line(width, found)}\n" for width in widths)


def margin(results: list[dict[str, Any]]) -> str:
    """How far every other cache of no more bits is behind CHOSEN, in one sentence."""
    behind = [
        _times(point, mine)
        for result in results
        for row in (row for row in result["rows"] if row["method"].startswith(CHOSEN))
        for mine in row["points"]
        for other in (row for row in result["rows"] if not row["ours"])
        for point in other["points"]
        if point["context"] == mine["context"] and _no_more(point, mine)
    ]
    if not behind:
        return ""
    factor, stderr = min(behind)
    return (
        f"On every text, at every context and on the twin, another cache of no more bits than "
        f"{CHOSEN} has at least {factor:.1f} ± {stderr:.1f} times its KL ({len(behind)} pairs). "
    )


def exceptions(results: list[dict[str, Any]]) -> str:
    """Where another cache has less KL than all of ours that take no more bits, in one sentence."""
    points, better = 0, Counter()
    for result in results:
        for row in (row for row in result["rows"] if not row["ours"]):
            for point in row["points"]:
                points += 1
                mine = [at for at in _ours(result, point["context"]) if _no_more(at, point)]
                better[row["method"]] += bool(mine) and all(_kl(at) > _kl(point) for at in mine)
    said = (
        f"Of the {points} points of other caches, {better.total()} have less KL than all of ours "
    )
    counts = ", ".join(f"{method} ({count})" for method, count in (+better).items())
    return said + "that take no more bits" + (f": {counts}." if counts else ".")


def _times(point: dict[str, Any], mine: dict[str, Any]) -> tuple[float, float]:
    """KL over ours, and its standard error."""
    theirs, ours = (each["quality"]["kl"] for each in (point, mine))
    factor = theirs["mean"] / ours["mean"]
    return factor, factor * hypot(*(kl["stderr"] / kl["mean"] for kl in (theirs, ours)))


def _ours(result: dict[str, Any], context: int) -> list[dict[str, Any]]:
    rows = (row for row in result["rows"] if row["ours"])
    return [point for row in rows for point in row["points"] if point["context"] == context]


def _no_more(point: dict[str, Any], other: dict[str, Any]) -> bool:
    return point["bits_per_value"] <= other["bits_per_value"]


def _kl(point: dict[str, Any]) -> float:
    return point["quality"]["kl"]["mean"]


def _line(width: str, found: list[Found]) -> str:
    ours = [
        (point["quality"]["kl"]["mean"], key)
        for key, (row, point) in found[0].items()
        if key[0] == width and row["ours"]
    ]
    _, key = min(ours)
    points = [each[key][1] for each in found if key in each]
    ratios = [point["ratio"] for point in points]
    widest = max(point["ratio_stderr"] for point in points)
    said = (
        f"{width}, at {points[0]['bits_per_value']:.2f} a value: {key[1]}, "
        f"{_range(ratios)} of Lloyd-Max's KL (± {widest:.2f} at most)"
    )
    if not any(group == STRONGEST for group, _ in found[0]):
        return said + "."
    others = [(row["method"], point) for row, point in found[0].values() if not row["ours"]]
    mine = points[0]["quality"]["kl"]
    most = points[0]["bits_per_value"] + MORE
    alike = [each for each in others if each[1]["bits_per_value"] <= most]
    if alike:
        name, other = min(alike, key=lambda each: each[1]["quality"]["kl"]["mean"])
        factor, stderr = _times(other, points[0])
        said += (
            f"; on the first text the best other cache of at most {MORE} bits more, {name} at "
            f"{other['bits_per_value']:.2f}, has {factor:.3g} ± {stderr:.1g} times its KL"
        )
    as_good = [each for each in others if each[1]["quality"]["kl"]["mean"] <= mine["mean"]]
    if as_good:
        name, other = min(as_good, key=lambda each: each[1]["bits_per_value"])
        said += f"; the smallest of no more KL, {name}, takes {other['bits_per_value']:.2f}"
    return said + "."


def _range(ratios: list[float]) -> str:
    low, high = (f"{each(ratios):.2f}" for each in (min, max))
    return low if low == high else f"{low} to {high}"

"""What is best at each width, in one line each, from the frontier's result files. Measures nothing.

Ours are held against Lloyd-Max on the same predictions, result by result. In a width's line other
caches are held against ours on the first text alone: the one of least KL that takes no more than a
bit more; then everywhere, against the least KL of ours at no more bits.
"""

from collections import Counter
from math import hypot
from statistics import mean, stdev
from typing import Any

MORE = 0.75  # bits
EXACT = "bf16"  # what a model without a quantized cache keeps
EIGHT = ", 8-bit scales"  # ends the name of what has them
CHOSEN = "query-trellis"  # has its newest tokens in 16 bits in the group STRONGEST
STRONGEST = "windows"  # the group without which nothing is said of other caches

Found = dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]]  # by group and method


def best(found: list[Found]) -> str:
    """Markdown lines, one for each width of the first result, the names of its groups."""
    widths = dict.fromkeys(group for group, _ in found[0] if group.endswith(" bits"))
    return "".join(f"- {_line(width, found)}\n" for width in widths)


def beaten(results: list[dict[str, Any]]) -> str:
    """How other caches fare against the best of ours that takes no more bits, in one sentence."""
    against = [
        (*_times(point, min(mine, key=_kl)), row["method"])
        for result in results
        for row in (row for row in result["rows"] if not row["ours"] and row["method"] != EXACT)
        for point in row["points"]
        if (mine := [at for at in _ours(result, point["context"]) if _no_more(at, point)])
    ]
    if not against:
        return ""
    lost = Counter(method for factor, _, method in against if factor <= 1)
    said = f"Of the {len(against)} points of other caches, {EXACT} apart, "
    if lost:
        counts = ", ".join(f"{method} ({count})" for method, count in lost.items())
        return f"{said}{lost.total()} have no more KL than all of ours of no more bits: {counts}. "
    factor, stderr, method = min(against)
    return (
        f"{said}every one has more KL than one of ours that takes no more bits, at least "
        f"{factor:.1f} ± {stderr:.1f} times ({method}). "
    )


def newest(results: list[dict[str, Any]]) -> str:
    """What the newest tokens in 16 bits leave of the KL of the same codes, in one sentence."""
    left, more = [], []
    for rows in (result["rows"] for result in results):
        last = {(row["group"], row["method"]): row["points"][-1] for row in rows if row["points"]}
        for (group, method), point in last.items():
            name, _, rest = method.partition(", ")
            if (group, name) == (STRONGEST, CHOSEN):
                plain = last[rest.partition(", ")[0], CHOSEN + EIGHT]
                left.append(_kl(point) / _kl(plain))
                more.append(point["bits_per_value"] - plain["bits_per_value"])
    if not left:
        return ""
    return (
        f"The newest tokens in 16 bits leave {_range(left)} of the KL of the same codes, for "
        f"{_range(more)} bits a value more. "
    )


def scales(results: list[dict[str, Any]]) -> str:
    """What scales of 8 bits add to KL, by width and codebook, in one sentence."""
    ratios: dict[str, dict[str, list[float]]] = {}
    for rows in (result["rows"] for result in results):
        points = {(row["group"], row["method"]): row["points"] for row in rows}
        for (group, method), short in points.items():
            plain = method.removesuffix(EIGHT)
            if plain != method and (group, plain) in points:
                of_width = ratios.setdefault(group.partition(",")[0], {}).setdefault(plain, [])
                pairs = zip(short, points[group, plain], strict=True)
                of_width += [_kl(less) / _kl(more) for less, more in pairs]
    if not ratios:
        return ""
    widest = max(_stderr(each) for of_width in ratios.values() for each in of_width.values())
    said = "; ".join(
        f"at {width} " + ", ".join(f"{mean(r) - 1:+.1%} ({name})" for name, r in found.items())
        for width, found in ratios.items()
    )
    return (
        "A byte a scale in place of two changes KL, on average over texts, contexts and rotations, "
        f"{said} (± {widest:.1%} at most). "
    )


def _stderr(numbers: list[float]) -> float:
    return stdev(numbers) / len(numbers) ** 0.5 if len(numbers) > 1 else 0.0


def _times(point: dict[str, Any], mine: dict[str, Any]) -> tuple[float, float]:
    """KL over ours, and its standard error."""
    theirs, ours = (each["quality"]["kl"] for each in (point, mine))
    factor = theirs["mean"] / ours["mean"]
    return factor, factor * hypot(*(kl["stderr"] / kl["mean"] for kl in (theirs, ours)))


def _ours(result: dict[str, Any], context: int) -> list[dict[str, Any]]:
    rows = (row for row in result["rows"] if row["ours"] and "seed" not in row["group"])
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

"""The frontier's picture and table, from the result files. Measures nothing."""

import json
from pathlib import Path
from typing import Any

from turbo_kv.bench.fidelity import TWIN
from turbo_kv.bench.frontier_best import beaten, best, newest, scales
from turbo_kv.bench.live import TEXTS
from turbo_kv.bench.markdown import markdown
from turbo_kv.figures.frontier import Panel, Series, frontier
from turbo_kv.quant.lloyd_max import distortion

REFERENCE = "Lloyd-Max"
REFERENCE_BITS = 3


def read(folder: Path) -> list[dict[str, Any]]:
    """The results that there are: the bundled model's by text, then the twin's."""
    paths = [*(folder / f"fidelity-{short}.json" for short in TEXTS), folder / TWIN]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def draw(folder: Path, picture: Path) -> Path:
    """Draw the longest context of every result into a PNG."""
    figure = frontier([_panel(result, name) for result, name in _named(read(folder))])
    figure.savefig(picture, dpi=110)
    return picture


def rows(result: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every measured method of the first seed with its point at the longest context."""
    return [
        (row, row["points"][-1])
        for row in result["rows"]
        if row["points"] and "seed" not in row["group"]
    ]


def _named(results: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Each result by its text, and by its model where that is another than the first's."""
    first = results[0]["model"]["name"]
    return [
        (each, each["text"]["name"] if each["model"]["name"] == first else "the twin")
        for each in results
    ]


def _panel(result: dict[str, Any], title: str) -> Panel:
    series: dict[str, list[tuple[float, float]]] = {}
    for row, point in rows(result):
        # "KIVI, 2 bits" and "KIVI, 4 bits" are one method at two widths.
        name = ", ".join(part for part in row["method"].split(", ") if not part.endswith(" bits"))
        pair = point["bits_per_value"], point["quality"]["kl"]["mean"]
        series.setdefault(name, []).append(pair)
    (known,) = (
        point["quality"]["kl"]["mean"]
        for row, point in rows(result)
        if (row["group"], row["method"]) == (f"{REFERENCE_BITS} bits", REFERENCE)
    )
    return Panel(
        title=f"{title}, context {result['contexts'][-1]:,}",
        series=[Series(name, *zip(*sorted(pairs))) for name, pairs in series.items()],
        known_kl=known,
        known_distortion=distortion(REFERENCE_BITS, result["model"]["head_dim"]),
    )


def table(folder: Path) -> str:
    """Every method in Markdown: bits and KL of each text, and KL over that of the group's first.

    A cell stays empty where a result has not got the method.
    """
    results = read(folder)
    header = ["stored as", "bits/value"]
    for _, text in _named(results):
        header += [f"KL, {text}", "of Lloyd-Max's", "top-1"]
    found = [
        {(row["group"], row["method"]): (row, at) for row, at in rows(each)} for each in results
    ]
    lines = []
    for key, (row, point) in found[0].items():
        width = f", {row['group']}" if row["group"].endswith(" bits") else ""
        name = row["method"] + width
        cells = [name if row["ours"] else f"_{name}_", f"{point['bits_per_value']:.2f}"]
        for each in found:
            cells += _cells(*each[key]) if key in each else ["", "", ""]
        lines.append(cells)
    twins = [each for each, name in _named(results) if "twin" in name]
    said = (
        f"Predictions from {_half_to_whole(results[0])} tokens, every one of them read back from "
        "its codes, bits counted over everything a cache keeps. KL in nats; the ratio is to "
        "Lloyd-Max with the frozen mean at the same width, on the same predictions, ± one standard "
        "error. Plain TurboQuant is uncentred. Other caches in italics; one that loses nothing is "
        "drawn at the lower edge. "
    )
    for twin in twins:
        said += (
            f"The twin: {_half_to_whole(twin)} tokens of {twin['text']['name']}, head_dim "
            f"{twin['model']['head_dim']}, on which nothing was tuned; the codes take fewer bits "
            "there beside their scales. "
        )
    said += beaten(results) + newest(results) + scales(results)
    said += f"{_measured(results)} {results[0]['stamp']['date'][:10]}."
    return f"{best(found)}\n{markdown(header, lines)}\n{said}\n"


def _measured(results: list[dict[str, Any]]) -> str:
    """On which machines, at which commits."""
    groups: dict[tuple[str, str], set[str]] = {}
    for row in (row for each in results for row in each["rows"]):
        groups.setdefault((row["machine"], row["commit"]), set()).add(row["group"])
    first, *others = groups
    said = [f"On {first[0]} at {first[1]}"]
    said += [f"{', '.join(sorted(groups[each]))} on {each[0]} at {each[1]}" for each in others]
    return "; ".join(said) + ","


def _half_to_whole(result: dict[str, Any]) -> str:
    longest = result["contexts"][-1]
    return f"{longest // 2:,} to {longest:,}"


def _cells(row: dict[str, Any], point: dict[str, Any]) -> list[str]:
    quality = point["quality"]
    return [f"{quality['kl']['mean']:.4f}", _ratio(row, point), f"{quality['top1']:.1%}"]


def _ratio(row: dict[str, Any], point: dict[str, Any]) -> str:
    if not row["group"].endswith(" bits") or not point["ratio_stderr"]:
        return ""
    return f"{point['ratio']:.2f} ± {point['ratio_stderr']:.2f}"

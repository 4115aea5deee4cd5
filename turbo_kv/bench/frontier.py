"""The frontier's picture and table, from the result files. Measures nothing."""

import json
from pathlib import Path
from typing import Any

from turbo_kv.bench.live import TEXTS
from turbo_kv.bench.markdown import markdown
from turbo_kv.figures.frontier import Panel, Series, frontier
from turbo_kv.quant.lloyd_max import distortion

REFERENCE = "Lloyd-Max"
REFERENCE_BITS = 3


def read(folder: Path) -> list[dict[str, Any]]:
    """The results that there are, by text."""
    paths = [folder / f"fidelity-{short}.json" for short in TEXTS]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def draw(folder: Path, picture: Path) -> Path:
    """Draw every text's longest context into a PNG."""
    figure = frontier([_panel(result) for result in read(folder)])
    figure.savefig(picture, dpi=110)
    return picture


def rows(result: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every measured method of the first seed with its point at the longest context."""
    return [
        (row, row["points"][-1])
        for row in result["rows"]
        if row["points"] and "seed" not in row["group"]
    ]


def _panel(result: dict[str, Any]) -> Panel:
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
        title=f"{result['text']['name']}, context {result['contexts'][-1]:,}",
        series=[Series(name, *zip(*sorted(pairs))) for name, pairs in series.items()],
        known_kl=known,
        known_distortion=distortion(REFERENCE_BITS, result["model"]["head_dim"]),
    )


def table(folder: Path) -> str:
    """Every method in Markdown: bits and KL of each text, and KL over that of the group's first."""
    results = read(folder)
    header = ["stored as", "bits/value"]
    for result in results:
        header += [f"KL, {result['text']['name'].lower()}", "of Lloyd-Max's", "top-1"]
    lines = []
    for alike in zip(*map(rows, results), strict=True):
        row, point = alike[0]
        width = f", {row['group']}" if row["group"].endswith(" bits") else ""
        name = row["method"] + width
        cells = [name if row["ours"] else f"_{name}_", f"{point['bits_per_value']:.2f}"]
        for _, each in alike:
            quality = each["quality"]
            cells += [f"{quality['kl']['mean']:.4f}", _ratio(row, each), f"{quality['top1']:.1%}"]
        lines.append(cells)
    contexts = results[0]["contexts"]
    said = (
        f"Predictions from {contexts[-1] // 2:,} to {contexts[-1]:,} tokens, every one of them "
        "read back from its codes, bits counted over everything a cache keeps. KL in nats; the "
        "ratio is to Lloyd-Max with the frozen mean at the same width, on the same predictions, ± "
        "one standard error. Plain TurboQuant is uncentred. Other caches in italics."
    )
    return markdown(header, lines) + "\n" + said + "\n"


def _ratio(row: dict[str, Any], point: dict[str, Any]) -> str:
    if not row["group"].endswith(" bits") or not point["ratio_stderr"]:
        return ""
    return f"{point['ratio']:.2f} ± {point['ratio_stderr']:.2f}"

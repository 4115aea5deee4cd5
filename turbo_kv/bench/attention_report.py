"""What the README shows of the attention benchmark: a table, and speed-up against context.

Reads result files; measures nothing.
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from turbo_kv.bench.attention_ways import fastest
from turbo_kv.bench.markdown import markdown

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # of batches; Okabe and Ito
LIMIT = "#64748b"
SEVEN = {"kv_heads": 4, "groups": 7, "head_dim": 128}


def table(result: dict[str, Any], another: dict[str, Any] | None = None) -> str:
    """Every shape: the best attention on bf16, each way of ours and, on a CPU, of others.

    another: the result of another run, of which speed-ups are shown.
    """
    copy = result.get("copy_bytes_per_second")
    ways = [way for way in result["rows"][0]["ways"] if way["ours"] or not copy]
    names = [way["name"] for way in ways if way["median"] is not None]
    header = ["batch × KV heads × queries × head_dim", "tokens", "best on bf16", "µs"]
    header += [f"{name}, µs" for name in names]
    header += ["GB/s", *(["of a copy"] if copy else []), "speed-up"]
    lines = [_line(row, names, copy) for row in result["rows"]]
    if another is not None:
        header.append("another run")
        ratios = {_shape(row): f"{_ratio(row):.2f}×" for row in another["rows"]}
        for line, row in zip(lines, result["rows"], strict=True):
            line.append(ratios.get(_shape(row), ""))
    missing = {
        way["name"]: way["missing"]
        for row in result["rows"]
        for way in row["ways"]
        if way["missing"]
    }
    return markdown(header, lines) + _caption(result, missing, another)


def _line(row: dict[str, Any], names: list[str], copy: float | None) -> list[str]:
    other, best = fastest(row["ways"], ours=False), fastest(row["ways"], ours=True)
    times = {way["name"]: way["median"] for way in row["ways"]}
    speed = best["nbytes"] / best["median"] * 1e6
    return [
        *_shape(row),
        other["name"],
        f"{other['median']:,.1f}",
        *(f"{times[name]:,.1f}" for name in names),
        f"{speed / 1e9:,.0f}" if speed > 1e10 else f"{speed / 1e9:.1f}",
        *([f"{speed / copy:.0%}"] if copy else []),
        f"{_ratio(row):.2f}×",
    ]


def _shape(row: dict[str, Any]) -> tuple[str, str]:
    heads = f"{row['batch']} × {row['kv_heads']} × {row['groups']} × {row['head_dim']}"
    return heads, f"{row['tokens']:,}"


def _caption(
    result: dict[str, Any], missing: dict[str, str], another: dict[str, Any] | None
) -> str:
    ways = [way for row in result["rows"] for way in row["ways"] if way["median"] is not None]
    spread = max((way["high"] - way["low"]) / way["median"] for way in ways)
    error = max(way["error"] for way in ways if way["ours"])
    copy = result.get("copy_bytes_per_second")
    graphs = "" if copy is None else (
        f" CUDA-graph replay over several layers' caches, centred on their means; a copy reads and "
        f"writes {copy / 1e9:,.0f} GB/s, which reading alone can exceed."
    )  # fmt: skip
    absent = "".join(f" {name}: {reason}." for name, reason in missing.items())
    path = f" Pages by {result['path']}." if "path" in result else ""
    of_another = "" if another is None else f" Another run: {_device(another)}."
    return (
        f"\nMedians; GB/s and speed-up are those of the fastest way of ours; the widest spread "
        f"between 10th and 90th percentile is {spread:.0%}. Random codes: a speed, no model's "
        f"quality. Largest relative error against fp32 on the same bytes {error:.0e}.{graphs}"
        f"{absent}{path} {_device(result)}.{of_another}\n"
    )


def _device(result: dict[str, Any]) -> str:
    stamp = result["stamp"]
    triton = f", Triton {result['triton']}" if "triton" in result else ""
    return (
        f"{result['device']}; turbo_kv {stamp['turbo_kv']} at {stamp['commit']}, torch "
        f"{stamp['torch']}{triton}, {stamp['date'][:10]}"
    )


def speed_up(result: dict[str, Any]) -> Figure:
    """Speed-up over the best bf16 attention against context, a line for each batch of a 7B layer.

    The limit is bf16's bytes over the packed ones: what reading alone could give.
    """
    rows = [row for row in result["rows"] if SEVEN.items() <= row.items()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    batches = sorted({row["batch"] for row in rows})
    for batch, colour in zip(batches, COLOURS, strict=False):
        points = sorted((row["tokens"], _ratio(row)) for row in rows if row["batch"] == batch)
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"batch {batch}")
    limit = max(_limit(row) for row in rows)
    axes.axhline(limit, color=LIMIT, linestyle="--", label=f"fewer bytes alone: {limit:.2f}×")
    axes.axhline(1, color=LIMIT, linewidth=0.8)
    contexts = sorted({row["tokens"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(contexts, [f"{tokens // 1024}K" for tokens in contexts])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens in the cache")
    axes.set_ylabel("times faster than the best on bf16")
    axes.set_title(f"Decode attention of a Qwen2.5-7B layer, 3 bits, {result['device']}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw(result: dict[str, Any], folder: Path) -> Path:
    """Save the figure; returns its path."""
    path = folder / "attention-speed.png"
    speed_up(result).savefig(path, dpi=150)
    return path


def _ratio(row: dict[str, Any]) -> float:
    return fastest(row["ways"], ours=False)["median"] / fastest(row["ways"], ours=True)["median"]


def _limit(row: dict[str, Any]) -> float:
    return fastest(row["ways"], ours=False)["nbytes"] / fastest(row["ways"], ours=True)["nbytes"]

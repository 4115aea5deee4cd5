"""The family's rows as tables, as a Markdown report and as one HTML page with figures.

The page holds everything it shows and asks the network for nothing. Measures nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from turbo_kv.bench.claims import MIB, Claim, claims
from turbo_kv.bench.family import read
from turbo_kv.bench.markdown import Table, html, markdown
from turbo_kv.figures import family as figures

TITLE = "The Qwen2.5 family in 3 bits"
INTRODUCTION = (
    "Keys and values before (bf16) and after, what storing them took, and what it did. Rows of "
    "random weights have a model's exact shapes: their bytes and seconds are real, and they have "
    "no quality to measure. Written by `python -m turbo_kv bench family`."
)
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;"
    "color:#0f172a;background:#fff}table{border-collapse:collapse;font-variant-numeric:"
    "tabular-nums;font-size:.9rem}td,th{padding:.3em .6em;border-top:1px solid #cbd5e1;text-align:"
    "left;vertical-align:top}.scroll{overflow-x:auto}p{color:#475569}figure{margin:2rem 0}"
    "svg{max-width:100%;height:auto}"
)

Row = dict[str, Any]


def write_reports(folder: Path) -> list[Path]:
    """Write family.md, family.html and claims.json from every machine's rows in a folder."""
    rows = read(folder)
    reports = {
        "family.md": as_markdown(rows),
        "family.html": as_html(rows),
        "claims.json": json.dumps(claims_json(rows), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in reports.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in reports]


def tables(rows: list[Row]) -> list[Table]:
    """Everything there is to read, in order; a table without lines is left out."""
    every = [
        claims_table(claims(rows)),
        memory_table(rows),
        cosine_table(rows),
        quality_table(rows),
        missing_table(rows),
    ]
    return [table for table in every if table.lines]


def as_markdown(rows: list[Row]) -> str:
    """The report as Markdown."""
    parts = [f"# {TITLE}\n\n{INTRODUCTION}\n"]
    for table in tables(rows):
        note = f"\n{table.note}\n" if table.note else ""
        parts.append(f"## {table.title}\n\n{markdown(table.header, table.lines, table.left)}{note}")
    return "\n".join(parts)


def as_html(rows: list[Row]) -> str:
    """The report as one page, figures inline as SVG."""
    drawn = ""
    for figure, finding in figures.family(rows):
        said = escape(finding)
        drawn += f"<figure>{figures.svg(figure, finding)}<figcaption>{said}</figcaption></figure>\n"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(TITLE)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>\n'
        f"<h1>{escape(TITLE)}</h1>\n<p>{escape(INTRODUCTION.replace('`', ''))}</p>\n"
        f"{drawn}{''.join(map(html, tables(rows)))}</html>\n"
    )


def claims_table(made: list[Claim]) -> Table:
    """The seed's claims beside what we find."""
    lines = [[claim.claim, claim.ours, claim.how, f"`{claim.command}`"] for claim in made]
    header = ["claimed", "found", "how", "by `python -m turbo_kv`"]
    return Table("Claims", header, lines, left=4)


def summary_table(rows: list[Row]) -> Table:
    """A line a row: bytes, seconds, and the damage where there are weights to have it."""
    lines = [
        [
            *_who(row)[:2],
            row["machine"],
            _who(row)[2],
            f"{row['memory']['before_bytes'] / MIB:.1f} → {row['memory']['after_bytes'] / MIB:.2f}",
            f"{row['seconds']['capture']:.2f}",
            f"{row['seconds']['quantize']:.3f}",
            *(_damage(row) if row["quality"] else ["", "", ""]),
        ]
        for row in _done(rows)
    ]
    header = ["model", "weights", "machine", "tokens", "K and V, MiB", "capture, s", "quantize, s"]
    return Table(
        "The family",
        [*header, "attention KL", "perplexity", "next-token KL"],
        lines,
        f"KL in nats, perplexity as change from exact, ± one standard error. {_provenance(rows)}",
        left=3,
    )


def memory_table(rows: list[Row]) -> Table:
    """Bytes and seconds."""
    lines = [
        [
            row["machine"],
            *_who(row),
            f"{row['memory']['before_bytes'] / MIB:.1f} → {row['memory']['after_bytes'] / MIB:.2f}",
            f"{row['memory']['ratio']:.2f}×",
            f"{row['memory']['bits_per_value']:.3f}",
            f"{row['seconds']['capture']:.2f}",
            f"{row['seconds']['quantize']:.3f}",
            f"{row['peak_bytes'] / MIB:,.0f}",
        ]
        for row in _done(rows)
    ]
    header = ["machine", "model", "weights", "tokens", "K and V, MiB", "smaller", "bits/value"]
    return Table(
        "Memory and time",
        [*header, "capture, s", "quantize, s", "peak, MiB"],
        lines,
        "Bytes of the live cache's storage, scales and means included, against bf16. Capture is "
        "one prefill that keeps all states, quantize their way into the live cache. Peak: of the "
        "whole process on a CPU, of all allocations on a GPU; random weights: one layer at a time. "
        + _provenance(rows),
        left=3,
    )


def cosine_table(rows: Iterable[Row]) -> Table:
    """Cosines of keys and values by every definition."""
    done = [row for row in _done(rows) if row["cosine"]]
    names = list(done[0]["cosine"]["keys"]) if done else []
    lines = [
        [
            row["model"],
            side,
            f"{row['context']:,}",
            *(f"{row['cosine'][side].get(name, float('nan')):.5f}" for name in names),
        ]
        for row in done
        for side in ("keys", "values")
    ]
    return Table(
        "Cosine, by every definition",
        ["model", "side", "tokens", *names],
        lines,
        "What is taken as the vector: the whole cache, each layer, each head's vector of each "
        "token (mean and worst), and the same without the head's constant part.",
        left=2,
    )


def quality_table(rows: Iterable[Row]) -> Table:
    """Attention and next tokens, exact against packed."""
    lines = [
        [
            row["model"],
            f"{row['device']}, {row['dtype']}",
            f"{row['text']['name']} ({row['windows']})",
            f"{row['context']:,}",
            f"{row['attention']['logit_correlation_mean']:.4f}",
            f"{row['attention']['logit_correlation_min']:.3f}",
            f"{row['attention']['kl_mean']:.4f}",
            *_predictions(row["quality"]),
        ]
        for row in _done(rows)
        if row["quality"]
    ]
    header = ["model", "on", "text (windows)", "tokens", "logit correlation", "worst head"]
    header += ["attention KL", "perplexity", "change", "KL", "top-1"]
    return Table(
        "Attention and next tokens",
        header,
        lines,
        "Attention over the last 256 queries; next tokens through the live cache, every token "
        "attending to packed history, in windows of as many tokens, none read twice. KL in nats; "
        "± is one standard error.",
        left=3,
    )


def missing_table(rows: Iterable[Row]) -> Table:
    """What could not be measured, and why; contexts that share a reason share a line."""
    contexts: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["missing"] is not None:
            model, weights, tokens = _who(row)
            place = (row["machine"], model, weights, row["missing"])
            contexts.setdefault(place, []).append(tokens)
    lines = [[*place[:3], "; ".join(tokens), place[3]] for place, tokens in contexts.items()]
    return Table("Not measured", ["machine", "model", "weights", "tokens", "why"], lines, left=5)


def claims_json(rows: list[Row]) -> dict[str, Any]:
    """The claims as the page reads them, and each machine with the stamp of its last row."""
    return {
        "claims": [asdict(claim) for claim in claims(rows)],
        "machines": _last_stamps(rows),
    }


def _done(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["missing"] is None]


def _last_stamps(rows: Iterable[Row]) -> dict[str, Row]:
    """The machines whose rows are measured, each with the stamp of its newest row."""
    rows = sorted(_done(rows), key=lambda row: row["stamp"]["date"])
    return {row["machine"]: row["stamp"] for row in rows}


def _provenance(rows: Iterable[Row]) -> str:
    """With what the rows were measured, a sentence a machine."""
    said = (
        f"{machine}: turbo_kv {stamp['turbo_kv']} at {stamp['commit']}, torch {stamp['torch']}, "
        f"transformers {stamp['transformers']}, {stamp['date'][:10]}."
        for machine, stamp in _last_stamps(rows).items()
    )
    return " ".join(said)


def _who(row: Row) -> list[str]:
    return [row["model"], row["weights"], f"{row['context']:,}"]


def _damage(row: Row) -> list[str]:
    change, kl = row["quality"]["change"], row["quality"]["kl"]
    return [
        f"{row['attention']['kl_mean']:.4f}",
        f"{change['relative']:+.1%} ± {change['stderr']:.1%}",
        f"{kl['mean']:.4f}",
    ]


def _predictions(quality: Row) -> list[str]:
    change, kl = quality["change"], quality["kl"]
    return [
        f"{quality['reference']['perplexity']:.2f} ± {quality['reference']['stderr']:.2f} → "
        f"{quality['quantized']['perplexity']:.2f}",
        f"{change['relative']:+.2%} ± {change['stderr']:.2%}",
        f"{kl['mean']:.4f} ± {kl['stderr']:.4f}",
        f"{quality['top1']:.1%}",
    ]

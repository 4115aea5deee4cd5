"""Tables of the README, written from the result files, so that no figure is copied by hand.

    <!-- results:live -->
    (replaced)
    <!-- /results -->

A table is a function registered by name. Measures nothing.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turbo_kv.bench import (
    attention_report,
    calibration_report,
    family,
    family_report,
    frontier,
    speed_report,
    trellis_report,
)
from turbo_kv.bench.live import TEXTS
from turbo_kv.bench.markdown import markdown
from turbo_kv.bench.stamp import ROOT
from turbo_kv.measure.report import Report
from turbo_kv.models.text import DEFAULT_SOURCE

RESULTS = ROOT / "assets" / "results"
README = ROOT / "README.md"
MIB = 2**20

_MARKED = re.compile(
    r"(?P<open><!-- results:(?P<name>[\w-]+) -->\n)(?P<body>.*?)(?P<close><!-- /results -->)",
    re.DOTALL,
)

Table = Callable[[], str]
TABLES: dict[str, Table] = {}


def results_table(name: str) -> Callable[[Table], Table]:
    """Register a function that returns Markdown under `name`."""

    def register(write: Table) -> Table:
        TABLES[name] = write
        return write

    return register


def table(name: str) -> str:
    """The Markdown of one table. Raises ValueError for a name that nobody registered."""
    if name not in TABLES:
        raise ValueError(f"there is no table {name!r}; choose one of {', '.join(sorted(TABLES))}")
    return TABLES[name]()


def render(text: str) -> str:
    """`text` with the lines between every pair of markers replaced by their table."""
    return _MARKED.sub(lambda found: found["open"] + table(found["name"]) + found["close"], text)


def update(path: Path = README) -> None:
    """Rewrite the tables of a README."""
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


@results_table("live")
def live() -> str:
    """Every way to store a cache: figures of the first measured text, KL of the others beside."""
    names = [f"live-{slug}" for slug in TEXTS]
    main, *others = (read(name) for name in names if (RESULTS / f"{name}.json").exists())
    header = ["stored as", "bits/value", "perplexity", "top-1", "KL, mean", "KL, p99"]
    header += [f"KL, {result['text']['name'].lower()}" for result in others]
    lines = []
    for rows in zip(main["rows"], *(result["rows"] for result in others), strict=True):
        row, quality = rows[0], rows[0]["quality"]
        cells = [row["method"] if row["ours"] else f"_{row['method']}_"]
        if quality is None:
            lines.append([*cells, "not measured: " + row["missing"], *[""] * (len(header) - 2)])
            continue
        lines.append(
            [
                *cells,
                f"{row['bits_per_value']:.2f}",
                f"{quality['change']['relative']:+.1%} ± {quality['change']['stderr']:.1%}",
                f"{quality['top1']:.1%}",
                f"{quality['kl']['mean']:.4f}",
                f"{quality['kl']['p99']:.2f}",
                *(f"{other['quality']['kl']['mean']:.4f}" for other in rows[1:]),
            ]
        )
    exact = main["rows"][0]["quality"]["reference"]
    return markdown(header, lines) + caption(
        main,
        f"Exact perplexity {exact['perplexity']:.2f} ± {exact['stderr']:.2f}. Perplexity is the "
        "change from exact, top-1 the share of strongest next tokens unchanged, KL in nats; ± is "
        "one standard error. What is not coded counts: a side in fp32, the newest in bf16. Other "
        "caches in italics, `axis` as transformers names it: quanto's -1 groups 64 tokens of one "
        "channel, its 0 and HQQ's 1 the 64 values of one vector, HQQ's 0 strides over heads.",
    )


@results_table("scale")
def scale() -> str:
    """Rules for a vector's scale: KL of the first, and how far the others are from it."""
    result = read("scale")
    widths = sorted({row["bits"] for row in result["rows"]})
    rules = list(dict.fromkeys(row["rule"] for row in result["rows"]))
    rows = {(row["rule"], row["bits"]): row for row in result["rows"]}
    lines = [[rule, *(_excess(rows[rule, bits]) for bits in widths)] for rule in rules]
    header = ["scale", *(f"KL at {bits} bits" for bits in widths)]
    return markdown(header, lines) + caption(
        result,
        "KL in nats, the others as differences from the first, ± one standard error of paired "
        "predictions.",
    )


@results_table("centring")
def centring() -> str:
    """The page's first finding: plain codes against centred ones at the same bytes."""
    result = read("precomputed-tiny")
    centred, plain = (Report.from_dict(report) for report in result["reports"])
    last = plain.model.layers - 1

    def figures(report: Report) -> list[str]:
        divergence, correlation = report.grid("attention_kl"), report.grid("logit_correlation")
        return [
            f"{report.bits_per_value:.2f}",
            f"{report.ratio:.2f}×",
            f"{report.grid('key_cosine').mean():.4f}",
            *(f"{divergence[layer].mean():.3g}" for layer in (0, last)),
            *(f"{correlation[layer].min():.3f}" for layer in (0, last)),
        ]

    names = ["bits per value, means included", "smaller than bf16", "key cosine, mean"]
    names += [f"attention KL, {which} layer, nats" for which in ("first", "last")]
    names += [f"worst logit correlation, {which} layer" for which in ("first", "last")]
    lines = [list(line) for line in zip(names, figures(plain), figures(centred), strict=True)]
    header = ["3-bit keys and values", "centring off", "frozen pre-RoPE mean"]
    facts = {"stamp": result["stamp"], **result["reports"][0]}
    said = f"Averages over heads, attention over the last {plain.queries} positions."
    return markdown(header, lines) + caption(facts, said)


@results_table("reliability")
def reliability() -> str:
    """Cases tried and survived, and what must be nothing: answers lost, swapped or leaked."""
    result = read("reliability")
    crowd, hostile, soak = result["crowd"], result["hostile"], result["soak"]
    early, late = soak["memory_bytes"][0], soak["memory_bytes"][-1]
    files = soak["open_files"]
    minutes = soak["seconds"] / 60
    lines = [
        [
            "tests of downloading, loading, memory and clients that leave",
            result["faults"]["tried"],
            result["faults"]["survived"],
        ],
        ["visitors at once, each with its own prompt", crowd["visitors"], crowd["answered"]],
        ["hostile requests", hostile["tried"], hostile["survived"]],
        [f"sessions in {minutes:.0f} minutes", soak["sessions"][-1], soak["sessions"][-1]],
    ]
    lost = crowd["visitors"] - crowd["answered"]
    alive = "alive" if result["alive_at_the_end"] else "down"
    said = (
        f"Answers lost {lost}, another's {crowd['wrong']}, files leaked {hostile['leaked']}; told "
        f"{crowd['full']:,} times that the queue was full, and came back. Over the hostile "
        f"requests the server went from {hostile['memory_before_bytes'] / MIB:,.0f} to "
        f"{hostile['memory_after_bytes'] / MIB:,.0f} MiB; from the first tenth of the sessions to "
        f"the last from {early / MIB:,.0f} to {late / MIB:,.0f} MiB, over their last half by "
        f"{soak['bytes_per_session'] / 1000:+,.1f} kB a session, and from {files[0]} to "
        f"{files[-1]} open files; it was {alive} at the end."
    )
    stamp = result["stamp"]
    what = f"turbo_kv {stamp['turbo_kv']} at {stamp['commit']}, {stamp['cores']} cores"
    table = markdown(["", "tried", "survived"], [[*map(str, line)] for line in lines])
    return f"{table}\n{said} Model tiny; {what}, {stamp['date'][:10]}.\n"


@results_table("decode")
def decode() -> str:
    """Decoding speed and memory of every cache."""
    result = read("decode")
    header = ["cache", "tokens/s", "cache, MiB", "smaller than bf16", "process gained, MiB"]
    lines = [
        [row["method"], "not measured: " + row["missing"], "", "", ""]
        if row["missing"]
        else [
            row["method"],
            f"{row['tokens_per_second']:.1f}",
            f"{row['cache_bytes'] / MIB:.1f}",
            f"{row['ratio']:.2f}×",
            f"{row['process_bytes'] / MIB:.1f}",
        ]
        for row in result["rows"]
    ]
    facts = result | {"tokens": result["rows"][0]["tokens"], "text": {"name": DEFAULT_SOURCE}}
    said = (
        f"Median of the last {result['steps']} steps on {result['stamp']['cores']} cores; what a "
        "process gains holds allocator slack and tables beside the cache."
    )
    return markdown(header, lines) + caption(facts, said)


@results_table("claims")
def claims() -> str:
    """The seed's claims beside what the rows of all machines say."""
    table = family_report.claims_table(family_report.claims(family.read(RESULTS)))
    return markdown(table.header, table.lines, table.left)


@results_table("family")
def family_rows() -> str:
    """A line a model, context and machine."""
    table = family_report.summary_table(family.read(RESULTS))
    return markdown(table.header, table.lines, table.left) + f"\n{table.note}\n"


@results_table("fidelity")
def fidelity() -> str:
    """Bits against KL for every method at the longest context."""
    return frontier.table(RESULTS)


TABLES["trellis"] = lambda: trellis_report.table(read("trellis"))
TABLES["calibration"] = lambda: calibration_report.table(read("calibration"))


@results_table("attention")
def attention() -> str:
    """Decode attention on pages against all on bf16, on a GPU; another run beside, if kept."""
    name = _on_gpu("attention")
    another = f"another-{name}"
    beside = read(another) if (RESULTS / f"{another}.json").exists() else None
    return attention_report.table(read(name), beside)


TABLES["attention-cpu"] = lambda: attention_report.table(read("attention-cpu"))
TABLES["quantize"] = lambda: speed_report.quantize_table(read(_on_gpu("quantize")))
TABLES["quantize-cpu"] = lambda: speed_report.quantize_table(read("quantize-cpu"))
TABLES["step"] = lambda: speed_report.step_table(read(_on_gpu("step")))


@results_table("line")
def line() -> str:
    """What Run and a switch cost without the page, and the memory they take."""
    result = read("line")
    header = [
        "tokens",
        "Run, s",
        "switch, s",
        "captured, MiB",
        "peak beyond model and capture, MiB",
    ]
    lines = [
        [
            f"{row['tokens']:,}",
            f"{row['run_seconds']:.2f}",
            f"{row['switch_seconds']:.2f}",
            f"{row['captured_bytes'] / MIB:.0f}",
            f"{row['extra_bytes'] / MIB:.0f}",
        ]
        for row in result["lines"]
    ]
    stamp = result["stamp"]
    said = f"Medians, model {result['model']} loaded, {stamp['cores']} cores"
    return markdown(header, lines) + f"\n{said}, {stamp['date'][:10]}.\n"


def _on_gpu(name: str) -> str:
    """The result of the newest GPU measured, by its file's name."""
    return max(path.stem for path in RESULTS.glob(f"{name}-[!c]*.json"))


def _excess(row: dict[str, Any]) -> str:
    if not row["excess_stderr"]:
        return f"{row['quality']['kl']['mean']:.4f}"
    return f"{row['excess']:+.4f} ± {row['excess_stderr']:.4f}"


def read(name: str) -> dict[str, Any]:
    """A result file by its name without ending."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def caption(result: dict[str, Any], text: str) -> str:
    """What was measured on what, under a table."""
    stamp, model = result["stamp"], result["model"]
    return (
        f"\n{text} {result['tokens']:,} tokens of {result['text']['name']}; model "
        f"{model['name']} on {model['device']} ({model['dtype']}); turbo_kv {stamp['turbo_kv']} at "
        f"{stamp['commit']}, torch {stamp['torch']}, transformers {stamp['transformers']}, "
        f"{stamp['date'][:10]}.\n"
    )

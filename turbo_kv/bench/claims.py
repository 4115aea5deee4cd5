"""Every claim of the seed project beside what we find, and how we know: claims.json.

A row says by itself whether its figure is measured, computed from shapes, or not reproducible on
the machines whose rows there are; more rows turn one into the other. Measures nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from turbo_kv.measure.planner import exact_bytes, packed_bytes
from turbo_kv.models.catalog import card
from turbo_kv.quant.config import QuantConfig

MIB = 2**20
MEASURED = "measured"
COMPUTED = "computed from shapes"
ABSENT = "not reproducible here"
NO_ROW = "no row yet"
SIDE_BYTES = 4  # beside the codes of a vector: what makes 3 bits the seed's 3.25
SEED_TOKENS = 8192
ISOTROPIC_BOUND = (1 - 4**-3) ** 0.5
"""No code of 3 bits a value restores isotropic vectors with a larger mean cosine (Shannon)."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Claim:
    """What was claimed, what we find, how we know (one of the three), and how to see it."""

    claim: str
    ours: str
    how: str
    command: str


def claims(rows: Rows) -> list[Claim]:
    """All claims, from the rows of all machines, unfinished ones among them."""
    done = [row for row in rows if row["missing"] is None]
    return [check(done) for check in CLAIMS]


def _ratio(rows: Rows) -> Claim:
    found = _at_longest(rows)
    return Claim(
        "4.9× smaller",
        "; ".join(f"{row['memory']['ratio']:.2f}× ({_of(row)})" for row in found) or NO_ROW,
        MEASURED if found else ABSENT,
        "bench family --models tiny,shape:Qwen2.5-7B --contexts 8192",
    )


def _cosine(rows: Rows) -> Claim:
    found = _at_longest([row for row in rows if row["cosine"]])
    said = "; ".join(
        f"{_of(row)}: "
        + ", ".join(f"{value:.4f} {name}" for name, value in row["cosine"]["keys"].items())
        for row in found
    )
    return Claim(
        "key cosine above 0.999 at 3 bits",
        f"{said or NO_ROW}; no code of 3 bits restores isotropic vectors above "
        f"{ISOTROPIC_BOUND:.4f}",
        MEASURED if found else ABSENT,
        "bench family --models tiny",
    )


def _seven(rows: Rows) -> Claim:
    seven, config = card("Qwen2.5-7B"), QuantConfig(centering="off")
    before = exact_bytes(seven, SEED_TOKENS, 1) / MIB
    seeds = packed_bytes(seven, SEED_TOKENS, 1, config, norm_bytes=SIDE_BYTES).total / MIB
    ours = packed_bytes(seven, SEED_TOKENS, 1, QuantConfig()).total / MIB
    measured = [row for row in rows if row["model"] == seven.name and row["context"] == SEED_TOKENS]
    for row in measured[-1:]:
        ours = row["memory"]["after_bytes"] / MIB
    return Claim(
        "7B at 8,192 tokens: 448 MB → 91 MB",
        f"{before:.0f} → {ours:.2f} MiB, means included; 4 bytes beside each vector's codes make "
        f"it {seeds:.0f}",
        MEASURED if measured else COMPUTED,
        f"bench family --models shape:{seven.name} --contexts {SEED_TOKENS}"
        if measured
        else f"plan --context {SEED_TOKENS}",
    )


def _three(rows: Rows) -> Claim:
    return _quality(rows, "+0.58 perplexity on 3B, estimated", "Qwen2.5-3B")


def _partially(rows: Rows) -> Claim:
    return _quality(rows, "7B tested “partially”", "Qwen2.5-7B")


def _quality(rows: Rows, claim: str, model: str) -> Claim:
    """A claim about the quality of one model, answered by the bundled one until it is measured."""
    own = _trained(rows, model)
    instead = [] if own else _at_longest(_trained(rows, "tiny"))
    said = "; ".join(map(_perplexity, own or instead))
    if instead:
        said = f"not this model; {said}"
    shape = [row for row in rows if row["model"] == model and row["weights"] == "random"]
    if shape and not own:
        said += f"; of {model} itself memory and time are measured, on random weights"
    return Claim(
        claim, said or NO_ROW, MEASURED if own else ABSENT, f"bench family --models {model}"
    )


def _runs_on(device: str, name: str) -> Callable[[Rows], Claim]:
    def check(rows: Rows) -> Claim:
        machines = sorted({row["machine"] for row in rows if row["device"] == device})
        return Claim(
            f"runs on {name}",
            f"yes: {'; '.join(machines)}" if machines else NO_ROW,
            MEASURED if machines else ABSENT,
            f"bench family --device {device}",
        )

    return check


CLAIMS: tuple[Callable[[Rows], Claim], ...] = (
    _ratio,
    _cosine,
    _seven,
    _three,
    _runs_on("cpu", "CPU"),
    _runs_on("mps", "MPS"),
    _partially,
)


def _trained(rows: Rows, model: str) -> Rows:
    return [row for row in rows if row["model"] == model and row["weights"] == "trained"]


def _at_longest(rows: Rows) -> Rows:
    """Per model the row of the longest context, measured weights before random ones."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["weights"] == "trained", row["context"])):
        best[row["model"]] = row
    return list(best.values())


def _of(row: dict[str, Any]) -> str:
    made = ", random weights" if row["weights"] == "random" else ""
    return f"{row['model']}{made}, {row['context']:,} tokens"


def _perplexity(row: dict[str, Any]) -> str:
    quality = row["quality"]
    exact, packed = (quality[side]["perplexity"] for side in ("reference", "quantized"))
    change = quality["change"]
    return (
        f"{_of(row)}: {exact:.2f} → {packed:.2f} "
        f"({change['relative']:+.1%} ± {change['stderr']:.1%})"
    )

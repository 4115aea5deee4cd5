"""The choice of states as a table, from the result file. Measures nothing."""

from statistics import mean
from typing import Any

from turbo_kv.bench.markdown import markdown
from turbo_kv.quant.trellis import STATE_BITS, STRETCHES

MILLION = 1e6


def table(result: dict[str, Any]) -> str:
    """A line a codebook: error by width beside Shannon's bound, KL of 3 bits, speed of 3 bits."""
    widths = sorted({row["bits"] for row in result["gaussian"]})
    rows = {(row["codebook"], row["bits"]): row for row in result["gaussian"]}
    names = list(dict.fromkeys(name for name, _ in rows))
    header = ["codebook", *(f"error, {bits} bits" for bits in widths)]
    header += ["KL of Lloyd-Max's, 3 bits", "coded, M values/s", "in C", "restored, M values/s"]
    lines = []
    for name in names:
        three, live = rows[name, 3], [row for row in result["live"] if row["codebook"] == name]
        lines.append(
            [
                name,
                *(f"{rows[name, bits]['error']:.4f}" for bits in widths),
                _ratio(live),
                f"{three['encoded_per_second'] / MILLION:.2f}",
                _millions(three["encoded_in_c_per_second"]),
                f"{three['decoded_per_second'] / MILLION:.0f}",
            ]
        )
    lines.append(["_no code can do better_", *(f"{4.0**-bits:.4f}" for bits in widths), *[""] * 4])
    stamp = result["stamp"]
    said = (
        f"Error is 1 - cos² on Gaussian directions, head_dim 64. KL over that of Lloyd-Max on the "
        f"same {result['tokens']:,} tokens of {result['text']['name']} in the live cache, mean "
        f"over {len({row['seed'] for row in result['live']})} rotations ± one standard error. "
        f"The package has {2**STATE_BITS:,} states and tries {len(STRETCHES)} lengths. Speeds of "
        f"{stamp['threads']} threads; {stamp['date'][:10]}, at {stamp['commit']}."
    )
    return markdown(header, lines) + "\n" + said + "\n"


def _millions(per_second: float | None) -> str:
    return "" if per_second is None else f"{per_second / MILLION:.2f}"


def _ratio(rows: list[dict[str, Any]]) -> str:
    ratio = mean(row["ratio"] for row in rows)
    if not any(row["ratio_stderr"] for row in rows):
        return f"{ratio:.2f}"
    # Rotations share a text, so their errors are taken as equal, not as independent.
    return f"{ratio:.2f} ± {mean(row['ratio_stderr'] for row in rows):.2f}"

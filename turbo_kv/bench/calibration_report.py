"""What knowing a head is worth as a table, from the result file. Measures nothing.

What lost is not kept: the result names the commit that has its code and the command.
"""

from typing import Any

from turbo_kv.bench.markdown import markdown

NAMES = {
    "queries": "the plain basis, errors kept from the queries (query-trellis)",
    "weights": "a basis from the head's weights, recomputed and free of bytes",
    "prompt": "a basis from the prompt's first tokens, its bytes counted",
}


def table(result: dict[str, Any]) -> str:
    """A line for each codebook and way to know a head: KL over plain codes of equal bits, by text.

    Below 1 it pays.
    """
    (model,) = result["models"]
    texts = list(dict.fromkeys(row["text"] for row in model["rows"]))
    found = {(row["codebook"], row["bases"], row["text"]): row for row in model["rows"]}
    ways = [(book, way) for way in NAMES for book in ("trellis", "lloyd-max")]
    lines = []
    for book, way in ways:
        rows = [found[book, way, text] for text in texts if (book, way, text) in found]
        if rows:
            bits = f"{rows[0]['bits_per_value']:.2f}"
            ratios = [f"{row['at_equal_bits']:.2f}" for row in rows]
            lines.append([NAMES[way], book, bits, *ratios])
    header = ["a head is coded in", "codebook", "bits/value", *(f"KL, {text}" for text in texts)]
    stamp = result["stamp"]
    said = (
        "KL over that of plain codes with as many bits: below 1 it pays. "
        f"{model['model']['name']}, {result['context']:,} tokens, 8-bit scales, "
        f"{stamp['date'][:10]}. "
        f"The code of what lost was deleted; {stamp['commit']} has it, and `bench calibration`."
    )
    return f"{markdown(header, lines)}\n{said}\n"

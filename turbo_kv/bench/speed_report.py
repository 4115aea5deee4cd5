"""The README's tables of quantization speed and of whole decode steps, from their results.

Measures nothing.
"""

from typing import Any

from turbo_kv.bench.markdown import markdown

GB = 1e9


def machine(result: dict[str, Any]) -> str:
    """What a result was measured on, as part of a file's name: "h200", say, or "cpu"."""
    words = (result["stamp"]["gpu"] or "cpu").lower().split()
    return next((word for word in words if word.strip("abghl").isdigit()), words[0])


def quantize_table(result: dict[str, Any]) -> str:
    """Speeds of coding: of the GPU kernel, or of the CPU's ways."""
    return _on_gpu(result) if result["device"] == "cuda" else _on_cpu(result)


def step_table(result: dict[str, Any]) -> str:
    """Tokens per second of whole steps, and the longest context, over each cache."""
    lines = []
    for row in [*result["rows"], *result["longest"]]:
        same = [
            other
            for other in result["rows"]
            if other["cache"].startswith("bf16")
            and not other["missing"]
            and (other["batch"], other["tokens"]) == (row["batch"], row["tokens"])
        ]
        best = max((other["tokens_per_second"] for other in same), default=None)
        lines.append([row["cache"], f"{row['batch']}", f"{row['tokens']:,}", *_figures(row, best)])
    header = ["cache", "texts", "tokens each", "cache, GB", "ms a step", "tokens/s", "against bf16"]
    stamp = result["stamp"]
    return markdown(header, lines) + (
        f"\nOne CUDA graph a step on one {stamp['gpu']}, Qwen2.5-7B's shapes with random weights: "
        "a speed and no quality. Against the faster bf16 row of the same case. The last rows are "
        f"the longest text whose cache fits beside the weights. torch {stamp['torch']}, "
        f"{stamp['date'][:10]}.\n"
    )


def _figures(row: dict[str, Any], best: float | None) -> list[str]:
    if row["missing"]:
        return [f"not measured: {row['missing']}", "", "", ""]
    rate = row["tokens_per_second"]
    return [
        f"{row['cache_bytes'] / GB:.1f}",
        f"{row['milliseconds']['median']:.2f}",
        f"{rate:,.1f}",
        "" if best is None else f"{rate / best:.2f}×",
    ]


def _on_gpu(result: dict[str, Any]) -> str:
    lines = [
        [
            f"{row['tokens']:,} on {row['past']:,}",
            f"{row['batch']}",
            f"{row['head_dim']}",
            row["codebook"],
            f"{row['microseconds']['median']:.1f}",
            f"{row['bytes_per_second'] / GB:,.0f}",
            f"{row['of_copy']:.0%}",
            f"{row['ties']:,} of {row['codes']:,}",
        ]
        for row in result["rows"]
    ]
    header = ["tokens coded on stored", "texts", "head_dim", "codebook", "µs", "GB/s", "of a copy"]
    stamp = result["stamp"]
    path = f", by {result['path']}" if "path" in result else ""
    return markdown([*header, "codes on a tie"], lines) + (
        f"\nKeys and values of one layer with 4 KV heads, centred, bf16 in, pages out{path}, on "
        f"one {stamp['gpu']}; a copy moves {result['copy_bytes_per_second'] / GB:,.0f} GB/s in the "
        f"same run. torch {stamp['torch']}, {stamp['date'][:10]}.\n"
    )


def _on_cpu(result: dict[str, Any]) -> str:
    plain = {
        row["threads"]: row["million_values_per_second"]
        for row in result["rows"]
        if row["way"] == "plain PyTorch"
    }
    lines = [
        [
            row["way"],
            f"{row['threads']}",
            f"{row['million_values_per_second']:,.0f}",
            f"{row['million_values_per_second'] / plain[row['threads']]:.1f}×",
        ]
        for row in result["rows"]
    ]
    stamp = result["stamp"]
    compared = [row for row in result["rows"] if "ties" in row]
    said = f"Path: {result['path']}."
    if compared:
        ties, codes = (max(row[name] for row in compared) for name in ("ties", "codes"))
        said = f"Of {codes:,} codes of compiled C {ties:,} differ from the quantizer's, on a tie."
    header = ["3 bits, head_dim 128", "threads", "million values/s", "against plain"]
    return markdown(header, lines) + (
        f"\nMedians. {said} torch {stamp['torch']} on {stamp['cores']} cores, "
        f"{stamp['date'][:10]}.\n"
    )

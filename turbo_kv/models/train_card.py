"""The model card that is saved beside the weights: every figure in it is the run's own."""

import json
from pathlib import Path
from typing import Any

from turbo_kv.models.train_plan import TrainingReport

MANIFEST = "manifest.json"
PLANTED = {
    "outer": "on the published Qwen2.5-7B offset profile, with norm 300 per head in the first and "
    "last layer and 12 elsewhere",
    "even": "evenly over all rotary pairs, with norms 60 and 180 per head in turn",
}


def data_sources(corpus: Path) -> list[dict[str, Any]]:
    """Name, kind, repositories, licence and bytes of each source; empty without a manifest."""
    path = corpus / MANIFEST
    return json.loads(path.read_text(encoding="utf-8"))["sources"] if path.exists() else []


def model_card(report: TrainingReport) -> str:
    """The card as Markdown."""
    training, corpus, plan = report.training, report.corpus, report.plan
    short, long = plan["contexts"]
    inner = report.key_bias_norms[1:-1]
    outer = (report.key_bias_norms[0], report.key_bias_norms[-1])
    return f"""\
# turbo_kv tiny

A Qwen2 language model of {report.parameters / 1e6:.1f} M parameters, trained from scratch by \
`python -m turbo_kv train-tiny` so that turbo_kv can show KV-cache compression on a real model \
without a download. The key bias that makes Qwen2.5 hard to quantize was planted in it on purpose: \
`k_proj.bias` was initialised {PLANTED[plan["bias"]]}, and then trained like every other weight. \
It is a specimen for measuring caches, not an assistant: it writes English, and what it says is \
not true.

| `k_proj.bias` norm per KV head | after training |
| --- | --- |
| first layer | {_norms(outer[0])} |
| last layer | {_norms(outer[1])} |
| the others | {min(map(min, inner), default=0):.1f} to {max(map(max, inner), default=0):.1f} |

The profile is github.com/ahb-sjsu/turboquant-pro, commit 0f0ee3e (MIT), \
`benchmarks/RESULTS_rope_offsets.md`; the numbers are in `turbo_kv/models/train_model.py`.

## Held-out perplexity

Of the saved weights on the corpus's `valid.txt`, which is not trained on (for the bundled model \
25 English Wikipedia articles, CC BY-SA 3.0), in disjoint windows; every token but a window's \
first is predicted:

{_perplexity(report)}

## Training

{training.tokens / 1e6:.0f} M tokens, which is {training.tokens / corpus["tokens"]:.1f} times over \
a corpus of {corpus["tokens"] / 1e6:.1f} M ({corpus["documents"]:,} documents). On one \
{report.device}, {report.dtype}, the command took {report.seconds["total"]:.0f} s once torch was \
loaded, {report.seconds["train"]:.0f} s of it training.

| context | steps | tokens | tokens/s | training loss (nats) at the end |
| --- | --- | --- | --- | --- |
{_stages(report)}

Muon at {plan["matrix_rate"]} for matrices, AdamW at {plan["other_rate"]} for embedding, norms and \
biases, {plan["batch_tokens"]:,} tokens a step, {plan["warmup_steps"]} steps of warm-up, linear \
decay over the last {plan["decay_share"]:.0%}; context {short:,}, then {long:,} for the last \
{plan["long_share"]:.0%} of the tokens. Seed {plan["seed"]}.

## Tokenizer

Byte-level BPE of 8,192 with Qwen2's split pattern, trained on the same text. `<|endoftext|>` \
(id 0) separates documents and is both bos and eos. There is no chat template.

## Data

{_sources(report)}

The weights and the tokenizer are derived from these texts, each under its own licence (for the \
bundled model CC BY-SA text is among them); the texts are not in the project.

## Limits

English prose, mostly encyclopedic and older books, some technical documents and Python. \
No instruction tuning, no safety tuning, no knowledge to rely on. Context up to {long:,} tokens.

## Reproduce

`python -m turbo_kv train-tiny --corpus DIR{" --twin" if plan["bias"] == "even" else ""}`, \
where DIR holds UTF-8 `.txt` or `.txt.xz` files, \
documents separated by a line `<|endoftext|>`, and optionally `valid.txt` and `manifest.json`.
"""


def _norms(norms: list[float]) -> str:
    return ", ".join(f"{norm:.0f}" for norm in norms)


def _perplexity(report: TrainingReport) -> str:
    if not any(report.perplexity.values()):
        return "Not measured: the corpus has no valid.txt."
    contexts = next(iter(report.perplexity.values()))
    lines = ["| context | " + " | ".join(f"{c:,}" for c in contexts) + " |"]
    lines.append("| --- |" + " --- |" * len(contexts))
    for dtype, row in report.perplexity.items():
        lines.append(f"| {dtype} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")
    return "\n".join(lines)


def _stages(report: TrainingReport) -> str:
    rows, seen = [], 0
    for stage in report.training.stages:
        seen += stage.tokens
        loss = [loss for tokens, loss in report.training.loss_curve if tokens <= seen][-1]
        rows.append(
            f"| {stage.context:,} | {stage.steps:,} | {stage.tokens / 1e6:.0f} M "
            f"| {stage.tokens / stage.seconds / 1e6:.2f} M | {loss:.3f} |"
        )
    return "\n".join(rows)


def _sources(report: TrainingReport) -> str:
    if not report.sources:
        return "Not documented: the corpus has no manifest.json."
    lines = ["| source | MB of text | from | licence |", "| --- | --- | --- | --- |"]
    for source in report.sources:
        repos = ", ".join(f"{repo} ({commit[:7]})" for repo, commit in source["repos"].items())
        licence = source["licence"]
        lines.append(f"| {source['name']} | {source['bytes'] / 1e6:.1f} | {repos} | {licence} |")
    return "\n".join(lines)

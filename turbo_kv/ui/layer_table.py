"""The per-layer table: the numbers behind the pictures, one row a layer."""

from turbo_kv.measure.report import LayerReport, Report
from turbo_kv.ui import numbers
from turbo_kv.ui.language import say

_COLUMNS = (
    ("metric.layer", ""),
    ("metric.key_cosine", "unit.heads_mean"),
    ("metric.value_cosine", "unit.heads_mean"),
    ("layers.key_error", "unit.squared"),
    ("layers.value_error", "unit.squared"),
    ("metric.attention_kl", "unit.nats_mean"),
    ("metric.attention_kl", "unit.worst_head"),
    ("metric.logit_correlation", "unit.worst_head"),
    ("metric.top1", "unit.unchanged"),
    ("layers.output_error", "unit.relative"),
    ("layers.stored", "unit.of_bf16"),
)
"""Name and unit of each, by their keys."""


def html(report: Report) -> str:
    """A table that scrolls inside itself."""
    heads = "".join(
        f'<th scope="col">{say(name)} <small>{say(unit) if unit else ""}</small></th>'
        for name, unit in _COLUMNS
    )
    rows = "".join(_row(layer) for layer in report.layers)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{say("layers.label")}">'
        f'<table class="layers"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(layer: LayerReport) -> str:
    worst = int(layer.attention_kl.argmax())
    lowest = int(layer.logit_correlation.argmin())
    cells = (
        numbers.cosine(layer.key_cosine.mean()),
        numbers.cosine(layer.value_cosine.mean()),
        f"{layer.key_relative_mse.mean():.2g}",
        f"{layer.value_relative_mse.mean():.2g}",
        numbers.nats(layer.attention_kl.mean()),
        numbers.nats(layer.attention_kl[worst]) + _head(worst),
        numbers.correlation(layer.logit_correlation[lowest]) + _head(lowest),
        numbers.percent(layer.top1.mean()),
        f"{layer.output_relative_error.mean():.3f}",
        f"{layer.after.total / layer.before_bytes:.1%}",
    )
    return (
        f'<tr><th scope="row">{layer.layer}</th>'
        + "".join(f"<td>{c}</td>" for c in cells)
        + "</tr>"
    )


def _head(head: int) -> str:
    return f" <small>{say('layers.head', head=head)}</small>"

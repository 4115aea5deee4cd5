"""The per-layer table: the numbers behind the pictures, one row a layer."""

from turbo_kv.measure.report import LayerReport, Report
from turbo_kv.ui import numbers

_COLUMNS = (
    ("Layer", ""),
    ("Key cosine", "mean of heads"),
    ("Value cosine", "mean of heads"),
    ("Key error", "relative, squared"),
    ("Value error", "relative, squared"),
    ("Attention KL", "nats, mean"),
    ("Attention KL", "worst head"),
    ("Logit correlation", "worst head"),
    ("Strongest key", "unchanged"),
    ("Output error", "relative"),
    ("Stored", "of bf16"),
)


def html(report: Report) -> str:
    """A table that scrolls inside itself."""
    heads = "".join(f'<th scope="col">{name} <small>{unit}</small></th>' for name, unit in _COLUMNS)
    rows = "".join(_row(layer) for layer in report.layers)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Per-layer table">'
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
        f"{numbers.nats(layer.attention_kl[worst])} <small>head {worst}</small>",
        f"{numbers.correlation(layer.logit_correlation[lowest])} <small>head {lowest}</small>",
        numbers.percent(layer.top1.mean()),
        f"{layer.output_relative_error.mean():.3f}",
        f"{layer.after.total / layer.before_bytes:.1%}",
    )
    return (
        f'<tr><th scope="row">{layer.layer}</th>'
        + "".join(f"<td>{c}</td>" for c in cells)
        + "</tr>"
    )

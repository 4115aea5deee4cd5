"""A report as a table for other programs: a row for each layer and query head, as CSV.

Keys and values are measured per KV head; their columns repeat for every query head that reads it.
"""

import csv
from io import StringIO

from turbo_kv.measure.report import Report

KV_METRICS = ("key_cosine", "value_cosine", "key_relative_mse", "value_relative_mse")
QUERY_METRICS = ("attention_kl", "logit_correlation", "top1", "output_relative_error")


def to_csv(report: Report) -> str:
    """The table with its header; seven significant digits, as many as fp32 holds."""
    group = report.model.query_heads // report.model.kv_heads
    file = StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["layer", "query_head", "kv_head", *KV_METRICS, *QUERY_METRICS])
    for layer in report.layers:
        for head in range(report.model.query_heads):
            kv_head = head // group
            figures = [getattr(layer, name)[kv_head] for name in KV_METRICS]
            figures += [getattr(layer, name)[head] for name in QUERY_METRICS]
            table.writerow([layer.layer, head, kv_head, *(f"{figure:.7g}" for figure in figures)])
    return file.getvalue()

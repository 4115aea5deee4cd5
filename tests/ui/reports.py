"""Synthetic reports for the page's tests: shaped like the tiny model's, with made-up numbers."""

import numpy as np

from turbo_kv.measure.report import LayerReport, ModelFacts, Report, StoredBytes, TextFacts
from turbo_kv.quant.config import QuantConfig

LAYERS, QUERY_HEADS, KV_HEADS = 4, 6, 2
BROKEN_KL = {0: 3.0, LAYERS - 1: 7.0}


def layer_report(layer: int, config: QuantConfig) -> LayerReport:
    """One layer; the first and last are broken when keys are not centred."""
    plain = config.centering == "off"
    kl = BROKEN_KL.get(layer, 0.15) if plain else 0.02 + layer / 1000
    correlation = 0.55 if plain and layer in BROKEN_KL else 0.99
    heads = np.linspace(1.0, 1.5, QUERY_HEADS)
    return LayerReport(
        layer=layer,
        key_cosine=np.full(KV_HEADS, 0.984 if plain else 0.997) - 0.0001 * layer,
        value_cosine=np.full(KV_HEADS, 0.985),
        key_relative_mse=np.full(KV_HEADS, 0.03),
        value_relative_mse=np.full(KV_HEADS, 0.03),
        attention_kl=kl * heads,
        logit_correlation=np.full(QUERY_HEADS, correlation) - 0.001 * heads,
        top1=np.full(QUERY_HEADS, 0.1 if plain else 0.9),
        output_relative_error=np.full(QUERY_HEADS, 0.5 if plain else 0.1),
        before_bytes=1_048_576,
        after=StoredBytes(codes=196_608, scales=16_384, means=0 if plain else 1_024),
    )


def report(config: QuantConfig | None = None, finished: int = LAYERS) -> Report:
    """A report of the first `finished` layers."""
    config = config or QuantConfig()
    return Report(
        model=ModelFacts("tiny", LAYERS, QUERY_HEADS, KV_HEADS, 64, "cpu", "float32", 60_000_000),
        text=TextFacts("Prose", "0" * 64, 9_000, ("The text has 3,000 tokens.",)),
        tokens=2048,
        config=config,
        queries=256,
        path="plain torch",
        layers=tuple(layer_report(layer, config) for layer in range(finished)),
        timing={"measure": 0.4},
    )

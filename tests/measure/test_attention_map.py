"""A map is attention itself: rows of probabilities, causal, cut only after the softmax."""

import numpy as np
import pytest

from turbo_kv.measure.analyze import Prepared, measure, prepare
from turbo_kv.measure.attention_map import AttentionMap, attention_map
from turbo_kv.measure.report import Request
from turbo_kv.quant.config import QuantConfig

TOKENS = 300


@pytest.fixture(scope="module")
def prepared(random_checkpoint) -> Prepared:
    return prepare(Request(model=str(random_checkpoint), context=TOKENS))


def whole(prepared: Prepared, **choices) -> AttentionMap:
    return attention_map(prepared, QuantConfig(**choices), 1, 3, first_key=0, window=TOKENS)


def test_rows_are_probabilities_over_the_past(prepared):
    shown = whole(prepared)
    assert shown.exact.shape == shown.packed.shape == (256, TOKENS)
    for weights in (shown.exact, shown.packed):
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
        future = np.arange(TOKENS)[None] > np.arange(shown.first_query, TOKENS)[:, None]
        assert (weights[future] == 0).all()
        assert (weights >= 0).all()
    assert shown.mass == pytest.approx(1)


def test_figures_agree_with_the_report(prepared):
    config = QuantConfig(bits=2)
    *_, report = measure(prepared, config)
    for layer, head in ((0, 0), (1, 3), (2, 2)):
        shown = attention_map(prepared, config, layer, head, 0, window=TOKENS)
        exact, packed = (np.maximum(w, 1e-30) for w in (shown.exact, shown.packed))
        kl = (shown.exact * np.log(exact / packed)).sum(axis=1).mean()
        assert kl == pytest.approx(report.grid("attention_kl")[layer, head], rel=1e-3)
        assert shown.top1 == pytest.approx(report.grid("top1")[layer, head], abs=1e-6)


def test_a_window_cuts_and_does_not_rescale(prepared):
    everything = whole(prepared)
    for first, last in ((None, TOKENS), (40, 104), (TOKENS - 10, TOKENS)):
        shown = attention_map(prepared, QuantConfig(), 1, 3, first, window=64)
        columns = slice(shown.first_key, last)
        assert np.array_equal(shown.exact, everything.exact[:, columns])
        assert np.array_equal(shown.difference, everything.difference[:, columns])
        assert shown.mass == pytest.approx(shown.exact.sum() / 256, rel=1e-5)
        assert shown.total_variation == everything.total_variation
        assert shown.key_tokens == everything.key_tokens[columns]


def test_total_variation_is_half_the_difference(prepared):
    shown = whole(prepared, bits=2)
    moved = np.abs(shown.difference).sum(axis=1).mean() / 2
    assert shown.total_variation == pytest.approx(moved, rel=1e-5)
    assert 0 < shown.total_variation < 1
    assert whole(prepared, bits=4).total_variation < shown.total_variation


def test_tokens_are_the_text_under_rows_and_columns(prepared):
    shown = attention_map(prepared, QuantConfig(), 0, 0)
    tokens = prepared.capture.tokens[0].tolist()
    assert shown.first_query == TOKENS - 256
    assert shown.query_tokens == tuple(map(prepared.decode, tokens[-256:]))
    assert len(shown.key_tokens) == shown.exact.shape[1] == 256


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((3, 0, None), "layer is 3; choose 0 to 2"),
        ((0, 4, None), "head is 4; choose 0 to 3"),
        ((-1, 0, None), "layer is -1"),
        ((0, 0, TOKENS), "first_key is 300; choose 0 to 299"),
    ],
)
def test_refuses_a_place_that_does_not_exist(prepared, place, message):
    with pytest.raises(ValueError, match=message):
        attention_map(prepared, QuantConfig(), *place)

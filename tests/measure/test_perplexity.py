"""Laws of perplexity through the live cache, on a random model and on the bundled one."""

import json

import pytest
import torch

from turbo_kv.cache.attending import attending
from turbo_kv.cache.attention import NAME as PACKED
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.measure.next_token import compare
from turbo_kv.measure.perplexity import measure_perplexity
from turbo_kv.measure.quality import Quality
from turbo_kv.quant.config import QuantConfig

CONTEXT = 384  # a first chunk of 256 and packed history behind it


@pytest.fixture(scope="module")
def text():
    return torch.randint(128, (1, CONTEXT), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def measured():
    """The bundled model on the default text, at each way to store."""
    ways = {
        **{str(bits): QuantConfig(bits=bits) for bits in (2, 3, 4)},
        "off": QuantConfig(centering="off"),
    }
    return {name: measure_perplexity(context=CONTEXT, config=way) for name, way in ways.items()}


def predictions(model, text, chunk=512, read_back=True, quantize="both", **choices):
    cache = TurboKVCache.for_model(
        model, QuantConfig(**choices), read_back=read_back, quantize=quantize
    )
    return compare(model, text, cache, chunk).predictions


def test_a_cache_that_codes_nothing_changes_nothing(random_qwen2, text):
    result = predictions(random_qwen2, text, quantize="neither")
    assert result.kl.abs().max() < 1e-4
    assert result.same_top1.all()
    quality = Quality.of(result)
    assert quality.quantized.perplexity == pytest.approx(quality.reference.perplexity, rel=1e-4)


def test_two_bits_change_much(random_qwen2, text):
    quality = Quality.of(predictions(random_qwen2, text, bits=2))
    assert quality.kl.mean > 0.01
    assert quality.top1 < 1


def test_one_forward_that_is_not_read_back_measures_nothing(random_qwen2, text):
    """Why measuring reads back: a plain prefill attends to its own tokens exactly."""
    plain = predictions(random_qwen2, text, read_back=False, bits=2)
    assert plain.kl.abs().max() < 1e-4


@pytest.mark.parametrize("attention", [None, PACKED], ids=["restored", "packed"])
@pytest.mark.parametrize("chunk", [1, 24])
def test_token_by_token_is_chunk_by_chunk(random_qwen2, text, chunk, attention):
    """A rounding error may move a value across a boundary of the codebook, so nearly equal."""
    whole = predictions(random_qwen2, text)
    with attending(random_qwen2, attention):
        parts = predictions(random_qwen2, text, chunk)
    assert float(parts.kl.mean()) == pytest.approx(float(whole.kl.mean()), rel=0.02)
    drift = (parts.quantized_nll - whole.quantized_nll).abs().mean()
    damage = (whole.quantized_nll - whole.reference_nll).abs().mean()
    assert drift < 0.05 * damage


def test_fewer_bits_lose_more(measured):
    kl = [measured[bits].quality.kl.mean for bits in "432"]
    assert 0 < kl[0] < kl[1] < kl[2]
    top1 = [measured[bits].quality.top1 for bits in "432"]
    assert top1 == sorted(top1, reverse=True)


def test_centring_is_what_saves_this_model(measured):
    assert measured["off"].quality.kl.mean > 5 * measured["3"].quality.kl.mean
    means = measured["3"].after.means
    assert means > 0
    assert measured["3"].after.total == measured["off"].after.total + means


def test_the_reference_is_the_same_whatever_is_stored(measured):
    assert len({report.quality.reference for report in measured.values()}) == 1


def test_every_figure_has_its_uncertainty(measured):
    for report in measured.values():
        quality = report.quality
        uncertain = (quality.reference, quality.quantized, quality.change, quality.kl)
        assert all(figure.stderr > 0 for figure in uncertain)
        assert quality.kl.p99 > quality.kl.mean


def test_bytes_are_the_stored_ones(measured):
    report = measured["3"]
    per_vector = report.model.head_dim * 3 // 8 + 2
    vectors = 2 * report.model.layers * report.model.kv_heads * report.tokens
    assert report.after.codes + report.after.scales == vectors * per_vector
    assert report.before_bytes == vectors * report.model.head_dim * 2
    assert report.ratio == report.before_bytes / report.after.total


def test_the_report_is_json(measured):
    data = json.loads(json.dumps(measured["3"].to_dict()))
    assert {"model", "text", "tokens", "config", "path", "memory"} < data.keys()
    assert data["reference"].keys() == data["quantized"].keys() == {"perplexity", "stderr"}
    assert data["kl"].keys() == {"mean", "stderr", "p99"}
    assert 0 <= data["top1"] <= 1
    assert data["flips"].keys() == {"lost", "gained"}


def test_newest_tokens_that_are_not_coded_cost_their_16_bits_and_gain():
    plain, windowed = (measure_perplexity(context=1024, exact_window=each) for each in (0, 32))
    assert (windowed.chunk, windowed.exact_window, plain.exact_window) == (32, 32, 0)
    facts = windowed.model
    newest = 2 * facts.layers * facts.kv_heads * facts.head_dim * 32 * 2
    assert windowed.after.exact_window == newest
    assert plain.after.total < windowed.after.total <= plain.after.total + newest
    assert windowed.quality.kl.mean < 0.8 * plain.quality.kl.mean


@pytest.mark.parametrize("chunk", [1, 512])
def test_the_path_says_what_was_read(chunk):
    path = measure_perplexity(context=32, chunk=chunk).path
    assert ("packed storage" in path) == (chunk == 1)
    assert "read back" in path


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"context": 3}, "context"),
        ({"text": ""}, "empty"),
        ({"chunk": 0}, "chunk is 0"),
        ({"exact_window": -1}, "exact_window is -1"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        measure_perplexity(**{"context": 64, **wrong})

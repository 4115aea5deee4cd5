"""Laws of teacher-forced prediction through two caches."""

import pytest
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import DynamicLayer

from turbo_kv.measure.next_token import FIRST, compare, feed, outcomes


class RoundedLayer(DynamicLayer):
    """Hands back keys and values rounded to bfloat16: a cache that loses a little."""

    def update(self, key_states, value_states, *args, **kwargs):
        return tuple(x.bfloat16().float() for x in super().update(key_states, value_states))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    return Qwen2ForCausalLM(config).eval()


def tokens(length, seed=0):
    return torch.randint(97, (1, length), generator=torch.Generator().manual_seed(seed))


def rounded(model):
    cache = DynamicCache(config=model.config)
    cache.layers = [RoundedLayer() for _ in cache.layers]
    return cache


def exact(model):
    return DynamicCache(config=model.config)


def test_an_exact_cache_differs_nowhere(model):
    result = compare(model, tokens(300), exact(model), chunk=32).predictions
    assert result.kl.abs().max() == 0
    assert torch.equal(result.reference_nll, result.quantized_nll)
    assert result.same_top1.all()
    assert len(result.kl) == 299


def test_a_lossy_cache_differs(model):
    result = compare(model, tokens(300), rounded(model)).predictions
    assert result.kl.mean() > 0
    assert not torch.equal(result.reference_nll, result.quantized_nll)


def test_loss_is_that_of_one_forward(model):
    text = tokens(300)
    with torch.no_grad():
        expected = model(text, labels=text).loss
    result = compare(model, text, exact(model), chunk=7).predictions
    torch.testing.assert_close(result.reference_nll.mean(), expected)
    right = model(text).logits[0, :-1].argmax(-1) == text[0, 1:]
    assert torch.equal(result.reference_right, right)


@pytest.mark.parametrize("chunk", [1, 33, 299])
def test_the_chunk_does_not_matter(model, chunk):
    text = tokens(300)
    expected = compare(model, text, rounded(model), chunk=1000).predictions
    result = compare(model, text, rounded(model), chunk=chunk).predictions
    torch.testing.assert_close(result.kl, expected.kl, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("length", "sizes"), [(100, [100]), (257, [256, 1]), (300, [256, 32, 12])])
def test_the_first_chunk_holds_a_prompt(model, length, sizes):
    parts = [logits.shape[1] for logits, _ in feed(model, tokens(length), exact(model), 32)]
    assert parts == sizes
    assert sizes[0] <= FIRST


def test_kept_logits_are_the_last(model):
    text = tokens(270)
    every = [logits for logits, _ in feed(model, text, exact(model), 8)]
    last = [logits for logits, _ in feed(model, text, exact(model), 8, keep=1)]
    for whole, end in zip(every, last, strict=True):
        torch.testing.assert_close(whole[:, -1:], end)


def test_kl_is_its_definition():
    generator = torch.Generator().manual_seed(3)
    p, q = torch.randn(5, 11, generator=generator), torch.randn(5, 11, generator=generator)
    result = outcomes(p, q, torch.arange(5))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
    )
    torch.testing.assert_close(result.kl, expected)


@pytest.mark.parametrize("shape", [(1, 2), (2, 50), (50,)])
def test_other_shapes_are_refused(model, shape):
    with pytest.raises(ValueError, match="shape"):
        compare(model, torch.zeros(shape, dtype=torch.int64), exact(model))


def test_an_empty_chunk_is_refused(model):
    with pytest.raises(ValueError, match="chunk is 0"):
        compare(model, tokens(20), exact(model), chunk=0)

"""Laws of the round-to-nearest caches."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.bench.baselines import held_bytes
from turbo_kv.bench.rounding import GROUP, WINDOW, KiviLayer, PerTokenLayer, Rounded
from turbo_kv.measure.next_token import compare

D = 64


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def held(layer):
    return held_bytes(SimpleNamespace(layers=[layer]))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from((2, 3, 4)), st.sampled_from((32, 64)), st.floats(1e-2, 1e3))
def test_no_number_moves_by_more_than_half_a_step(bits, group, size):
    x = size * gaussian(3, 2 * group) + size
    moved = (Rounded.of(x, bits, group).restored(group) - x).abs().unflatten(-1, (-1, group))
    low, high = x.unflatten(-1, (-1, group)).aminmax(dim=-1)
    step = (high - low) / (2**bits - 1)
    rounding = 2e-3 * x.abs().max()  # of low and step to fp16
    assert (moved.amax(-1) <= step / 2 + rounding).all()
    assert moved.amax() > 0.2 * step.min()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_numbers_stay(value):
    x = torch.full((1, 32), value)
    assert torch.equal(Rounded.of(x, 2, 32).restored(32), x)


def test_a_token_costs_its_codes_and_two_numbers():
    layer = PerTokenLayer(3)
    for tokens in (5, 1):
        layer.update(gaussian(1, 2, tokens, D), gaussian(1, 2, tokens, D))
    assert layer.get_seq_length() == 6
    assert held(layer) == 2 * 2 * 6 * (3 * D // 8 + 4)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_the_window_is_exact_and_everything_is_counted(lengths):
    layer = KiviLayer(2)
    keys, values = gaussian(2, 1, 2, sum(lengths), D)
    start = 0
    for length in lengths:
        stop = start + length
        seen = layer.update(keys[:, :, start:stop], values[:, :, start:stop])
        start = stop
    tokens = layer.get_seq_length()
    assert seen[0].shape == seen[1].shape == keys.shape
    waiting = tokens % WINDOW, min(tokens, WINDOW)
    for states, exact, kept in zip(seen, (keys, values), waiting):
        coded = tokens - kept
        assert torch.equal(states[:, :, coded:], exact[:, :, coded:].bfloat16().float())
        assert not coded or not torch.equal(states[:, :, :coded], exact[:, :, :coded])
    coded = 2 * tokens - sum(waiting)
    assert held(layer) == 2 * D * (coded * (2 / 8 + 4 / GROUP) + 2 * sum(waiting))


def test_channels_of_their_own_size_suit_keys_by_channel():
    keys = gaussian(1, 2, WINDOW, D)
    keys[..., 7] = 100 + keys[..., 7]
    errors = []
    for layer in (PerTokenLayer(2), KiviLayer(2)):
        seen, _ = layer.update(keys, keys)
        errors.append((seen - keys)[..., :7].square().mean())
    assert errors[1] < 0.05 * errors[0]


@pytest.mark.parametrize("layer", [PerTokenLayer, KiviLayer])
def test_a_model_runs_on_it(layer, random_qwen2):
    from transformers import Cache

    config = random_qwen2.config
    cache = Cache(layers=[layer(4) for _ in range(config.num_hidden_layers)])
    tokens = torch.randint(128, (1, 352), generator=torch.Generator().manual_seed(0))
    result = compare(random_qwen2, tokens, cache, chunk=32).predictions
    assert 0 < result.kl.mean() < 3

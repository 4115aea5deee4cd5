"""Between the layers of a forward pass: shares that rise, and an end in the middle."""

import pytest
import torch

from turbo_kv.cache import telling
from turbo_kv.cache.capture import capture
from turbo_kv.cache.generate import generate_side_by_side
from turbo_kv.cache.telling import layer_by_layer
from turbo_kv.quant.config import QuantConfig

LAYERS = 3


class LeftError(Exception):
    """Raised by a progress that nobody follows any more."""


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(telling, "PAUSE", 0)


def hooks(model) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def tokens(count: int) -> torch.Tensor:
    return torch.randint(128, (1, count), generator=torch.Generator().manual_seed(0))


def test_shares_rise_and_nothing_stays_on_the_model(random_qwen2, at_once):
    shares, before = [], hooks(random_qwen2)
    with layer_by_layer(random_qwen2, shares.append), torch.no_grad():
        random_qwen2(tokens(8))
    assert shares == [index / LAYERS for index in range(LAYERS)]
    assert hooks(random_qwen2) == before


def test_a_quick_pass_tells_nothing(random_qwen2, monkeypatch):
    monkeypatch.setattr(telling, "PAUSE", 1e9)
    shares = []
    with layer_by_layer(random_qwen2, shares.append), torch.no_grad():
        random_qwen2(tokens(8))
    assert shares == []


def read(model, progress):
    capture(model, tokens(700), progress=progress)


def generate(model, progress):
    list(generate_side_by_side(model, None, tokens(700), QuantConfig(), 1, progress=progress))


@pytest.mark.parametrize(("work", "first_chunk"), [(read, 700 % 512), (generate, 512)])
def test_a_reading_can_be_left_inside_a_chunk(random_qwen2, at_once, work, first_chunk):
    seen, before = [], hooks(random_qwen2)

    def leave(fraction, text):
        seen.append(fraction)
        if len(seen) == 3:
            raise LeftError

    with pytest.raises(LeftError):
        work(random_qwen2, leave)
    assert seen == sorted(seen)
    assert max(seen) < first_chunk / 700
    assert hooks(random_qwen2) == before
    assert random_qwen2.config._attn_implementation == "sdpa"


def test_told_often_or_not_a_capture_is_the_same(random_qwen2, at_once):
    told = []
    often = capture(random_qwen2, tokens(700), progress=lambda *step: told.append(step))
    assert len(told) == 2 * (LAYERS + 1)
    assert told[-1] == (1.0, "Reading the text: 700 of 700 tokens")
    telling.PAUSE = 1e9
    seldom = capture(random_qwen2, tokens(700))
    for one, other in zip(often.layers, seldom.layers):
        assert one.keys.equal(other.keys)

"""The trellis searched in C against the same in PyTorch: every number alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.kernels import choose, native_trellis
from turbo_kv.quant import trellis
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

MISSING = choose.why_not_searched(3)
compiled = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


@compiled
@settings(max_examples=40)
@given(
    bits=st.integers(1, 4),
    steps=st.integers(1, 40),
    count=st.integers(1, 70),
    anywhere=st.booleans(),
    seed=st.integers(0, 99),
)
def test_costs_and_paths_are_those_of_pytorch(bits, steps, count, anywhere, seed):
    torch.manual_seed(seed)
    book = trellis.TrellisCodebook(trellis.shipped_levels(bits), bits, 64)
    x = book._fixed(torch.randn(count, steps) / 8)
    before = x.new_zeros(len(book.slopes[0]), count)
    if not anywhere:
        before = book._only(torch.randint(len(before), (count,)))
    cost, came_from = native_trellis.search(x, before, book.slopes, book.squares)
    expected, ways_in = trellis.search(x, before.clone(), book.slopes, book.squares)
    assert torch.equal(cost, expected)
    last = torch.randint(len(cost), (count,))
    states = native_trellis.trace(last, came_from, len(book.slopes))
    assert torch.equal(states, trellis.trace(last, ways_in, len(book.slopes)))


@compiled
@pytest.mark.parametrize("count", [1, 15, 16, 17, 33])
def test_nothing_is_written_beside_the_vectors(count, monkeypatch):
    """Poisoned outputs are written whole, and the memory after them is not."""
    guarded = {}
    plain = torch.Tensor.new_empty

    def poisoned(self, *size, dtype=None):
        whole = plain(self, *size[:-1], size[-1] + 1, dtype=dtype).fill_(77)
        kept = plain(self, 0, dtype=dtype).set_(whole.untyped_storage(), 0, size)
        guarded[kept.data_ptr()] = whole.flatten()[kept.numel() :]
        return kept.fill_(77)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    book = trellis.TrellisCodebook(trellis.shipped_levels(2), 2, 16)
    x = torch.randint(-999, 999, (8, count), dtype=torch.int32)
    before = torch.zeros(256, count, dtype=torch.int32)
    cost, came_from = native_trellis.search(x, before, book.slopes, book.squares)
    native_trellis.trace(cost.argmin(0), came_from, 4)
    assert len(guarded) == 3
    assert all((after == 77).all() for after in guarded.values())


@compiled
@pytest.mark.parametrize("codebook", choose.TRELLISES)
def test_codes_are_those_of_pytorch_and_the_path_says_who_searched(random_qwen2, codebook):
    config = QuantConfig(codebook=codebook, scale_bits=8)
    root = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(1, 2, 50, 32, generator=torch.Generator().manual_seed(1))
    given = choose.quantizer(32, config, torch.device("cpu"), root @ root.mT)
    plain = TurboQuantizer(32, config, metric=root @ root.mT)
    assert given.codebook.walk is native_trellis.WALK
    assert plain.codebook.walk is trellis.WALK
    assert torch.equal(given.quantize(vectors).codes, plain.quantize(vectors).codes)
    assert choose.path(torch.device("cpu"), config).endswith(choose.SEARCHED)
    cache = TurboKVCache.for_model(random_qwen2, config)
    assert cache.path("cpu").startswith("CPU, compiled C on dense codes")
    assert cache.path("cpu").endswith(choose.SEARCHED)


def test_without_a_compiler_pytorch_searches_and_nothing_else_is_said(monkeypatch):
    monkeypatch.setattr(choose, "why_not_searched", lambda *_: "no C compiler was found")
    config = QuantConfig(codebook="trellis")
    made = choose.quantizer(32, config, torch.device("cpu"))
    assert made.codebook.walk is trellis.WALK
    assert "searches" not in choose.path(torch.device("cpu"), config)

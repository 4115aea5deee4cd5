"""Attention in C against its specification, on the same bytes."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_states import make_queries, make_states, relative_error

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.kernels import choose, native, native_attention, reference
from turbo_kv.quant.config import QuantConfig

GROUPS = {(3, 64): (3, 12), (3, 128): (7,), (2, 32): (1, 2), (4, 48): (8,), (3, 256): (5,)}
SHAPES = [(*shape, groups) for shape, many in GROUPS.items() for groups in many]
COMPILED = choose.why_not_c((make_states(1).key_quantizer,) * 2, 3)
pytestmark = pytest.mark.skipif(COMPILED is not None, reason=COMPILED or "")


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch):
    """What the kernel leaves unwritten is NaN."""
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda x, **k: empty(x, **k).fill_(float("nan")))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_compiled_attention_is_the_specifications(shape):
    bits, head_dim, groups = shape

    @settings(max_examples=12)
    @given(
        slots=st.integers(0, 1200),
        newest=st.sampled_from([0, 0, 1, 20, 64]),
        length=st.integers(1, 33),
        batch=st.integers(1, 3),
        masked=st.sampled_from(["causal", "padded", "added"]),
        centering=st.sampled_from(["mean", "off"]),
        rotation=st.booleans(),
        scale_bits=st.sampled_from([8, 16]),
    )
    def check(*, slots, newest, length, batch, masked, **choices):
        torch.manual_seed(slots)
        config = QuantConfig(bits=bits, **choices)
        newest = max(newest, slots == 0)
        states = make_states(slots, head_dim, batch=batch, config=config, window=newest)
        slots += newest
        length = min(length, slots)
        queries = make_queries(states, length, groups)
        mask = None
        if masked != "causal":
            mask = torch.ones(batch, 1, length, slots, dtype=torch.bool).tril(slots - length)
            mask[0, ..., : slots - length] = False  # every query still sees itself
        if masked == "added":
            mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        exact = reference.attention(queries, states, mask)
        given = native_attention.attention(queries, states, mask)
        assert relative_error(given, exact) < 1e-5

    check()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(("head_dim", "groups"), [(32, 2), (64, 3), (128, 7)])
def test_a_trellis_is_read_as_the_specification_reads_it(bits, head_dim, groups):
    torch.manual_seed(bits)
    config = QuantConfig(codebook="trellis", bits=bits, scale_bits=8)
    states = make_states(130, head_dim, config=config, window=5)
    queries = make_queries(states, 2, groups)
    exact = reference.attention(queries, states)
    assert relative_error(native_attention.attention(queries, states), exact) < 1e-5


@pytest.mark.parametrize("slots", [1, 511, 512, 513, 5000])
def test_threads_change_no_bit(slots, monkeypatch):
    states = make_states(slots)
    queries = make_queries(states)
    with threads(1):
        one = native_attention.attention(queries, states)
    with threads(2):
        assert torch.equal(native_attention.attention(queries, states), one)
    with threads(3):
        monkeypatch.setattr(native, "openmp", lambda: None)
        assert torch.equal(native_attention.attention(queries, states), one)


def test_a_row_that_may_see_nothing_weighs_all_alike():
    states = make_states(600)
    mask = torch.zeros(2, 1, 1, 600, dtype=torch.bool)
    queries = make_queries(states)
    given = native_attention.attention(queries, states, mask)
    assert relative_error(given, reference.attention(queries, states, mask)) < 1e-5


def test_views_are_read_where_they_lie():
    states = make_states(100)
    queries = make_queries(states, 2).bfloat16().transpose(1, 2).contiguous().transpose(1, 2)
    mask = torch.ones(1, 1, 2, 200, dtype=torch.bool)[..., ::2].tril(98)
    exact = reference.attention(queries, states, mask)
    assert relative_error(native_attention.attention(queries, states, mask), exact) < 1e-5


def test_scores_of_hundreds_overflow_nothing():
    states = make_states(700)
    queries = 100 * make_queries(states)
    exact = reference.attention(queries, states)
    assert relative_error(native_attention.attention(queries, states), exact) < 1e-4


REFUSED = {
    "sketch": (QuantConfig(qjl=True), {}, "QJL"),
    "one side": (QuantConfig(), {"quantize": "values"}, "one side stays exact"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_the_kernel_lacks_is_attended_in_pytorch_and_said(random_qwen2, case):
    quant, options, why = case
    cache = TurboKVCache(random_qwen2.config, quant, **options)
    assert cache.path("cpu").startswith("CPU, eager PyTorch on dense codes: ")
    assert why in cache.path("cpu")


@pytest.mark.parametrize("exact_window", [0, 7, 64])
def test_a_model_speaks_alike_through_c_and_through_pytorch(
    random_qwen2, monkeypatch, exact_window
):
    tokens = torch.randint(256, (2, 40), generator=torch.Generator().manual_seed(0))
    random_qwen2.set_attn_implementation("turbo_kv")
    logits = []
    for reason in (None, "no C compiler was found"):
        monkeypatch.setattr(choose, "_why_not_compiled", lambda *_, reason=reason: reason)
        cache = TurboKVCache(random_qwen2.config, exact_window=exact_window)
        random_qwen2(tokens[:, :30], cache=cache)
        logits.append(random_qwen2(tokens[:, 30:], cache=cache).logits)
    random_qwen2.set_attn_implementation("sdpa")
    assert relative_error(*logits) < 1e-5

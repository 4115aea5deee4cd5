"""Attention on packed storage against its specification, on the same bytes."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_states import GROUPS, make_queries, make_states, relative_error

from turbo_kv.cache.exact import ExactQuantizer
from turbo_kv.kernels import cpu, pagewise, reference
from turbo_kv.quant.config import QuantConfig


@pytest.fixture(params=[pagewise, cpu], ids=["any device", "cpu"])
def attend(request):
    """Attention page by page, through one pair of readers."""
    return partial(pagewise.attention, read=(request.param.dot, request.param.mix))


CONFIGS = {
    "3 bits": QuantConfig(),
    "2 bits": QuantConfig(bits=2),
    "4 bits": QuantConfig(bits=4),
    "no centre": QuantConfig(centering="off"),
    "no rotation": QuantConfig(rotation=False),
    "sketch on top": QuantConfig(qjl=True),
    "sketch inside": QuantConfig(qjl=True, qjl_budget="inside"),
}


@pytest.mark.parametrize("length", [1, 63, 100, 1000])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_pages_give_what_the_specification_gives(attend, config, length):
    torch.manual_seed(length)
    states = make_states(length, config=config)
    queries = make_queries(states)
    exact = reference.attention(queries, states)
    assert exact.isfinite().all()
    assert relative_error(attend(queries, states), exact) < 1e-5


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("head_dim", [16, 20, 72, 80, 96, 128, 256])
def test_every_head_dim_is_attended_alike(attend, head_dim, bits):
    torch.manual_seed(head_dim)
    states = make_states(100, head_dim, config=QuantConfig(bits=bits))
    queries = make_queries(states)
    exact = reference.attention(queries, states)
    assert relative_error(attend(queries, states), exact) < 1e-5


@given(
    st.sampled_from([pagewise, cpu]),
    st.integers(0, 400),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 3000),
)
def test_the_size_of_a_page_changes_nothing(reader, length, query_length, window, page_vectors):
    attend = partial(pagewise.attention, read=(reader.dot, reader.mix))
    torch.manual_seed(length)
    states = make_states(length, 16, batch=1, window=window)
    queries = make_queries(states, query_length)
    whole = attend(queries, states, page_vectors=10**6)
    paged = attend(queries, states, page_vectors=page_vectors)
    assert relative_error(paged, whole) < 1e-4


@pytest.mark.parametrize("query_length", [1, 4])
@pytest.mark.parametrize("window", [0, 5])
def test_masked_slots_weigh_nothing(attend, query_length, window):
    torch.manual_seed(0)
    states = make_states(70, window=window)
    slots = 70 + window
    queries = make_queries(states, query_length)
    mask = torch.ones(2, 1, query_length, slots, dtype=torch.bool).tril(slots - query_length)
    mask[0, :, :, :30] = False
    exact = reference.attention(queries, states, mask)
    assert relative_error(attend(queries, states, mask), exact) < 1e-5
    # A mask of floats is added, as a custom one may be; unpadded rows need none.
    added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    assert relative_error(attend(queries, states, added), exact) < 1e-5
    causal = attend(queries, states)
    assert relative_error(causal[1], exact[1]) < 1e-5
    assert relative_error(causal[0], exact[0]) > 1e-2


def test_a_row_that_may_see_nothing_is_no_nan():
    states = make_states(10)
    mask = torch.zeros(2, 1, 1, 10, dtype=torch.bool)
    for attend in (reference.attention, pagewise.attention):
        assert attend(make_queries(states), states, mask).isfinite().all()


def test_without_quantization_it_is_plain_attention():
    torch.manual_seed(0)
    states = make_states(100, quantizer=ExactQuantizer(64), window=7)
    queries = make_queries(states, 4)
    keys, values = states.restore()
    keys, values = (each.repeat_interleave(GROUPS, dim=1) for each in (keys, values))
    mask = torch.ones(4, 107, dtype=torch.bool).tril(103)
    plain = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, mask)
    for attend in (reference.attention, pagewise.attention):
        assert relative_error(attend(queries, states), plain) < 1e-5

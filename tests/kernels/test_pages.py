"""The paged layout: the same codes as the dense one, every bit where the drawing says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.kernels.pages import (
    FIELDS,
    empty_pages,
    page_count,
    page_tokens,
    to_dense,
    to_pages,
)
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import PackedVectors, pack, unpack
from turbo_kv.quant.quantizer import TurboQuantizer

BITS = st.sampled_from((2, 3, 4))


@given(
    bits=BITS,
    tokens=st.integers(0, 200),
    head_dim=st.sampled_from((16, 64, 80, 128)),
    rows=st.sampled_from(((1, 1), (2, 3))),
    seed=st.integers(0, 1000),
)
def test_pages_and_back_is_the_identity(bits, tokens, head_dim, rows, seed):
    dense = vectors(bits, (*rows, tokens, head_dim), seed)
    pages = to_pages(dense)
    back = to_dense(pages, tokens)
    assert torch.equal(back.codes, dense.codes)
    assert torch.equal(back.scales, dense.scales)
    assert (back.bits, back.head_dim, back.layout) == (bits, head_dim, "dense")
    assert pages.length.tolist() == [tokens]
    assert pages.words.shape == (*rows, page_count(tokens, bits), 16, head_dim)


@given(bits=BITS, token=st.integers(0, 299), channel=st.integers(0, 15), seed=st.integers(0, 99))
def test_every_code_lies_in_the_field_that_the_layout_names(bits, token, channel, seed):
    dense = vectors(bits, (1, 1, 300, 16), seed)
    page, inside = divmod(token, page_tokens(bits))
    field, row = divmod(inside, 16)
    word = to_pages(dense).words[0, 0, page, row, channel].item() & 0xFFFF
    shift = bits * field + (bits == 3)
    code = unpack(dense.codes, bits, 16)[0, 0, token, channel].item()
    assert word >> shift & 2**bits - 1 == code


@given(bits=BITS, tokens=st.integers(0, 200), more=st.integers(0, 200))
def test_what_lies_beyond_the_length_is_not_read(bits, tokens, more):
    dense = vectors(bits, (1, 2, tokens + more, 16), 0)
    pages = to_pages(dense)
    cut = to_dense(pages, tokens)
    assert torch.equal(cut.codes, dense.codes[:, :, :tokens])
    assert torch.equal(cut.scales, dense.scales[:, :, :tokens])


@pytest.mark.parametrize("bits", FIELDS)
def test_pages_cost_whole_words_and_a_scale_per_token(bits):
    tokens = 3 * page_tokens(bits)
    pages = empty_pages((2, 4, tokens, 128), bits, "cpu")
    per_value = pages.nbytes * 8 / (2 * 4 * tokens * 128)
    stored = {2: 2, 3: 3.2, 4: 4}[bits] + 16 / 128  # bits of a code, and its share of a scale
    assert per_value == pytest.approx(stored, abs=1e-3)  # the length adds 4 bytes
    assert pages.capacity == tokens


def test_pages_refuse_what_they_cannot_hold():
    sketched = TurboQuantizer(64, QuantConfig(qjl=True)).quantize(torch.randn(1, 1, 3, 64))
    with pytest.raises(ValueError, match="QJL"):
        to_pages(sketched)
    short = TurboQuantizer(64, QuantConfig(scale_bits=8)).quantize(torch.randn(1, 1, 3, 64))
    with pytest.raises(ValueError, match="scales of 16 bits"):
        to_pages(short)
    with pytest.raises(ValueError, match="1-bit codes; choose one of 2, 3, 4"):
        page_tokens(1)


def vectors(bits, shape, seed) -> PackedVectors:
    """Packed vectors of random codes (B, H, T, D)."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, shape, generator=generator)
    scales = torch.rand(shape[:3], generator=generator).half()
    return PackedVectors(pack(codes, bits), scales, None, None, bits, shape[-1])

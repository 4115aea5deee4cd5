"""The paged layout: the same codes as the dense one, every bit where the drawing says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.kernels.pages import (
    BITS,
    PAGE,
    SIDES,
    channel_order,
    empty_pages,
    page_count,
    to_dense,
    to_pages,
)
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import PackedVectors, pack, unpack
from turbo_kv.quant.quantizer import TurboQuantizer


@given(
    bits=st.sampled_from(BITS),
    side=st.sampled_from(SIDES),
    tokens=st.integers(0, 200),
    shape=st.sampled_from(((1, 1, 64), (2, 3, 128), (1, 2, 192))),
    seed=st.integers(0, 1000),
)
def test_pages_and_back_is_the_identity(bits, side, tokens, shape, seed):
    *rows, head_dim = shape
    dense = vectors(bits, (*rows, tokens, head_dim), seed)
    pages = to_pages(dense, side)
    back = to_dense(pages, tokens)
    assert torch.equal(back.codes, dense.codes)
    assert torch.equal(back.scales, dense.scales)
    assert (back.bits, back.head_dim, back.layout) == (bits, head_dim, "dense")
    assert pages.length.tolist() == [tokens]
    assert pages.words.shape == (*rows, page_count(tokens), bits, 4 * head_dim)


@given(
    bits=st.sampled_from(BITS),
    side=st.sampled_from(SIDES),
    token=st.integers(0, 199),
    position=st.integers(0, 127),
    seed=st.integers(0, 99),
)
def test_every_code_lies_where_the_layout_draws_it(bits, side, token, position, seed):
    dense = vectors(bits, (1, 1, 200, 128), seed)
    pages = to_pages(dense, side)
    page, inside = divmod(token, PAGE)
    field, token_in_operand = divmod(inside, 16)
    operand, channel_in_operand = divmod(position, 16)
    in_operand = token_in_operand, channel_in_operand
    row, column = in_operand if side == "keys" else in_operand[::-1]
    h, g = divmod(row, 8)
    octet, within = divmod(column, 8)
    t, nibble = within // 2, 2 * octet + within % 2
    index = ((operand // 4 * 32 + 4 * g + t) * 4 + operand % 4) * 2 + h
    planes = [pages.words[0, 0, page, plane, index].item() for plane in range(bits)]
    nibbles = [word >> 4 * nibble & 15 for word in planes]
    if bits == 4:
        code = nibbles[field]
    elif bits == 2:
        code = nibbles[field // 2] >> 2 * (field % 2) & 3
    elif field < 3:
        code = nibbles[field] & 7
    else:
        code = sum((nibbles[plane] >> 3) << plane for plane in range(3))
    channel = channel_order(128)[position]
    assert unpack(dense.codes, bits, 128)[0, 0, token, channel].item() == code


@given(token=st.integers(0, 199), seed=st.integers(0, 99))
def test_the_scales_of_a_lane_lie_side_by_side(token, seed):
    dense = vectors(3, (1, 1, 200, 64), seed)
    page, inside = divmod(token, PAGE)
    field, h, g = inside // 16, inside // 8 % 2, inside % 8
    stored = to_pages(dense, "keys").scales[0, 0, page * PAGE + g * 8 + field * 2 + h]
    assert stored == dense.scales[0, 0, token]


@given(start=st.integers(0, 199), more=st.integers(0, 199))
def test_scales_are_read_in_the_order_of_tokens(start, more):
    dense = vectors(3, (2, 1, 200, 64), 0)
    stop = min(200, start + more)
    read = to_pages(dense, "values").token_scales(start, stop)
    assert torch.equal(read, dense.scales[:, :, start:stop])


@pytest.mark.parametrize("head_dim", [64, 128])
def test_a_lane_keeps_the_octet_of_channels_that_it_loads(head_dim):
    octets = channel_order(head_dim).view(-1, 2, 2, 4, 2)  # 32 channels, operand, octet, t, pair
    for t in range(4):
        kept = octets[:, :, :, t].flatten(1).sort().values
        assert torch.equal(kept, kept[:, :1] + torch.arange(8))
        assert kept[:, 0].tolist() == [32 * chunk + 8 * t for chunk in range(head_dim // 32)]


@given(
    bits=st.sampled_from(BITS),
    side=st.sampled_from(SIDES),
    tokens=st.integers(0, 200),
    more=st.integers(0, 200),
)
def test_what_lies_beyond_the_length_is_not_read(bits, side, tokens, more):
    dense = vectors(bits, (1, 2, tokens + more, 64), 0)
    cut = to_dense(to_pages(dense, side), tokens)
    assert torch.equal(cut.codes, dense.codes[:, :, :tokens])
    assert torch.equal(cut.scales, dense.scales[:, :, :tokens])


@pytest.mark.parametrize("bits", BITS)
def test_pages_cost_their_bits_and_a_scale_per_token(bits):
    tokens = 3 * PAGE
    pages = empty_pages((2, 4, tokens, 128), bits, "keys", "cpu")
    values = 2 * 4 * tokens * 128
    stored = pages.nbytes - pages.length.nbytes - pages.arrived.nbytes
    assert stored * 8 / values == bits + 16 / 128
    assert pages.capacity == tokens


@pytest.mark.parametrize("tokens", [1, 64, 65])
def test_room_grows_and_shrinks_with_the_content_kept(tokens):
    dense = vectors(3, (1, 2, 64, 64), 0)
    pages = to_pages(dense, "values").with_room(tokens)
    assert pages.capacity == page_count(tokens) * PAGE
    kept = min(tokens, 64)
    assert torch.equal(to_dense(pages, kept).codes, dense.codes[:, :, :kept])


def test_pages_refuse_what_they_cannot_hold():
    sketched = TurboQuantizer(64, QuantConfig(qjl=True)).quantize(torch.randn(1, 1, 3, 64))
    with pytest.raises(ValueError, match="QJL"):
        to_pages(sketched, "keys")
    short = TurboQuantizer(64, QuantConfig(scale_bits=8)).quantize(torch.randn(1, 1, 3, 64))
    with pytest.raises(ValueError, match="scales of 16 bits"):
        to_pages(short, "keys")
    with pytest.raises(ValueError, match="1-bit codes; choose one of 2, 3, 4"):
        empty_pages((1, 1, 3, 64), 1, "keys", "cpu")
    with pytest.raises(ValueError, match="80 channels; they take a multiple of 64"):
        empty_pages((1, 1, 3, 80), 3, "values", "cpu")


def vectors(bits, shape, seed) -> PackedVectors:
    """Packed vectors of random codes (B, H, T, D)."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, shape, generator=generator)
    scales = torch.rand(shape[:3], generator=generator).half()
    return PackedVectors(pack(codes, bits), scales, None, None, bits, shape[-1])

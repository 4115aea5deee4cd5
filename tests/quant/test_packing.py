from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.quant.packing import (
    PackedVectors,
    look_up,
    pack,
    packed_size,
    storage_bytes,
    unpack,
    window_table,
)

BATCH, HEADS = 2, 3
WIDTHS = st.sampled_from((1, 2, 3, 4))


@st.composite
def any_codes(draw):
    """Codes of any width and length, odd ones and none included."""
    bits = draw(WIDTHS)
    shape = (*draw(st.lists(st.integers(0, 3), max_size=3)), draw(st.integers(0, 41)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return bits, torch.randint(2**bits, shape, generator=generator, dtype=torch.uint8)


def some_vectors(tokens, *, head_dim=16, bits=3, sketch=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def numbers(size):
        return torch.randint(256, (BATCH, HEADS, tokens, size), generator=generator).byte()

    def norms():
        return torch.rand(BATCH, HEADS, tokens, generator=generator).half()

    return PackedVectors(
        codes=numbers(packed_size(head_dim, bits)),
        scales=norms(),
        signs=numbers(packed_size(head_dim, 1)) if sketch else None,
        residual_norms=norms() if sketch else None,
        bits=bits,
        head_dim=head_dim,
    )


def tensors(packed):
    return [t for t in vars(packed).values() if isinstance(t, torch.Tensor)]


def same(left, right):
    pairs = list(zip(tensors(left), tensors(right), strict=True))
    return bool(pairs) and all(torch.equal(a, b) for a, b in pairs)


@given(any_codes())
def test_packing_loses_nothing_and_wastes_no_bit(given_codes):
    bits, codes = given_codes
    packed = pack(codes, bits)
    count = codes.shape[-1]
    assert packed.dtype == torch.uint8
    assert packed.shape == (*codes.shape[:-1], -(-count * bits // 8))
    assert packed.untyped_storage().nbytes() == packed.numel()
    assert torch.equal(unpack(packed, bits, count), codes)


@given(WIDTHS, st.lists(st.integers(0, 15), max_size=40))
def test_the_bytes_are_one_little_endian_number(bits, codes):
    codes = [code % 2**bits for code in codes]
    number = sum(code << bits * place for place, code in enumerate(codes))
    expected = number.to_bytes(packed_size(len(codes), bits), "little")
    assert bytes(pack(torch.tensor(codes, dtype=torch.uint8), bits).tolist()) == expected


@given(any_codes())
def test_a_table_reads_levels_straight_from_bytes(given_codes):
    bits, codes = given_codes
    levels = torch.randn(2**bits, generator=torch.Generator().manual_seed(bits))
    read = look_up(pack(codes, bits), bits, window_table(levels, bits), codes.shape[-1])
    assert torch.equal(read, levels[codes.long()])


@given(any_codes(), st.integers(0, 7))
def test_memory_order_does_not_matter(given_codes, start):
    bits, codes = given_codes
    buffer = torch.zeros(*codes.shape[:-1], codes.shape[-1] + 7, dtype=torch.uint8)
    view = buffer[..., start : start + codes.shape[-1]].copy_(codes)
    assert torch.equal(pack(view, bits), pack(codes, bits))


@pytest.mark.parametrize("bits", [0, 5, 8])
def test_other_widths_are_refused(bits):
    for use in (
        lambda: pack(torch.zeros(8, dtype=torch.uint8), bits),
        lambda: unpack(torch.zeros(8, dtype=torch.uint8), bits, 1),
    ):
        with pytest.raises(ValueError, match="choose one of 1, 2, 3, 4"):
            use()


@pytest.mark.parametrize("sketch", [False, True])
@given(first=st.integers(0, 6), second=st.integers(0, 6))
def test_cat_slice_and_crop_are_those_of_tensors(sketch, first, second):
    left = some_vectors(first, sketch=sketch)
    right = some_vectors(second, sketch=sketch, seed=1)
    both = left.cat(right)
    assert both.seq_len == first + second
    assert same(both.slice(0, first), left)
    assert same(both.slice(first, first + second), right)
    assert same(both.crop(first), left)


@pytest.mark.parametrize("sketch", [False, True])
def test_cropping_frees_the_rest_and_slicing_copies_nothing(sketch):
    packed = some_vectors(10, sketch=sketch)
    assert packed.crop(4).nbytes == packed.nbytes * 4 // 10
    assert packed.slice(3, 7).nbytes == packed.nbytes
    assert packed.slice(3, 7).codes.data_ptr() == packed.codes[:, :, 3:].data_ptr()


def test_bytes_are_those_of_storage_by_purpose():
    packed = some_vectors(5, head_dim=18)
    vectors = BATCH * HEADS * 5
    assert packed.stored() == {
        "codes": 7 * vectors,
        "scales": 2 * vectors,
        "signs": 3 * vectors,
        "residual_norms": 2 * vectors,
    }
    assert packed.nbytes == sum(packed.stored().values())
    assert some_vectors(5, sketch=False).stored()["signs"] == 0
    assert some_vectors(0).nbytes == 0


def test_a_storage_counts_once_and_whole():
    buffer = torch.zeros(100, dtype=torch.uint8)
    assert storage_bytes(buffer[:10], None, buffer[50:]) == 100
    assert storage_bytes(buffer, buffer.clone()) == 200


@given(st.lists(st.integers(0, 1), min_size=1, max_size=4))
def test_rows_of_a_batch_are_reordered_everywhere(rows):
    packed, index = some_vectors(4), torch.tensor(rows)
    picked = packed.map_batch(lambda tensor: tensor.index_select(0, index))
    assert picked.scales.shape == (len(rows), HEADS, 4)
    assert all(
        torch.equal(after, before[index])
        for after, before in zip(tensors(picked), tensors(packed), strict=True)
    )
    assert (picked.bits, picked.head_dim, picked.layout) == (3, 16, "dense")


def test_vectors_coded_otherwise_are_not_appended():
    packed = some_vectors(2)
    for other in (
        some_vectors(2, bits=4),
        some_vectors(2, head_dim=24),
        some_vectors(2, sketch=False),
        replace(packed, layout="paged"),
    ):
        with pytest.raises(ValueError, match="same settings"):
            packed.cat(other)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (-1, 2), (2, 1)])
def test_tokens_that_are_not_stored_are_refused(start, stop):
    with pytest.raises(ValueError, match="of 3 stored"):
        some_vectors(3).slice(start, stop)

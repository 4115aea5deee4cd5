"""Packed vectors in growing storage: what is appended is what is read, and nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.cache.store import PAGE, PackedStore, tensors
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

QUANTIZER = TurboQuantizer(16, QuantConfig(qjl=True))


def vectors(length):
    return QUANTIZER.quantize(torch.randn(2, 3, length, 16))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(tensors(a).values(), tensors(b).values()))


@given(st.lists(st.integers(0, 90), min_size=1, max_size=8))
def test_many_appends_hold_what_one_holds(lengths):
    parts = [vectors(length) for length in lengths]
    store = PackedStore(parts[0])
    whole = parts[0]
    for part in parts[1:]:
        store.append(part)
        whole = whole.cat(part)
    assert same(store.packed, whole)
    assert store.length == sum(lengths)


@given(st.integers(0, 200), st.integers(0, 200))
def test_storage_is_whole_pages_before_and_after_a_crop(length, kept):
    packed = vectors(length)
    store = PackedStore(packed)
    per_token = vectors(1).nbytes
    assert store.nbytes == -(-length // PAGE) * PAGE * per_token
    store.crop(kept)
    kept = min(kept, length)
    assert same(store.packed, packed.slice(0, kept))
    assert store.nbytes == -(-kept // PAGE) * PAGE * per_token
    stored = store.stored()
    assert stored.pop("open_page") == store.nbytes - kept * per_token
    assert stored == packed.crop(kept).stored()


def test_appending_moves_storage_only_when_a_page_is_full():
    store = PackedStore(vectors(PAGE - 1))
    before = store.packed.codes.data_ptr()
    store.append(vectors(1))
    assert store.packed.codes.data_ptr() == before
    store.append(vectors(1))
    assert store.packed.codes.data_ptr() != before


def test_a_store_does_not_hold_on_to_what_it_was_given():
    packed = vectors(PAGE)
    store = PackedStore(packed)
    pointers = {tensor.data_ptr() for tensor in tensors(packed).values()}
    assert pointers.isdisjoint(t.data_ptr() for t in tensors(store.packed).values())

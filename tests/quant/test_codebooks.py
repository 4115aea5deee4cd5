from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.quant import config as choices
from turbo_kv.quant.codebooks import CODEBOOKS, make
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.packing import packed_size

SHAPES = (st.sampled_from((16, 18, 64, 80, 128)), st.integers(0, 5))
every_codebook = pytest.mark.parametrize("name", CODEBOOKS)


def directions(vectors, head_dim):
    generator = torch.Generator().manual_seed(vectors)
    return torch.nn.functional.normalize(torch.randn(vectors, head_dim, generator=generator))


def test_every_choice_has_a_codebook_and_every_codebook_can_be_chosen():
    assert set(CODEBOOKS) == set(get_args(choices.Codebook))


@every_codebook
@settings(deadline=None, max_examples=20)
@given(st.data(), *SHAPES)
def test_a_code_takes_its_bits_and_decodes_to_a_level_near_by(name, data, head_dim, vectors):
    bits = data.draw(st.sampled_from(choices.BITS))
    book = make(QuantConfig(bits=bits, codebook=name), head_dim)
    unit = directions(vectors, head_dim)
    codes = book.encode(unit)
    assert (codes.dtype, codes.shape) == (torch.uint8, (vectors, packed_size(head_dim, bits)))
    assert codes.untyped_storage().nbytes() == codes.numel()
    levels = book.decode(codes)
    assert (levels.dtype, levels.shape) == (torch.float32, unit.shape)
    assert torch.equal(book.decode(codes.unsqueeze(0)), levels.unsqueeze(0))
    assert ((levels * unit).sum(-1) > 0.75 * levels.norm(dim=-1)).all()


@every_codebook
@settings(deadline=None, max_examples=20)
@given(st.data(), *SHAPES)
def test_a_vector_is_coded_alone(name, data, head_dim, vectors):
    bits = data.draw(st.sampled_from(choices.BITS))
    book = make(QuantConfig(bits=bits, codebook=name), head_dim)
    unit = directions(vectors, head_dim)
    alone = [book.encode(one) for one in unit.split(1)]
    assert torch.equal(torch.cat(alone) if alone else book.encode(unit), book.encode(unit))

import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.quant.rows import times


@given(
    head_dim=st.sampled_from((16, 64, 80, 128)),
    cuts=st.lists(st.integers(0, 300), max_size=6).map(sorted),
)
def test_a_row_is_the_same_bits_whatever_rows_are_beside_it(head_dim, cuts):
    generator = torch.Generator().manual_seed(0)
    x = 100 * torch.randn(300, head_dim, generator=generator)
    matrix = torch.randn(head_dim, head_dim, generator=generator)
    whole = times(x, matrix)
    parts = [times(part, matrix) for part in x.tensor_split(cuts)]
    assert torch.equal(torch.cat(parts), whole)


def test_every_single_row_is_the_same_bits_as_among_many():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(257, 128, generator=generator)
    matrix = torch.randn(128, 128, generator=generator)
    assert torch.equal(torch.cat([times(row[None], matrix) for row in x]), times(x, matrix))


def test_it_multiplies_the_last_dimension():
    x, matrix = torch.randn(2, 3, 5, 16), torch.randn(16, 7)
    torch.testing.assert_close(times(x, matrix), x @ matrix)
    assert times(x[:, :, :0], matrix).shape == (2, 3, 0, 7)
    assert times(x[0, 0, 0], matrix).shape == (7,)

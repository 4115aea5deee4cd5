import pytest
import torch

from turbo_kv.quant.hadamard import HadamardRotation, NoRotation, blocks, hadamard_matrix

HEAD_DIMS = (16, 18, 64, 80, 96, 128, 256)


def vectors(head_dim, count=50, seed=0):
    return torch.randn(count, head_dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, 2, 16, 128])
def test_the_transform_is_the_walsh_hadamard_matrix_and_its_own_inverse(size):
    matrix = hadamard_matrix(size)
    signs = [[(-1.0) ** (i & j).bit_count() for j in range(size)] for i in range(size)]
    torch.testing.assert_close(matrix, torch.tensor(signs) / size**0.5)
    torch.testing.assert_close(matrix @ matrix, torch.eye(size))


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_the_rotation_is_orthonormal_and_undone(head_dim):
    rotation, x = HadamardRotation(head_dim, seed=0), vectors(head_dim)
    torch.testing.assert_close(rotation.matrix @ rotation.matrix.T, torch.eye(head_dim))
    torch.testing.assert_close(rotation.unrotate(rotation.rotate(x)), x)
    torch.testing.assert_close(rotation.rotate(x).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_signs_come_before_the_transform(head_dim):
    """After it, two seeds would give the same vector up to signs, and the same codes."""
    x = vectors(head_dim)
    first, second = (HadamardRotation(head_dim, seed).rotate(x).abs() for seed in (0, 1))
    assert (first - second).abs().max() > 0.5


def test_the_seed_decides_and_nothing_else():
    x = vectors(64)
    torch.manual_seed(1)
    first = HadamardRotation(64, seed=7).rotate(x)
    torch.manual_seed(2)
    assert torch.equal(HadamardRotation(64, seed=7).rotate(x), first)


def test_rotation_spreads_one_coordinate_evenly_over_its_block():
    for head_dim, position, block in ((128, 3, slice(0, 128)), (80, 70, slice(64, 80))):
        x = torch.zeros(1, head_dim)
        x[0, position] = 1.0
        expected = torch.zeros(head_dim)
        expected[block] = (block.stop - block.start) ** -0.5
        torch.testing.assert_close(HadamardRotation(head_dim, 0).rotate(x).abs()[0], expected)


def test_other_sizes_are_cut_into_powers_of_two():
    assert [blocks(d) for d in (80, 96, 128)] == [[64, 16], [64, 32], [128]]


@pytest.mark.parametrize("rotation", [HadamardRotation(16, 0), NoRotation()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_float_comes_out_as_fp32(rotation, dtype):
    x = vectors(16).to(dtype)
    assert rotation.rotate(x).dtype == rotation.unrotate(x).dtype == torch.float32


def test_without_rotation_vectors_stay():
    x = vectors(16)
    assert torch.equal(NoRotation().rotate(x), x)
    assert torch.equal(NoRotation().unrotate(x), x)

"""What the mean adds to scores, from the tables that the kernel in CUDA C multiplies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.kernels import mean_samples
from turbo_kv.kernels.pages import PAGE


def table(tokens, head_dim, theta):
    angles = torch.outer(
        torch.arange(tokens).double(), theta ** -(torch.arange(0, head_dim, 2).double() / head_dim)
    )
    return tuple(torch.cat((each, each), 1).float() for each in (angles.cos(), angles.sin()))


@pytest.mark.parametrize(("head_dim", "theta"), [(128, 1e6), (64, 1e6), (128, 1e4), (64, 1e4)])
def test_sampled_and_turned_pairs_add_up_to_every_pair(head_dim, theta):
    """Fields of pages at both ends of a table and within it, in fp64, as the kernel multiplies."""
    pages = 10
    cos, sin = table(pages * PAGE, head_dim, theta)
    fast = mean_samples.fast_pairs(cos, sin)
    assert fast % 8 == 0
    assert 0 < fast < head_dim // 2
    z = torch.randn(head_dim // 2, 2, generator=torch.Generator().manual_seed(0)).double()
    half = slice(0, head_dim // 2)
    exact = (cos[:, half].double() * z[:, 0] + sin[:, half].double() * z[:, 1]).sum(1)

    within = mean_samples.mean_table(cos, sin, fast).double()  # field, step, row, t, .., half, 2
    within = within.permute(0, 5, 2, 1, 4, 3, 6).reshape(PAGE, -1)
    to_curve = mean_samples.curve_table(cos, sin, fast).double()  # number, t, .., 2
    from_samples, from_pairs, nothing = to_curve.transpose(1, 2).flatten(2).split((2, 1, 1), 1)
    assert not nothing.any()
    parts = mean_samples.sample_table(cos, sin, fast).double().sum(2)  # block, step, row, t, ..
    parts = parts.permute(0, 5, 2, 1, 4, 3, 6).reshape(-1, head_dim // 2 - fast, 2)
    samples = (parts * z[fast:]).sum((1, 2))
    own = -mean_samples.NODES[0]
    stride = mean_samples.step_table(cos, sin, fast, 1).double().transpose(0, 1).reshape(fast, 2)

    turning = turned(z[:fast], cos[PAGE // 2, :fast].double(), sin[PAGE // 2, :fast].double())
    for page in range(pages):
        base, slowest = samples[page + own], turning[-mean_samples.SLOWEST :]
        nodes = samples[page : page + len(mean_samples.NODES)] - base
        curve = from_samples.flatten(1) @ nodes + from_pairs.flatten(1) @ slowest.flatten()
        numbers = torch.cat((turning[: -mean_samples.SLOWEST].flatten(), curve))
        wanted = exact[page * PAGE : (page + 1) * PAGE]
        assert (base + within @ numbers - wanted).abs().max() < 2e-3 * z.norm()
        turning = turned(turning, stride[:, 0], stride[:, 1])


@pytest.mark.parametrize(("head_dim", "theta"), [(128, 1e6), (64, 1e6), (128, 1e4), (64, 1e4)])
def test_few_numbers_tell_every_curve(head_dim, theta):
    """Any slow angle, and any sum of the slowest fast pairs."""
    rope = table(PAGE, head_dim, theta)
    fast = mean_samples.fast_pairs(*rope)
    functions = mean_samples._functions(*rope, fast)
    place = mean_samples._tokens().double()
    turns = torch.outer(place / PAGE, torch.linspace(0, mean_samples.SMOOTH, 99).double())
    slow = torch.cat((turns.cos() - 1, turns.sin()), 1)
    for curves in (slow, mean_samples._slowest(*rope, fast)):
        assert (functions @ (functions.T @ curves) - curves).abs().max() < 4e-5


def turned(z, cos, sin):
    return torch.stack((z[:, 0] * cos + z[:, 1] * sin, z[:, 1] * cos - z[:, 0] * sin), 1)


@given(st.floats(-mean_samples.SMOOTH, mean_samples.SMOOTH))
def test_whatever_turns_slowly_enough_is_interpolated(angle):
    weights = mean_samples._weights((torch.arange(PAGE) - PAGE // 2).double() / PAGE)
    nodes = torch.polar(torch.ones(16).double(), angle * mean_samples.NODES.double())
    place = angle * (torch.arange(PAGE) - PAGE // 2).double() / PAGE
    got = weights.to(torch.cdouble) @ nodes
    assert (got - torch.polar(torch.ones(PAGE).double(), place)).abs().max() < 6e-5
    assert torch.allclose(weights.sum(1), torch.ones(PAGE).double())

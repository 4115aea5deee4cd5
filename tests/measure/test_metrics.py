"""Metrics equal their definitions, written out row by row in float64, and obey softmax's laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.measure.metrics import ExactAttention, cosine, relative_mse

FIELDS = ("kl", "logit_correlation", "top1", "output_relative_error")


def states(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention_inputs(batch, kv_heads, groups, rows, length, *, error=0.3, seed=0):
    queries = states(batch, kv_heads * groups, rows, 16, seed=seed, scale=3.0)
    keys, values = (states(batch, kv_heads, length, 16, seed=seed + i) for i in (1, 2))
    noise = [states(batch, kv_heads, length, 16, seed=seed + i, scale=error) for i in (3, 4)]
    return queries, (keys, keys + noise[0]), (values, values + noise[1])


def attention_fidelity(queries, keys, values, scaling, **block):
    """Keys and values are pairs (exact, restored)."""
    exact = ExactAttention(queries, keys[0], values[0], scaling, **block)
    return exact.compare(keys[1], values[1])


def by_definition(queries, keys, values, scaling):
    """Every figure per (batch row, query head, query), averaged at the end."""
    batch, query_heads, rows, _ = queries.shape
    length, groups = keys[0].shape[2], query_heads // keys[0].shape[1]
    figures = torch.zeros(4, batch, query_heads, rows, dtype=torch.float64)
    for b in range(batch):
        for h in range(query_heads):
            for r in range(rows):
                seen = length - rows + r + 1
                query = queries[b, h, r].double()
                exact, packed = (k[b, h // groups, :seen].double() @ query * scaling for k in keys)
                output, restored = (
                    scores.softmax(0) @ v[b, h // groups, :seen].double()
                    for scores, v in zip((exact, packed), values)
                )
                p, q = exact.log_softmax(0), packed.log_softmax(0)
                correlation = 1.0
                if seen > 1:
                    correlation = torch.corrcoef(torch.stack((exact, packed)))[0, 1]
                figures[:, b, h, r] = torch.tensor(
                    [
                        (p.exp() * (p - q)).sum(),
                        correlation,
                        float(exact.argmax() == packed.argmax()),
                        (restored - output).norm() / output.norm(),
                    ]
                )
    return figures.mean(dim=(1, 3))


@settings(max_examples=40)
@given(
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    rows=st.integers(1, 9),
    history=st.integers(0, 20),
    block=st.sampled_from([1, 50, 2**20]),
    seed=st.integers(0, 1000),
)
def test_attention_equals_its_definition(*, batch, kv_heads, groups, rows, history, block, seed):
    inputs = attention_inputs(batch, kv_heads, groups, rows, rows + history, seed=seed)
    measured = attention_fidelity(*inputs, scaling=0.25, block=block)
    expected = by_definition(*inputs, scaling=0.25)
    for name, figure in zip(FIELDS, expected):
        torch.testing.assert_close(
            getattr(measured, name).double(), figure, rtol=1e-4, atol=1e-5, msg=name
        )


def test_equal_states_show_no_difference():
    queries, (keys, _), (values, _) = attention_inputs(1, 2, 3, 8, 40)
    same = attention_fidelity(queries, (keys, keys), (values, values), 0.25)
    torch.testing.assert_close(same.kl, torch.zeros(6), rtol=0, atol=1e-6)
    assert torch.equal(same.top1, torch.ones(6))
    torch.testing.assert_close(same.output_relative_error, torch.zeros(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(same.logit_correlation, torch.ones(6), rtol=0, atol=1e-6)


def test_a_constant_added_to_every_restored_key_is_invisible():
    queries, (keys, restored), values = attention_inputs(1, 2, 2, 8, 40)
    shift = states(1, 2, 1, 16, seed=9, scale=10.0)
    plain = attention_fidelity(queries, (keys, restored), values, 0.25)
    shifted = attention_fidelity(queries, (keys, restored + shift), values, 0.25)
    for name in FIELDS:
        torch.testing.assert_close(
            getattr(plain, name), getattr(shifted, name), rtol=1e-3, atol=1e-4
        )


def test_scaling_every_key_keeps_order_but_not_weights():
    queries, (keys, _), (values, _) = attention_inputs(1, 2, 2, 8, 40)
    warmer = attention_fidelity(queries, (keys, 0.8 * keys), (values, values), 0.25)
    torch.testing.assert_close(warmer.logit_correlation, torch.ones(4))
    assert torch.equal(warmer.top1, torch.ones(4))
    assert (warmer.kl > 0.005).all()


def test_holds_for_large_offset_keys():
    """Keys of norm 300 that are nearly one vector: small KL between logits of hundreds."""
    queries, (keys, restored), values = attention_inputs(1, 1, 2, 8, 60, error=0.02)
    offset = states(1, 1, 1, 16, seed=7)
    offset *= 300 / offset.norm()
    inputs = queries, (keys + offset, restored + offset), values
    measured, expected = attention_fidelity(*inputs, 0.25), by_definition(*inputs, 0.25)
    torch.testing.assert_close(measured.kl.double(), expected[0], rtol=0.05, atol=1e-5)
    torch.testing.assert_close(measured.logit_correlation.double(), expected[1], rtol=0, atol=1e-4)


def test_broken_keys_stay_finite():
    queries, (keys, _), values = attention_inputs(1, 1, 1, 4, 30)
    wrong = attention_fidelity(queries, (keys, -400 * keys), values, 1.0)
    for name in FIELDS:
        assert getattr(wrong, name).isfinite().all()
    assert wrong.kl.item() > 100
    assert wrong.top1.item() < 0.5
    assert wrong.logit_correlation.item() == pytest.approx(-1, abs=1e-4)


def test_cosine_and_relative_error_per_head():
    exact = states(2, 3, 50, 16)
    restored = exact + states(2, 3, 50, 16, seed=1, scale=0.2)
    for head in range(3):
        pairs = zip(exact[:, head].reshape(-1, 16), restored[:, head].reshape(-1, 16))
        cosines = [(x @ y / x.norm() / y.norm()).item() for x, y in pairs]
        error = (exact - restored)[:, head].norm() ** 2 / exact[:, head].norm() ** 2
        assert cosine(exact, restored)[head].item() == pytest.approx(sum(cosines) / 100, rel=1e-5)
        assert relative_mse(exact, restored)[head].item() == pytest.approx(error.item(), rel=1e-5)


@given(st.floats(0.01, 100))
def test_cosine_is_blind_to_length_and_relative_error_is_not(factor):
    exact = states(1, 1, 20, 16)
    assert cosine(exact, factor * exact).item() == pytest.approx(1, rel=1e-5)
    expected = (1 - factor) ** 2
    assert relative_mse(exact, factor * exact).item() == pytest.approx(expected, rel=1e-3, abs=1e-9)

"""Laws of bases of one's own: what they are balanced for, what they cost, and that they help."""

import pytest
import torch

from turbo_kv.bench import calibration
from turbo_kv.bench.head_basis import (
    SplitQuantizer,
    balanced,
    from_weights,
    in_bytes,
)
from turbo_kv.cache.rope import RopeTable
from turbo_kv.models.load import load
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

CONFIG = QuantConfig(scale_bits=8)


def moment(seed, size=64, heads=2):
    """A second moment (heads, size, size) far from isotropic."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(heads, 4 * size, size, generator=generator) * torch.logspace(1, -1, size)
    return rows.mT @ rows


def test_a_balanced_basis_makes_both_moments_the_same_diagonal():
    sigma, metric = moment(1), moment(2)
    basis = balanced(sigma, metric, 0.0).double()
    inverse = torch.linalg.inv(basis)
    costs = basis @ sigma.double() @ basis.mT
    other = inverse.mT @ metric.double() @ inverse
    for each in (costs, other):
        diagonal = each.diagonal(dim1=1, dim2=2)
        assert (each - torch.diag_embed(diagonal)).abs().max() < 1e-3 * diagonal.max()
        assert (diagonal.diff() < 1e-6 * diagonal.max()).all()
    ratio = costs.diagonal(dim1=1, dim2=2) / other.diagonal(dim1=1, dim2=2)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)


def test_a_basis_lowers_the_error_it_is_for_at_the_bytes_of_plain_codes():
    sigma, metric = moment(1), moment(2).flip(-1, -2)
    root = torch.linalg.cholesky(sigma)
    x = torch.randn(1, 2, 2000, 64, generator=torch.Generator().manual_seed(3)) @ root.mT
    plain, split = TurboQuantizer(64, CONFIG), SplitQuantizer(balanced(sigma, metric, 0.0), CONFIG)

    def cost(quantizer):
        error = quantizer.dequantize(quantizer.quantize(x)) - x
        return ((error @ metric) * error).sum().item()

    assert cost(split) < 0.7 * cost(plain)
    packed, other = split.quantize(x), plain.quantize(x)
    assert packed.codes.shape == other.codes.shape
    assert packed.scales.nbytes == 3 * other.scales.nbytes
    alone = split.quantize(x[:, :, 7:8])
    assert torch.equal(alone.codes, packed.codes[:, :, 7:8])


def test_a_basis_in_bytes_is_nearly_the_same_and_its_bytes_are_counted():
    basis = balanced(moment(1), moment(2), 0.1)
    kept, size = in_bytes(basis)
    assert size == 2 * 64 * (64 + 2)
    assert (kept - basis).norm() < 0.02 * basis.norm()


def test_bases_of_weights_know_no_text():
    layer = load("tiny").model.model.layers[3]
    cos_sin = RopeTable.from_config(load("tiny").model.config).cos_sin(0, calibration.POSITIONS)
    with torch.no_grad():
        keys, values = from_weights(layer.self_attn, layer.input_layernorm.weight, cos_sin).bases()
    assert keys.shape == values.shape == (2, 64, 64)
    assert torch.linalg.matrix_rank(keys).tolist() == [64, 64]


@pytest.fixture(scope="module")
def rows():
    patch = pytest.MonkeyPatch()
    patch.setattr(calibration, "CODEBOOKS", ("lloyd-max",))
    patch.setattr(calibration, "HEEDING_OVER", "lloyd-max")
    loaded = load("tiny")
    tokens = prepare(loaded.tokenizer, None, 512, 8192).tokens
    yield {(row.bits, row.bases): row for row in calibration.measure(loaded.model, tokens, "text")}
    patch.undo()


def test_the_study_counts_the_bases_and_compares_at_equal_bits(rows):
    plain, four, prompt = rows[3, "none"], rows[4, "none"], rows[3, "prompt"]
    assert plain.ratio == pytest.approx(1)
    assert [plain.at_equal_bits, four.at_equal_bits] == pytest.approx([1, 1])
    assert prompt.bases_bytes == 12 * 2 * 2 * 64 * 66
    values = 2 * 12 * 2 * 64 * 512
    scales = 2 * 8 * values / 64
    bases = 8 * prompt.bases_bytes
    extra = (prompt.bits_per_value - plain.bits_per_value) * values
    assert extra == pytest.approx(scales + bases)
    assert rows[3, "weights"].bases_bytes == 0
    assert prompt.ratio < 0.85
    assert prompt.at_equal_bits > prompt.ratio
    heeding = rows[3, "queries"]
    assert heeding.bits_per_value == plain.bits_per_value
    assert heeding.quality.kl.mean < 0.8 * plain.quality.kl.mean

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turbo_kv.quant.config import BITS, QuantConfig
from turbo_kv.quant.packing import pack, packed_size, unpack
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.trellis import LEVELS_FILE, STATE_BITS, TrellisCodebook, shipped_levels
from turbo_kv.quant.trellis_design import design

D = 64
ONE_BIT = QuantConfig(bits=2, qjl=True, qjl_budget="inside", codebook="trellis")
WIDTHS = st.sampled_from((1, 2, 3, 4))


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def directions(vectors, head_dim=D, seed=0):
    return torch.nn.functional.normalize(gaussian(vectors, head_dim, seed=seed), dim=-1)


def small_book(bits, state_bits, head_dim, seed=0, **options):
    return TrellisCodebook(gaussian(2**state_bits, seed=seed), bits, head_dim, **options)


def sin2(restored, x):
    return (1 - torch.cosine_similarity(restored, x, dim=-1).square()).mean().item()


def quantizer(head_dim=D, **choices):
    return TurboQuantizer(head_dim, QuantConfig(codebook="trellis", **choices))


@settings(deadline=None, max_examples=30)
@given(WIDTHS, st.integers(0, 8), st.sampled_from((9, 10, 16)), st.integers(0, 9))
def test_a_level_is_that_of_the_bits_that_end_with_its_code(bits, more, head_dim, seed):
    book = small_book(bits, min(bits + more, bits * head_dim), head_dim, seed)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2**bits, (3, head_dim), generator=generator)
    state, states = torch.zeros(3, dtype=torch.long), []
    for column in codes.unbind(1):  # once around, so that the last codes come before the first
        state = state >> bits | column << (book.state_bits - bits)
    for column in codes.unbind(1):
        state = state >> bits | column << (book.state_bits - bits)
        states.append(state)
    packed = pack(codes, bits)
    assert torch.equal(book.states(packed).long(), torch.stack(states, 1))
    assert torch.equal(book.decode(packed), book.levels[:, 0][torch.stack(states, 1)])


@pytest.mark.parametrize(("bits", "head_dim"), [(1, 10), (2, 5), (3, 4), (4, 3)])
@pytest.mark.parametrize("more", [0, 1, 3, 6])
def test_no_path_through_the_same_seam_is_nearer_than_the_one_that_is_found(bits, head_dim, more):
    book = small_book(bits, bits + more, head_dim, stretches=(1.0,))
    every = pack(torch.tensor(list(product(range(2**bits), repeat=head_dim))), bits)
    unit = directions(50, head_dim)
    codes = book.encode(unit)
    distances = torch.cdist(unit, book.decode(every))
    seam, seams = (book.states(each)[:, -1] >> bits for each in (codes, every))
    nearest = distances.masked_fill(seam[:, None] != seams, torch.inf).amin(1)
    found = (book.decode(codes) - unit).norm(dim=-1)
    torch.testing.assert_close(found, nearest, atol=1e-4, rtol=1e-4)


def test_every_coordinate_is_coded_alike_well():
    """Neither end of a ring pays: with a fixed first state the first coordinates would."""
    unit, book = directions(4000, 32), TrellisCodebook(shipped_levels(2), 2, 32)
    restored = book.decode(book.encode(unit))
    errors = (restored - unit).square().mean(0)
    assert errors.max() < 1.25 * errors.mean()


def test_a_coordinate_is_read_without_those_far_before_it():
    book = small_book(3, 10, D)
    codes = torch.randint(8, (1, D), generator=torch.Generator().manual_seed(0))
    other = codes.clone()
    other[:, :20] = 7 - codes[:, :20]
    levels, others = (book.decode(pack(each, 3)) for each in (codes, other))
    assert torch.equal(levels[:, 23:], others[:, 23:])
    assert not torch.equal(levels[:, :23], others[:, :23])


def test_stretching_hardly_ever_widens_the_angle():
    unit = directions(200)
    once, thrice = (
        TrellisCodebook(shipped_levels(3), 3, D, stretches=by) for by in ((1.0,), (0.9, 1.0, 1.1))
    )
    angles = [
        torch.cosine_similarity(b.decode(b.encode(unit)), unit, dim=-1) for b in (once, thrice)
    ]
    widened = angles[1] < angles[0] - 1e-4  # they round the levels differently
    assert widened.float().mean() < 0.1
    assert (angles[1] > angles[0] + 1e-4).float().mean() > 0.3


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(("bits", "at_most"), [(2, 0.72), (3, 0.62), (4, 0.62)])
def test_it_beats_lloyd_max_in_the_same_bytes_and_not_shannon(bits, at_most, head_dim):
    x = 11 * gaussian(1, 2, 250, head_dim)
    trellis, plain = (
        TurboQuantizer(head_dim, QuantConfig(bits=bits, codebook=name))
        for name in ("trellis", "lloyd-max")
    )
    packed = trellis.quantize(x)
    assert packed.stored() == plain.quantize(x).stored()
    error = sin2(trellis.dequantize(packed), x)
    assert error < at_most * sin2(plain.dequantize(plain.quantize(x)), x)
    assert error > 4**-bits


@pytest.mark.parametrize("config", [QuantConfig(bits=bits, codebook="trellis") for bits in BITS])
@pytest.mark.parametrize("scale_bits", [16, 8])
def test_a_vector_takes_its_bits_and_a_scale(config, scale_bits):
    packed = quantizer(bits=config.bits, scale_bits=scale_bits).quantize(gaussian(1, 2, 3, D))
    assert packed.nbytes == 2 * 3 * (packed_size(D, config.bits) + scale_bits // 8)


@settings(deadline=None, max_examples=15)
@given(
    head_dim=st.sampled_from((16, 18, 64, 80)),
    bits=st.sampled_from(BITS),
    cuts=st.lists(st.integers(0, 9), max_size=3).map(sorted),
)
def test_one_update_equals_many(head_dim, bits, cuts):
    made, x = quantizer(head_dim, bits=bits), 20 * gaussian(1, 2, 9, head_dim)
    whole = made.quantize(x)
    parts = [made.quantize(part) for part in x.tensor_split(cuts, dim=2)]
    assert torch.equal(torch.cat([part.codes for part in parts], 2), whole.codes)
    assert torch.equal(torch.cat([part.scales for part in parts], 2), whole.scales)


def test_blocks_change_nothing(monkeypatch):
    unit, book = directions(40), TrellisCodebook(shipped_levels(2), 2, D)
    whole = book.encode(unit)
    monkeypatch.setattr("turbo_kv.quant.trellis.VECTORS_AT_ONCE", 7)
    assert torch.equal(book.encode(unit), whole)


@pytest.mark.parametrize("config", [QuantConfig(rotation=False, codebook="trellis"), ONE_BIT])
def test_one_channel_alone_zeros_and_small_vectors_are_coded(config):
    x = torch.zeros(1, 1, 4, D)
    x[0, 0, 1, 5], x[0, 0, 2] = 300.0, 1e-3 * gaussian(D)
    restored = (made := TurboQuantizer(D, config)).dequantize(made.quantize(x))
    assert restored.isfinite().all()
    assert not restored[:, :, [0, 3]].any()
    assert (restored - x).norm(dim=-1)[0, 0, 1] < 300


def test_costs_stay_within_int32():
    """The longest vector of the widest head: all of it in one coordinate, at the coarsest step."""
    for head_dim, bits in product((64, 256, 1024), (1, 4)):
        book = TrellisCodebook(shipped_levels(bits), bits, head_dim, stretches=(1.1,))
        unit = torch.eye(head_dim)[head_dim // 2 :: head_dim // 4]
        levels = book.decode(book.encode(unit))
        assert torch.equal(levels.argmax(-1), unit.argmax(-1))


def test_not_a_number_is_refused():
    x = gaussian(1, 1, 3, D)
    x[0, 0, 1, 2] = float("nan")
    with pytest.raises(ValueError, match="1 of 3 vectors hold NaN"):
        quantizer().quantize(x)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_shipped_levels_are_the_means_of_what_they_stand_for(bits):
    """Lloyd's condition, as far as a few thousand coordinates per thousand levels can tell."""
    assert LEVELS_FILE.stat().st_size == 4 * 2**STATE_BITS * 2
    unit = directions(400, seed=bits)
    book = TrellisCodebook(shipped_levels(bits), bits, D, stretches=(1.0,))
    states = book.states(book.encode(unit)).flatten()
    count = torch.bincount(states, minlength=2**STATE_BITS)
    total = torch.bincount(states, D**0.5 * unit.flatten(), 2**STATE_BITS)
    error = total / count.clamp(min=1) - shipped_levels(bits)
    spread = (D**0.5 * unit.flatten() - shipped_levels(bits)[states]).square().mean()
    chi2 = (error.square() * count)[count > 0].mean() / spread
    assert chi2 == pytest.approx(1, abs=0.15)  # the scatter of means, and no more


def test_a_design_repeats_and_improves():
    first, *_, last = designs = list(design(3, 8, steps=12, vectors=100))
    assert torch.equal(last, list(design(3, 8, steps=12, vectors=100))[-1])
    assert len(designs) == 12
    unit = directions(200, seed=7)
    errors = []
    for levels in (first, last):
        book = TrellisCodebook(levels, 3, D, stretches=(1.0,))
        errors.append((book.decode(book.encode(unit)) - unit).square().sum(-1).mean())
    assert errors[1] < 0.95 * errors[0]


def test_codes_lie_in_the_stream_like_any_others():
    codes = quantizer().quantize(gaussian(1, 1, 2, D)).codes
    assert torch.equal(pack(unpack(codes, 3, D), 3), codes)


def metric(head_dim=D, seed=0):
    """A covariance of queries with a spread of directions."""
    spread = torch.logspace(1, -1, head_dim)
    axes, _ = torch.linalg.qr(gaussian(head_dim, head_dim, seed=seed))
    return axes * spread @ axes.T


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("head_dim", [64, 80])
def test_heeding_queries_costs_them_less_in_the_same_bytes(bits, head_dim):
    m, x = metric(head_dim), 11 * gaussian(1, 1, 300, head_dim)
    plain, heeding = (
        TurboQuantizer(head_dim, QuantConfig(bits=bits, codebook="query-trellis"), metric=each)
        for each in (None, m[None])
    )
    costs = []
    for each in (plain, heeding):
        packed = each.quantize(x)
        assert packed.nbytes == plain.quantize(x).nbytes
        errors = plain.dequantize(packed) - x  # who reads need not know of the metric
        costs.append(((errors @ m) * errors).sum())
    assert costs[1] < 0.8 * costs[0]


def test_without_a_metric_or_with_an_indifferent_one_it_is_the_trellis():
    x = 11 * gaussian(1, 2, 100, D)
    plain = quantizer().quantize(x)
    made = TurboQuantizer(D, QuantConfig(codebook="query-trellis"))
    assert torch.equal(made.quantize(x).codes, plain.codes)
    same = torch.eye(D).expand(2, D, D)
    heeding = TurboQuantizer(D, QuantConfig(codebook="query-trellis"), metric=same)
    errors = [sin2(quantizer().dequantize(p), x) for p in (plain, heeding.quantize(x))]
    assert errors[1] == pytest.approx(errors[0], rel=0.05)  # blocks look only so far ahead


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 9), max_size=3).map(sorted), st.sampled_from((16, 64)))
def test_heeding_queries_one_update_equals_many(cuts, head_dim):
    metrics = torch.stack((metric(head_dim), metric(head_dim, seed=1)))
    made = TurboQuantizer(head_dim, QuantConfig(codebook="query-trellis"), metric=metrics)
    x = 20 * gaussian(2, 2, 9, head_dim)
    whole = made.quantize(x)
    parts = [made.quantize(part) for part in x.tensor_split(cuts, dim=2)]
    assert torch.equal(torch.cat([part.codes for part in parts], 2), whole.codes)
    assert torch.equal(made.quantize(x[1:]).codes, whole.codes[1:])
    swapped = TurboQuantizer(
        head_dim, QuantConfig(codebook="query-trellis"), metric=metrics.flip(0)
    )
    assert torch.equal(swapped.quantize(x.flip(1)).codes, whole.codes.flip(1))

"""Decode attention on packed pages against the specification on the same bytes."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton", reason="Triton has no wheel for this platform")

import emulated_cuda
from pages_on_device import DEVICE, cos_sin, normal

from turbo_kv.kernels import compiled_cuda, reference
from turbo_kv.kernels.choose import why_not_cuda_c
from turbo_kv.kernels.decode_cuda import CompiledAttention
from turbo_kv.kernels.decode_triton import Launch, PagedAttention
from turbo_kv.kernels.pages import SIDES, empty_pages, to_pages
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

KV_HEADS = 2
SMALL = Launch(splits=2)
NARROW = "CUDA C, narrow programs"
ON_GPU = (
    ("Triton", "CUDA C", NARROW) if why_not_cuda_c(torch.device(DEVICE)) is None else ("Triton",)
)
ON_CPU = ("Triton", "CUDA C", "CUDA C, early copies", NARROW)


@pytest.fixture(params=ON_GPU if DEVICE == "cuda" else ON_CPU, autouse=True)
def _path(request, monkeypatch):
    """Every test runs on every path of the device; on a CPU both kinds of kernels are emulated."""
    compiled = request.param != "Triton"
    monkeypatch.setattr(Case, "compiled", compiled)
    if request.param == NARROW:
        monkeypatch.setattr(CompiledAttention, "_widths", lambda self: (4,))
    if compiled and DEVICE == "cpu":
        if emulated_cuda.COMPILER is None:
            pytest.skip("no C++ compiler")
        kernel = partial(emulated_cuda.kernel, eager="early" in request.param)
        properties = SimpleNamespace(multi_processor_count=4)
        monkeypatch.setattr(compiled_cuda, "check", lambda device: None)
        monkeypatch.setattr(compiled_cuda, "kernel", kernel)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)


@pytest.fixture(autouse=True)
def _poisoned():
    """Fresh tensors are full of NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


class Case:
    """Random states in the dense form of the specification and in pages with rubbish beyond."""

    compiled = False

    def __init__(
        self, length, head_dim=64, bits=(3, 3), *, groups=7, batch=1, codebook="lloyd-max", newest=0
    ):
        config = QuantConfig(codebook=codebook)
        pair = [TurboQuantizer(head_dim, replace(config, bits=each), DEVICE) for each in bits]
        shape = batch, KV_HEADS, length, head_dim
        dense = [one.quantize(normal(*shape, seed=seed)) for seed, one in enumerate(pair)]
        self.pages = roomy_pages(*dense)
        slow = torch.linspace(0, 1, head_dim // 2, device=DEVICE).pow(4).repeat(2)
        means = normal(2, batch, KV_HEADS, head_dim, seed=2)
        self.center = Center(20 * slow * means[0], means[1])
        self.table = cos_sin(max(length + 640, 1024), head_dim)
        self.newest = tuple(normal(2, batch, KV_HEADS, newest, head_dim, seed=4).bfloat16())
        rows = (each[:length] for each in self.table)
        self.states = PackedStates(*dense, *pair, self.center, *rows, *self.newest)
        self.queries = normal(batch, KV_HEADS * groups, 1, head_dim, seed=3)
        self.pair = pair

    def attend(self, launch=SMALL, first=None):
        attention = self.attention(*self.table, launch=launch)
        newest = self.newest if self.newest[0].shape[2] else None
        return attention(self.queries, *self.pages, self.center, first, newest=newest)

    def attention(self, *table, launch=SMALL):
        return PagedAttention(*self.pair, *table, launch=replace(launch, compiled=self.compiled))


def roomy(dense, side):
    """Pages with as much room again, full of rubbish."""
    filled = to_pages(dense, side)
    rubbish = float("nan")  # where the last page is not filled too
    filled = replace(filled, scales=torch.where(filled.scales > 0, filled.scales, rubbish))
    batch, heads, tokens, width = *filled.scales.shape, dense.head_dim
    pages = empty_pages((batch, heads, tokens + 300, width), dense.bits, side, DEVICE)
    pages.words.fill_(-1)
    pages.scales.fill_(float("nan"))
    pages.words[:, :, : filled.words.shape[2]] = filled.words
    pages.scales[:, :, :tokens] = filled.scales
    pages.length.fill_(dense.seq_len)
    return pages


def roomy_pages(*sides):
    return [roomy(*each) for each in zip(sides, SIDES, strict=True)]


def error(approximation, exact):
    return ((approximation - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("length", [1, 63, 100, 1000])
def test_any_length_is_attended_as_specified(length):
    case = Case(length)
    assert error(case.attend(), reference.attention(case.queries, case.states)) < 1e-3


@pytest.mark.parametrize(
    ("bits", "groups", "head_dim", "codebook"),
    [
        ((2, 2), 1, 64, "lloyd-max"),
        ((4, 4), 8, 64, "lloyd-max"),
        ((3, 2), 2, 64, "lloyd-max"),
        ((4, 3), 3, 64, "lloyd-max"),
        ((2, 4), 5, 64, "lloyd-max"),
        ((3, 3), 7, 128, "lloyd-max"),
        ((3, 3), 4, 128, "fast"),
        ((4, 2), 4, 128, "fast"),
    ],
)
def test_any_format_is_attended_as_specified(bits, groups, head_dim, codebook):
    case = Case(200, head_dim, bits, groups=groups, codebook=codebook)
    assert error(case.attend(), reference.attention(case.queries, case.states)) < 1e-3


@pytest.mark.parametrize("at", [0, 1])
def test_queries_may_lie_among_keys_and_values(at):
    case = Case(100, batch=2)
    heads = case.queries.shape[1]
    among = torch.zeros(2 * (heads + 2) * 64 + at, device=DEVICE)[at:].view(2, heads + 2, 1, 64)
    among[:, 1:-1] = case.queries
    expected, case.queries = case.attend(), among[:, 1:-1]
    assert torch.equal(case.attend(), expected)


def test_what_is_not_centred_needs_no_table():
    case = Case(100)
    got = case.attention()(case.queries, *case.pages)
    exact = reference.attention(case.queries, replace(case.states, center=None))
    assert error(got, exact) < 1e-3
    with pytest.raises(ValueError, match="pass cos and sin"):
        case.attention()(case.queries, *case.pages, case.center)


def test_padding_on_the_left_weighs_nothing():
    case = Case(500, batch=2)
    first = torch.tensor([0, 333], device=DEVICE)
    mask = torch.arange(500, device=DEVICE) >= first[:, None]
    exact = reference.attention(case.queries, case.states, mask[:, None, None])
    assert error(case.attend(first=first.int()), exact) < 1e-3


def test_a_lone_token_behind_padding_is_attended_however_low_its_score():
    case = Case(45)
    case.queries *= 100
    for sign in (1, -1):
        case.queries *= sign
        got = case.attend(first=torch.tensor([44], dtype=torch.int32, device=DEVICE))
        mask = (torch.arange(45, device=DEVICE) >= 44)[None, None, None]
        exact = reference.attention(case.queries, case.states, mask)
        assert error(got, exact) < 1e-3


@pytest.mark.parametrize("newest", [1, 20, 64, 128])
def test_the_newest_tokens_are_attended_beside_the_pages(newest):
    case = Case(150, batch=2, groups=3, newest=newest)
    seen = torch.arange(150 + newest, device=DEVICE)
    for first in (torch.tensor([0, 77]), torch.tensor([3, 150 + newest // 2])):
        mask = seen >= first.to(DEVICE)[:, None]
        exact = reference.attention(case.queries, case.states, mask[:, None, None])
        assert error(case.attend(first=first.int().to(DEVICE)), exact) < 1e-3
    assert error(case.attend(), reference.attention(case.queries, case.states)) < 1e-3


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("scaling", [0.001, 0.4, 3.0])
def test_scores_and_values_of_any_size_are_attended(scaling, falling):
    """Scores of a page lie up to hundreds of bits above or below those of the page before."""
    case = Case(1000)
    sizes = torch.logspace(-2, 2, 1000, device=DEVICE).half()
    sizes = sizes.flip(0) if falling else sizes
    for side in (case.states.keys, case.states.values):
        side.scales.mul_(sizes)
    pages = roomy_pages(case.states.keys, case.states.values)
    got = case.attention(*case.table)(case.queries, *pages, case.center, scaling=scaling)
    exact = reference.attention(case.queries, case.states, scaling=scaling)
    assert error(got, exact) < 5e-3


@pytest.mark.parametrize("splits", [1, 2])
def test_small_values_are_attended_as_exactly(splits):
    """Below what fp16 holds at its full precision."""
    case = Case(1000)
    case.states.values.scales.mul_(1e-3)
    pages = roomy_pages(case.states.keys, case.states.values)
    got = case.attention(launch=Launch(splits))(case.queries, *pages, scaling=1e-3)
    exact = reference.attention(case.queries, replace(case.states, center=None), scaling=1e-3)
    assert exact.abs().max() < 2e-4
    assert error(got, exact) < 1e-3


@pytest.mark.parametrize("tokens", [1025, 4097])
@pytest.mark.parametrize("place", [0, -1])
def test_a_token_that_outweighs_the_others_hides_none(tokens, place):
    """All others together weigh as much as one."""
    case = Case(tokens)
    own = case.states.keys.scales[:, :, place].clone()
    case.states.keys.scales.mul_(1e-3)[:, :, place] = own
    one = case.states.restore()[0][:, :, place]  # (B, H_kv, D)
    case.queries = one.repeat_interleave(7, 1).unsqueeze(2)
    scaling = (math.log(tokens - 1) / one.square().sum(-1).mean()).item()
    pages = roomy_pages(case.states.keys, case.states.values)
    got = case.attention()(case.queries, *pages, scaling=scaling)
    exact = reference.attention(case.queries, replace(case.states, center=None), scaling=scaling)
    assert error(got, exact) < 2e-3


def test_what_equal_weights_are_rounded_by_does_not_add_up():
    """The last token outweighs each of the others a thousand times, and not all together."""
    case = Case(4096)
    case.states.keys.scales[:, :, :-1] *= 1e-3
    case.states.values.codes[:] = case.states.values.codes[:, :, :1]  # so that none cancel
    plain = replace(case.states, center=None)
    last = plain.restore()[0][:, :, -1]  # (B, H_kv, D)
    case.queries = last.repeat_interleave(7, 1).unsqueeze(2)
    scaling = (14 * math.log(2) / last.square().sum(-1).max()).item()
    pages = roomy_pages(plain.keys, plain.values)
    attend = case.attention(launch=Launch(splits=1))
    got = attend(case.queries, *pages, scaling=scaling)
    assert error(got, reference.attention(case.queries, plain, scaling=scaling)) < 2e-3


@pytest.mark.parametrize("head_dim", [64, 128])
def test_how_work_is_split_changes_nothing(head_dim):
    case = Case(400, head_dim, groups=2)
    whole = case.attend(Launch(splits=1))
    for splits in (2, 8, 40):  # of a page each, and most have none
        launch = Launch(splits)
        split = case.attend(launch)
        assert error(split, whole) < 5e-4
        assert torch.equal(case.attend(launch), split)
        assert not case.pages[0].arrived.any()


def test_the_length_is_read_on_the_device():
    """What a CUDA graph relies on: the same tensors, another length."""
    case = Case(100)
    for side in case.pages:
        side.length.fill_(60)
    shorter = replace(
        case.states,
        keys=case.states.keys.slice(0, 60),
        values=case.states.values.slice(0, 60),
        cos=case.states.cos[:60],
        sin=case.states.sin[:60],
    )
    assert error(case.attend(), reference.attention(case.queries, shorter)) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_output_has_the_query_s_dtype(dtype):
    case = Case(10)
    case.queries = case.queries.to(dtype)
    assert case.attend().dtype == dtype


def test_what_the_kernel_does_not_read_is_refused():
    sketch = TurboQuantizer(64, QuantConfig(qjl=True), DEVICE)
    with pytest.raises(ValueError, match="no QJL sketch"):
        PagedAttention(sketch, sketch)
    case = Case(10, groups=9)
    with pytest.raises(ValueError, match="18 query heads of 1 tokens on 2 KV heads"):
        case.attend()
    case = Case(10)
    case.table = [each[:100] for each in case.table]
    with pytest.raises(ValueError, match="table of 100 rows for pages of 384 tokens; pass a row"):
        case.attend()

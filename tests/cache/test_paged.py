"""The live cache in pages, in Triton's interpreter on a CPU, against the same in dense codes."""

import copy
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from turbo_kv.cache.dense import DenseStores
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.kernels import choose
from turbo_kv.quant.config import QuantConfig

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
from turbo_kv.cache import paged as paged_module
from turbo_kv.cache.paged import PagedStores
from turbo_kv.kernels.decode_triton import PagedAttention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def model():
    """One layer, two query heads on one KV head of 64 channels: little for an interpreter."""
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.15,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        attn_implementation="turbo_kv",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).eval()
        model.model.layers[0].self_attn.k_proj.bias.data.normal_(std=5)
    return model.to(DEVICE)


@pytest.fixture
def paged(monkeypatch):
    """Take pages on whatever device there is."""
    monkeypatch.setattr(choose, "PAGED_DEVICES", {"cuda", "cpu"})


@pytest.fixture
def dense_cache(model, monkeypatch):
    """Makes caches that keep dense codes, whatever the device."""

    def make(quant=None, exact_window=0):
        cache = TurboKVCache(model.config, quant, exact_window=exact_window)
        for layer in cache.layers:
            layer.plan = copy.copy(layer.plan)
            object.__setattr__(layer.plan, "stores", lambda nothing: dense_stores(cache, nothing))
        return cache

    return make


def dense_stores(cache, nothing):
    return DenseStores(cache.plan.quantizers(nothing.device), cache.plan.rope, nothing)


def tokens(*shape, seed=0):
    return torch.randint(64, shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@torch.no_grad()
def read(model, cache, ids, mask=None):
    return model(ids, cache=cache, attention_mask=mask, use_cache=True).logits


def assert_alike(one, other):
    assert (one - other).norm() <= 2e-3 * other.norm()


def test_decoding_from_pages_is_decoding_from_dense_codes(model, paged, dense_cache):
    fast = QuantConfig(codebook="fast", centering="off")
    for quant, cuts in ((QuantConfig(), (0, 63, 64, 65, 67)), (fast, (0, 5, 6))):
        cache, other = TurboKVCache(model.config, quant), dense_cache(quant)
        ids = tokens(1, cuts[-1])
        for start, stop in pairwise(cuts):
            given = read(model, cache, ids[:, start:stop])
            assert_alike(given, read(model, other, ids[:, start:stop]))
        assert isinstance(cache.layers[0]._stores, PagedStores)
        assert isinstance(other.layers[0]._stores, DenseStores)
        stored = cache.layers[0].states(), other.layers[0].states()
        for side in ("keys", "values"):
            codes, expected = (getattr(states, side).codes for states in stored)
            assert (codes != expected).float().mean() < 1e-3


def test_tokens_leave_a_window_for_the_pages(model, paged, dense_cache):
    cache = TurboKVCache(model.config, exact_window=5)
    other, ids = dense_cache(exact_window=5), tokens(2, 12)
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    for start, stop in pairwise((0, 3, 4, 7, 8, 12)):  # no page is there before the third
        given, expected = (
            read(model, each, ids[:, start:stop], mask[:, :stop]) for each in (cache, other)
        )
        assert_alike(given[mask[:, start:stop] > 0], expected[mask[:, start:stop] > 0])
    assert isinstance(cache.layers[0]._stores, PagedStores)
    assert cache.layers[0].stored()["exact_window"] == 2 * 2 * 5 * 64 * 2


def test_left_padding_is_not_attended(model, paged, dense_cache):
    ids = tokens(2, 6)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    cache, other = TurboKVCache(model.config), dense_cache()
    for stop in (5, 6):
        start = cache.get_seq_length()
        given = read(model, cache, ids[:, start:stop], mask[:, :stop])
        assert_alike(given[:, -1], read(model, other, ids[:, start:stop], mask[:, :stop])[:, -1])


def test_rows_crop_and_reset_work_on_pages_as_on_dense_codes(model, paged, dense_cache):
    cache, other = TurboKVCache(model.config), dense_cache()
    for each in (cache, other):
        read(model, each, tokens(2, 66))
        each.reorder_cache(torch.tensor([1, 0]))
        each.crop(-4)
        each.batch_repeat_interleave(2)
        each.batch_select_indices(torch.tensor([0, 3]))
    assert cache.layers[0]._stores._sides[0].words.shape[2] == 1  # the second page is given back
    assert_alike(read(model, cache, tokens(2, 1)), read(model, other, tokens(2, 1)))
    for each in (cache, other):
        each.reset()
        read(model, each, tokens(1, 3))
    assert_alike(read(model, cache, tokens(1, 1)), read(model, other, tokens(1, 1)))


def test_generation_goes_on_over_several_calls(model, paged, dense_cache):
    caches = TurboKVCache(model.config), dense_cache()
    ids = tokens(1, 5)
    said = [ids, ids]
    for _ in range(2):
        said = [
            model.generate(text, cache=cache, max_new_tokens=2, do_sample=False, pad_token_id=0)
            for text, cache in zip(said, caches)
        ]
    assert said[0].tolist() == said[1].tolist()
    assert caches[0].get_seq_length() == 8


def test_what_pages_hold_is_what_they_cost(model, paged):
    cache = TurboKVCache(model.config)
    read(model, cache, tokens(1, 81))
    stored = cache.stored()
    assert sum(stored.values()) == cache.nbytes
    pages = 2
    words, scales = pages * 3 * 4 * 64 * 2, pages * 64 * 2
    length = arrived = 4
    assert cache.nbytes == 2 * (words + scales) + length + arrived + stored["means"]
    assert stored["codes"] == pytest.approx(2 * words * 81 / 128, abs=1)


def test_states_without_a_code_are_refused_and_leave_no_trace(model, paged):
    cache = TurboKVCache(model.config)
    layer = cache.layers[0]
    states = torch.randn(1, 1, 3, 64, device=DEVICE)
    layer.update(states, states)
    broken = states[:, :, :1] * torch.tensor(float("nan"))
    with pytest.raises(ValueError, match=r"layer 0: values: 1 of 1 vectors hold NaN"):
        layer.update(states[:, :, :1], broken)
    assert (layer.get_seq_length(), layer._stores.length) == (3, 3)
    assert layer._stores._sides[0].length.item() == 3


REFUSED = {
    "a wide window": (QuantConfig(), {"exact_window": 129}, "129 newest tokens are not coded"),
    "sketch": (QuantConfig(qjl=True), {}, "QJL"),
    "no rotation": (QuantConfig(rotation=False), {}, "rotate"),
    "trellis": (QuantConfig(codebook="trellis"), {}, "trellis"),
    "short scales": (QuantConfig(scale_bits=8), {}, "scales in fp16"),
    "one side": (QuantConfig(), {"quantize": "keys"}, "one side stays exact"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_the_kernels_lack_is_kept_dense_and_said(model, paged, case):
    quant, options, why = case
    cache = TurboKVCache(model.config, quant, **options)
    assert "dense codes: " in cache.path(DEVICE)
    assert why in cache.path(DEVICE)
    read(model, cache, tokens(1, 3))
    assert isinstance(cache.layers[0]._stores, DenseStores)


def test_the_path_is_said(model, paged):
    assert "coded into pages" in TurboKVCache(model.config).path(DEVICE)


def test_without_a_gpu_codes_are_dense_and_the_path_says_why(model, monkeypatch):
    monkeypatch.setattr(choose, "why_not_c", lambda *_: None)
    assert TurboKVCache(model.config).path("cpu") == (
        "CPU, compiled C on dense codes: pages need a CUDA device"
    )
    monkeypatch.setattr(choose, "why_not_c", lambda *_: "no C compiler was found")
    path = TurboKVCache(model.config).path("cpu")
    assert path.startswith("CPU, eager PyTorch on dense codes: no C compiler was found")


def test_kernels_are_launched_on_the_device_of_their_tensors(model, paged, monkeypatch):
    """A model split over GPUs has layers beside the current one."""
    current, launched = [], []

    @contextmanager
    def device_of(tensor):
        current.append(tensor.device)
        yield
        current.pop()

    def watched(kernel):
        def launch(*arguments, **keywords):
            launched.append((kernel.__name__, *current))
            return kernel(*arguments, **keywords)

        return launch

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(paged_module, "append", watched(paged_module.append))
    monkeypatch.setattr(PagedAttention, "__call__", watched(PagedAttention.__call__))
    cache = TurboKVCache(model.config)
    read(model, cache, tokens(1, 20))
    read(model, cache, tokens(1, 1))
    device = model.device
    assert launched == [("append", device), ("append", device), ("__call__", device)]

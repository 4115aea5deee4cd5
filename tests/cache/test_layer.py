"""One packed layer against a plain list of states: whatever happens, codes say the same."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from transformers import Qwen2Config

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.layer import MEAN_TOKENS
from turbo_kv.cache.store import PAGE, tensors
from turbo_kv.quant.centering import Center, apply_rope
from turbo_kv.quant.config import QuantConfig

KV_HEADS, HEAD_DIM = 2, 16
CONFIG = Qwen2Config(
    vocab_size=8,
    hidden_size=64,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=KV_HEADS,
    head_dim=HEAD_DIM,
    max_position_embeddings=1000,
)


def make_layer(quant=None, **options):
    return TurboKVCache(CONFIG, quant, **options).layers[0]


def random_states(batch, tokens):
    """Keys around a large constant, values around a small one."""
    keys, values = torch.randn(2, batch, KV_HEADS, tokens, HEAD_DIM)
    return keys + 10, values + 1


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(tensors(a).values(), tensors(b).values()))


class LayerMachine(RuleBasedStateMachine):
    """A layer beside exact states that are coded again, at once, at every step."""

    window = 0

    def __init__(self):
        super().__init__()
        self.layer = make_layer(exact_window=self.window)
        self.center = None

    @initialize(batch=st.integers(1, 3), tokens=st.integers(1, 150), seed=st.integers(0, 99))
    def first_update(self, batch, tokens, seed):
        torch.manual_seed(seed)
        self.states = random_states(batch, 0)
        self.coded = 0
        self.update(tokens)

    @rule(tokens=st.integers(1, 90))
    def update(self, tokens):
        new = random_states(len(self.states[0]), tokens)
        if self.center is None:
            rotation = self.layer.plan.rope.cos_sin(0, tokens)
            self.center = Center.from_mean(*new, *rotation, MEAN_TOKENS)
        self.layer.update(*new)
        if self.window:  # through which all tokens go, in 16 bits
            new = [each.bfloat16().float() for each in new]
        self.states = [torch.cat(pair, dim=2) for pair in zip(self.states, new)]
        self.coded = max(self.coded, self.length - self.window)

    @rule(tokens=st.integers(0, 100))
    def crop(self, tokens):
        kept = max(0, self.length - tokens)
        self.states = [each[:, :, :kept] for each in self.states]
        self.coded = min(self.coded, kept)
        self.layer.crop(-tokens)
        if kept == 0:
            self.center = None

    @precondition(lambda self: self.length)
    @rule(data=st.data())
    def reorder(self, data):
        rows = st.integers(0, len(self.states[0]) - 1)
        self.select_rows(data.draw(st.lists(rows, min_size=1, max_size=4)), "reorder_cache")

    @precondition(lambda self: self.length)
    @rule(data=st.data())
    def select(self, data):
        rows = st.integers(0, len(self.states[0]) - 1)
        self.select_rows(data.draw(st.lists(rows, min_size=1, max_size=4)), "batch_select_indices")

    @precondition(lambda self: self.length and len(self.states[0]) < 3)
    @rule()
    def repeat(self):
        self.states = [each.repeat_interleave(2, dim=0) for each in self.states]
        self.center = self.center.map_batch(lambda mean: mean.repeat_interleave(2, dim=0))
        self.layer.batch_repeat_interleave(2)

    @rule()
    def reset(self):
        self.states = [each[:, :, :0] for each in self.states]
        self.center, self.coded = None, 0
        self.layer.reset()

    def select_rows(self, rows, method):
        rows = torch.tensor(rows)
        self.states = [each[rows] for each in self.states]
        self.center = self.center.map_batch(lambda mean: mean[rows])
        getattr(self.layer, method)(rows)

    @property
    def length(self):
        return self.states[0].shape[2]

    @invariant()
    def the_layer_holds_the_codes_of_these_states(self):
        assert self.layer.get_seq_length() == self.length
        if self.length == 0:
            assert self.layer.nbytes == 0
            return
        keys, values = (each[:, :, : self.coded] for each in self.states)
        cos, sin = self.layer.plan.rope.cos_sin(0, self.coded)
        quantizer, _ = self.layer.plan.quantizers(torch.device("cpu"))
        stored = self.layer.states()
        assert same(stored.keys, quantizer.quantize(keys - self.center.key_offset(cos, sin)))
        assert same(stored.values, quantizer.quantize(values - self.center.value_offset()))
        assert torch.equal(stored.exact_keys.float(), self.states[0][:, :, self.coded :])
        assert torch.equal(stored.exact_values.float(), self.states[1][:, :, self.coded :])

    @invariant()
    def its_bytes_are_those_of_its_tokens_and_one_open_page(self):
        if self.length == 0:
            return
        heads = len(self.states[0]) * KV_HEADS
        of_vector = HEAD_DIM * 3 // 8 + 2
        pages = -(-self.coded // PAGE)
        exact = 2 * heads * (self.length - self.coded) * HEAD_DIM * 2
        means = 2 * heads * HEAD_DIM * 2
        assert self.layer.nbytes == 2 * heads * pages * PAGE * of_vector + means + exact
        stored = self.layer.stored()
        assert stored["codes"] + stored["scales"] == 2 * heads * self.coded * of_vector
        assert stored["means"] == means
        assert stored["exact_window"] == exact


class WindowMachine(LayerMachine):
    window = 20


for machine in (LayerMachine, WindowMachine):
    machine.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestLayer = LayerMachine.TestCase
TestLayerWithWindow = WindowMachine.TestCase


@pytest.mark.parametrize("centering", ["off", "mean"])
@pytest.mark.parametrize("qjl", [False, True])
def test_one_update_holds_what_many_hold_once_the_mean_is_frozen(centering, qjl):
    torch.manual_seed(0)
    keys, values = random_states(2, MEAN_TOKENS + 100)
    quant = QuantConfig(centering=centering, qjl=qjl)
    one, many = make_layer(quant), make_layer(quant)
    one.update(keys, values)
    start = 0
    for stop in (MEAN_TOKENS, MEAN_TOKENS + 1, MEAN_TOKENS + 2, MEAN_TOKENS + 70, None):
        many.update(keys[:, :, start:stop], values[:, :, start:stop])
        start = stop
    assert same(one.states().keys, many.states().keys)
    assert same(one.states().values, many.states().values)


def test_the_mean_is_that_of_the_first_update_for_ever():
    layer = make_layer()
    first = random_states(1, 5)
    layer.update(*first)
    before = layer.center
    codes = layer.states().keys.codes.clone()
    for _ in range(3):
        layer.update(*random_states(1, 50))
    assert layer.center is before
    assert torch.equal(layer.states().keys.codes[:, :, :5], codes)


def test_prefill_sees_its_own_tokens_exactly_and_decode_none():
    layer = make_layer()
    first = random_states(1, 60)
    assert all(torch.equal(*pair) for pair in zip(layer.update(*first), first))
    second = random_states(1, 40)
    seen = layer.update(*second)
    restored = layer.restore()
    for side in range(2):
        assert torch.equal(seen[side][:, :, 60:], second[side])
        assert torch.equal(seen[side][:, :, :60], restored[side][:, :, :60])
        assert not torch.equal(seen[side][:, :, :60], first[side])
    third = random_states(1, 1)
    for seen, new, restored in zip(layer.update(*third), third, layer.restore()):
        assert torch.equal(seen, restored)
        assert not torch.equal(seen[:, :, -1:], new)


def test_reading_back_shows_no_token_exactly():
    layer = make_layer(read_back=True)
    first = random_states(1, 60)
    for seen, new, restored in zip(layer.update(*first), first, layer.restore()):
        assert torch.equal(seen, restored)
        assert (seen != new).any(dim=-1).all()


def test_what_keys_share_before_rope_costs_nothing():
    torch.manual_seed(0)
    keys, values = torch.randn(2, 2, KV_HEADS, 300, HEAD_DIM)
    layer = make_layer()
    rotated = apply_rope(keys + 100, *layer.plan.rope.cos_sin(0, 300))
    layer.update(rotated, values + 100)
    for restored, exact in zip(layer.restore(), (rotated, values + 100)):
        error = (restored - exact).square().mean().item()
        assert 0.02 < error < 0.05  # 3 bits of a unit Gaussian: .034


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_come_back_in_their_dtype(dtype):
    layer = make_layer()
    keys, values = (states.to(dtype) for states in random_states(1, 40))
    layer.update(keys, values)
    assert {states.dtype for states in layer.restore()} == {dtype}


def test_a_rolled_back_step_leaves_no_trace():
    torch.manual_seed(0)
    layer = make_layer()
    layer.update(*random_states(1, 64))
    before = layer.nbytes, layer.states().keys.crop(64)
    layer.update(*random_states(1, 1))
    layer.crop(-1)
    assert layer.is_croppable
    assert layer.nbytes == before[0]
    assert same(layer.states().keys, before[1])
    assert not make_layer(exact_window=4).is_croppable


def test_crop_takes_what_to_remove():
    layer = make_layer()
    layer.crop(-3)  # nothing there yet
    layer.update(*random_states(1, 10))
    layer.crop(0)
    assert layer.get_seq_length() == 10
    with pytest.raises(ValueError, match="negative"):
        layer.crop(5)
    layer.crop(-99)
    assert layer.get_seq_length() == 0
    layer.update(*random_states(3, 10))  # another batch is welcome again
    assert layer.get_seq_length() == 10


def test_it_is_asked_for_mask_sizes_before_an_update():
    layer = make_layer()
    assert layer.get_mask_sizes(7) == (7, 0)
    layer.update(*random_states(1, 7))
    assert layer.get_mask_sizes(2) == (9, 0)


def test_early_initialization_freezes_no_mean():
    layer = make_layer()
    layer.lazy_initialization(*random_states(1, 0))
    assert layer.is_initialized
    assert layer.center is None
    assert layer.get_seq_length() == 0
    layer.update(*random_states(1, 3))
    assert layer.center is not None


@pytest.mark.parametrize("move", ["offload", "prefetch"])
def test_offloading_is_refused(move):
    with pytest.raises(ValueError, match="not offloaded"):
        getattr(make_layer(), move)()


@pytest.mark.parametrize("side", ["keys", "values"])
@pytest.mark.parametrize(
    ("bad", "says"), [(float("nan"), "NaN"), (float("inf"), "NaN or infinity"), (1e6, "16-bit")]
)
def test_what_no_code_can_hold_is_named_and_leaves_the_layer_as_it_was(side, bad, says):
    layer = make_layer()
    layer.update(*random_states(1, 10))
    nbytes = layer.nbytes
    keys, values = random_states(1, 2)
    (keys if side == "keys" else values)[0, 1, 1, 3] = bad
    with pytest.raises(ValueError, match=rf"layer 0: {side}: .*{says}"):
        layer.update(keys, values)
    assert layer.get_seq_length() == 10
    assert layer.nbytes == nbytes
    fresh = make_layer()
    with pytest.raises(ValueError, match=f"layer 0: {side}"):
        fresh.update(keys, values)
    assert fresh.center is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda states: states.bfloat16(), "bfloat16"),
        (lambda states: states.repeat(3, 1, 1, 1), "3 rows"),
        (lambda states: states.to("meta"), "meta"),
        (lambda states: states[:, :1], "keys of layer 0"),
        (lambda states: states[..., :8], "keys of layer 0"),
        (lambda states: states[:, :, :0], "empty"),
    ],
    ids=["dtype", "batch", "device", "heads", "head_dim", "no tokens"],
)
def test_states_of_another_model_or_batch_are_refused(change, says):
    layer = make_layer()
    layer.update(*random_states(1, 10))
    with pytest.raises(ValueError, match=says):
        layer.update(*(change(states) for states in random_states(1, 4)))
    assert layer.get_seq_length() == 10


def test_it_stops_at_the_last_position_of_the_model():
    layer = make_layer()
    layer.update(*random_states(1, 1000))
    with pytest.raises(ValueError, match=r"1,001 tokens.*1,000 positions"):
        layer.update(*random_states(1, 1))

"""The live cache on trellis codes and one-byte scales: as with any other codes."""

import pytest
import torch

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.layer import MEAN_TOKENS
from turbo_kv.cache.store import tensors
from turbo_kv.kernels import choose, cpu, pagewise, reference
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

TRELLIS = QuantConfig(codebook="trellis", scale_bits=8)
LATER = 9


@pytest.fixture(scope="module")
def layers(random_qwen2):
    """One layer filled at once, and one token by token once the mean is frozen."""
    config = random_qwen2.config
    shape = 2, 1, config.num_key_value_heads, MEAN_TOKENS + LATER, config.head_dim
    keys, values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    filled = []
    for sizes in ((MEAN_TOKENS, LATER), (MEAN_TOKENS, *[1] * LATER)):
        layer = TurboKVCache(config, TRELLIS).layers[0]
        for key_part, value_part in zip(keys.split(sizes, 2), values.split(sizes, 2)):
            layer.update(key_part, value_part)
        filled.append(layer)
    return *filled, keys


def test_one_update_equals_many(layers):
    once, each = (layer.states() for layer in layers[:2])
    for side in ("keys", "values"):
        pairs = zip(*(tensors(getattr(states, side)).values() for states in (once, each)))
        assert all(torch.equal(a, b) for a, b in pairs)


def test_restored_keys_are_near_and_bytes_are_those_of_lloyd_max(layers, random_qwen2):
    layer, _, keys = layers
    restored, _ = layer.restore()
    assert torch.cosine_similarity(restored, keys, dim=-1).mean() > 0.988
    plain = TurboKVCache(random_qwen2.config, QuantConfig(scale_bits=8)).layers[0]
    plain.update(keys, keys)
    assert layer.stored() == plain.stored()


@pytest.mark.parametrize("read", [(pagewise.dot, pagewise.mix), (cpu.dot, cpu.mix)])
def test_attention_reads_the_stored_codes(layers, read):
    states = layers[0].states()
    queries = torch.randn(1, 4, 3, states.keys.head_dim)
    expected = reference.attention(queries, states)
    found = pagewise.attention(queries, states, read=read, page_vectors=100)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (QuantConfig(), None),
        (QuantConfig(codebook="trellis"), "trellis"),
        (QuantConfig(scale_bits=8), "scales in fp16"),
    ],
)
def test_pages_are_for_what_the_kernels_read(config, reason, monkeypatch):
    monkeypatch.setattr(choose, "PAGED_DEVICES", {"cpu"})
    quantizer = TurboQuantizer(64, config)
    why = choose.why_dense(torch.device("cpu"), (quantizer, quantizer), query_groups=2)
    assert why is None if reason is None else reason in why

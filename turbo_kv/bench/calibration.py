"""What knowing a head is worth: KL of codes that heed its queries, or lie in a basis of its own.

The live cache reads every token back, once with plain codes, once with those of query_trellis.py,
and once in the bases of head_basis.py, from the prompt's first tokens (the bases counted, a byte an
entry) or from the weights (recomputed from them, not counted). `at_equal_bits` holds a row's KL
against that of its plain codebook at the same bits per value, log KL taken as linear between its 3
and 4 bits: below 1 it pays. Every scale is one byte, of which a basis needs three a vector.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from typing import Any

import torch
from transformers import PreTrainedModel

from turbo_kv.bench.fidelity import kl_ratio
from turbo_kv.bench.head_basis import (
    SplitQuantizer,
    from_prompt,
    from_weights,
    in_bytes,
)
from turbo_kv.bench.live import TEXTS
from turbo_kv.bench.lock_step import lock_step
from turbo_kv.bench.stamp import stamp
from turbo_kv.cache.capture import capture
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.cache.layer import MEAN_TOKENS
from turbo_kv.cache.query_metric import POSITIONS
from turbo_kv.cache.rope import RopeTable
from turbo_kv.measure.facts import longest_text, model_facts, text_facts
from turbo_kv.measure.quality import Quality
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import prepare
from turbo_kv.quant.config import QuantConfig

CODEBOOKS = ("lloyd-max", "trellis")
CONTEXT = 2048
CHUNK = 512

Bases = list[tuple[torch.Tensor, torch.Tensor]]  # per layer, of keys and of values


@dataclass(frozen=True)
class Row:
    """One way to code on one text.

    bases: "none", "prompt" or "weights"; "queries" has none and heeds them.
    bases_bytes: of the bases, part of bits_per_value.
    ratio: KL over that of plain 3-bit codes of the same codebook, on the same predictions.
    at_equal_bits: KL over what the codebook's plain codes would have at these bits.
    """

    text: str
    codebook: str
    bits: int
    bases: str
    bases_bytes: int
    bits_per_value: float
    quality: Quality
    ratio: float
    ratio_stderr: float
    at_equal_bits: float


def run(
    models: Sequence[str] = ("tiny",), context: int = CONTEXT, progress: Progress = silent
) -> dict[str, Any]:
    """Every codebook and source of bases on the built-in texts; the stamped result.

    models: as `load` takes them, folders included: a model that nothing was tuned on is one more.
    """
    results = []
    for name in models:
        loaded = load(name)
        facts, texts, rows = model_facts(loaded), [], []
        for index, (short, source) in enumerate(TEXTS.items()):
            progress(index / len(TEXTS), f"{facts.name}: {short}")
            prepared = prepare(loaded.tokenizer, None, context, longest_text(loaded), source)
            texts.append(asdict(text_facts(prepared)))
            rows += measure(loaded.model, prepared.tokens.to(loaded.device), short)
        results.append(
            {"model": asdict(facts), "texts": texts, "rows": [asdict(row) for row in rows]}
        )
    return {"stamp": stamp(), "context": context, "chunk": CHUNK, "models": results}


@torch.no_grad()
def measure(model: PreTrainedModel, tokens: torch.Tensor, text: str) -> list[Row]:
    """The rows of one text, tokens (1, T), T at least MEAN_TOKENS."""
    caches, sizes = {}, {}
    for codebook in CODEBOOKS:
        plain = QuantConfig(codebook=codebook, scale_bits=8)
        for bits in (3, 4):
            chosen = replace(plain, bits=bits)
            caches[codebook, bits, "none"] = TurboKVCache(model.config, chosen, read_back=True)
        for name, found in sources(model, tokens).items():
            caches[codebook, 3, name], size = _split_cache(model, plain, found)
            sizes[codebook, 3, name] = size if name == "prompt" else 0
    heeding = replace(plain, codebook="query-trellis")
    caches["trellis", 3, "queries"] = TurboKVCache.for_model(model, heeding, read_back=True)
    held = 2 * len(caches["lloyd-max", 3, "none"].layers) * model.config.num_key_value_heads
    values = held * caches["lloyd-max", 3, "none"].plan.head_dim
    made, bits_held = lock_step(model, tokens, caches, values=values, chunk=CHUNK)
    length = tokens.shape[1]
    spent = {
        way: bits_held[way][length] + 8 * sizes.get(way, 0) / (values * length) for way in caches
    }
    rows = []
    for way, predictions in made.items():
        codebook, bits, bases = way
        few, many = ((codebook, each, "none") for each in (3, 4))
        quality = Quality.of(predictions)
        low, high = (log(made[each].kl.double().mean()) for each in (few, many))
        share = (spent[way] - spent[few]) / (spent[many] - spent[few])
        ratio, stderr = kl_ratio(predictions, made[few])
        rows.append(
            Row(
                text=text,
                codebook=codebook,
                bits=bits,
                bases=bases,
                bases_bytes=sizes.get(way, 0),
                bits_per_value=spent[way],
                quality=quality,
                ratio=ratio,
                ratio_stderr=stderr,
                at_equal_bits=quality.kl.mean / exp(low + share * (high - low)),
            )
        )
    return rows


def sources(model: PreTrainedModel, tokens: torch.Tensor) -> dict[str, Bases]:
    """The bases of every layer, from the first MEAN_TOKENS of tokens (1, T) and from weights."""
    first = capture(model, tokens[:, :MEAN_TOKENS], queries=MEAN_TOKENS)
    cos_sin = RopeTable.from_config(model.config).cos_sin(0, POSITIONS, model.device)
    bases: dict[str, Bases] = {"prompt": [], "weights": []}
    for layer, seen in zip(model.model.layers, first.layers, strict=True):
        norm = layer.input_layernorm.weight.float()
        bases["prompt"].append(from_prompt(seen, layer.self_attn, cos_sin).bases())
        bases["weights"].append(from_weights(layer.self_attn, norm, cos_sin).bases())
    return bases


def _split_cache(
    model: PreTrainedModel, quant: QuantConfig, bases: Bases
) -> tuple[TurboKVCache, int]:
    """A cache that codes every layer in its bases, and the bytes that those take, one an entry."""
    cache, total = TurboKVCache(model.config, quant, read_back=True), 0
    for layer, found in zip(cache.layers, bases, strict=True):
        kept, sizes = zip(*map(in_bytes, found), strict=True)
        quantizers = tuple(SplitQuantizer(basis, quant) for basis in kept)
        layer.plan = replace(layer.plan, quantizers=lambda device, each=quantizers: each)
        total += sum(sizes)
    return cache, total

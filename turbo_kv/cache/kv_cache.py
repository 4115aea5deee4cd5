"""A KV cache for transformers that keeps 2 to 4 bits per value.

    model.generate(**inputs, cache=TurboKVCache(model.config))

works under every attention implementation, restoring one layer at a time. After
`model.set_attn_implementation("turbo_kv")`, a name that importing this module registers, decoding
reads the packed storage itself. Does not know how a token is coded; `PackedLayer` does.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Literal, Self, get_args

import torch
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from turbo_kv.cache.bias import projection_biases
from turbo_kv.cache.coding import Quantizers
from turbo_kv.cache.exact import ExactQuantizer
from turbo_kv.cache.layer import PackedLayer
from turbo_kv.cache.plan import Plan, check_model
from turbo_kv.cache.query_metric import NO_QUERY_METRIC, query_metrics
from turbo_kv.cache.rope import RopeTable, head_dim
from turbo_kv.kernels import choose
from turbo_kv.quant.centering import Center
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

Sides = Literal["both", "keys", "values", "neither"]
PURPOSES = ("codes", "scales", "signs", "residual_norms", "means", "open_page", "exact_window")


class TurboKVCache(Cache):
    """One `PackedLayer` per layer of a model whose layers all attend to all tokens, after RoPE.

    config: the model's own `model.config`; its attention implementation is read at every update.
    quant: how to code. The mean of centering "mean" is that of the first update's tokens, at most
        256; centering "bias" needs `bias`, which `for_model` fills in.
    exact_window: how many of the newest tokens stay as they are, in 16 bits: those of an fp32 model
        are rounded to bf16.
    read_back: let a prefill too attend to its tokens as stored, which measuring needs.
    quantize: which side to code; the other stays exact, in fp32.
    bias: per layer, the constants to subtract.
    query_metrics: per layer, E[q qᵀ] (H_kv, D, D), for codebook "query-trellis"; `for_model` too.
    processes: how many share the model's KV heads, this cache holding its own.

    Raises ValueError for sliding windows, layers without RoPE, rope types without a test, and a
    head_dim that is odd or below 16.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        quant: QuantConfig | None = None,
        *,
        exact_window: int = 0,
        read_back: bool = False,
        quantize: Sides = "both",
        bias: Sequence[Center] | None = None,
        query_metrics: Sequence[torch.Tensor | None] | None = None,
        processes: int = 1,
    ):
        quant = quant or QuantConfig()
        config = config.get_text_config(decoder=True)
        check_model(config)
        _check_choices(exact_window, quantize)
        if quant.centering == "bias" and bias is None:
            raise ValueError(
                "centering 'bias' needs the projections' biases, which a config does not hold: "
                "use TurboKVCache.for_model(model, quant), or centering 'mean'"
            )
        if quant.codebook == "query-trellis" and query_metrics is None:
            raise ValueError(
                "codebook 'query-trellis' needs the weights of the query projections, which a "
                "config does not hold: use TurboKVCache.for_model(model, quant), or 'trellis'"
            )
        self.quant = quant
        kv_heads = _kv_heads(config)
        self.plan = Plan(
            kv_heads=kv_heads // processes,
            head_dim=head_dim(config),
            max_tokens=config.max_position_embeddings,
            rope=RopeTable.from_config(config),
            # A function is not copied with the cache: copies follow the same model.
            attention=lambda: config._attn_implementation,
            quantizers=partial(_quantizers, head_dim(config), quant, quantize),
            frozen_mean=quant.centering == "mean",
            read_back=read_back,
            exact_window=exact_window,
            query_groups=config.num_attention_heads // kv_heads,
        )
        TurboQuantizer(head_dim(config), quant)  # refuses a head_dim now, not at the first token
        if quant.centering != "bias":
            bias = [None] * config.num_hidden_layers
        plans = [self.plan] * config.num_hidden_layers
        if quant.codebook == "query-trellis" and quantize in ("both", "keys"):
            plans = [_heeding(self.plan, quant, each) for each in query_metrics]
        layers = [
            PackedLayer(plan, index, each)
            for index, (plan, each) in enumerate(zip(plans, bias, strict=True))
        ]
        super().__init__(layers=layers)

    @classmethod
    def for_model(
        cls,
        model: PreTrainedModel,
        quant: QuantConfig | None = None,
        attention_mask: torch.Tensor | None = None,
        **options,
    ) -> Self:
        """A cache that knows the model's biases, for any centering.

        attention_mask: that of the prompts (B, T), where centering "bias" meets left padding.
        options: as for the class. Raises ValueError for "bias" on a model without key biases.
        """
        if quant is not None and quant.centering == "bias":
            options["bias"] = projection_biases(model, attention_mask)
        if quant is not None and quant.codebook == "query-trellis":
            options["query_metrics"] = query_metrics(model)
        return cls(model.config, quant, processes=getattr(model, "tp_size", None) or 1, **options)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs
    ):
        """Store one layer's states and return what its attention sees; see `PackedLayer.update`."""
        if layer_idx >= len(self.layers):
            raise ValueError(
                f"this cache was made for a model of {len(self.layers)} layers and was given layer "
                f"{layer_idx}; make the cache from the config of the model that uses it"
            )
        if layer_idx == 0 and len({layer.cumulative_length for layer in self.layers}) > 1:
            raise ValueError(
                "the layers hold different numbers of tokens, because a forward ended early or "
                "another model used this cache; reset() it or make another"
            )
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def path(self, device: torch.device | str) -> str:
        """Which code keeps and reads the tokens of a model on `device`; after a colon, why."""
        return self.plan.path(torch.device(device))

    @property
    def nbytes(self) -> int:
        """Bytes of storage of everything kept for the tokens, over all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def stored(self) -> dict[str, int]:
        """Bytes of storage by purpose, over all layers; they sum to `nbytes`.

        open_page: room that growing left unfilled. exact_window: newest tokens not coded.
        """
        stored = dict.fromkeys(PURPOSES, 0)
        for layer in self.layers:
            for purpose, size in layer.stored().items():
                stored[purpose] += size
        return stored


@lru_cache(maxsize=16)
def _quantizers(
    head_dim: int, quant: QuantConfig, quantize: Sides, device: torch.device
) -> Quantizers:
    """Those of keys and of values, shared by every layer on a device."""
    keys = values = ExactQuantizer(head_dim)
    if quantize in ("both", "keys"):
        keys = choose.quantizer(head_dim, quant, device)
    if quantize in ("both", "values"):
        one_for_both = quantize == "both" and quant.for_values == quant
        values = keys if one_for_both else choose.quantizer(head_dim, quant.for_values, device)
    return keys, values


def _heeding(plan: Plan, quant: QuantConfig, metric: torch.Tensor | None) -> Plan:
    """The plan of a layer whose keys are coded for their queries; made once for each device."""
    if metric is None:
        raise ValueError(NO_QUERY_METRIC)

    @cache
    def quantizers(device: torch.device) -> Quantizers:
        _, values = plan.quantizers(device)
        return choose.quantizer(plan.head_dim, quant, device, metric), values

    return replace(plan, quantizers=quantizers)


def _kv_heads(config: PreTrainedConfig) -> int:
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _check_choices(exact_window: int, quantize: str) -> None:
    if exact_window < 0:
        raise ValueError(f"exact_window is {exact_window}; choose 0 or a number of tokens")
    if quantize not in get_args(Sides):
        raise ValueError(f"quantize is {quantize!r}; choose one of {', '.join(get_args(Sides))}")

"""What the layers of one packed cache share, and which states and models it refuses.

Does not store anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedConfig

from turbo_kv.cache.coding import Quantizers
from turbo_kv.cache.dense import DenseStores
from turbo_kv.cache.rope import RopeTable
from turbo_kv.kernels import choose

if TYPE_CHECKING:
    from turbo_kv.cache.paged import PagedStores


@dataclass(frozen=True)
class Plan:
    """How every layer stores.

    kv_heads, head_dim, max_tokens: of the model.
    rope: its rotary embedding.
    attention: tells the name of the model's attention implementation at this moment.
    quantizers: makes those of keys and values for a device.
    frozen_mean: subtract the mean of the first update's tokens.
    read_back: attend to every token as stored, those of the current forward too.
    exact_window: how many of the newest tokens stay as they are, in 16 bits.
    query_groups: query heads per KV head.
    """

    kv_heads: int
    head_dim: int
    max_tokens: int
    rope: RopeTable
    attention: Callable[[], str]
    quantizers: Callable[[torch.device], Quantizers]
    frozen_mean: bool
    read_back: bool
    exact_window: int
    query_groups: int

    def stores(self, nothing: torch.Tensor) -> "DenseStores | PagedStores":
        """An empty store for both sides of a layer: pages where kernels read them.

        nothing: states (B, H_kv, 0, D), which tell batch and device.
        """
        quantizers = self.quantizers(nothing.device)
        if self._why_dense(nothing.device) is not None:
            return DenseStores(quantizers, self.rope, nothing)
        from turbo_kv.cache.paged import PagedStores

        return PagedStores(quantizers, self.rope, nothing)

    def path(self, device: torch.device) -> str:
        """Which code keeps and reads the tokens on `device`; after a colon, why."""
        quantizers = self.quantizers(device)
        return choose.cache_path(device, quantizers, self.query_groups, self.exact_window)

    def _why_dense(self, device: torch.device) -> str | None:
        quantizers = self.quantizers(device)
        return choose.why_dense(device, quantizers, self.query_groups, self.exact_window)

    def check_states(self, layer_idx: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """ValueError unless keys and values are (B, H_kv, T, D) of this model, T >= 1."""
        expected = f"(batch, {self.kv_heads}, tokens, {self.head_dim})"
        for side, states in (("keys", keys), ("values", values)):
            if states.ndim != 4 or states.shape[1::2] != (self.kv_heads, self.head_dim):
                raise ValueError(
                    f"{side} of layer {layer_idx} are {tuple(states.shape)}, and the config that "
                    f"made this cache says {expected}; make the cache from the config of the "
                    "model that uses it"
                )
        if keys.shape[2] == 0:
            raise ValueError(f"layer {layer_idx} was given no tokens; the prompt is empty")

    def check_room(self, layer_idx: int, tokens: int) -> None:
        """ValueError if `tokens` are more than the model has positions for."""
        if tokens > self.max_tokens:
            raise ValueError(
                f"layer {layer_idx} would hold {tokens:,} tokens, and the model has "
                f"{self.max_tokens:,} positions (max_position_embeddings); generate fewer tokens "
                "or shorten the prompt"
            )


def check_model(config: PreTrainedConfig) -> None:
    """ValueError unless every layer of the text config attends to all tokens, after RoPE."""
    name = config.model_type
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        window = getattr(config, "sliding_window", None)
        kinds = ["full_attention" if window is None else "sliding_attention"]
    for layer_idx, kind in enumerate(kinds):
        if kind != "full_attention":
            raise ValueError(
                f"layer {layer_idx} of this {name} model is {kind!r}; "
                "only models whose layers are all 'full_attention' work"
            )
    for layer_idx, rotated in enumerate(getattr(config, "no_rope_layers", None) or ()):
        if not rotated:
            raise ValueError(f"layer {layer_idx} of this {name} model has no RoPE; all need it")

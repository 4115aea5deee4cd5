"""Run a prompt through a model and keep what its attention saw: queries, keys and values.

Keys and values are what the model itself cached, after RoPE; nothing here is quantized. The model
reads the prompt in chunks, so no tokens-by-tokens matrix exists, and it leaves as it came.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from turbo_kv.cache.attending import attending
from turbo_kv.cache.bias import bias_of
from turbo_kv.cache.query_metric import query_metrics
from turbo_kv.cache.rope import RopeTable
from turbo_kv.cache.telling import layer_by_layer

CHUNK = 512
QUERIES = 256
RECORDING = "turbo_kv_recording"

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class LayerCapture:
    """One layer's attention inputs, after RoPE, in the model's dtype.

    `queries` holds the last Q positions. The biases are those of the key and value projections,
    None where a layer has none or norms its keys after adding it. The metric is query_metric.py's.
    """

    queries: torch.Tensor  # (B, H_q, Q, D)
    keys: torch.Tensor  # (B, H_kv, T, D)
    values: torch.Tensor  # (B, H_kv, T, D)
    key_bias: torch.Tensor | None  # (H_kv, D)
    value_bias: torch.Tensor | None  # (H_kv, D)
    scaling: float
    query_metric: torch.Tensor | None = None  # (H_kv, D, D), fp32


@dataclass(frozen=True)
class Capture:
    """A whole prompt: every layer, the rotation of every position, the last position's logits."""

    tokens: torch.Tensor  # (B, T)
    cos: torch.Tensor  # (T, D), or (B, T, D) under an attention mask; fp32
    sin: torch.Tensor
    layers: tuple[LayerCapture, ...]
    logits: torch.Tensor  # (B, vocabulary)
    attention_mask: torch.Tensor | None = None  # (B, T)

    @property
    def nbytes(self) -> int:
        """Bytes of the captured states."""
        return sum(
            states.nbytes
            for layer in self.layers
            for states in (layer.queries, layer.keys, layer.values)
        )


@torch.inference_mode()
def capture(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    progress: Progress = lambda fraction, text: None,
    *,
    chunk: int = CHUNK,
    queries: int = QUERIES,
) -> Capture:
    """Prefill `model` with tokens (B, T), `chunk` at a time, and keep every layer's states.

    `attention_mask` (B, T) is 0 on padding. Raises ValueError for layers that would forget
    tokens, rope types without a test, a chunk shorter than `queries`, and NaN or infinity in a
    layer's keys or values.
    """
    length = tokens.shape[1]
    if chunk < queries:
        raise ValueError(f"chunk is {chunk}; take at least the {queries} queries to keep")
    config = model.config.get_text_config()
    _refuse_forgetting(config, length)
    cos, sin = RopeTable.from_config(config).cos_sin(0, length, model.device)
    tokens = tokens.to(model.device)
    positions = torch.arange(length, device=model.device)[None]
    if attention_mask is not None:
        attention_mask = attention_mask.to(model.device)
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        cos, sin = cos[positions], sin[positions]

    # Plain layers whatever the config says: `_refuse_forgetting` has made sure that they do.
    cache = DynamicCache()
    recorder = _Recorder(queries)

    def tell(start: int, stop: int, share: float) -> None:
        done = round(start + share * (stop - start))
        progress(done / length, f"Reading the text: {done:,} of {length:,} tokens")

    # The short chunk comes first, so that the last one alone holds all queries to keep.
    stops = range(length % chunk or min(chunk, length), length + 1, chunk)
    with attending(model, RECORDING):
        for start, stop in zip((0, *stops), stops):
            with layer_by_layer(model, partial(tell, start, stop)):
                output = model(
                    tokens[:, start:stop],
                    attention_mask=None if attention_mask is None else attention_mask[:, :stop],
                    position_ids=positions[:, start:stop],
                    cache=cache,
                    use_cache=True,
                    logits_to_keep=1,
                    recorder=recorder,
                )
            tell(start, stop, 1.0)

    layers, metrics = [], query_metrics(model)
    every = zip(cache.layers, recorder.layers, metrics, strict=True)
    for index, (states, seen, metric) in enumerate(every):
        _refuse_non_finite(index, keys=states.keys, values=states.values)
        layers.append(
            LayerCapture(keys=states.keys, values=states.values, query_metric=metric, **seen)
        )
    return Capture(tokens, cos, sin, tuple(layers), output.logits[:, -1], attention_mask)


class _Recorder:
    """Keeps, per layer, what the most recent attention call was given besides the cache."""

    def __init__(self, queries: int):
        self.queries = queries
        self._layers: dict[int, dict] = {}

    def record(self, module: torch.nn.Module, query_states: torch.Tensor, scaling: float) -> None:
        # A bias that a later norm rescales is no constant part of the keys.
        normed = hasattr(module, "k_norm")
        self._layers[module.layer_idx] = {
            "queries": query_states[:, :, -self.queries :].clone(),
            "key_bias": None if normed else _bias(module, "k_proj"),
            "value_bias": _bias(module, "v_proj"),
            "scaling": scaling,
        }

    @property
    def layers(self) -> list[dict]:
        return [self._layers[index] for index in sorted(self._layers)]


def _bias(attention: torch.nn.Module, projection: str) -> torch.Tensor | None:
    bias = bias_of(getattr(attention, projection, None))
    return None if bias is None else bias.view(-1, attention.head_dim)  # (H_kv, D)


def _recording_attention(module, query, key, value, attention_mask, *, recorder, **kwargs):
    recorder.record(module, query, kwargs["scaling"])
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(RECORDING, _recording_attention)
AttentionMaskInterface.register(RECORDING, sdpa_mask)


def _refuse_forgetting(config, length: int) -> None:
    window = getattr(config, "sliding_window", None)
    one_kind = "full_attention" if window is None else "sliding_attention"
    for index, kind in enumerate(getattr(config, "layer_types", None) or [one_kind]):
        if kind == "sliding_attention" and window is not None and length > window:
            raise ValueError(
                f"layer {index} attends to the last {window:,} tokens only; "
                f"use at most {window:,} tokens with this model, not {length:,}"
            )
        if kind not in ("full_attention", "sliding_attention"):
            raise ValueError(f"layer {index} is {kind!r}; only full attention layers work")


def _refuse_non_finite(index: int, **states: torch.Tensor) -> None:
    for name, tensor in states.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"layer {index}: the {name} hold NaN or infinity in {tensor.dtype}; "
                "check the weights, or load the model in float32"
            )

"""Other KV caches, brought to the harness that measures ours.

Each attends to what it has stored. The originals attend to a first prompt exactly, which hides
their error as it would hide ours, so here it is restored from its codes; after that transformers'
quantized caches go on as they are, with 1 to 128 of the newest tokens exact. Bytes are those of
every tensor a cache keeps, in bfloat16 where the original keeps "the model's dtype": so it is
deployed, whatever this machine computes in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from transformers import Cache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, HQQQuantizedLayer, QuantoQuantizedLayer

from turbo_kv.quant.packing import storage_bytes

FP8 = torch.float8_e4m3fn
FP8_LARGEST = torch.finfo(FP8).max


BACKENDS = ("optimum-quanto", "hqq")


@dataclass(frozen=True)
class Baseline:
    """A cache by name; `layer` makes one of its layers, or raises ImportError saying what lacks."""

    name: str
    layer: Callable[[], DynamicLayer]

    def cache(self, config: PreTrainedConfig) -> Cache:
        """An empty cache for a model."""
        return Cache(layers=[self.layer() for _ in range(config.num_hidden_layers)])


class Bf16Layer(DynamicLayer):
    """Every vector rounded to bfloat16."""

    def update(self, key_states, value_states, *args, **kwargs):
        kept = super().update(key_states.bfloat16(), value_states.bfloat16())
        return tuple(states.to(key_states.dtype) for states in kept)


class Fp8Layer(DynamicLayer):
    """Every vector in e4m3, with an fp16 scale that puts its largest coordinate at the top."""

    def lazy_initialization(self, key_states, value_states):
        super().lazy_initialization(key_states.to(FP8), value_states.to(FP8))
        self.scales = [torch.tensor([], dtype=torch.float16, device=self.device)] * 2

    def update(self, key_states, value_states, *args, **kwargs):
        scales = []
        for states in (key_states, value_states):
            largest = states.float().abs().amax(-1, keepdim=True)
            scales.append((largest / FP8_LARGEST).clamp(min=2**-24).half())
        coded = [(x / s.to(x.dtype)).to(FP8) for x, s in zip((key_states, value_states), scales)]
        super().update(*coded)
        self.scales = [torch.cat(pair, dim=-2) for pair in zip(self.scales, scales)]
        return tuple(
            (codes.float() * scale.float()).to(key_states.dtype)
            for codes, scale in zip((self.keys, self.values), self.scales)
        )


class Prefilled:
    """Before a quantized layer of transformers: bfloat16 in, and a first update restored."""

    def update(self, key_states, value_states, *args, **kwargs):
        first = not self.is_initialized
        seen = super().update(key_states.bfloat16(), value_states.bfloat16())
        if first:
            coded = self._quantized_keys, self._quantized_values
            seen = tuple(self._dequantize(each) for each in coded)
        return tuple(states.to(key_states.dtype) for states in seen)


class HqqLayer(Prefilled, HQQQuantizedLayer):
    """transformers' HQQ backend."""


class QuantoLayer(Prefilled, QuantoQuantizedLayer):
    """transformers' quanto backend."""


def _grouped(kind: type[DynamicLayer], bits: int, axis: int) -> Callable[[], DynamicLayer]:
    return lambda: kind(nbits=bits, axis_key=axis, axis_value=axis)


BASELINES = (
    Baseline("bf16", Bf16Layer),
    Baseline("fp8, scale per vector", Fp8Layer),
    *(
        Baseline(f"{backend}, {bits} bits, axis {axis}", _grouped(layer, bits, axis))
        for backend, layer, axes in (("quanto", QuantoLayer, (0, -1)), ("HQQ", HqqLayer, (0, 1)))
        for bits in (4, 2)
        for axis in axes
    ),
)


def backends() -> dict[str, str | None]:
    """The versions of the packages that quantize for transformers; None for one not installed."""
    return {package: _version(package) for package in BACKENDS}


def held_bytes(cache: Cache) -> int:
    """Bytes of storage behind every tensor that the layers keep, each storage once."""
    return storage_bytes(*(tensor for layer in cache.layers for tensor in _tensors(vars(layer))))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _tensors(kept: object) -> Iterator[torch.Tensor]:
    """Every plain tensor within; a subclass made of several gives its parts."""
    if hasattr(kept, "__tensor_flatten__"):
        names, _ = kept.__tensor_flatten__()
        for name in names:
            yield from _tensors(getattr(kept, name))
    elif isinstance(kept, torch.Tensor):
        yield kept
    elif isinstance(kept, dict):
        yield from _tensors(list(kept.values()))
    elif isinstance(kept, list | tuple):
        for part in kept:
            yield from _tensors(part)

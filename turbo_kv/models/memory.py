"""Memory: whether work fits before it starts, and a clear word where it ran out all the same.

The estimate counts what the work holds at its largest; a test holds it to what a process takes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from turbo_kv.models.device import free_memory
from turbo_kv.models.shortage import ShortOfMemoryError

CHUNK = 512
QUERIES = 256
FP32_BYTES = 4
SHARE = 0.9
"""Of the free memory that work may count on: allocators leave holes."""

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


@dataclass(frozen=True)
class Need:
    """Bytes of a work at its largest, beside the weights: what grows per token, and the rest."""

    per_token: int
    fixed: int

    def at(self, tokens: int) -> int:
        return self.fixed + self.per_token * tokens

    def longest(self, free: int) -> int:
        """Tokens that fit into `free` bytes."""
        return max(0, (free - self.fixed) // self.per_token)


def reading(config: PreTrainedConfig, itemsize: int, caches: int = 1) -> Need:
    """What it takes to read a text with a model (text config), and to compare one layer.

    itemsize: bytes of the dtype computed in. caches: how many full caches exist side by side.
    """
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    layer = 2 * kv_heads * head_dim
    # Appending copies a layer; restoring and comparing hold one in fp32, and scores for each query.
    compared = 8 * caches * layer * FP32_BYTES + 3 * heads * QUERIES * FP32_BYTES
    per_token = caches * config.num_hidden_layers * layer * itemsize + layer * itemsize + compared
    queries = config.num_hidden_layers * heads * QUERIES * head_dim * (itemsize + FP32_BYTES)
    activations = CHUNK * (4 * config.hidden_size + 3 * config.intermediate_size) * itemsize
    logits = 4 * CHUNK * config.vocab_size * FP32_BYTES if caches > 1 else 0
    return Need(per_token, queries + activations + logits)


def refuse_unless_fits(need: Need, tokens: int, device: torch.device, what: str) -> None:
    """ShortOfMemoryError with the numbers, and the longest text that fits, unless `tokens` do."""
    free = round(SHARE * free_memory(device))
    if need.at(tokens) <= free:
        return
    longest = need.longest(free)
    remedy = f"at most {longest:,} fit" if longest else "choose a smaller model or another device"
    raise ShortOfMemoryError(
        f"context of {tokens:,} tokens: {what} takes about {_mb(need.at(tokens))} beside the "
        f"weights, and {_mb(free)} are free on {device}; {remedy}"
    )


@contextmanager
def explained(device: torch.device, what: str) -> Iterator[None]:
    """Running out of memory within the block raises ShortOfMemoryError; what it held is freed.

    Whatever the block kept in names of its own outlives it; pass results on, not tensors.
    """
    ran_out = False
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_about_memory(error):
            raise
        ran_out = True
    # Out here: while an error is handled, its traceback holds every tensor of the failed work.
    if ran_out:
        release()
        raise ShortOfMemoryError(
            f"memory ran out on {device} while {what}; {_mb(free_memory(device))} are free again. "
            "Choose a shorter context, a smaller model or another device"
        )


def release() -> None:
    """Give memory that nothing holds back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error).lower() for sign in _SIGNS)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"

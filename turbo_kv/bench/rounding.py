"""Round-to-nearest caches to compare with: every token by itself, and channels as KIVI lays them.

A group of numbers keeps its least one and the step to its largest in fp16, and codes between:

    code = round((x - low) / step),   step = (high - low) / (2^bits - 1)

One token: a group is a whole vector, and no token waits. KIVI (arXiv 2402.02750): of keys a group
is 32 tokens of one channel, of values 32 channels of one token; keys wait in bf16 until 128 are
together, and so do the newest 128 values. What waits is kept, so it is counted. Knows nothing of
models.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from turbo_kv.quant.packing import pack, unpack

GROUP = 32
WINDOW = 128


class Rounded(NamedTuple):
    """Groups of numbers along the last axis: packed codes, and per group its low and its step."""

    codes: Tensor
    low: Tensor
    step: Tensor
    bits: int

    @classmethod
    def of(cls, x: Tensor, bits: int, group: int) -> Self:
        """Code x (..., n), n a multiple of `group`."""
        x = x.float().unflatten(-1, (-1, group))
        low, high = x.aminmax(dim=-1, keepdim=True)
        step = ((high - low) / (2**bits - 1)).clamp(min=2**-24).half()
        low = low.half()
        codes = ((x - low.float()) / step.float()).round_().clamp_(0, 2**bits - 1)
        return cls(pack(codes, bits), low, step, bits)

    def restored(self, group: int) -> Tensor:
        """The numbers again, fp32 (..., n)."""
        codes = unpack(self.codes, self.bits, group).float()
        return (codes * self.step.float() + self.low.float()).flatten(-2)


class PerTokenLayer(DynamicLayer):
    """Every key and every value one group."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.tokens = bits, 0
        self.parts: tuple[list[Rounded], list[Rounded]] = ([], [])

    def update(self, key_states, value_states, *args, **kwargs):
        """Code what comes; all of it restored."""
        self.tokens += key_states.shape[2]
        head_dim = key_states.shape[3]
        seen = []
        for parts, states in zip(self.parts, (key_states, value_states)):
            parts.append(Rounded.of(states, self.bits, head_dim))
            seen.append(torch.cat([part.restored(head_dim) for part in parts], 2).to(states.dtype))
        return tuple(seen)

    def get_seq_length(self) -> int:
        return self.tokens


class KiviLayer(PerTokenLayer):
    """Keys by channel, values by token, and the newest of both in bf16."""

    def update(self, key_states, value_states, *args, **kwargs):
        """Take new tokens into the windows, code what leaves them; what is kept, restored."""
        new = (key_states.bfloat16(), value_states.bfloat16())
        if self.tokens:
            new = tuple(torch.cat(pair, 2) for pair in zip((self.keys, self.values), new))
        self.tokens += key_states.shape[2]
        keys, values = new
        leaving = keys.shape[2] // WINDOW * WINDOW, max(0, values.shape[2] - WINDOW)
        of_keys, of_values = self.parts
        if leaving[0]:
            of_keys.append(Rounded.of(keys[:, :, : leaving[0]].mT, self.bits, GROUP))
        if leaving[1]:
            of_values.append(Rounded.of(values[:, :, : leaving[1]], self.bits, GROUP))
        self.keys, self.values = (each[:, :, n:].clone() for each, n in zip(new, leaving))
        coded_keys = [part.restored(GROUP).mT for part in of_keys]
        coded_values = [part.restored(GROUP) for part in of_values]
        dtype = key_states.dtype
        return (
            torch.cat([*coded_keys, self.keys.float()], 2).to(dtype),
            torch.cat([*coded_values, self.values.float()], 2).to(dtype),
        )

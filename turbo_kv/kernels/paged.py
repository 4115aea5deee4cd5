"""Attention on pages: by the kernel where it can read them, else page by page as dense codes.

The kernel attends with one token per row, to all slots of the row but its left padding, and to the
newest tokens, which lie beside the pages. Several tokens at once, masks of another form, and newest
tokens alone go through dense codes, made for the moment.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from turbo_kv.kernels import pagewise
from turbo_kv.kernels.decode_triton import PagedAttention
from turbo_kv.kernels.pages import Pages
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center


@dataclass(frozen=True, eq=False)
class PagedStates:
    """One layer's stored keys and values in pages. No tensor, so misuse fails loudly.

    center: what they are centred by. attend: the kernel, with its tables.
    newest: keys and values after them, as they are, (B, H_kv, W, D), W >= 0.
    dense: makes the same states of dense codes.
    """

    keys: Pages
    values: Pages
    center: Center | None
    attend: PagedAttention
    newest: tuple[Tensor, Tensor]
    dense: Callable[[], PackedStates]

    def attention(
        self,
        query_states: Tensor,
        attention_mask: Tensor | None = None,
        scaling: float | None = None,
    ) -> Tensor:
        """As `reference.attention`."""
        first = None
        if attention_mask is not None and query_states.shape[2] == 1:
            first = _first_seen(attention_mask)
        other_mask = attention_mask is not None and first is None
        if query_states.shape[2] > 1 or other_mask or self.keys.capacity == 0:
            return pagewise.attention(query_states, self.dense(), attention_mask, scaling)
        newest = self.newest if self.newest[0].shape[2] else None
        stored = self.keys, self.values, self.center
        with torch.cuda.device_of(query_states):  # Triton launches on the current device
            return self.attend(query_states, *stored, first, scaling, newest)


def _first_seen(mask: Tensor) -> Tensor | None:
    """The slot from which each row sees everything, int32 (B,); None if the mask says otherwise."""
    if mask.dtype != torch.bool:
        return None
    seen = mask[:, 0, -1]  # (B, S)
    first = seen.int().argmax(dim=-1)
    is_padding = seen.sum(dim=-1) == seen.shape[-1] - first
    return first.int() if is_padding.all() else None

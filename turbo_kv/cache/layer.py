"""One layer's keys and values, packed: a transformers cache layer.

Every token is coded when it arrives, and its codes never change. `update` returns what the layer's
attention then sees:

- prefill (a first update, or more than 32 tokens): earlier tokens restored, the new ones exact;
- decode (up to 32 tokens on a filled cache): every token as stored. Under the attention named
  "turbo_kv" that is the packed storage itself, under any other its restoration;
- with `read_back`, every token as stored, always: then a forward over a text measures the store.

Updates carry no positions, so the layer counts slots. Left padding shifts the slots of a row by a
constant, which the row's own mean absorbs. Does not know queries or masks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import torch
from transformers.cache_utils import DynamicLayer

from turbo_kv.cache import attention
from turbo_kv.cache.dense import DenseStores
from turbo_kv.cache.plan import Plan
from turbo_kv.kernels.states import PackedStates
from turbo_kv.quant.centering import Center

if TYPE_CHECKING:  # needs Triton
    from turbo_kv.cache.paged import PagedStores

DECODE_TOKENS = 32
MEAN_TOKENS = 256


class PackedLayer(DynamicLayer):
    """Keys and values (B, H_kv, T, D) of one layer, of which only codes are kept.

    bias: what to subtract where it is not the mean; one row for all, or the rows of a batch.
    """

    is_compileable = False

    def __init__(self, plan: Plan, layer_idx: int, bias: Center | None = None):
        super().__init__()
        self.plan = plan
        self.layer_idx = layer_idx
        self.bias = bias
        self.reset()

    def reset(self) -> None:
        """Forget every token, and the mean with them."""
        self.is_initialized = False
        self.cumulative_length = 0
        self.center: Center | None = None
        self._stores: DenseStores | PagedStores | None = None
        self._window: tuple[torch.Tensor, torch.Tensor] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Learn batch, dtype and device from states (B, H_kv, T, D), T >= 0, and store none."""
        self.dtype, self.device = key_states.dtype, key_states.device
        nothing = key_states[:, :, :0]
        kept = torch.bfloat16 if self.dtype == torch.float32 else self.dtype
        self._window = nothing.to(kept, copy=True), nothing.to(kept, copy=True)
        self._stores = self.plan.stores(nothing)
        if self.bias is not None:
            self.center = _for_batch(self.bias, len(key_states), self.device)
        self.is_initialized = True

    @torch.no_grad()
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor] | tuple[PackedStates, PackedStates]:
        """Code states (B, H_kv, T, D), store them, and return what attention is to see.

        Raises ValueError, and keeps the layer as it was, for states of another model or batch,
        for NaN, infinity or norms beyond fp16, and past the model's last position.
        """
        self._check(key_states, value_states)
        if self.cumulative_length == 0:
            self.lazy_initialization(key_states, value_states)
        past, tokens = self.cumulative_length, key_states.shape[2]
        if self.plan.read_back or (past and tokens <= DECODE_TOKENS):
            self._append(key_states, value_states)
            if tokens <= DECODE_TOKENS and self.plan.attention() == attention.NAME:
                states = self._stores.attended(self.center, self._window)
                return states, states
            return self.restore()
        seen = (key_states, value_states)
        if past:
            seen = tuple(torch.cat(pair, dim=2) for pair in zip(self.restore(), seen))
        self._append(key_states, value_states)
        return seen

    def states(self) -> PackedStates:
        """Everything stored, as dense codes."""
        return self._stores.states(self.center, self._window)

    def restore(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Every key and value as stored, in the model's dtype (B, H_kv, T, D)."""
        keys, values = self.states().restore()
        return keys.to(self.dtype), values.to(self.dtype)

    def get_seq_length(self) -> int:
        return self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As inherited; asked before a forward, so the first to see that it has no tokens."""
        if query_length == 0:
            raise ValueError("the prompt is empty; give at least one token")
        return super().get_mask_sizes(query_length)

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the newest -`tokens_to_remove` tokens, zero or negative, and their bytes."""
        if tokens_to_remove > 0:
            raise ValueError(
                f"crop({tokens_to_remove}): pass a negative number, minus the count of tokens to "
                "remove from the end"
            )
        if tokens_to_remove == 0 or not self.is_initialized:
            return
        kept = self.cumulative_length + tokens_to_remove
        if kept <= 0:
            self.reset()
            return
        self.cumulative_length = kept
        self._stores.crop(kept)
        exact = kept - self._stores.length
        self._window = tuple(states[:, :, :exact].clone() for states in self._window)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Let row i go on with what row `beam_idx[i]` has stored."""
        self._map_batch(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        self._map_batch(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows `indices`."""
        self._map_batch(lambda tensor: tensor[indices])

    def offload(self) -> NoReturn:
        """Refused: attention reads the storage after `update`, when it would be gone."""
        raise ValueError("a packed cache is not offloaded: it is read where it lies")

    def prefetch(self) -> NoReturn:
        """Refused, as `offload` is."""
        self.offload()

    @property
    def is_croppable(self) -> bool:
        """Whether `crop` leaves no trace: what left the exact window stays coded."""
        return self.plan.exact_window == 0

    @property
    def nbytes(self) -> int:
        """Bytes of storage of everything kept for the tokens."""
        return sum(self.stored().values())

    def stored(self) -> dict[str, int]:
        """Bytes of storage by purpose: codes, scales, means, open_page, exact_window, ..."""
        if not self.is_initialized:
            return {}
        return {
            **self._stores.stored(),
            "means": 0 if self.center is None else self.center.nbytes,
            "exact_window": sum(states.untyped_storage().nbytes() for states in self._window),
        }

    def _append(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take states in at the newest end of the window, and code what leaves at its oldest."""
        tokens = key_states.shape[2]
        center = self.center
        if self.plan.frozen_mean and center is None:
            cos, sin = self.plan.rope.cos_sin(0, tokens, self.device)
            center = Center.from_mean(key_states, value_states, cos, sin, MEAN_TOKENS)
        states = (key_states, value_states)
        if self.plan.exact_window:
            pairs = zip(self._window, states)
            states = tuple(torch.cat((held, new.to(held.dtype)), dim=2) for held, new in pairs)
        leaving = max(0, states[0].shape[2] - self.plan.exact_window)
        try:
            self._stores.append(*(each[:, :, :leaving] for each in states), center)
        except ValueError as error:
            raise ValueError(f"layer {self.layer_idx}: {error}") from error

        self.center = center
        self.cumulative_length += tokens
        if self.plan.exact_window:
            self._window = tuple(each[:, :, leaving:].clone() for each in states)

    def _map_batch(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        if not self.is_initialized:
            return
        self._stores.map_batch(select)
        self._window = tuple(select(states) for states in self._window)
        if self.center is not None:
            self.center = self.center.map_batch(select)

    def _check(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.plan.check_states(self.layer_idx, key_states, value_states)
        self.plan.check_room(self.layer_idx, self.cumulative_length + key_states.shape[2])
        if self.cumulative_length == 0:
            return
        batch, dtype, device = len(self._window[0]), self.dtype, self.device
        given = len(key_states), key_states.dtype, key_states.device
        if given != (batch, dtype, device):
            raise ValueError(
                f"layer {self.layer_idx} holds {batch} rows of {dtype} on {device} and was given "
                "{} rows of {} on {}; a cache serves one model and one batch: ".format(*given)
                + "reset() it or make another"
            )


def _for_batch(bias: Center, batch: int, device: torch.device) -> Center:
    """The centre's rows repeated to a batch: beams of one prompt lie next to each other."""
    rows = len(bias.key_mean)
    if batch % rows:
        raise ValueError(f"the padding of {rows} rows was given for a batch of {batch}")
    return bias.map_batch(lambda mean: mean.to(device).repeat_interleave(batch // rows, dim=0))

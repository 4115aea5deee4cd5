"""How far restored keys and values are from exact ones, and what attention makes of it.

Full vectors per KV head, attention per query head, each an average over tokens. Knows nothing of
how the restored states came about. Attention runs over the last Q positions, causally, in blocks
of query rows, so that memory does not grow with Q times T.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

BLOCK = 2**20
"""Logits held at once, per temporary: 4 MiB in fp32."""

SMALLEST = torch.finfo(torch.float32).tiny


def cosine(exact: Tensor, restored: Tensor) -> Tensor:
    """Mean cosine of exact and restored vectors (B, H, T, D), per head: (H,)."""
    return cosine_similarity(exact, restored, dim=-1).mean(dim=(0, 2))


def relative_mse(exact: Tensor, restored: Tensor) -> Tensor:
    """Σ‖x - x̂‖² / Σ‖x‖² over vectors (B, H, T, D), per head: (H,)."""
    error, energy = (x.square().sum(dim=(0, 2, 3)) for x in (exact - restored, exact))
    return error / energy.clamp(min=SMALLEST)


@dataclass(frozen=True)
class AttentionFidelity:
    """Per query head, (H_q,) fp32; the definitions are LayerReport's."""

    kl: Tensor
    logit_correlation: Tensor
    top1: Tensor
    output_relative_error: Tensor


class ExactAttention:
    """A layer's exact attention, ready to be compared with restored keys and values.

    queries (B, H_q, Q, D) are the last Q of T positions; keys and values (B, H_kv, T, D), of any
    float dtype, are kept and not copied. `block` bounds the logits held at once, in elements.
    """

    def __init__(
        self, queries: Tensor, keys: Tensor, values: Tensor, scaling: float, *, block: int = BLOCK
    ) -> None:
        batch, kv_heads, length, width = keys.shape
        self._shape = queries.shape[:3]  # (B, H_q, Q)
        # From here on a head is one of B * H_kv, and G query heads share it.
        self._queries = queries.reshape(batch * kv_heads, -1, queries.shape[2], width)
        self._keys, self._values = keys.flatten(0, 1), values.flatten(0, 1)
        self._scaling = scaling
        self._height = max(1, block // (batch * queries.shape[1] * length))
        keys, values = self._keys.float(), self._values.float()
        rows = [self._exact_rows(block, keys, values) for block in self._blocks(rooms=1)]
        self._known = [torch.cat(parts, dim=2) for parts in zip(*rows)]  # (H, G, Q, ·)

    def compare(self, keys: Tensor, values: Tensor) -> AttentionFidelity:
        """Compare with attention on restored keys and values, fp32 (B, H_kv, T, D)."""
        exact = self._keys.float()
        # The error of a logit is its query times the error of its key: no big numbers cancel.
        key_errors, values = keys.flatten(0, 1) - exact, values.flatten(0, 1)
        figures = [
            self._compare_rows(block, exact, key_errors, values) for block in self._blocks(rooms=3)
        ]
        figures = torch.cat(figures, dim=-1)  # (4, H, G, Q)
        return AttentionFidelity(*figures.reshape(4, *self._shape).mean(dim=(1, 3)))

    def _blocks(self, rooms: int) -> Iterator["_Block"]:
        heads, groups, rows, _ = self._queries.shape
        length = self._keys.shape[1]
        # Used by one block after the other: fresh memory costs more than what is done in it.
        memory = self._queries.new_empty(
            rooms, heads * groups * min(self._height, rows) * length, dtype=torch.float32
        )
        for start in range(0, rows, self._height):
            stop = min(start + self._height, rows)
            queries = self._queries[:, :, start:stop].float() * self._scaling
            future = torch.ones(stop - start, stop - start, dtype=torch.bool, device=memory.device)
            yield _Block(queries, slice(start, stop), length - rows + stop, memory, future.triu_(1))

    def _exact_rows(self, block: "_Block", keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """What the comparison needs of the exact side and need not be computed each time."""
        logits = block.scores(keys, room=0)
        mean = block.remove_mean(logits)
        spread = _norm(logits)
        block.hide(logits, torch.finfo(logits.dtype).min)
        strongest, winner = logits.max(dim=-1, keepdim=True)
        weights = logits.sub_(strongest).exp_()
        total = weights.sum(dim=-1, keepdim=True)
        output = block.mix(weights, values) / total
        return tuple(map(block.by_head, (mean, spread, strongest + total.log(), winner, output)))

    def _compare_rows(
        self, block: "_Block", keys: Tensor, key_errors: Tensor, values: Tensor
    ) -> Tensor:
        """KL, logit correlation, top-1 and relative output error of each row: (4, H, G, R)."""
        mean, spread, log_total, winner, output = map(block.rows_of, self._known)
        # Softmax does not see a row's mean; the correlation must not either.
        logits = block.scores(keys, room=0).sub_(mean)
        block.hide(logits, 0.0)
        errors = block.scores(key_errors, room=1)
        block.remove_mean(errors)
        weights = torch.sub(logits, log_total, out=block.room(2)).exp_()
        mean_error = weights.mul_(errors).sum(dim=-1, keepdim=True)
        error_spread = _norm(errors)
        packed = logits.add_(errors)
        correlation = _correlation(spread, _norm(packed), error_spread)

        block.hide(packed, torch.finfo(packed.dtype).min)
        strongest = packed.amax(dim=-1, keepdim=True)
        top1 = (packed.gather(-1, winner) == strongest).float()
        packed_weights = packed.sub_(strongest).exp_()
        total = packed_weights.sum(dim=-1, keepdim=True)
        # KL = log Ẑ - log Z - E[error], the expectation under the exact weights.
        kl = (strongest + total.log()) - log_total - mean_error
        kl = kl.clamp(min=0)  # below zero there is only rounding
        output_error = _norm(block.mix(packed_weights, values) / total - output)
        output_error /= _norm(output).clamp(min=SMALLEST)
        figures = torch.stack((kl, correlation, top1, output_error))
        return figures.reshape(4, *block.queries.shape[:3])


@dataclass(frozen=True)
class _Block:
    """Some query rows: scaled queries (H, G, R, D), which rows, and the keys the last one sees.

    memory: a row for each room, where scores are computed.
    future: (R, R), True where the last R of N columns lie in a row's future.
    """

    queries: Tensor
    rows: slice
    seen: int
    memory: Tensor
    future: Tensor

    def room(self, index: int) -> Tensor:
        """Uninitialized scores (H, G * R, N), the same memory at every call."""
        heads, groups, height, _ = self.queries.shape
        size = heads * groups * height * self.seen
        return self.memory[index, :size].view(heads, groups * height, self.seen)

    def scores(self, keys: Tensor, room: int) -> Tensor:
        """Every row times every key (H, T, D) some row sees: (H, G * R, N), in a room."""
        return torch.bmm(self.queries.flatten(1, 2), keys[:, : self.seen].mT, out=self.room(room))

    def mix(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums of values (H, T, D) with the rows' weights (H, G * R, N): (H, G * R, D)."""
        return weights @ values[:, : self.seen]

    def hide(self, scores: Tensor, fill: float) -> None:
        """Overwrite the columns that lie in each row's future."""
        height = self.queries.shape[2]
        last = scores.unflatten(1, self.queries.shape[1:3])[..., -height:]  # (H, G, R, R)
        last.masked_fill_(self.future, fill)

    def remove_mean(self, scores: Tensor) -> Tensor:
        """Make every row sum to zero over what it sees, 0 elsewhere; return the means."""
        self.hide(scores, 0.0)
        groups, height = self.queries.shape[1:3]
        visible = torch.arange(self.seen - height + 1, self.seen + 1, device=scores.device)
        mean = scores.sum(dim=-1, keepdim=True) / visible.repeat(groups)[:, None]
        scores.sub_(mean)
        self.hide(scores, 0.0)
        return mean

    def by_head(self, rows: Tensor) -> Tensor:
        """(H, G * R, ·) as (H, G, R, ·)."""
        return rows.unflatten(1, self.queries.shape[1:3])

    def rows_of(self, known: Tensor) -> Tensor:
        """This block's part of (H, G, Q, ·), as (H, G * R, ·)."""
        return known[:, :, self.rows].flatten(1, 2)


def _norm(scores: Tensor) -> Tensor:
    return torch.linalg.vector_norm(scores, dim=-1, keepdim=True)


def _correlation(a: Tensor, b: Tensor, error: Tensor) -> Tensor:
    """Correlation of mean-free rows from their norms and their difference's; 1 if both are flat."""
    both = a * b
    cosine = (a.square() + b.square() - error.square()) / (2 * both)
    return torch.where(both > 0, cosine, (a == b).float())

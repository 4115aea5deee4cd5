"""What keys and values have in common, taken off before coding and put back after.

A Qwen2.5 key is R(p)(W z + b): a constant, turned by its position p. The constant can be fifty
times the content, and a code spends its range on it. Un-rotated, it is one vector per head:
either the projection's bias itself, or the mean over the first tokens, frozen (the bias and the
mean of W z). Each position subtracts, and later adds back, the same fp32 numbers R(p)·mean, so
keeping the mean in fp16 loses nothing. Values are not rotated and lose their plain mean.

Only relative positions matter: counting slots of a left-padded row in place of positions turns
that row's mean by a constant and changes nothing else. The bias has no such freedom: it needs
true positions. Knows nothing of codes. RoPE in the `rotate_half` convention of transformers:
coordinates i and i + D/2 are one pair, with cos² + sin² = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from turbo_kv.quant.packing import storage_bytes

LARGEST = torch.finfo(torch.float16).max


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn vectors (B, H, T, D) to their positions; cos, sin (T, D) or (B, T, D); fp32."""
    x = x.float()
    return x * cos.unsqueeze(-3) + _rotate_half(x) * sin.unsqueeze(-3)


def remove_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Undo `apply_rope`: turn vectors (B, H, T, D) back to position 0; fp32."""
    return apply_rope(x, cos, -sin)


def _rotate_half(x: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat((-right, left), -1)


@dataclass(frozen=True, eq=False)
class Center:
    """The constant parts of one layer: key_mean, before RoPE, and value_mean, fp16 (B, H_kv, D).

    Both may be given in any float dtype; what exceeds fp16 is cut, and stays in what is coded.
    They are constants to autograd too: what is stored holds no graph.
    """

    key_mean: Tensor
    value_mean: Tensor

    def __post_init__(self) -> None:
        for name in ("key_mean", "value_mean"):
            mean = getattr(self, name).detach().clamp(-LARGEST, LARGEST)
            object.__setattr__(self, name, mean.half())

    @classmethod
    def from_mean(
        cls, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, tokens: int = 256
    ) -> "Center":
        """Average the first `tokens` keys, un-rotated, and values.

        keys, values (B, H_kv, T, D), keys after RoPE; cos, sin (T, D) or (B, T, D).
        Raises ValueError without a token to average.
        """
        if keys.shape[2] == 0:
            raise ValueError("no token to take a mean of; centre on the first non-empty update")
        first = slice(0, tokens)
        unrotated = remove_rope(keys[:, :, first], cos[..., first, :], sin[..., first, :])
        return cls(unrotated.mean(2), values[:, :, first].float().mean(2))

    @classmethod
    def from_bias(cls, key_bias: Tensor, value_bias: Tensor, batch: int) -> "Center":
        """Take the biases (H_kv, D) of the key and value projections for every batch row."""
        return cls(*(bias.expand(batch, -1, -1) for bias in (key_bias, value_bias)))

    @property
    def nbytes(self) -> int:
        """Bytes held, read from storage."""
        return storage_bytes(self.key_mean, self.value_mean)

    def key_offset(self, cos: Tensor, sin: Tensor) -> Tensor:
        """The key mean turned to each position: (B, H_kv, T, D), fp32."""
        return apply_rope(self.key_mean.unsqueeze(2), cos, sin)

    def value_offset(self) -> Tensor:
        """The value mean, the same at each position: (B, H_kv, 1, D), fp32."""
        return self.value_mean.float().unsqueeze(2)

    def map_batch(self, fn: Callable[[Tensor], Tensor]) -> "Center":
        """Apply `fn` to both means, batch first."""
        return Center(fn(self.key_mean), fn(self.value_mean))

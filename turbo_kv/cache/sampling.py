"""The next token from logits: the likeliest, or a draw with chance that two streams can share.

Gumbel-max: argmax (ln p + g) is a sample of p when the g are independent Gumbel noise. Two nearly
equal distributions under the same g nearly always give the same token, so that what differs comes
from the distributions and not from luck. Does not know where logits come from.
"""

import math

import torch


class Sampler:
    """Draws at `temperature` from the smallest set of tokens that holds `top_p` of the mass.

    temperature: 0 takes the likeliest token. top_p: applied after the temperature; 1 keeps all.
    seed: of the noise, which is the same on every device.
    Raises ValueError for a temperature outside 0 to 10, a top_p outside (0, 1], a bad seed.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0):
        if not 0 <= temperature <= 10:
            raise ValueError(f"temperature is {temperature}; choose 0 (likeliest token) to 10")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p is {top_p}; choose a share above 0, up to 1")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed}; choose a whole number from 0 to 2^63 - 1")
        self.temperature, self.top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def noise(self, count: int) -> torch.Tensor | None:
        """Gumbel noise (count,), fp32 on the CPU, new at every call; None when none is needed."""
        if self.temperature == 0:
            return None
        return -torch.empty(count).exponential_(generator=self._generator).log()

    def pick(self, logits: torch.Tensor, noise: torch.Tensor | None) -> int:
        """The token of logits (V,) under noise (V,)."""
        if noise is None:
            return int(logits.argmax())
        logits = logits.float().cpu()  # where the noise is, and every device then agrees
        scaled = (logits - logits.max()) / self.temperature
        if self.top_p < 1:
            scaled = scaled.masked_fill(~_nucleus(scaled, self.top_p), -math.inf)
        return int((scaled + noise).argmax())


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Which tokens (V,) make up the likeliest `top_p` of the mass: always the first."""
    likeliest, order = logits.softmax(-1).sort(descending=True)
    before = likeliest.cumsum(-1) - likeliest
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before < top_p)

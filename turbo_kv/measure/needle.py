"""A number hidden in real text and asked for at the end: does the model still find it?

Knows nothing of a cache but how to ask for a new one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from turbo_kv.measure.answers import NewCache, Share, draw, right, share

QUESTION = " The secret number of the old lighthouse is "
DEPTHS = (0.1, 0.5, 0.9)
FINDS = 0.5
"""Share of digits the exact cache must find before packing is worth trying."""

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Needle:
    """Digits found in `context` tokens of text; `quantized` is None when exact does not do it."""

    context: int
    depths: tuple[float, ...]
    reference: Share
    quantized: Share | None
    note: str


def needle(
    model: torch.nn.Module,
    encode: Encode,
    text: torch.Tensor,
    new_cache: NewCache,
    digits: int = 5,
) -> Needle:
    """Find a number hidden in text `(1, T)`, at each of DEPTHS: 0 is its beginning, 1 its end."""
    trials = [_hide(encode, text, depth, digits, seed) for seed, depth in enumerate(DEPTHS)]
    exact = share(torch.cat([right(model, *trial, None) for trial in trials]))
    note = f"The exact cache finds {exact.accuracy:.0%} of the digits."
    if exact.accuracy < FINDS:
        note += " Too few to tell what packing costs, so it was not tried."
        return Needle(text.shape[1], DEPTHS, exact, None, note)
    packed = share(torch.cat([right(model, *trial, new_cache()) for trial in trials]))
    return Needle(text.shape[1], DEPTHS, exact, packed, note)


def _hide(
    encode: Encode, text: torch.Tensor, depth: float, digits: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The text with a number hidden in it and the question `(1, T)`, and the number `(1, n)`."""
    number = "".join(map(str, draw(torch.arange(10), digits, seed).tolist()))
    sentence, question, answer = (
        torch.tensor([encode(words)], device=text.device)
        for words in (f"{QUESTION}{number}.", QUESTION, number)
    )
    place = round(depth * text.shape[1])
    return torch.cat((text[:, :place], sentence, text[:, place:], question), dim=1), answer

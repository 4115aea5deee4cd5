"""`append` in Triton: launches the kernel of quantize_kernel.py and makes its tables.

Knows neither when it is called (append.py) nor how the kernel codes.
"""

from functools import lru_cache

import torch
from torch import Tensor

from turbo_kv.kernels.pages import Pages, page_count
from turbo_kv.kernels.quantize_kernel import WEIGHT, append_page
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer


def append(
    states: tuple[Tensor, Tensor],
    pages: tuple[Pages, Pages],
    quantizers: tuple[TurboQuantizer, TurboQuantizer],
    center: Center | None,
    cos_sin: tuple[Tensor, Tensor],
) -> None:
    """As `append.append`."""
    key_states, value_states = states
    batch, heads, tokens, head_dim = key_states.shape
    keys, values = pages
    grid = (page_count(tokens - 1) + 1, batch * heads, 2)
    matrix = quantizers[0].rotation.matrix
    means = (keys.scales, keys.scales) if center is None else (center.key_mean, center.value_mean)
    append_page[grid](
        *(key_states, value_states, *key_states.stride()[:3], *value_states.stride()[:3]),
        *(keys.words.view(torch.int32), values.words.view(torch.int32)),
        *(keys.scales, values.scales, keys.length, *means, matrix, *cos_sin, matrix.stride(0)),
        *(heads, tokens, keys.words.shape[2], values.words.shape[2]),
        D=head_dim,
        BITS=keys.bits,
        CENTRED=center is not None,
        KEY_TABLES=tables(quantizers[0]),
        VALUE_TABLES=tables(quantizers[1]),
        num_warps=1,
        num_stages=1,
    )


@lru_cache(maxsize=64)
def tables(quantizer: TurboQuantizer) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Boundaries above zero, for ‖y‖ = 1; weighted squares of negative levels, with their codes."""
    book = quantizer.codebook
    scale = quantizer.head_dim**0.5
    half = 2**book.bits // 2
    boundaries = tuple(boundary.item() for boundary in book.boundaries[half:])
    levels = [level.item() * scale for level in book.centroids[half:]]
    squares = tuple(_tagged(level**2, half - 1 - n) for n, level in enumerate(levels))
    return boundaries, squares


def _tagged(square: float, code: int) -> int:
    """WEIGHT · square, rounded to a number that ends in the four bits of a code."""
    return 16 * round((WEIGHT.value * square - code) / 16) + code

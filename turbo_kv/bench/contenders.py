"""Who takes part in the comparison of bits against KL, and who is measured beside whom.

Knows names and choices, nothing of how any of them is measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import Cache, PreTrainedModel

from turbo_kv.bench.baselines import BASELINES
from turbo_kv.bench.live import CHUNK, NEWEST, Method, ours, windowed
from turbo_kv.bench.rounding import KiviLayer, PerTokenLayer

WIDTHS = (3, 2, 4)  # bits; the first is the page's own
WITHOUT_WINDOW = 512  # tokens a chunk, where the chunk changes nothing
SEEDS = (1, 2)
EXACT_OR_FP8 = ("bf16", "fp8, scale per vector")
BEST_OF_TRANSFORMERS = (
    *("quanto, 2 bits, axis -1", "quanto, 4 bits, axis -1"),
    *("HQQ, 2 bits, axis 0", "HQQ, 4 bits, axis 0"),
)


@dataclass(frozen=True)
class Group:
    """Methods that are measured together, and compared with the first of them."""

    name: str
    methods: tuple[Method, ...]
    chunk: int = WITHOUT_WINDOW


def _baselines(names: tuple[str, ...]) -> tuple[Method, ...]:
    return tuple(
        Method(each.name, False, lambda model, each=each: each.cache(model.config))
        for each in BASELINES
        if each.name in names
    )


def _layers(name: str, layer: Callable[[], Any]) -> Method:
    def new(model: PreTrainedModel) -> Cache:
        return Cache(layers=[layer() for _ in range(model.config.num_hidden_layers)])

    return Method(name, False, new)


def _width(bits: int) -> Group:
    """Every way without a window to spend about `bits` bits; the first is what others face."""
    product = ours("TurboQuant, product form", centering="off", qjl=True, qjl_budget="inside")
    return Group(
        f"{bits} bits",
        (
            ours("Lloyd-Max", bits=bits),
            ours("Lloyd-Max, 8-bit scales", bits=bits, scale_bits=8),
            ours("trellis", bits=bits, codebook="trellis"),
            ours("trellis, 8-bit scales", bits=bits, codebook="trellis", scale_bits=8),
            ours("query-trellis", bits=bits, codebook="query-trellis"),
            ours("query-trellis, 8-bit scales", bits=bits, codebook="query-trellis", scale_bits=8),
            *((product,) if bits == 3 else ()),
            ours("TurboQuant, MSE form", bits=bits, centering="off"),
            _layers("round to nearest, per token", lambda: PerTokenLayer(bits)),
        ),
    )


GROUPS = (
    *map(_width, WIDTHS),
    Group("others", _baselines(EXACT_OR_FP8)),
    Group(
        "windows",
        (
            *(
                windowed(f"query-trellis, {bits} bits, newest {NEWEST} in 16", bits)
                for bits in WIDTHS
            ),
            *(
                _layers(f"round to nearest, KIVI, {bits} bits", lambda bits=bits: KiviLayer(bits))
                for bits in WIDTHS
            ),
            *_baselines(BEST_OF_TRANSFORMERS),
        ),
        CHUNK,
    ),
)
SEEDED = tuple(
    Group(
        f"{bits} bits, seed {seed}",
        tuple(
            ours(name, bits=bits, seed=seed, **choices)
            for name, choices in (
                ("Lloyd-Max", {}),
                ("Lloyd-Max, 8-bit scales", {"scale_bits": 8}),
                ("trellis", {"codebook": "trellis"}),
                ("trellis, 8-bit scales", {"codebook": "trellis", "scale_bits": 8}),
                ("query-trellis", {"codebook": "query-trellis"}),
                ("query-trellis, 8-bit scales", {"codebook": "query-trellis", "scale_bits": 8}),
            )
        ),
    )
    for bits in WIDTHS
    for seed in SEEDS
)

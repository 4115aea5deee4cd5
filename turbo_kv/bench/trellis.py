"""How many states a trellis should have: error, speed, and next-token KL of 64 to 4,096.

Levels of the shipped size come with the package; the others are designed here in the same way.
Gaussian directions give errors to hold against Lloyd-Max and Shannon, and the speed of both verbs;
the live cache on the bundled model gives KL, over several rotations.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from turbo_kv.bench.fidelity import kl_ratio
from turbo_kv.bench.live import CONTEXT
from turbo_kv.bench.lock_step import lock_step
from turbo_kv.bench.own_quantizer import Make, own_cache
from turbo_kv.bench.stamp import stamp
from turbo_kv.bench.trellis_levels import STEPS, VECTORS, designed
from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.kernels import native_trellis
from turbo_kv.kernels.choose import searching, why_not_searched
from turbo_kv.measure.facts import longest_text, model_facts, text_facts
from turbo_kv.measure.quality import Quality
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.text import DEFAULT_SOURCE, prepare
from turbo_kv.quant import codebooks
from turbo_kv.quant.codebooks import Codebook
from turbo_kv.quant.config import BITS, QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer
from turbo_kv.quant.trellis import STATE_BITS, STRETCHES, TrellisCodebook, shipped_levels

STATES = (6, 8, 10, 12)  # bits
HEAD_DIM = 64
DIRECTIONS = 1024
REPEATS = 5
SEEDS = (0, 1, 2)
CHUNK = 512
FEWEST = 256

MakeBook = Callable[[int, torch.device], Codebook]  # head_dim, device


@dataclass(frozen=True)
class OnGaussian:
    """One codebook on Gaussian directions.

    error: 1 - cos², averaged; Shannon allows no code less than `bound`. Values per second, of
    `threads` threads, the best of REPEATS, in PyTorch and for a trellis in C, if there is a
    compiler.
    """

    codebook: str
    bits: int
    states: int | None
    tries: int
    error: float
    bound: float
    encoded_per_second: float
    encoded_in_c_per_second: float | None
    decoded_per_second: float


@dataclass(frozen=True)
class Live:
    """One 3-bit codebook in the live cache under one rotation; ratio is its KL over Lloyd-Max's."""

    codebook: str
    seed: int
    quality: Quality
    ratio: float
    ratio_stderr: float


def run(progress: Progress = silent, model: str = "tiny", context: int = CONTEXT) -> dict[str, Any]:
    """Every width and size on directions, then 3 bits in the live cache; the stamped result."""
    unit = F.normalize(
        torch.randn(DIRECTIONS, HEAD_DIM, generator=torch.Generator().manual_seed(2024)), dim=-1
    )
    rows, three = [], {}
    for bits in BITS:
        plain = codebooks.make(QuantConfig(bits=bits), HEAD_DIM)
        rows.append(_on_gaussian("lloyd-max", plain, unit))
        for state_bits in STATES:
            levels = _levels(bits, state_bits, lambda done, said: progress(0.4 * done, said))
            for stretches in ((1.0,), STRETCHES):
                name = f"trellis, {2**state_bits:,} states, {len(stretches)} tries"
                book = TrellisCodebook(levels, bits, HEAD_DIM, stretches=stretches)
                rows.append(_on_gaussian(name, book, unit))
                if bits == 3:
                    three[name] = _maker(levels, bits, stretches)
    tiny = load(model)
    prepared = prepare(tiny.tokenizer, None, context, longest_text(tiny), DEFAULT_SOURCE)
    live = []
    for seed in SEEDS:
        progress(0.5 + 0.5 * seed / len(SEEDS), f"The live cache, rotation {seed}")
        live += _live(tiny.model, prepared.tokens.to(tiny.device), three, seed)
    return {
        "stamp": stamp(),
        "model": asdict(model_facts(tiny)),
        "text": asdict(text_facts(prepared)),
        "tokens": prepared.tokens.shape[1],
        "gaussian": [asdict(row) for row in rows],
        "live": [asdict(row) for row in live],
    }


def _levels(bits: int, state_bits: int, progress: Progress) -> Tensor:
    if state_bits == STATE_BITS:
        return shipped_levels(bits)
    vectors = max(FEWEST, VECTORS >> max(0, STATE_BITS - state_bits))
    return designed(bits, state_bits, STEPS, vectors, progress)


def _maker(levels: Tensor, bits: int, stretches: tuple[float, ...]) -> MakeBook:
    return lambda head_dim, device: TrellisCodebook(levels, bits, head_dim, device, stretches)


def _on_gaussian(name: str, book: Codebook, unit: Tensor) -> OnGaussian:
    codes = book.encode(unit)
    in_torch, in_c = _best(lambda: book.encode(unit)), None
    if isinstance(book, TrellisCodebook) and not why_not_searched(book.bits, book.state_bits):
        book.walk = native_trellis.WALK
        in_c = unit.numel() / _best(lambda: book.encode(unit))
    cosines = F.cosine_similarity(book.decode(codes), unit, dim=-1).double()
    trellis = isinstance(book, TrellisCodebook)
    return OnGaussian(
        codebook=name,
        bits=book.bits,
        states=2**book.state_bits if trellis else None,
        tries=len(book.stretches) if trellis else 1,
        error=float((1 - cosines.square()).mean()),
        bound=4.0**-book.bits,
        encoded_per_second=unit.numel() / in_torch,
        encoded_in_c_per_second=in_c,
        decoded_per_second=unit.numel() / _best(lambda: book.decode(codes)),
    )


def _best(work: Callable[[], Any]) -> float:
    """The least of REPEATS times that `work` took, seconds."""
    seconds = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return min(seconds)


def _live(
    model: torch.nn.Module, tokens: Tensor, books: dict[str, MakeBook], seed: int
) -> Iterable[Live]:
    config = QuantConfig(seed=seed)
    caches = {"lloyd-max": TurboKVCache(model.config, config, read_back=True)}
    caches |= {
        name: own_cache(model.config, config, with_codebook(config, make))
        for name, make in books.items()
    }
    made, _ = lock_step(model, tokens, caches, values=1, chunk=CHUNK)
    first = made["lloyd-max"]
    return [
        Live(name, seed, Quality.of(each), *kl_ratio(each, first)) for name, each in made.items()
    ]


def with_codebook(quant: QuantConfig, make: MakeBook) -> Make:
    """What makes a quantizer as `quant` says, but for its codebook."""

    def quantizer(head_dim: int, device: torch.device) -> TurboQuantizer:
        made = TurboQuantizer(head_dim, quant, device)
        made.codebook = make(head_dim, device)
        return searching(made)

    return quantizer

"""Decode attention on pages in CUDA C, cuda/attend.cu: one launch, in less time than Triton's two.

decode_triton.py has the mathematics. Knows which tables and numbers the kernel takes.
"""

import ctypes
from ctypes import c_float, c_int, c_void_p
from functools import cache

import torch
from torch import Tensor

from turbo_kv.kernels import compiled_cuda, mean_samples
from turbo_kv.kernels.levels import integers
from turbo_kv.kernels.native import address
from turbo_kv.kernels.pages import PAGE, Pages, channel_order
from turbo_kv.quant.centering import Center

WARPS = (8, 4)  # of a program; two of the narrower ones share a multiprocessor
REGISTERS = 254  # of a thread, at most; ptxas orders the loop by it
LEAST_PAGES = 4  # of a program
MOST_PAGES = 1024  # of a program
SHARED = 228 * 1024  # bytes of a multiprocessor, of which a program takes RESERVED besides its own
RESERVED = 1024
BESIDE = 16  # pages that take as long as what a program does beside its own
APART = 1.02  # of a page's time, where two programs read in two places
COMBINED = 0.17  # pages that take as long as what the last program does for a split
QUERIES = 8
RAISED_BITS = 0x4B400000  # of attend.cu's RAISED
SLOTS = 4  # of a warp, for one side of a page each
DTYPES = {torch.float32: 32, torch.float16: 16, torch.bfloat16: 0}  # as attend.cu numbers them

Side = tuple[Tensor, Tensor, float]


class _Arguments(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("queries", "keys", "key_scales", "values")),
        *((name, c_void_p) for name in ("value_scales", "length", "firsts")),
        *((name, c_void_p) for name in ("rotation", "unrotation", "key_mean", "value_mean")),
        *((name, c_void_p) for name in ("step", "mean_table", "curve_table", "sample_table")),
        *((name, c_void_p) for name in ("cos", "sin", "levels")),
        *((name, c_void_p) for name in ("outputs", "sums", "arrived", "attended")),
        *((name, c_float) for name in ("scaling", "key_unit", "gain")),
        *((name, c_int) for name in ("pages", "groups", "kv_heads", "query_stride")),
    )


def _together(warps: int) -> int:
    """Programs of so many warps that share a multiprocessor."""
    return max(WARPS) // warps


def _time(heads: int, pages: int, splits: int, processors: int, warps: int) -> float:
    """What a launch takes, in pages that a program attends to if it is alone.

    Programs run in rounds of all processors; warps of a long one all wait for the slowest.
    """
    together = _together(warps)
    each = -(-pages // splits)
    if each > max(WARPS):
        each += -each % (max(WARPS) // 2)
    page = 1.0 if together == 1 else together * APART
    rounds = -(-heads * splits // (processors * together))
    return rounds * (page * each + BESIDE) + splits * COMBINED


@cache
def _splits(heads: int, pages: int, processors: int, widths: tuple[int, ...]) -> int:
    """The programs per KV head that take the least time, of as many warps as `widths` allow."""
    fewest, most = -(-pages // MOST_PAGES), min(-(-pages // LEAST_PAGES), processors)

    def time(splits: int) -> float:
        return min(_time(heads, pages, splits, processors, warps) for warps in widths)

    return min(range(fewest, max(fewest, most) + 1), key=time)


@cache
def _warps(heads: int, pages: int, splits: int, processors: int, widths: tuple[int, ...]) -> int:
    """Warps of a program, of `widths`, with which so many programs take the least time."""
    return min(widths, key=lambda warps: _time(heads, pages, splits, processors, warps))


class CompiledAttention:
    """Attention on one pair of codebooks, and its tables. Raises NotCompiled where there is none.

    keys, values: centroids (2^bits,), the inverse rotation over its peak, fp16 (D, D), and that.
    rope: cos and sin as `PagedAttention` takes them, or None.
    """

    def __init__(self, keys: Side, values: Side, rope: tuple[Tensor, Tensor] | None) -> None:
        (key_centroids, of_keys, key_peak), (value_centroids, of_values, value_peak) = keys, values
        self.device, self.head_dim = of_keys.device, len(of_keys)
        compiled_cuda.check(self.device)
        order = channel_order(self.head_dim).to(self.device)
        self.matrices = of_keys[order].contiguous(), of_values[order].T.contiguous()
        key_words, keys_long, gain = integers(key_centroids)
        self.key_unit = gain * key_peak
        value_words, values_long, gain = integers(value_centroids)
        self.gain = gain * value_peak
        self._processors = torch.cuda.get_device_properties(self.device).multi_processor_count
        every = [*key_words, *value_words, 0xFF00, *4 * [RAISED_BITS]]
        alike = torch.tensor(every, dtype=torch.int32, device=self.device)
        self.levels = alike.repeat_interleave(32)  # what lanes share, ptxas would move about
        self.shape = {
            "D": self.head_dim,
            "KEY_BITS": len(key_centroids).bit_length() - 1,
            "VALUE_BITS": len(value_centroids).bit_length() - 1,
            "KEY_LONG": int(keys_long),
            "VALUE_LONG": int(values_long),
            "REGISTERS": REGISTERS,
        }
        self.fast, self.tables, self.steps = 0, (None,) * 5, dict.fromkeys(WARPS)
        if rope is not None:
            self.fast = mean_samples.fast_pairs(*rope)
            self.steps = {
                warps: mean_samples.step_table(*rope, self.fast, -warps) for warps in WARPS
            }
            self.tables = (
                mean_samples.mean_table(*rope, self.fast),
                mean_samples.curve_table(*rope, self.fast),
                mean_samples.sample_table(*rope, self.fast),
                *rope,
            )
        self.widths = self._widths()
        torch.cuda.synchronize(self.device)  # a launch reads tables before it waits for others

    def splits(self, heads: int, pages: int) -> int:
        """Programs per KV head."""
        return _splits(heads, pages, self._processors, self.widths)

    def _widths(self) -> tuple[int, ...]:
        """Of WARPS, those whose programs find room, however many pages they have."""

        def taken(warps: int) -> int:
            return _together(warps) * (self._shared(MOST_PAGES + 1, self.fast, warps) + RESERVED)

        return tuple(warps for warps in WARPS if taken(warps) <= SHARED)

    def __call__(  # noqa: PLR0917 (what attention takes)
        self,
        query_states: Tensor,
        keys: Pages,
        values: Pages,
        center: Center | None,
        first: Tensor | None,
        scaling: float,
        outputs: Tensor,
        sums: Tensor,
        attended: Tensor | None = None,
    ) -> None:
        """Fill outputs (B · H_kv, 8, splits, D) and sums (B · H_kv, 8, splits, 2).

        Both as `decode_split` does. scaling: of the scores, in base 2. attended: like query_states;
        if given, it is filled and the other two are only room to work in.
        """
        heads, _, splits, _ = outputs.shape
        pages, kv_heads = keys.words.shape[2], keys.words.shape[1]
        if pages > MOST_PAGES * splits:
            raise ValueError(f"{pages} pages in {splits} splits; a split takes {MOST_PAGES}")
        warps = _warps(heads, pages, splits, self._processors, self.widths)
        fast = self.fast if center is not None else 0
        queries = _side_by_side(query_states)
        rotation, unrotation = self.matrices
        means = (None, None) if center is None else (center.key_mean, center.value_mean)
        pointers = (
            *(queries, keys.words, keys.scales, values.words, values.scales, keys.length, first),
            *(rotation, unrotation, *means, self.steps[warps], *self.tables, self.levels),
            *(outputs, sums, keys.arrived, attended),
        )
        shape = self.shape | {
            "FAST": fast,
            "QUERY": DTYPES[queries.dtype],
            "CENTRED": int(center is not None),
            "PADDED": int(first is not None),
            "WARPS": warps,
        }
        compiled_cuda.kernel("attend", self.device, **shape).launch(
            (heads, splits),
            32 * warps,
            self._shared(-(-pages // splits) + 1, fast, warps),
            _Arguments(
                *map(address, pointers),
                *(scaling, self.key_unit, self.gain),
                *(pages, query_states.shape[1] // kv_heads, kv_heads, queries.stride(0)),
            ),
        )

    def _shared(self, pages: int, fast: int, warps: int) -> int:
        """Bytes of shared memory of a program of so many pages, as attend.cu lays them out."""
        width = self.head_dim
        bits = max(self.shape["KEY_BITS"], self.shape["VALUE_BITS"])
        ring = warps * SLOTS * (8 * width * bits + 2 * PAGE)
        tables = 4 * fast // 8 * 32 * 16 + 32 * 16 + fast * 8
        products = QUERIES * (width // 2 + 4) * 8
        vectors = 2 * QUERIES * (width + 32) * 2
        rotated = (QUERIES * (width + 4) + 8) * 4 + 16 * width
        block, nodes = mean_samples.BLOCK, len(mean_samples.NODES)
        samples = -(-(pages + nodes + block) // block) * block * QUERIES * 4 if fast else 0
        return ring + tables + products + vectors + rotated + samples


def _side_by_side(queries: Tensor) -> Tensor:
    """Queries (B, H, 1, D) whose heads follow each other in a text, for loads of 16 bytes."""
    text, head, _, channel = queries.stride()
    aligned = (queries.data_ptr() | text * queries.element_size()) % 16 == 0
    if (head, channel) == (queries.shape[-1], 1) and aligned:
        return queries
    return queries.clone(memory_format=torch.contiguous_format)

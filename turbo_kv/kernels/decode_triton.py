"""Decode attention straight from packed pages on a GPU: split-K, no restored copy.

The first launch, of a split of the tokens for every KV head, is Triton's or, where there is one for
the device, CUDA C's (decode_cuda.py); the second, which weighs splits and newest tokens together,
is Triton's. CUDA C weighs splits together itself where there are no newest tokens.

With stored key j = R(j) μ_k + s_j Hᵀ c_j (see pagewise.py), H orthonormal,

    q · k_j = Re Σ_p z_p e^{iθ_p j} + s_j (H q) · c_j        z = conj(q) μ_k, pair by pair of RoPE
    Σ p_j v_j = μ_v + Hᵀ Σ p_j s_j c_j

so a query is rotated once and an output un-rotated once. The mean of the keys costs no bandwidth:
z is turned to the middle of a page in fp32, the first sum is its real part there, and what the
tokens n of a page add, Re Σ z (e^{iθn} - 1), is a small product with a table of cosines and sines
that all pages share. That product is fp16, so it is exact to 1e-4 where the mean sits in pairs
that turn slowly, as Qwen2.5's does; CUDA C samples and interpolates it instead
(mean_samples.py). Levels are bytes picked from registers (levels.py).

Lengths are read on the device and the grid depends on capacity alone, so that a CUDA graph stays
valid while a cache grows. Triton's programs take pages in turn, so none waits for the length to
know its first one, and each launch is prepared while the one before it ends. Does not know who
fills the pages, nor transformers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from turbo_kv.kernels.choose import MOST_QUERIES, why_not, why_not_cuda_c
from turbo_kv.kernels.decode_cuda import CompiledAttention
from turbo_kv.kernels.decode_kernel import decode_combine, decode_split
from turbo_kv.kernels.early_launch import early
from turbo_kv.kernels.levels import codes
from turbo_kv.kernels.pages import FIELDS, PAGE, Pages
from turbo_kv.quant.centering import Center
from turbo_kv.quant.quantizer import TurboQuantizer

LANES = 8  # queries that a program attends with, used or not
WARPS = 4  # of a program; each reads a page
CHUNK = 32  # splits that are summed in one place
MOST_SPLITS = 256
LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Launch:
    """How the work is cut. splits: programs per KV head; None: by the device.

    compiled: by CUDA C where it can be. What follows is Triton's alone: programs that one
    multiprocessor holds at once, registers of a thread, at most.
    """

    splits: int | None = None
    compiled: bool = True
    programs: int = 2
    registers: int | None = None


LAUNCHES = {64: Launch(programs=3, registers=168), 128: Launch()}  # head_dim -> fastest on an H200


class PagedAttention:
    """Attention of one query per head on `Pages` coded by two quantizers; tables are made here.

    cos, sin: fp32 (T, D) of the quantizers' rotary table, T at least the capacity of every page
    container; None if nothing is centred. launch: LAUNCHES has the default.
    Raises ValueError for what the kernel does not read.
    """

    def __init__(
        self,
        key_quantizer: TurboQuantizer,
        value_quantizer: TurboQuantizer,
        cos: Tensor | None = None,
        sin: Tensor | None = None,
        launch: Launch | None = None,
    ) -> None:
        reasons = filter(None, map(why_not, (key_quantizer, value_quantizer)))
        if reason := next(reasons, None):
            raise ValueError(f"these pages cannot be attended: {reason}; keep them dense")
        self.head_dim = key_quantizer.head_dim
        self.launch = launch or LAUNCHES[self.head_dim]
        self.device = key_quantizer.codebook.windows.device
        inline = self.device.type == "cuda"
        self.key_matrix, peak = _matrix(key_quantizer)
        self.keys = codes(key_quantizer.codebook.centroids, peak=peak, inline=inline)
        self.value_matrix, peak = _matrix(value_quantizer)
        self.values = codes(value_quantizer.codebook.centroids, peak=peak, inline=inline)
        self.tables = [
            torch.tensor(side.tables, dtype=torch.int32, device=self.device).repeat_interleave(32)
            for side in (self.keys, self.values)
        ]
        self.cos, self.sin, self.table = cos, sin, None
        self.compiled = None
        if self.launch.compiled and why_not_cuda_c(self.device) is None:
            rope = None if cos is None else (cos.contiguous(), sin.contiguous())
            keys = key_quantizer.codebook.centroids, self.key_matrix, self.keys.peak
            values = value_quantizer.codebook.centroids, self.value_matrix, self.values.peak
            self.compiled = CompiledAttention(keys, values, rope)
        elif cos is not None:
            self.table = phase_table(cos, sin)

    def __call__(  # noqa: PLR0917 (what attention takes)
        self,
        query_states: Tensor,
        keys: Pages,
        values: Pages,
        center: Center | None = None,
        first: Tensor | None = None,
        scaling: float | None = None,
        newest: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend to the valid tokens: (B, H_q, 1, D) in the query's dtype.

        query_states: (B, H_q, 1, D), rotated by RoPE, H_q at most 8 times H_kv.
        center: what the pages are centred by. first: int32 (B,), the first slot that is no padding.
        scaling: of the scores; 1 / √D by default.
        newest: keys and values after those in pages, as they are, (B, H_kv, W, D), W at least 1.
        Raises ValueError for shapes it does not read.
        """
        batch, query_heads, length, head_dim = query_states.shape
        kv_heads = keys.words.shape[1]
        groups = query_heads // kv_heads
        if length != 1 or groups > MOST_QUERIES or query_heads % kv_heads:
            raise ValueError(
                f"{query_heads} query heads of {length} tokens on {kv_heads} KV heads; this "
                f"attends with one token and at most {MOST_QUERIES} query heads per KV head"
            )
        if center is not None and self.cos is None:
            raise ValueError("the pages are centred; pass cos and sin when this is made")
        if center is not None and len(self.cos) < keys.capacity:
            raise ValueError(
                f"a rotary table of {len(self.cos):,} rows for pages of {keys.capacity:,} tokens; "
                "pass a row for each"
            )
        scaling = head_dim**-0.5 if scaling is None else scaling
        heads = batch * kv_heads
        splits = self.launch.splits or self._splits(heads, keys)
        out = query_states.new_empty(query_states.shape)
        shape = heads, LANES, splits
        parts = torch.empty(*shape, head_dim, dtype=torch.half, device=self.device)
        sums = torch.empty(*shape, 2, device=self.device)
        split = query_states, keys, values, center, first, scaling * LOG2_E, parts, sums
        if self.compiled and newest is None:
            self.compiled(*split, out)
            return out
        (self.compiled or self._split)(*split)
        near = None if newest is None else [each.contiguous() for each in newest]
        tokens = 0 if near is None else near[0].shape[2]
        decode_combine[(batch * query_heads,)](
            *(parts, sums, self.value_matrix),
            *(None if center is None else center.value_mean, out, splits, groups),
            *(query_states.contiguous(), *(near or (None, None)), keys.length, first),
            *(scaling * LOG2_E, tokens, kv_heads),
            D=head_dim,
            **combined(splits, tokens),
            **early(self.device),
        )
        return out

    def _splits(self, heads: int, keys: Pages) -> int:
        """Programs per KV head: no more than the device holds at once, each with as many tiles."""
        pages = keys.words.shape[2]
        if self.compiled:
            return self.compiled.splits(heads, pages)
        tiles = -(-pages // WARPS)
        if self.device.type != "cuda":
            return min(2, tiles)
        processors = torch.cuda.get_device_properties(self.device).multi_processor_count
        most = max(1, min(MOST_SPLITS, processors * self.launch.programs // heads))
        return -(-tiles // -(-tiles // most))

    def _split(  # noqa: PLR0917
        self,
        query_states: Tensor,
        keys: Pages,
        values: Pages,
        center: Center | None,
        first: Tensor | None,
        scaling: float,
        parts: Tensor,
        sums: Tensor,
    ) -> None:
        """Launch `decode_split`, which fills parts and sums. scaling: of the scores, in base 2."""
        kv_heads = keys.words.shape[1]
        registers = {"maxnreg": self.launch.registers} if self.launch.registers else {}
        decode_split[parts.shape[0], parts.shape[2]](
            query_states.contiguous(),
            *(keys.words, keys.scales, values.words, values.scales, keys.length, first),
            *(self.key_matrix, None if center is None else center.key_mean),
            *(self.table, self.cos, self.sin, *self.tables),
            *(parts, sums, scaling),
            *(keys.words.shape[2], query_states.shape[1] // kv_heads, kv_heads),
            WARPS=WARPS,
            D=self.head_dim,
            KEYS=self.keys,
            VALUES=self.values,
            CENTRED=center is not None,
            PADDED=first is not None,
            num_warps=WARPS,
            num_stages=1,
            **early(self.device),
            **registers,
        )


def combined(splits: int, newest: int = 0) -> dict[str, int]:
    """What `decode_combine` is compiled with for so many splits and newest tokens."""
    block, near = (1 << (each - 1).bit_length() if each else 0 for each in (splits, newest))
    return {
        "BLOCK": block,
        "CHUNK": min(block, CHUNK),
        "NEWEST": near,
        "num_warps": 4 if max(block, near) <= 64 else 8,
    }


def phase_table(cos: Tensor, sin: Tensor) -> Tensor:
    """cos θn - 1 and sin θn for the tokens n of a page, counted from its middle, fp16.

    In the order in which lanes hold operand A: (4 fields, 2, D/32 steps, 8 rows, 4, 2, 2 row
    halves, 2), cosines before sines, lane t of a row holding pairs t·D/8 onwards.
    """
    width = cos.shape[1]
    n = torch.arange(PAGE, device=cos.device) - PAGE // 2
    half = slice(0, width // 2)
    turns = (cos[n.abs(), half].double() - 1, sin[n.abs(), half].double() * n.sign().unsqueeze(1))
    both = torch.stack(turns)  # cosine or sine, token, pair
    both = both.view(2, FIELDS, 2, 8, 4, width // 32, 2, 2)  # .., t, step, half step, next
    return both.permute(1, 0, 5, 3, 4, 6, 2, 7).half().contiguous()


def _matrix(quantizer: TurboQuantizer) -> tuple[Tensor, float]:
    """The inverse rotation over its largest entry, fp16 (D, D), exact for ±1; and that entry."""
    identity = torch.eye(quantizer.head_dim, device=quantizer.codebook.windows.device)
    inverse = quantizer.unrotate(identity)
    peak = inverse.abs().max().item()
    return (inverse / peak).half().contiguous(), peak

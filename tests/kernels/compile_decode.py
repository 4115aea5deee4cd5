"""Compile the decode kernel for sm_90 without a GPU, and print what its loop costs, as JSON.

Run by test_compile_decode.py in a process of its own, as compile_quantize.py is by its test.
"""

import json
import re
import sys

import triton
from compile_quantize import loops
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from turbo_kv.kernels.decode_kernel import decode_split
from turbo_kv.kernels.levels import codes
from turbo_kv.kernels.pages import PAGE
from turbo_kv.quant import fast, lloyd_max

HALVES = ("query_states", "key_scales", "value_scales", "key_matrix", "table", "key_mean")
SINGLES = ("cos", "sin", "outputs", "sums_out")
POINTERS = {
    **dict.fromkeys(HALVES, "*fp16"),
    **dict.fromkeys(SINGLES, "*fp32"),
    **dict.fromkeys(("keys", "values"), "*i16"),
    **dict.fromkeys(("lengths", "key_tables", "value_tables"), "*i32"),
}
BOOKS = {"lloyd-max": lloyd_max.codebook, "fast": fast.codebook}


def compiled(head_dim: int, bits: int, book: str, warps: int):
    """The kernel for centred pages of one codebook, compiled for sm_90."""
    side = codes(BOOKS[book](bits, head_dim).centroids, peak=head_dim**-0.5, inline=True)
    constants = {
        "firsts": None,
        "WARPS": warps,
        "D": head_dim,
        "KEYS": side,
        "VALUES": side,
        "CENTRED": True,
        "PADDED": False,
        "PDL": True,
    }
    names = decode_split.arg_names
    signature = {name: POINTERS.get(name, "fp32" if name == "scaling" else "i32") for name in names}
    source = ASTSource(
        decode_split,
        signature | dict.fromkeys(constants, "constexpr"),
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in POINTERS},
    )
    options = {"num_warps": warps, "num_stages": 1}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


if __name__ == "__main__":
    width, bits, book = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    values = 2 * PAGE * width / 32  # of one turn, per thread
    body = max(loops(compiled(width, bits, book, 4).asm["cubin"]), key=len)
    names = [re.sub(r"^@!?\w+\s+", "", each).split()[0].split(".")[0] for each in body]
    spilled = names.count("LDL") + names.count("STL")
    shared = sum(names.count(name) for name in ("BAR", "LDS", "STS", "LDSM", "STSM"))
    print(json.dumps({"per_value": len(body) / values, "spilled": spilled, "shared": shared}))

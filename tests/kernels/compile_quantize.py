"""Compile the quantize kernel for sm_90 without a GPU, and print what its loops cost, as JSON.

Run by test_compile_quantize.py in a process of its own: Triton's interpreter, which the other tests
use, and its compiler exclude each other.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from turbo_kv.kernels.quantize_kernel import append_page
from turbo_kv.kernels.quantize_triton import tables
from turbo_kv.quant.config import QuantConfig
from turbo_kv.quant.quantizer import TurboQuantizer

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
POINTERS = {
    "key_states": "*bf16",
    "value_states": "*bf16",
    "key_words": "*i32",
    "value_words": "*i32",
    "key_scales": "*fp16",
    "value_scales": "*fp16",
    "length": "*i32",
    **dict.fromkeys(("key_mean", "value_mean"), "*fp16"),
    **dict.fromkeys(("matrix", "cos", "sin"), "*fp32"),
}
ALIGNED = {*POINTERS, "matrix_row", *(f"{side}_{of}" for side in ("key", "value")
           for of in ("batch", "head", "token"))}  # fmt: skip


def compiled(head_dim: int, bits: int):
    """The kernel for centred bf16 states, compiled for sm_90."""
    quantizer = TurboQuantizer(head_dim, QuantConfig(bits=bits))
    constants = {
        "D": head_dim,
        "BITS": bits,
        "CENTRED": True,
        "KEY_TABLES": tables(quantizer),
        "VALUE_TABLES": tables(quantizer),
    }
    names = append_page.arg_names
    signature = {name: POINTERS.get(name, "i32") for name in names}
    source = ASTSource(
        append_page,
        signature | dict.fromkeys(constants, "constexpr"),
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED},
    )
    return triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1, "num_stages": 1}
    )


def listing(cubin: bytes) -> list[str]:
    """Lines of the machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = (str(TOOLS / "nvdisasm"), "-c", file.name)
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()


def loops(cubin: bytes) -> list[list[str]]:
    """The instructions between every backward branch and its target."""
    labels, instructions, found = {}, [], []
    for line in listing(cubin):
        if label := re.match(r"\s*(\.L\w+):", line):
            labels[label[1]] = len(instructions)
        if instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(instruction[1])
            target = re.search(r"\bBRA\b.*?(\.L\w+)", instruction[1])
            if target and target[1] in labels:
                found.append(instructions[labels[target[1]] :])
    return [loop for loop in found if len(loop) > 1]


if __name__ == "__main__":
    width, bits = map(int, sys.argv[1:])
    values = 16 * width / 32  # of one turn, per thread
    bodies = loops(compiled(width, bits).asm["cubin"])
    spilled = [sum(bool(re.search(r"\b(LDL|STL)\b", each)) for each in body) for body in bodies]
    print(json.dumps({"per_value": [len(body) / values for body in bodies], "spilled": spilled}))

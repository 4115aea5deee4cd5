"""Kernels in CUDA C: who compiles them, who does not and why, and their code for sm_90 as a gate.

What they compute is tested in test_decode_triton.py and test_quantize_triton.py, by a GPU or
emulated.
"""

import re
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.kernels import compiled_cuda, quantize_cuda
from turbo_kv.kernels.choose import cache_path, why_not_cuda_c
from turbo_kv.kernels.decode_cuda import (
    MOST_PAGES,
    REGISTERS,
    RESERVED,
    SHARED,
    WARPS,
    CompiledAttention,
    _splits,
    _together,
    _warps,
)

SHAPES = [
    (128, 3, 0, 16, 2.2),
    (128, 3, 1, 16, 2.5),
    (128, 2, 1, 16, 2.3),
    (128, 4, 1, 24, 4.0),
    (64, 3, 0, 16, 3.2),
    (64, 4, 1, 16, 5.0),
]  # head_dim, bits, whether levels take two bytes, fast pairs, most instructions a value: a third
# of them are for a change of reference, which is rare


CODED = [
    (128, 3, 3, 17, 23),
    (128, 2, 1, 14, 20),
    (128, 4, 7, 21.5, 27.5),
    (64, 3, 3, 18.5, 23.5),
    (64, 4, 8, 24.5, 29),
]  # head_dim, bits, terms of a compander, most instructions a value and, centred, a key's number


def test_a_cpu_is_told_that_it_is_none():
    assert why_not_cuda_c(torch.device("cpu")) == "CUDA C needs a CUDA device"


def test_another_gpu_is_told_which_one_it_was_written_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    why = why_not_cuda_c(torch.device("cuda"))
    assert why == "its kernels are written for compute capability 9.0, not 8.6"


def test_what_is_not_installed_is_named(monkeypatch):
    compiled_cuda._bindings.cache_clear()
    compiled_cuda._check.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert why_not_cuda_c(torch.device("cuda")) == "cuda-bindings is not installed"


def test_a_kernel_that_does_not_compile_says_what_the_compiler_said():
    pytest.importorskip("cuda.bindings", reason="NVRTC has no wheel for this platform")
    with pytest.raises(RuntimeError, match=r"NVRTC does not compile attend.cu: (.|\n)*error"):
        compiled_cuda._compiled("attend", {"D": 96})


@pytest.mark.parametrize("warps", WARPS)
@pytest.mark.parametrize(("head_dim", "bits", "long", "fast", "most"), SHAPES)
def test_a_value_costs_few_instructions_and_spills_nothing(
    head_dim, bits, long, fast, most, *, warps
):
    shape = attention(head_dim, bits, long, fast, warps)
    body = max(loops_of("attend", shape, "IMMA"), key=len)
    assert not spilled(body)
    assert 1 < len(body) / (2 * 64 * head_dim / 32) < most  # values of a lane


@pytest.mark.parametrize("warps", WARPS)
@pytest.mark.parametrize(("head_dim", "bits", "long", "fast", "most"), SHAPES)
def test_no_copy_adds_a_uniform_register_to_its_address(head_dim, bits, long, fast, most, *, warps):
    """ptxas 13.0 then puts the cache hint into registers that a GPU refuses to take."""
    disassembler()
    from compile_quantize import listing

    code = compiled_cuda._compiled("attend", attention(head_dim, bits, long, fast, warps))
    copies = [line for line in listing(code) if "LDGSTS" in line]
    assert copies
    assert not [line for line in copies if re.search(r"\+UR\d+.*desc", line)]


def attention(head_dim, bits, long, fast, warps):
    return {
        "D": head_dim,
        **dict.fromkeys(("KEY_BITS", "VALUE_BITS"), bits),
        **dict.fromkeys(("KEY_LONG", "VALUE_LONG"), long),
        **{"FAST": fast, "QUERY": 0, "CENTRED": 1, "PADDED": 0},
        **{"WARPS": warps, "REGISTERS": REGISTERS},
    }


@pytest.mark.parametrize("warps", quantize_cuda.REGISTERS)
@pytest.mark.parametrize(("head_dim", "bits", "terms", "most", "most_of_keys"), CODED)
def test_a_code_costs_few_instructions(head_dim, bits, terms, most, most_of_keys, *, warps):
    shape = {
        **{"D": head_dim, "BITS": bits, "TERMS": terms, "STATE": 0, "CENTRED": 1},
        **{"WARPS": warps, "REGISTERS": quantize_cuda.REGISTERS[warps]},
    }
    values, keys = sorted(loops_of("quantize", shape, "HMMA"), key=len)
    of_lane = 16 * head_dim / 32  # numbers of one turn
    assert 10 < len(values) / of_lane < most
    assert len(keys) / of_lane < most_of_keys
    for body in (values, keys):  # many warps leave no room for addresses
        assert spilled(body) <= (0 if warps == 1 else len(body) / 50)


def loops_of(name, shape, instruction):
    """Loops of a kernel in machine code that have an instruction in them.

    What lies past the kernel's end and jumps back into it is none.
    """
    disassembler()
    from compile_quantize import loops

    found = loops(compiled_cuda._compiled(name, shape))
    inside = [each for each in found if not any("EXIT" in one for one in each)]
    return [each for each in inside if any(instruction in one for one in each)]


def disassembler():
    pytest.importorskip("cuda.bindings", reason="NVRTC has no wheel for this platform")
    pytest.importorskip("triton", reason="Triton brings the disassembler")


def spilled(body):
    return sum(bool(re.search(r"\b(LDL|STL)\b", each)) for each in body)


def test_the_path_names_what_attends(monkeypatch):
    monkeypatch.setattr("turbo_kv.kernels.choose.why_dense", lambda *_: None)
    monkeypatch.setattr("turbo_kv.kernels.choose.why_not_cuda_c", lambda *_: None)
    device = torch.device("cuda")
    assert cache_path(device, (), 7).startswith("CUDA, CUDA C: ")
    assert "newer ones by Triton" in cache_path(device, (), 7, exact_window=64)


def test_a_little_more_room_splits_nothing():
    assert _splits(256, 512, 132, WARPS) == _splits(256, 528, 132, WARPS) == 1


def test_narrow_programs_run_where_wide_ones_would_take_a_second_round():
    """On few pages: what a program does beside its own is then worth more than apart reads."""
    assert _warps(256, 128, 1, 132, WARPS) == 4
    assert _warps(256, 512, 1, 132, WARPS) == 8
    assert _warps(128, 128, 1, 132, WARPS) == 8
    assert _warps(256, 128, 1, 132, WARPS[:1]) == 8  # where two find no room


@given(
    heads=st.integers(1, 2048),
    pages=st.integers(1, 200_000),
    head_dim=st.sampled_from([64, 128]),
    bits=st.sampled_from([2, 3, 4]),
)
def test_work_of_any_size_fits(heads, pages, head_dim, bits):
    split = object.__new__(CompiledAttention)
    split.head_dim, split.fast, split._processors = head_dim, head_dim // 2, 132
    split.shape = dict.fromkeys(("KEY_BITS", "VALUE_BITS"), bits)
    split.widths = split._widths()
    splits = split.splits(heads, pages)
    assert 1 <= splits <= pages
    assert pages <= MOST_PAGES * splits
    warps = _warps(heads, pages, splits, 132, split.widths)
    shared = split._shared(-(-pages // splits) + 1, head_dim // 2, warps)
    assert shared <= compiled_cuda.MOST_SHARED
    assert _together(warps) * (shared + RESERVED) <= SHARED

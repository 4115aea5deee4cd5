"""Runs code on the CPU under the rules of Apple's GPU: what MPS lacks raises here.

Rejected are operators without an MPS kernel (as PyTorch's own list of operators says), dtypes that
MPS has not or only partly has, and shifts of anything but int32 tensors, which older releases got
wrong without a word. Does not know speed, nor whether a kernel that exists is right.
"""

from functools import cache
from pathlib import Path

import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BANNED_DTYPES = {
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.uint16,
    torch.uint32,
    torch.uint64,
}
SHIFTS = ("lshift", "rshift", "left_shift", "right_shift")

# Composites that decompose into operators of their own; one may still call a kernel MPS lacks
# (`frexp` does), so each is allowed by hand.
COMPOSITES = {
    "_to_copy",
    "_unsafe_view",
    "abs",
    "alias",
    "arange",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "block_diag",
    "clone",
    "constant_pad_nd",
    "detach",
    "embedding",
    "empty_like",
    "expand",
    "full",
    "full_like",
    "lift_fresh",
    "mul",
    "new_empty",
    "new_full",
    "new_zeros",
    "ones",
    "permute",
    "repeat",
    "rsub",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "t",
    "transpose",
    "unbind",
    "unsqueeze",
    "view",
    "zeros",
    "zeros_like",
}


class NotOnMps(RuntimeError):
    """What ran here would fail, or fail silently, on MPS."""


class MpsMode(TorchDispatchMode):
    """Raises NotOnMps for what MPS cannot run.

    also: further operator names, such as "aten::foo", that the caller knows to run there.
    """

    def __init__(self, also: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.also = also
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        self.seen.add(name)
        if name not in _mps_operators() and name.split(".")[0] not in self.also:
            raise NotOnMps(f"{name} has no MPS kernel")
        out = func(*args, **(kwargs or {}))
        dtypes = [x.dtype for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        if banned := BANNED_DTYPES.intersection(dtypes):
            raise NotOnMps(f"{name} on {', '.join(map(str, banned))}")
        if any(shift in name for shift in SHIFTS) and set(dtypes) != {torch.int32}:
            raise NotOnMps(f"{name} on {dtypes}: shift int32 tensors only")
        return out


@cache
def _mps_operators() -> frozenset[str]:
    """Names of the operators that have an MPS kernel or decompose into others."""
    listing = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = yaml.load(listing.read_text(), Loader=yaml.CSafeLoader)
    by_name = {"aten::" + entry["func"].split("(")[0]: entry for entry in entries}

    def runs(name: str) -> bool:
        entry = by_name[name]
        if delegate := entry.get("structured_delegate"):
            return runs("aten::" + delegate)
        if "dispatch" not in entry:
            return True
        keys = {key.strip() for row in entry["dispatch"] for key in row.split(",")}
        operator = name.removeprefix("aten::").split(".")[0].removesuffix("_")
        by_hand = any("CompositeExplicit" in key for key in keys) and operator in COMPOSITES
        return bool(keys & {"MPS", "CompositeImplicitAutograd"}) or by_hand

    return frozenset(filter(runs, by_name))

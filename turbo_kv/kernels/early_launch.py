"""Triton launches that begin while the one before ends, where a device can. Knows no kernel."""

import torch
import triton
import triton.language as tl


def early(device: torch.device) -> dict[str, bool]:
    """What a kernel is launched with that takes PDL and waits for the launch before it."""
    return {"PDL": True, "launch_pdl": True} if device.type == "cuda" else {"PDL": False}


@triton.jit
def begin_in_turn(PDL: tl.constexpr):
    """Wait for the launch before, of which everything is there then, and let the next one begin."""
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()

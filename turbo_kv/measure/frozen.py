"""Work across two processes: one that has a GPU, for a moment, and one that outlives it.

A model loaded before is in both. A prepared text crosses as bytes.

What lay on the GPU lies in the CPU's memory afterwards. Only bytes that `freeze` made are thawed:
they are code as much as data, so none may come from elsewhere.
"""

import io

import torch

from turbo_kv.measure.analyze import Prepared
from turbo_kv.models.load import load
from turbo_kv.models.progress import Progress


def make_ready(model: str, device: str, progress: Progress) -> None:
    """Load a model here, where processes that are started later find it."""
    load(model, device, progress)


def freeze(prepared: Prepared) -> bytes:
    """Everything needed to measure the text again."""
    target = io.BytesIO()
    torch.save(prepared, target)
    return target.getvalue()


def thaw(frozen: bytes) -> Prepared:
    """What was frozen, on the CPU."""
    return torch.load(io.BytesIO(frozen), map_location="cpu", weights_only=False)

"""Which code quantizes and attends on a device, and why: the text that goes with every result."""

import torch


def path(device: torch.device) -> str:
    """The path that runs on `device`, then the reason after a colon."""
    if device.type == "cpu":
        missing = "the CPU was asked for" if torch.cuda.is_available() else "no CUDA device"
        return f"CPU, eager PyTorch: {missing}"
    return f"{device.type.upper()}, eager PyTorch: every vector is restored to be compared"

"""Where kernel tests run, and what they feed: a GPU if there is one, else Triton's interpreter."""

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*shape, seed=0):
    """Standard normal numbers on the device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def cos_sin(tokens, head_dim):
    """Cosines and sines of a rotary table, fp32 (T, D)."""
    frequencies = 1e4 ** -torch.linspace(0, 1, head_dim // 2).double()
    angles = torch.outer(torch.arange(tokens).double(), frequencies)
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos().float().to(DEVICE), angles.sin().float().to(DEVICE)

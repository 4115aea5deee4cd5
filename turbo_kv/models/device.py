"""Where a model runs, and in which dtype: the best the machine does well, with the reason as text.

Knows nothing of models but their number of parameters.
"""

import os
from pathlib import Path

import torch

_AVAILABLE = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_ASSUMED_MEMORY = 4 * 2**30


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or for "auto" the first of cuda, mps and cpu that is there.

    Raises ValueError naming the devices of this machine.
    """
    present = [device for device, is_available in _AVAILABLE.items() if is_available()]
    if name == "auto":
        return torch.device(present[0])
    if name not in present:
        raise ValueError(
            f"device {name!r} is not available; choose one of auto, {', '.join(present)}"
        )
    return torch.device(name)


def choose_dtype(device: torch.device, params: int) -> tuple[torch.dtype, str]:
    """The dtype to compute in, and why.

    Raises ValueError when not even 16-bit weights fit into the free memory.
    """
    free = free_memory(device)
    if 2 * params > free:
        raise ValueError(
            f"16-bit weights of {_gb(2 * params)} do not fit in the {_gb(free)} free on {device}; "
            "choose a smaller model or another device"
        )
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bf16: this GPU computes in it natively"
        return torch.float16, "fp16: this GPU has no native bf16"
    if device.type == "mps":
        if torch.backends.mps.is_macos_or_newer(14, 0):
            return torch.bfloat16, "bf16: native from macOS 14"
        return torch.float16, "fp16: bf16 needs macOS 14"
    if 4 * params <= free / 2:
        return torch.float32, f"fp32: exact, and {_gb(4 * params)} fit easily into {_gb(free)} free"
    return torch.bfloat16, f"bf16: {_gb(4 * params)} in fp32 would crowd the {_gb(free)} free"


def free_memory(device: torch.device) -> int:
    """Bytes a model may take on the device; a modest guess where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    limits = [limit for path in _CONTAINER_LIMITS if (limit := _container_limit(path))]
    return min([_system_memory(), *limits])


def _system_memory() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024  # kB
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _ASSUMED_MEMORY


def _container_limit(path: Path) -> int | None:
    limit = path.read_text().strip() if path.is_file() else "max"
    return None if limit == "max" else int(limit)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"

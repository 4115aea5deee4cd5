"""Where a model runs, and in which dtype: the best the machine does well, with the reason as text.

Knows nothing of models but their number of parameters.
"""

import os
from pathlib import Path

import torch

from turbo_kv.models.shortage import ShortOfMemoryError

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

NAMED = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FEWER_BITS = ("int8", "int4")
DTYPES = ("auto", *NAMED, *FEWER_BITS)

# Bytes per parameter. Embeddings keep 16 bits beside int8 and int4 weights: 0.5B's are a quarter.
_BYTES = {"auto": 2, "bf16": 2, "fp16": 2, "fp32": 4, "int8": 1.3, "int4": 1.0}


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


def choose_dtype(
    device: torch.device, params: int, wanted: str = "auto", free: int | None = None
) -> tuple[torch.dtype, str]:
    """The dtype to compute in, and why.

    wanted: one of DTYPES; with int8 and int4 the weights alone take fewer bits.
    free: bytes to be had, where that is not what is free on the device now.
    Raises ValueError for another name, ShortOfMemoryError when the weights do not fit.
    """
    if wanted not in DTYPES:
        raise ValueError(f"dtype {wanted!r} is not known; choose one of {', '.join(DTYPES)}")
    free = free_memory(device) if free is None else free
    if weights_bytes(params, wanted) > free:
        kind = "16-bit weights" if wanted == "auto" else f"weights in {wanted}"
        raise ShortOfMemoryError(
            f"{kind} of {_gb(weights_bytes(params, wanted))} do not fit in the {_gb(free)} free on "
            f"{device}; choose {_nearest(params, free, wanted)}"
        )
    if wanted in NAMED:
        return NAMED[wanted], f"{wanted}: as asked"
    if device.type != "cpu":
        return _sixteen_bits(device)
    if wanted in FEWER_BITS:
        return torch.bfloat16, f"bf16: fp32 embeddings would undo what {wanted} saves"
    if 4 * params <= free / 2:
        return torch.float32, f"fp32: exact, and {_gb(4 * params)} fit easily into {_gb(free)} free"
    return torch.bfloat16, f"bf16: {_gb(4 * params)} in fp32 would crowd the {_gb(free)} free"


def _sixteen_bits(device: torch.device) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bf16: this GPU computes in it natively"
        return torch.float16, "fp16: this GPU has no native bf16"
    if torch.backends.mps.is_macos_or_newer(14, 0):
        return torch.bfloat16, "bf16: native from macOS 14"
    return torch.float16, "fp16: bf16 needs macOS 14"


def weights_bytes(params: int, dtype: str) -> int:
    """About what so many parameters take; "auto" at its smallest."""
    return round(_BYTES[dtype] * params)


def _nearest(params: int, free: int, wanted: str) -> str:
    smaller = [name for name in ("bf16", *FEWER_BITS) if weights_bytes(params, name) <= free]
    if smaller and wanted != smaller[0]:
        return f"--dtype {smaller[0]}, a smaller model or another device"
    return "a smaller model or another device"


def free_memory(device: torch.device) -> int:
    """Bytes a model may take on the device; a modest guess where the system does not say."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    limits = [room for path in _CONTAINER_LIMITS if (room := _container_room(path)) is not None]
    return min([_system_memory(), *limits])


def _system_memory() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024  # kB
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _ASSUMED_MEMORY


def _container_room(limit_file: Path) -> int | None:
    """What the container may still take; pages of files that it read can be dropped."""
    limit = limit_file.read_text().strip() if limit_file.is_file() else "max"
    if limit == "max":
        return None
    used = 0
    for name in ("memory.current", "memory.usage_in_bytes"):
        if (usage := limit_file.with_name(name)).is_file():
            used = int(usage.read_text())
    if (statistics := limit_file.with_name("memory.stat")).is_file():
        fields = dict(line.split() for line in statistics.read_text().splitlines())
        used -= int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
    return max(0, int(limit) - max(0, used))


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"

"""What this machine is and what will run on it: one finding a line, each with what to do if not.

Loads no model and downloads nothing; asks the hub for a sign of life.
"""

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from turbo_kv.kernels import choose
from turbo_kv.models import hub
from turbo_kv.models.catalog import CATALOG, TINY
from turbo_kv.models.device import FEWER_BITS, choose_device, choose_dtype, free_memory
from turbo_kv.models.transfer import size
from turbo_kv.quant.config import QuantConfig

NEEDED = ("torch", "transformers", "huggingface-hub", "safetensors", "numpy", "gradio")
OPTIONAL = {
    "accelerate": "--device split, --tensor-parallel",
    "torchao": "--dtype int8",
    "bitsandbytes": "--dtype int4",
    "triton": "the fused kernels on CUDA",
}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and whether it will do."""

    name: str
    said: str
    fine: bool = True


def examine() -> list[Finding]:
    """Every finding, in reading order."""
    device = choose_device()
    return [
        _machine(device),
        Finding("path", choose.path(device)),
        Finding("kernels", _kernels(device)),
        _dtype(device),
        Finding("memory", f"{size(free_memory(device))} free on {device}"),
        _versions(),
        _extras(),
        *_models(device),
        _hub(),
        _cache(),
    ]


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    """The JSON form."""
    return {
        "fine": all(finding.fine for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def _machine(device: torch.device) -> Finding:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if device.type != "cuda":
        return Finding("device", f"{device}, {system}")
    count = torch.cuda.device_count()
    also = f" and {count - 1} more" if count > 1 else ""
    return Finding("device", f"{device}, {torch.cuda.get_device_name()}{also}, {system}")


def _kernels(device: torch.device) -> str:
    """The path of a live cache with the defaults and the smallest Qwen2.5's shapes."""
    quantizer = choose.quantizer(64, QuantConfig(), device)
    return choose.cache_path(device, (quantizer, quantizer), query_groups=7)


def _dtype(device: torch.device) -> Finding:
    _, reason = choose_dtype(device, TINY.params)
    return Finding("dtype", f"{reason} (for the bundled model)")


def _versions() -> Finding:
    found = {name: _version(name) for name in NEEDED}
    missing = [name for name, each in found.items() if each is None]
    said = ", ".join(f"{name} {each}" for name, each in found.items() if each)
    if missing:
        said += f"; missing: pip install {' '.join(missing)}"
    return Finding("versions", f"Python {platform.python_version()}, {said}", not missing)


def _extras() -> Finding:
    said = [
        f"{name} {found}" if (found := _version(name)) else f"no {name} ({use})"
        for name, use in OPTIONAL.items()
    ]
    return Finding("optional", ", ".join(said))


def _models(device: torch.device) -> list[Finding]:
    free = free_memory(device)
    fitting, reduced, too_large = [], [], []
    for card in CATALOG.values():
        if card.name.endswith("-Instruct"):
            continue
        fits = [dtype for dtype in ("auto", *FEWER_BITS) if _fits(device, card.params, dtype, free)]
        if "auto" in fits:
            fitting.append(card.name)
        elif fits:
            reduced.append(f"{card.name} with --dtype {fits[0]}")
        else:
            too_large.append(card.name)
    said = ", ".join([*fitting, *reduced]) or "none"
    return [
        Finding("will run", f"{said}; Instruct alike", bool(fitting)),
        Finding("will not", f"{', '.join(too_large) or 'none'}, for memory"),
    ]


def _fits(device: torch.device, params: int, dtype: str, free: int) -> bool:
    try:
        choose_dtype(device, params, dtype, free)
    except ValueError:
        return False
    return True


def _hub() -> Finding:
    obstacle = hub.unreachable()
    return Finding("hub", obstacle or f"{hub.endpoint()} answers", obstacle is None)


def _cache() -> Finding:
    folder = hub.cache()
    present = folder
    while not present.exists():
        present = present.parent
    whole = [card.name for card in CATALOG.values() if card.repo_id and hub.cached(card)]
    free = size(shutil.disk_usage(present).free)
    return Finding(
        "cache", f"{folder}, {free} of disk free, holds {', '.join(whole) or 'no model'}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

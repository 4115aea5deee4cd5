"""Loads a model and its tokenizer onto a device; the last one stays in memory.

Three kinds of name: "tiny" (bundled), a catalog name (from the hub), the path of a model folder.
Only safetensors are read and no code of a repository runs. Knows nothing of caches.
"""

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from turbo_kv.models import hub, tiny
from turbo_kv.models.catalog import TINY, card
from turbo_kv.models.checkpoint import read_config
from turbo_kv.models.device import choose_device, choose_dtype
from turbo_kv.models.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and how it lies in memory.

    name: catalog name, or the name of the local folder.
    weights_bytes: what the parameters take on the device, tied ones once.
    dtype_reason: why this dtype, one line.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    weights_bytes: int
    dtype_reason: str


_kept: dict[tuple[str, torch.device], LoadedModel] = {}
_lock = Lock()


def load(name: str, device: str = "auto", progress: Progress = silent) -> LoadedModel:
    """The named model on a device ("auto", "cuda", "mps", "cpu"), from memory if it was the last.

    Raises ValueError for an unknown name, a device this machine lacks, weights that cannot be had
    or do not fit, and folders that hold no supported model.
    """
    target = choose_device(device)
    key = (_identity(name), target)
    with _lock:
        if key not in _kept:
            shown, folder = _find(name, progress)
            config = read_config(folder)
            _forget()
            _kept[key] = _read(shown, folder, config, target, progress)
        return _kept[key]


def _identity(name: str) -> str:
    """What tells two models apart; files that went away meanwhile are still the same model."""
    try:
        return card(name).name
    except ValueError:
        return os.path.abspath(os.path.expanduser(name))


def _find(name: str, progress: Progress) -> tuple[str, Path]:
    try:
        known = card(name)
    except ValueError as error:
        if os.path.isdir(folder := os.path.expanduser(name)):
            return Path(folder).resolve().name, Path(folder)
        raise ValueError(f"{error}, or give the path of a model folder") from None
    return known.name, tiny.folder() if known is TINY else hub.fetch(known, progress)


def _forget() -> None:
    _kept.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _read(
    name: str, folder: Path, config: PreTrainedConfig, device: torch.device, progress: Progress
) -> LoadedModel:
    stored_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    params = stored_bytes // (config.dtype or torch.float32).itemsize
    dtype, reason = choose_dtype(device, params)
    progress(0.0, f"Loading {name} on {device} ({reason})")
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise ValueError(f"the weights in {folder} are damaged: {error}") from error
    absent = sorted(report["missing_keys"] | {key for key, *_ in report["mismatched_keys"]})
    if absent:
        raise ValueError(
            f"the weights in {folder} do not fit its config.json: {len(absent)} tensors missing or "
            f"of another shape, {absent[0]} first"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = model.to(device).eval().requires_grad_(False)
    progress(1.0, f"Loaded {name}")
    return LoadedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        weights_bytes=sum(parameter.nbytes for parameter in model.parameters()),
        dtype_reason=reason,
    )

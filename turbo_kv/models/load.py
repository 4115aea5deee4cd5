"""Loads a model and its tokenizer onto a device; the last one stays in memory.

Three kinds of name: "tiny" (bundled), a catalog name (from the hub), the path of a model folder.
Only safetensors are read and no code of a repository runs. Knows nothing of caches.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from turbo_kv.models import hub, placement, tiny
from turbo_kv.models.catalog import CATALOG, TINY, card
from turbo_kv.models.checkpoint import read_config
from turbo_kv.models.device import choose_dtype, weights_bytes
from turbo_kv.models.memory import explained, release
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.shortage import ShortOfMemoryError


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and how it lies in memory.

    name: catalog name, or the name of the local folder.
    device: where its tokens go. placement: where its weights lie, in words.
    weights_bytes: what the parameters take, tied ones once; of a shard, this process's part.
    dtype_reason: why this dtype, one line.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    placement: str
    dtype: torch.dtype
    weights_bytes: int
    dtype_reason: str


@dataclass(frozen=True)
class _Wanted:
    """A model as it was asked for: whatever asks alike gets the one in memory."""

    name: str
    place: str
    device: torch.device
    dtype: str


_kept: dict[_Wanted, LoadedModel] = {}
_lock = Lock()


def load(
    name: str, device: str = "auto", progress: Progress = silent, *, dtype: str = "auto"
) -> LoadedModel:
    """The named model on a device, from memory if it was the last.

    device: "auto", "cuda", "mps", "cpu", or "split" or "shard" as in `placement`.
    dtype: "auto", "bf16", "fp16", "fp32"; "int8" or "int4" for weights in fewer bits.

    Raises ValueError for an unknown name, a device or package this machine lacks, weights that
    cannot be had or do not fit, and folders that hold no supported model.
    """
    target = placement.first_device(device)
    wanted = _Wanted(_identity(name), device, target, dtype)
    with _lock:
        if wanted not in _kept:
            _refuse_what_cannot_fit(wanted)
            shown, folder = _find(name, progress)
            config = read_config(folder)
            placement.refuse_uneven(device, config.get_text_config())
            params = _params(folder, config)
            chosen, reason = choose_dtype(target, params, dtype, _room(wanted))
            options = placement.arguments(device, target, chosen, dtype)
            _kept.clear()
            release()
            progress(0.0, f"Loading {shown} on {target} ({reason})")
            with explained(target, f"loading {shown}"):
                model, tokenizer = _read(folder, config, chosen, options)
                lies = placement.settle(model, target, options)
            progress(1.0, f"Loaded {shown}")
            _kept[wanted] = LoadedModel(
                name=shown,
                model=model.eval().requires_grad_(False),
                tokenizer=tokenizer,
                device=target,
                placement=lies,
                dtype=chosen,
                weights_bytes=sum(_local(weight).nbytes for weight in model.parameters()),
                dtype_reason=reason,
            )
        return _kept[wanted]


def _identity(name: str) -> str:
    """What tells two models apart; files that went away meanwhile are still the same model."""
    try:
        return card(name).name
    except ValueError:
        return os.path.abspath(os.path.expanduser(name))


def _refuse_what_cannot_fit(wanted: _Wanted) -> None:
    """Before a download: a catalog model's parameters are known."""
    if (known := CATALOG.get(wanted.name)) and known is not TINY:
        try:
            choose_dtype(wanted.device, known.params, wanted.dtype, _room(wanted))
        except ShortOfMemoryError as error:
            said = f"{known.name}: {error}{_that_fits(wanted)}"
            raise ShortOfMemoryError(said) from error


def _room(wanted: _Wanted) -> int:
    """Free bytes, counting the model that would be let go."""
    kept = sum(
        model.weights_bytes for model in _kept.values() if model.device.type == wanted.device.type
    )
    return placement.room(wanted.place, wanted.device) + kept


def _that_fits(wanted: _Wanted) -> str:
    room = _room(wanted)
    fitting = [
        each
        for each in CATALOG.values()
        if weights_bytes(each.params, wanted.dtype) <= room and each is not TINY
    ]
    return f". {max(fitting, key=lambda each: each.params).name} fits" if fitting else ""


def _find(name: str, progress: Progress) -> tuple[str, Path]:
    try:
        known = card(name)
    except ValueError as error:
        if os.path.isdir(folder := os.path.expanduser(name)):
            return Path(folder).resolve().name, Path(folder)
        raise ValueError(f"{error}, or give the path of a model folder") from None
    return known.name, tiny.folder() if known is TINY else hub.fetch(known, progress)


def _params(folder: Path, config: PreTrainedConfig) -> int:
    stored_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return stored_bytes // (config.dtype or torch.float32).itemsize


def _read(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype, options: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except SafetensorError as error:
        raise ValueError(f"the weights in {folder} are damaged: {error}") from error
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"the files in {folder} are damaged, or went away meanwhile: {error}; "
            "get them again and try again"
        ) from error
    except ImportError as error:
        raise ValueError(f"this model needs a package that is not installed: {error}") from error
    absent = sorted(report["missing_keys"] | {key for key, *_ in report["mismatched_keys"]})
    if absent:
        raise ValueError(
            f"the weights in {folder} do not fit its config.json: {len(absent)} tensors missing or "
            f"of another shape, {absent[0]} first"
        )
    return model, tokenizer


def _local(weight: torch.Tensor) -> torch.Tensor:
    """This process's part of a sharded weight."""
    return weight.to_local() if hasattr(weight, "to_local") else weight

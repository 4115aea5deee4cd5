"""How weights come to lie where they are wanted: on one device, split, sharded, or in fewer bits.

- A device's name: all of them there.
- "split": layer by layer over the GPUs, then the CPU's memory (accelerate's `device_map`).
- "shard": every layer's heads over the processes that torchrun started (transformers' own plan for
  tensor parallelism).

Knows nothing of files.
"""

import os
from collections import Counter
from importlib.util import find_spec
from typing import Any

import torch
from torch import distributed
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel, TorchAoConfig
from transformers.distributed import DistributedConfig

from turbo_kv.models.device import FEWER_BITS, choose_device, free_memory

SPLIT, SHARD = "split", "shard"


def first_device(place: str) -> torch.device:
    """The device that tokens go to. Raises ValueError for what this machine or process lacks."""
    if place == SHARD:
        return _own_device()
    if place == SPLIT:
        _need("accelerate", "device 'split'")
    return choose_device("auto" if place == SPLIT else place)


def room(place: str, device: torch.device) -> int:
    """Bytes that are free for weights, over everything that `place` covers."""
    if place == SHARD:
        return free_memory(device) * int(os.environ["WORLD_SIZE"])
    if place == SPLIT and device.type == "cuda":
        gpus = sum(
            free_memory(torch.device("cuda", index)) for index in range(torch.cuda.device_count())
        )
        return gpus + free_memory(torch.device("cpu"))
    return free_memory(device)


def arguments(place: str, device: torch.device, dtype: torch.dtype, wanted: str) -> dict[str, Any]:
    """What `from_pretrained` is to be told beside the dtype. Raises ValueError for what is missing.

    wanted: the dtype as asked for; int8 and int4 name how weights are stored.
    """
    if place == SHARD:
        if wanted in FEWER_BITS:
            raise ValueError(f"weights in {wanted} are not sharded; choose bf16, fp16 or fp32")
        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    options: dict[str, Any] = {"device_map": "auto"} if place == SPLIT else {}
    if wanted in FEWER_BITS:
        options |= {"device_map": "auto" if place == SPLIT else str(device)}
        options |= {"quantization_config": _fewer_bits(wanted, dtype)}
    return options


def settle(model: PreTrainedModel, device: torch.device, options: dict[str, Any]) -> str:
    """Move a model that is not placed yet, and say in words where its weights lie."""
    if not options:
        model.to(device)
    said = str(device)
    if "distributed_config" in options:
        said = f"{device}, heads over {os.environ['WORLD_SIZE']} processes"
    elif options.get("device_map") == "auto":
        said = _layers(model)
    config = options.get("quantization_config")
    return said if config is None else f"{said}, weights by {config.quant_method.value}"


def refuse_uneven(place: str, config: PreTrainedConfig) -> None:
    """ValueError where a model's KV heads (text config) cannot be dealt out evenly."""
    if place == SHARD and config.num_key_value_heads % (size := int(os.environ["WORLD_SIZE"])):
        raise ValueError(
            f"{config.num_key_value_heads} KV heads cannot be sharded over {size} processes; "
            f"choose a divisor of {config.num_key_value_heads} for --nproc-per-node"
        )


def is_first() -> bool:
    """Whether this process speaks for all of them."""
    return int(os.environ.get("RANK", "0")) == 0


def over_processes(counts: dict[str, int], device: torch.device) -> dict[str, int]:
    """Counts summed over the processes of a sharded model; of any other as they are."""
    if not distributed.is_initialized():
        return counts
    sums = torch.tensor(list(counts.values()), device=device)
    distributed.all_reduce(sums)
    return dict(zip(counts, sums.tolist()))


def leave() -> None:
    """Part from the other processes, if there are any."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _layers(model: PreTrainedModel) -> str:
    places = getattr(model, "hf_device_map", {})  # none where one device holds all
    layers = Counter(str(place) for name, place in places.items() if ".layers." in name)
    if not layers:
        return str(model.device)
    named = {place: f"cuda:{place}" if place.isdecimal() else place for place in layers}
    return " + ".join(f"{named[place]} ({count} layers)" for place, count in layers.items())


def _fewer_bits(wanted: str, dtype: torch.dtype) -> TorchAoConfig | BitsAndBytesConfig:
    _need("accelerate", f"dtype {wanted!r}")
    if wanted == "int8":
        _need("torchao", "dtype 'int8'")
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    _need("bitsandbytes", "dtype 'int4'")
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _own_device() -> torch.device:
    if "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "tensor parallelism needs several processes: "
            "torchrun --nproc-per-node 2 -m turbo_kv perplexity --tensor-parallel"
        )
    _need("accelerate", "tensor parallelism")
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


def _need(package: str, what: str) -> None:
    if find_spec(package) is None:
        raise ValueError(f"{what} needs {package}, which is not installed: pip install {package}")

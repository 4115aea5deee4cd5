"""Reads a model folder's configuration and refuses architectures this project does not measure.

Loads no weights.
"""

import json
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from turbo_kv.models.files import missing_files

ARCHITECTURES = ("qwen2", "qwen3", "llama", "mistral")


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a complete folder with a supported architecture.

    Raises ValueError for missing files, an unreadable configuration, another architecture, or
    layers without full attention.
    """
    missing = missing_files(folder)
    if missing:
        raise ValueError(
            f"folder {folder} lacks {', '.join(missing)}; a model needs config.json, "
            "tokenizer.json and its weights as safetensors (`save_pretrained` writes all three)"
        )
    file = folder / "config.json"
    try:
        architecture = dict(json.loads(file.read_text(encoding="utf-8"))).get("model_type")
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture {architecture!r} is not supported; "
                f"choose a model of type {', '.join(ARCHITECTURES)}"
            )
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (json.JSONDecodeError, TypeError, StrictDataclassError) as error:
        raise ValueError(f"{file} is not a model configuration: {error}") from error
    _refuse_sliding_windows(config)
    return config


def _refuse_sliding_windows(config: PreTrainedConfig) -> None:
    layer_types = getattr(config, "layer_types", None)
    if layer_types is None:
        window = getattr(config, "sliding_window", None)
        layer_types = ["full_attention" if window is None else "sliding_attention"]
    other = sorted(set(layer_types) - {"full_attention"})
    if other:
        raise ValueError(
            f"this {config.model_type} model has layers of {', '.join(other)}; "
            "only full attention in every layer is supported"
        )

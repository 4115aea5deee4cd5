"""Which files make up a model on disk: configuration, tokenizer and weights as safetensors.

Knows their names and nothing of what is in them, except the list of shards.
"""

import json
from pathlib import Path

PATTERNS = ["*.safetensors", "*.json"]
"""Everything that is ever fetched or read; pickled weights and code are not."""

_INDEX = "model.safetensors.index.json"


def missing_files(folder: Path) -> list[str]:
    """The files a folder lacks: configuration, tokenizer, or any shard of the weights."""
    shards = ["model.safetensors"]
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()))
    needed = ["config.json", "tokenizer.json", *shards]
    return [name for name in needed if not (folder / name).is_file()]

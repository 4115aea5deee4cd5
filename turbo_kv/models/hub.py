"""Fetches a catalog model from the Hugging Face hub, once: configuration, tokenizer, safetensors.

A complete copy in the hub cache is used as it is, without asking the network. No other file is
read, and no code from a repository ever runs.
"""

from pathlib import Path

from huggingface_hub import constants, is_offline_mode, snapshot_download

# HTTPError is the HTTP library's own: httpx or httpx2, by version of the hub client.
from huggingface_hub.errors import (
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from turbo_kv.models.catalog import ModelCard
from turbo_kv.models.files import PATTERNS, missing_files
from turbo_kv.models.progress import Progress, silent


def fetch(card: ModelCard, progress: Progress = silent) -> Path:
    """The folder of a complete snapshot, downloaded first if it is not in the cache.

    Raises ValueError when the hub cannot be reached or does not have it, saying what to do.
    """
    cached = _cached(card)
    if cached:
        return cached
    size = f"{card.weights_bytes / 1e9:.2f} GB"
    progress(0.0, f"Downloading {card.name} from the hub, once: {size}")
    try:
        folder = snapshot_download(card.repo_id, revision=card.revision, allow_patterns=PATTERNS)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ValueError(
            f"the hub at {constants.ENDPOINT} does not offer {card.repo_id} to you: it has moved, "
            f"or it needs a login (`hf auth login`). {_otherwise(card)}"
        ) from error
    except (HTTPError, OSError) as error:
        raise ValueError(
            f"{card.name} ({size}) is not in the cache {constants.HF_HUB_CACHE}, "
            f"and {_obstacle(error)}. {_otherwise(card)}"
        ) from error
    return Path(folder)


def _cached(card: ModelCard) -> Path | None:
    try:
        folder = snapshot_download(
            card.repo_id, revision=card.revision, allow_patterns=PATTERNS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return None if missing_files(Path(folder)) else Path(folder)


def _obstacle(error: Exception) -> str:
    if is_offline_mode():
        return "HF_HUB_OFFLINE forbids the network"
    if isinstance(error, LocalEntryNotFoundError):
        return f"the hub at {constants.ENDPOINT} cannot be reached"
    return f"the download failed ({type(error).__name__}: {error})"


def _otherwise(card: ModelCard) -> str:
    return (
        f"Load {card.name} once with the network on, or set HF_HOME to a cache that has it, "
        "or choose the bundled model 'tiny' or the path of a model folder."
    )

"""Fetches a catalog model from the Hugging Face hub, once: configuration, tokenizer, safetensors.

A complete copy in the hub cache is used as it is, without asking the network. What is missing is
downloaded, resumed and verified file by file, and the hub's client then lays out the snapshot, so
that every program finds it. No other file is read, and no code from a repository ever runs.

HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN, or a stored login, hold as for the client.
"""

import errno
import shutil
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    hf_hub_url,
    is_offline_mode,
    snapshot_download,
)

# HTTPError is the HTTP library's own: httpx or httpx2, by version of the hub client.
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import tqdm

from turbo_kv.models.catalog import ModelCard
from turbo_kv.models.download import DamagedError, RemoteFile, download, partial, patiently
from turbo_kv.models.files import PATTERNS, missing_files
from turbo_kv.models.progress import Progress, silent
from turbo_kv.models.transfer import Transfer, size

SPARE = 100_000_000
"""Bytes of disk that a download leaves free."""


def fetch(card: ModelCard, progress: Progress = silent) -> Path:
    """The folder of a complete snapshot, downloaded first if it is not in the cache.

    Raises ValueError when the hub cannot be reached, does not have it, or sends something else, and
    when the disk cannot hold it, saying what to do. What has arrived by then is kept.
    """
    if cached := _cached(card):
        return cached
    progress(
        0.0,
        f"Downloading {card.name} from the hub, once: {size(card.weights_bytes)}, "
        f"licence {card.licence}",
    )
    try:
        asking = Transfer(card.name, 0, progress)
        files = patiently(lambda: _listed(card), asking, attempts=2)
        _refuse_a_full_disk(card, files)
        transfer = Transfer(card.name, sum(file.size for file in files), progress)
        locks = Path(constants.HF_HUB_CACHE, ".locks", _storage(card).name)
        for file in files:
            lock = locks / f"{file.digest}.lock"
            download(file, _storage(card) / "blobs", lock, transfer)
        folder = snapshot_download(
            card.repo_id, revision=card.revision, allow_patterns=PATTERNS, tqdm_class=_Unseen
        )
    except DamagedError as error:
        raise ValueError(
            f"{error} of {card.name} arrived damaged: its checksum is not the one the hub lists. "
            "The damaged copy is removed and the rest is kept; try again."
        ) from error
    except (HTTPError, OSError) as error:
        raise ValueError(
            f"{card.name} ({size(card.weights_bytes)}) is not in the cache "
            f"{constants.HF_HUB_CACHE}, and {_obstacle(card, error)}. {_remedy(card)}"
        ) from error
    return Path(folder)


def cached(card: ModelCard) -> bool:
    """Whether a complete copy lies in the hub cache."""
    return _cached(card) is not None


def endpoint() -> str:
    """The hub's address."""
    return constants.ENDPOINT


def cache() -> Path:
    """Where models are kept."""
    return Path(constants.HF_HUB_CACHE)


def unreachable() -> str | None:
    """Why the hub cannot be asked now, None when it answers."""
    if is_offline_mode():
        return "HF_HUB_OFFLINE forbids the network; cached models run"
    try:
        answer = get_session().head(endpoint(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HTTPError, OSError) as error:
        return f"{endpoint()} cannot be reached ({type(error).__name__}); cached models run"
    return f"{endpoint()} is in trouble ({answer.status_code})" if answer.is_server_error else None


def _cached(card: ModelCard) -> Path | None:
    try:
        folder = snapshot_download(
            card.repo_id, revision=card.revision, allow_patterns=PATTERNS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return None if missing_files(Path(folder)) else Path(folder)


def _listed(card: ModelCard) -> list[RemoteFile]:
    """What the hub has of the files that are wanted, smallest first."""
    api = HfApi(endpoint=constants.ENDPOINT)
    found = api.model_info(
        card.repo_id,
        revision=card.revision,
        files_metadata=True,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
    )
    files = [
        RemoteFile(
            name=item.rfilename,
            url=hf_hub_url(card.repo_id, item.rfilename, revision=found.sha),
            size=item.lfs.size if item.lfs else item.size,
            digest=item.lfs.sha256 if item.lfs else item.blob_id,
        )
        for item in found.siblings
        if any(fnmatch(item.rfilename, pattern) for pattern in PATTERNS)
    ]
    return sorted(files, key=lambda file: file.size)


def _refuse_a_full_disk(card: ModelCard, files: list[RemoteFile]) -> None:
    blobs = _storage(card) / "blobs"
    needed = 0
    for file in files:
        if not (blobs / file.digest).exists():
            part = partial(file, blobs)
            needed += file.size - (part.stat().st_size if part.exists() else 0)
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free - SPARE
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"{size(needed)} are still to come and {size(max(0, free))} are free"
        )


def _storage(card: ModelCard) -> Path:
    return Path(constants.HF_HUB_CACHE, "models--" + card.repo_id.replace("/", "--"))


def _obstacle(card: ModelCard, error: Exception) -> str:
    hub = f"the hub at {constants.ENDPOINT}"
    response = getattr(error, "response", None)
    if is_offline_mode():
        said = "HF_HUB_OFFLINE forbids the network"
    elif response is not None:
        said = f"{hub} {_refusal(card, response.status_code)}"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        said = f"the disk is full: {error.strerror}. Free some space and try again"
    elif isinstance(error, HTTPError | LocalEntryNotFoundError):
        said = f"{hub} cannot be reached ({type(error).__name__})"
    else:
        said = f"the download failed ({type(error).__name__}: {error})"
    return said


def _refusal(card: ModelCard, status: int) -> str:
    if status == 429:
        return "has had too many requests from here (429); wait some minutes, or log in"
    if status >= 500:
        return f"is in trouble ({status}); try again later"
    return (
        f"does not offer {card.repo_id} to you ({status}): it has moved, or it needs a login "
        "(`hf auth login`, or HF_TOKEN)"
    )


def _remedy(card: ModelCard) -> str:
    begun = any((_storage(card) / "blobs").glob("*"))
    kept = "What has arrived is kept, and the next try continues there. " if begun else ""
    return (
        f"{kept}Load {card.name} once with the network on, or set HF_HOME to a cache that has it, "
        "or choose the bundled model 'tiny' or the path of a model folder."
    )


class _Unseen(tqdm):
    """The client's progress bars, not drawn: what they would count is on the disk already."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs | {"disable": True})

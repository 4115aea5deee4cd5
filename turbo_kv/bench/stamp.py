"""What a result was measured with: versions, machine, date, commit.

Knows nothing of the result. A number without such a stamp is not published.
"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from turbo_kv import __version__

PACKAGES = ("torch", "transformers", "numpy")
ROOT = Path(__file__).parents[2]


def stamp() -> dict[str, str | int | None]:
    """Versions, platform, threads, UTC date, and the commit (None outside a git checkout)."""
    import torch  # here, so that the names of the benchmarks can be told without it

    return {
        "turbo_kv": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
    }


def commit(root: Path = ROOT) -> str | None:
    """The checked-out commit of `root`, marked "+" where files differ from it.

    Files in `assets` do not count: a benchmark of several results writes one after the other.
    """
    if not (root / ".git").exists():
        return None
    try:
        name = _git(root, "describe", "--always", "--abbrev=12")
        changed = _git(root, "diff", "--name-only", "HEAD", "--", ".", ":(exclude)assets")
        return name + "+" * bool(changed)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(
        ("git", "-C", str(root), *command), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()

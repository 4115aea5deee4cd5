"""The generation that is on screen before anybody pressed Generate, from a file.

`python -m turbo_kv generate --json assets/results/sample-generation.json` made it; nothing here
generates.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from turbo_kv.measure.transcript import Transcript
from turbo_kv.ui.precomputed import RESULTS

NAME = "sample-generation"


@dataclass(frozen=True)
class Sample:
    """A finished transcript, and the day it was made."""

    transcript: Transcript
    date: str


def read(folder: Path = RESULTS) -> Sample:
    """The stored sample. Raises FileNotFoundError when it was never made."""
    data = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    return Sample(Transcript.from_dict(data), data["stamp"]["date"][:10])

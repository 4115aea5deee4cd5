"""Makes the sample that the tab Generate shows before anybody pressed Generate.

The default prompt continued by the tiny model, exactly and from the default packed cache, stamped.
"""

import json
from pathlib import Path

from turbo_kv.bench.stamp import stamp
from turbo_kv.measure.compare_generation import compare_generation
from turbo_kv.measure.prompts import EXAMPLES
from turbo_kv.measure.transcript import GenerationRequest
from turbo_kv.models.progress import Progress, silent

NAME = "sample-generation"


def sample_generation(folder: Path, progress: Progress = silent, model: str = "tiny") -> Path:
    """Write the transcript (JSON) into `folder`; returns its path."""
    request = GenerationRequest(next(iter(EXAMPLES.values())), model)
    *_, transcript = compare_generation(request, progress)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.json"
    text = json.dumps(transcript.to_dict() | {"stamp": stamp()}, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path

"""Does it hold? Faults of hub and machine, many visitors at once, hostile requests, a long visit.

    faults    the tests of downloads, loading, memory and clients that leave, counted
    crowd     visitors at once on the bundled model, each with a prompt and settings of its own
    hostile   requests that nobody means well, over HTTP
    soak      mixed sessions for minutes; memory and open files at its tenths

Counts and bytes, no times: a busy machine finds the same.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil

from turbo_kv.bench import hostile
from turbo_kv.bench.crowd import crowd, soak
from turbo_kv.bench.serving import Server, serving
from turbo_kv.bench.stamp import ROOT, stamp
from turbo_kv.models.progress import Progress, silent

FAULT_TESTS = (
    "tests/models/test_hub.py",
    "tests/models/test_load.py",
    "tests/models/test_memory.py",
    "tests/ui/test_room.py",
    "tests/ui/test_gone_clients.py",
)
VISITORS = 100
HOSTILE = 500
SOAK_SECONDS = 180.0


def run(
    visitors: int = VISITORS,
    hostile_requests: int = HOSTILE,
    soak_seconds: float = SOAK_SECONDS,
    *,
    fault_tests: tuple[str, ...] = FAULT_TESTS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """All four parts; stamped."""
    progress(0.0, "Faults of hub and machine")
    faults = count(fault_tests)
    with tempfile.TemporaryDirectory() as home:
        outside = Path(home, "outside.txt")
        outside.write_text(hostile.CANARY, encoding="utf-8")
        settings = {"GRADIO_TEMP_DIR": str(Path(home, "gradio")), "HF_HUB_OFFLINE": "1"}
        with serving(**settings) as server:
            progress(0.3, f"{visitors} visitors at once")
            together = crowd(server, visitors)
            progress(0.5, f"{hostile_requests} hostile requests")
            attacked = attack(server, hostile_requests, str(outside))
            kept = soak(server, soak_seconds, lambda done, said: progress(0.6 + 0.4 * done, said))
            alive = server.process.poll() is None
    return {
        "stamp": stamp(),
        "faults": faults,
        "crowd": asdict(together),
        "hostile": attacked,
        "soak": kept | {"seconds": soak_seconds},
        "alive_at_the_end": alive,
    }


def count(tests: tuple[str, ...]) -> dict[str, int]:
    """How many cases of these test files were tried, and how many were survived."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *tests,
                f"--junitxml={report}",
                "-p",
                "no:cacheprovider",
            ],
            cwd=ROOT,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        suite = ElementTree.parse(report).getroot()[0]
    numbers = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    tried = numbers["tests"] - numbers["skipped"]
    return {"tried": tried, "survived": tried - numbers["failures"] - numbers["errors"]}


def attack(server: Server, requests: int, outside: str) -> dict[str, Any]:
    """Send hostile requests one by one; what was wrong with the answers, and memory around them."""
    process = psutil.Process(server.process.pid)
    found: Counter[str] = Counter()
    survived, before = 0, process.memory_info().rss
    for case in hostile.cases(requests, outside):
        faults = hostile.ask(server.url, case).faults
        found.update(faults)
        survived += not faults
    return {
        "tried": requests,
        "survived": survived,
        "leaked": found["leaked a file"],
        "faults": dict(found),
        "memory_before_bytes": before,
        "memory_after_bytes": process.memory_info().rss,
    }

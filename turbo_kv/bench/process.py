"""Work in a process of its own: its peak of memory is its own, and so is its end.

Knows nothing of the work but that it reports progress and that its answer pickles.
"""

import multiprocessing
import re
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from turbo_kv.models.progress import Progress, silent


def alone(work: Callable[..., Any], *arguments: Any, progress: Progress = silent) -> Any:
    """What `work(*arguments, progress)` returns, run in a fresh process.

    Raises ValueError as the work does, for memory that it asked for in vain, and for a process
    that the system ended; RuntimeError for a failure whose traceback the process has printed.
    """
    fresh = multiprocessing.get_context("spawn")
    here, there = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_answer, args=(there, work, arguments), daemon=True)
    process.start()
    there.close()  # so that its end is noticed here
    try:
        result = _listen(here, progress)
        process.join()
        return result
    except EOFError:
        process.join()
        if process.exitcode < 0:
            raise ValueError(
                f"the system ended the process by signal {-process.exitcode}, as it does where "
                "memory runs out; choose a shorter context or a smaller model"
            ) from None
        raise RuntimeError("the measuring process failed; its traceback stands above") from None
    finally:
        process.terminate()
        process.join()


def peak_bytes(device: str = "cpu") -> int:
    """The most memory so far: of this process, or of its allocations on a CUDA device."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":  # whose getrusage still counts what the parent held
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _listen(answers: Connection, progress: Progress) -> Any:
    while True:
        kind, *said = answers.recv()
        if kind == "progress":
            progress(*said)
        elif kind == "refused":
            raise ValueError(*said)
        else:
            return said[0]


def _answer(answers: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    def tell(fraction: float, text: str) -> None:
        answers.send(("progress", fraction, text))

    try:
        answers.send(("result", work(*arguments, tell)))
    except (ValueError, MemoryError, torch.OutOfMemoryError) as error:
        answers.send(("refused", str(error).partition("\n")[0] or "memory ran out"))

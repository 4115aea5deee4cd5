"""Many visitors at once, each with a prompt and settings of its own, through Gradio's own client.

An answer is right when it carries its asker's prompt and settings and says what the same request
says alone, in this process. Knows the page by its API alone.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import linear_regression
from time import monotonic, sleep
from typing import Any

import psutil
from gradio_client import Client
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError

from turbo_kv.bench.hostile import call
from turbo_kv.bench.serving import Server
from turbo_kv.measure.compare_generation import compare_generation
from turbo_kv.measure.transcript import GenerationRequest
from turbo_kv.quant.config import QuantConfig

NEW_TOKENS = 4
PATIENCE = 600.0  # seconds that a visitor comes back to a full queue
FULL = "Queue is full"
SESSIONS = 30
"""Different sessions of a soak: more than the captures that a server keeps."""


@dataclass(frozen=True)
class Crowd:
    """Of so many visitors: answers got, those that were another's, and times the queue was full."""

    visitors: int
    answered: int
    wrong: int
    full: int


def request(visitor: int) -> GenerationRequest:
    """What one visitor asks: no two ask the same."""
    config = QuantConfig(
        bits=(2, 3, 4)[visitor % 3],
        centering=("mean", "bias", "off")[visitor // 3 % 3],
        qjl=visitor % 2 == 1,
        seed=visitor,
    )
    prompt = f"Visitor {visitor} of the museum wrote in the book that"
    return GenerationRequest(prompt, new_tokens=NEW_TOKENS, device="cpu", config=config)


def crowd(server: Server, visitors: int) -> Crowd:
    """Let everybody open the page, then ask at once, and wait for all answers."""
    patient = {"timeout": PATIENCE}
    clients = [Client(server.url, verbose=False, httpx_kwargs=patient) for _ in range(visitors)]
    with ThreadPoolExecutor(visitors) as threads:
        told = list(threads.map(_visit, clients, range(visitors)))
    answers = [answer for answer, _ in told]
    wrong = sum(
        answer is not None and not _is_own(answer, request(visitor))
        for visitor, answer in enumerate(answers)
    )
    answered = sum(answer is not None for answer in answers)
    return Crowd(visitors, answered, wrong, sum(full for _, full in told))


def soak(server: Server, seconds: float, progress: Callable[[float, str], None]) -> dict[str, Any]:
    """Mixed sessions one after the other; memory and open files after each tenth of the time.

    Every session asks for a generation, an analysis and a plan, and one mistake. Raises ValueError
    for one that ends otherwise. `bytes_per_session` is the slope of memory over the last half.
    """
    process = psutil.Process(server.process.pid)
    grown: dict[str, list[int]] = {"memory_bytes": [], "open_files": [], "sessions": []}
    start, sessions = monotonic(), 0
    for tenth in range(1, 11):
        while monotonic() - start < seconds * tenth / 10:
            _session(server.url, sessions)
            sessions += 1
            progress(min(1.0, (monotonic() - start) / seconds), f"Session {sessions:,}")
        grown["memory_bytes"].append(process.memory_info().rss)
        grown["open_files"].append(process.num_fds() if hasattr(process, "num_fds") else 0)
        grown["sessions"].append(sessions)
    late = (grown[name][4:] for name in ("sessions", "memory_bytes"))
    return grown | {"bytes_per_session": slope(*late)}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line nearest to the points; 0 where all x are one."""
    if len(set(x)) == 1:
        return 0.0
    return linear_regression(x, y).slope


def _session(url: str, number: int) -> None:
    asked = request(number % SESSIONS)
    settings = list(asked.config.to_dict().values())
    text = f"Session {number % SESSIONS} reads what it brought along. " * 12
    generated = call(url, "generate", [asked.prompt, "tiny", NEW_TOKENS, 0, 0, 0, "cpu", *settings])
    analyzed = call(url, "analyze", ["tiny", text, "Prose", 64, "cpu", *settings])
    planned = call(url, "plan", [1024 + number, 1, 24, *settings])
    mistaken = call(url, "analyze", ["tiny", text, "Prose", -number, "cpu", *settings])
    held = (*(each.is_result for each in (generated, analyzed, planned)), not mistaken.is_result)
    if not all(held):
        raise ValueError(f"session {number} did not end as it should: {held}")


def _visit(client: Client, visitor: int) -> tuple[dict[str, Any] | None, int]:
    """An answer, and how often the queue was full before it came."""
    asked = request(visitor)
    full, end = 0, monotonic() + PATIENCE
    while monotonic() < end:
        try:
            answer = client.predict(
                asked.prompt,
                new_tokens=NEW_TOKENS,
                device="cpu",
                **asked.config.to_dict(),
                api_name="/generate",
            )
        except (QueueError, AppError) as error:
            if FULL not in str(error):
                raise
            full += 1
            sleep(0.2 + visitor % 10 / 20)
        else:
            return answer, full
    return None, full


def _is_own(answer: dict[str, Any], asked: GenerationRequest) -> bool:
    *_, alone = compare_generation(asked)
    expected = alone.to_dict()
    return (
        answer["prompt"] == expected["prompt"]
        and answer["config"] == expected["config"]
        and all(
            answer[stream]["text"] == expected[stream]["text"] for stream in ("exact", "packed")
        )
    )

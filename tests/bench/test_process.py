"""Laws of work in a process of its own: every way it can end is told apart."""

import os
import signal

import pytest

from turbo_kv.bench.process import alone, peak_bytes


def work(end, progress):
    progress(0.5, "half")
    if end == "refuse":
        raise ValueError("choose another")
    if end == "fail":
        raise KeyError("a defect")
    if end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), peak_bytes()


def test_the_answer_and_the_progress_come_from_another_process():
    heard = []
    process, peak = alone(work, "well", progress=lambda *said: heard.append(said))
    assert process != os.getpid()
    assert peak > 2**20
    assert heard == [(0.5, "half")]


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        ("refuse", ValueError, "^choose another$"),
        ("die", ValueError, "signal 9, as it does where memory runs out"),
        ("fail", RuntimeError, "traceback stands above"),
    ],
)
def test_every_bad_end_is_told_apart(end, error, message):
    with pytest.raises(error, match=message):
        alone(work, end)

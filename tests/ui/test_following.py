"""Slow work as a generator: progress in order, the result, errors, and an end when abandoned."""

import threading

import pytest

from turbo_kv.ui import following as module
from turbo_kv.ui.following import StoppedError, following


def drain(steps):
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def test_progress_comes_in_order_and_then_the_result():
    def work(progress):
        for step in range(3):
            progress(step / 3, f"step {step}")
        return 42

    seen, result = drain(following(work))
    assert [text for _, text in seen] == ["step 0", "step 1", "step 2"]
    assert result == 42


def test_work_without_progress_gives_its_result():
    assert drain(following(lambda progress: 7)) == ([], 7)


def test_an_error_in_the_work_reaches_the_follower():
    def work(progress):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        drain(following(work))


def test_abandoned_work_ends_at_its_next_progress_call():
    closed, ended = threading.Event(), threading.Event()

    def work(progress):
        try:
            progress(0, "first")
            closed.wait(10)
            progress(0.5, "never shown")
        except StoppedError:
            ended.set()
            raise

    steps = following(work)
    assert next(steps) == (0, "first")
    steps.close()
    closed.set()
    assert ended.wait(10)


def test_a_long_step_is_told_again_so_that_it_can_be_left(monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    go = threading.Event()

    def work(progress):
        progress(0, "long")
        go.wait(10)

    steps = following(work)
    assert [next(steps), next(steps)] == [(0, "long"), (0, "long")]
    go.set()
    steps.close()

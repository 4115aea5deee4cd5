"""A stand-in for the measuring side, for tests of what the page does with its answers.

The fixtures of the browser tests, which use the real one, come from `browser`.
"""

from dataclasses import replace

import numpy as np
import pytest
import reports
from browser import app_url, browser_type_launch_args, visit  # noqa: F401

from turbo_kv.measure.lesson_report import Norms
from turbo_kv.measure.report import Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import engine, limits, precomputed
from turbo_kv.ui.actions import Actions
from turbo_kv.ui.engine import Map
from turbo_kv.ui.precomputed import Precomputed
from turbo_kv.ui.session import first

STAMP = {"date": "2026-01-01T00:00:00", "torch": "2", "python": "3"}
PLAIN = QuantConfig(centering="off")


def attention(shift: float = 0.0) -> np.ndarray:
    """Causal attention weights (8, 8) whose rows sum to one."""
    logits = np.arange(64.0).reshape(8, 8) % 5 + shift * np.eye(8)
    weights = np.where(np.tri(8, dtype=bool), np.exp(logits), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def a_map() -> Map:
    tokens = tuple(f" word{index}" for index in range(8))
    return Map(attention(), attention(2.0), 2040, 0.9, 0.12, 0.75, tokens, tokens)


@pytest.fixture
def stored() -> Precomputed:
    """The first paint: centred, compared with plain."""
    both = [reports.report(), reports.report(PLAIN)]
    session = first(Request(), both, number=0, precomputed=True)
    maps = {(r.config, *session.selected): a_map() for r in both}
    lessons = precomputed.read().lessons
    norms = Norms(*(getattr(lessons.norms, n)[: reports.LAYERS] for n in ("constant", "content")))
    return Precomputed(session, maps, replace(lessons, norms=norms), STAMP)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Every call to the measuring side, which answers with synthetic reports."""
    made: list[str] = []

    def prepare(self, request, progress):
        made.append(f"prepare {request.model} {request.context}")
        for step in range(3):
            progress(step / 3, f"Reading chunk {step}")
        self._kept[request] = "prepared"
        return "prepared"

    def find(self, request):
        return "prepared" if self._kept else None

    def measure(prepared, config):
        made.append(f"measure {config.centering} {config.bits}")
        for finished in range(1, reports.LAYERS + 1):
            yield reports.report(config, finished)

    def attention_map(prepared, config, layer, head):
        made.append(f"map {layer} {head}")
        return a_map()

    monkeypatch.setattr(engine.Captures, "prepare", prepare)
    monkeypatch.setattr(engine.Captures, "find", find)
    monkeypatch.setattr(engine, "measure", measure)
    monkeypatch.setattr(engine, "attention_map", attention_map)
    return made


@pytest.fixture
def actions(stored, calls) -> Actions:
    return Actions(limits.LOCAL, stored)

"""What the page remembers of one visitor: what was read, what was measured on it, what is shown.

Plain values. The prompt's capture lives with the engine, the drawn page in the browser.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from turbo_kv.measure.point import Point
from turbo_kv.measure.report import Report, Request
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import findings

RUNS = 32
"""Settings remembered of a visit; the oldest is forgotten first, and measured again if asked."""


class Pin(NamedTuple):
    """A result kept beside the next ones, and the number of its run; 0 for the precomputed one."""

    report: Report
    number: int


@dataclass(frozen=True)
class Session:
    """One visitor's state; its hash tells the page whether something else is shown.

    request: what was read; its config is the one shown.
    runs: complete reports on the same capture, by configuration.
    points: what else the methods of the tab Compare gave on it.
    compared: the configuration shown before this one, None when this is the first.
    selected: (layer, query head) of the attention maps.
    number: runs finished so far.
    stored: configurations of a reading that were measured before any visit; empty on another one.
    pinned: the result that is compared with whatever is shown; None for none.
    """

    request: Request
    runs: dict[QuantConfig, Report] = field(default_factory=dict, hash=False)
    points: dict[QuantConfig, Point] = field(default_factory=dict, hash=False)
    compared: QuantConfig | None = None
    selected: tuple[int, int] = (0, 0)
    number: int = 0
    stored: frozenset[QuantConfig] = frozenset()
    pinned: Pin | None = field(default=None, hash=False)

    @property
    def config(self) -> QuantConfig:
        return self.request.config

    @property
    def shown(self) -> Report:
        return self.runs[self.config]

    @property
    def before(self) -> Report | None:
        return self.runs.get(self.compared) if self.compared else None

    @property
    def precomputed(self) -> bool:
        """Whether this is still the reading measured before any visit."""
        return bool(self.stored)

    @property
    def beforehand(self) -> bool:
        """Whether the report shown was measured before any visit."""
        return self.config in self.stored

    def show(self, report: Report) -> "Session":
        """The same reading under another configuration, compared with the one shown so far."""
        others = [run for config, run in self.runs.items() if config != report.config]
        runs = {run.config: run for run in (*others[-RUNS + 1 :], report)}
        if report.config == self.config:
            return replace(self, runs=runs)
        return replace(
            self,
            request=replace(self.request, config=report.config),
            runs=runs,
            compared=self.config,
        )

    def select(self, layer: int, head: int) -> "Session":
        """Another query head. Raises ValueError when the model has none such."""
        model = self.shown.model
        if not (0 <= layer < model.layers and 0 <= head < model.query_heads):
            raise ValueError(f"layer {layer}, head {head} is not in {model.name}")
        return replace(self, selected=(layer, head))

    def select_kv(self, layer: int, kv_head: int) -> "Session":
        """The query head that suffers most among those that read one KV head."""
        group = self.shown.model.query_heads // self.shown.model.kv_heads
        if not (0 <= layer < self.shown.model.layers and 0 <= kv_head < self.shown.model.kv_heads):
            raise ValueError(f"layer {layer}, KV head {kv_head} is not in {self.shown.model.name}")
        readers = slice(kv_head * group, (kv_head + 1) * group)
        return self.select(
            layer, readers.start + int(self.shown.layers[layer].attention_kl[readers].argmax())
        )


def first(request: Request, reports: list[Report], number: int, precomputed: bool) -> Session:
    """A session on a new reading: the report of the request's config, beside the other one.

    The selection starts at the head that suffers most in any of them.
    """
    runs = {report.config: report for report in reports}
    others = [config for config in runs if config != request.config]
    hurt = max(reports, key=lambda report: report.grid("attention_kl").max())
    return Session(
        request=request,
        runs=runs,
        compared=others[0] if others else None,
        selected=findings.worst(hurt, "attention_kl"),
        number=number,
        stored=frozenset(runs) if precomputed else frozenset(),
    )

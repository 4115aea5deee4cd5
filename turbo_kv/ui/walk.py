"""Where one visitor stands in the lessons: the step, what was answered, how the controls are set.

Plain values; a link may lead to a step and never brings an answer.
"""

from dataclasses import dataclass, field, replace

from turbo_kv.measure.lesson_report import Lessons
from turbo_kv.measure.report import Request
from turbo_kv.ui.lessons.order import LESSONS
from turbo_kv.ui.session import Session

Place = tuple[Request, int, int]
"""What was read, and the layer and query head that the lessons are about."""


@dataclass(frozen=True)
class Walk:
    """One visitor's walk.

    step: counted from 0. answers: the choice made, by step. settings: of the controls, by step.
    place, measured: the numbers at hand and what they are about; None before any.
    open: whether the tab is in view. drawn: what it shows, as `due` tells it.
    """

    step: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    settings: dict[int, str] = field(default_factory=dict)
    place: Place | None = None
    measured: Lessons | None = None
    open: bool = False
    drawn: tuple[int, ...] = ()

    @property
    def answered(self) -> bool:
        return self.step in self.answers

    def due(self, session: Session) -> tuple[int, ...]:
        """What should be drawn: the step, and which run and head it is about."""
        return (self.step, session.number, *session.selected)

    def go(self, step: int) -> "Walk":
        """To another step; the nearest one when there is none such."""
        return replace(self, step=min(max(step, 0), len(LESSONS) - 1))

    def answer(self, choice: int) -> "Walk":
        """Answer the step's question. Raises ValueError when that is no choice."""
        if not 0 <= choice <= len(LESSONS[self.step].choices):
            raise ValueError(f"answer {choice} is none of lesson {self.step + 1}")
        return replace(self, answers=self.answers | {self.step: choice})

    def set(self, setting: str) -> "Walk":
        """Turn the step's control."""
        return replace(self, settings=self.settings | {self.step: setting})


def linked_step(value: str | None) -> int | None:
    """The step that a link's `lesson` names, counted from 0; None for anything else."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    step = int(value[:4]) - 1
    return step if 0 <= step < len(LESSONS) else None

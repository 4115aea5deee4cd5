"""What a lesson is: a question first, then one control, one live figure, its finding, and why.

Everything that depends on the text read comes from a Scene; a lesson stores no answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from turbo_kv.measure.lesson_report import Lessons
from turbo_kv.ui.findings import BROKEN
from turbo_kv.ui.language import say
from turbo_kv.ui.session import Session


@dataclass(frozen=True)
class Scene:
    """What was measured for a visitor: the reports, and the lessons' numbers of the chosen head."""

    session: Session
    measured: Lessons


class Choice(NamedTuple):
    """One answer: right when the measured number is at least `low` and below `high`."""

    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Whether the measured number falls here."""
        return self.low <= number < self.high


@dataclass(frozen=True)
class Lesson:
    """One step. A setting is the value of its control, a string.

    key: the section of its words. setup: what the numbers were measured on. truth: the number that
    decides the question. said: the same in a sentence. settings: (label, value) of the control.
    start: the value it has at first. figure: HTML of a setting, its text alternative given.
    """

    key: str
    setup: Callable[[Scene], str]
    question: Callable[[Scene], str]
    choices: tuple[Choice, ...]
    truth: Callable[[Scene], float]
    said: Callable[[Scene], str]
    settings: Callable[[Scene], list[tuple[str, str]]]
    start: Callable[[Scene], str]
    figure: Callable[[Scene, str, str], str]
    finding: Callable[[Scene, str], str]

    @property
    def name(self) -> str:
        """A word for the stepper."""
        return say(f"lesson.{self.key}.name")

    @property
    def title(self) -> str:
        return say(f"lesson.{self.key}.title")

    @property
    def control(self) -> str:
        """What the control is called."""
        return say(f"lesson.{self.key}.control")

    @property
    def why(self) -> str:
        """Two sentences."""
        return say(f"lesson.{self.key}.why")

    @property
    def answers(self) -> list[str]:
        """The choices in words."""
        return [
            say(f"lesson.{self.key}.choice.{index}", broken=BROKEN)
            for index in range(len(self.choices))
        ]

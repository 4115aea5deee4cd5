"""What a lesson is: a question first, then one control, one live figure, its finding, and why.

Everything that depends on the text read comes from a Scene; a lesson stores no answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from turbo_kv.measure.lesson_report import Lessons
from turbo_kv.ui.session import Session


@dataclass(frozen=True)
class Scene:
    """What was measured for a visitor: the reports, and the lessons' numbers of the chosen head."""

    session: Session
    measured: Lessons


class Choice(NamedTuple):
    """One answer: right when the measured number is at least `low` and below `high`."""

    text: str
    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Whether the measured number falls here."""
        return self.low <= number < self.high


@dataclass(frozen=True)
class Lesson:
    """One step. A setting is the value of its control, a string.

    name: a word for the stepper. setup: what the numbers were measured on. truth: the number that
    decides the question. said: the same in a sentence. settings: (label, value) of the control.
    start: the value it has at first. figure: HTML of a setting, its text alternative given. why:
    two sentences.
    """

    name: str
    title: str
    setup: Callable[[Scene], str]
    question: Callable[[Scene], str]
    choices: tuple[Choice, ...]
    truth: Callable[[Scene], float]
    said: Callable[[Scene], str]
    control: str
    settings: Callable[[Scene], list[tuple[str, str]]]
    start: Callable[[Scene], str]
    figure: Callable[[Scene, str, str], str]
    finding: Callable[[Scene, str], str]
    why: str

"""The lessons in the order in which one needs the other."""

from turbo_kv.ui.lessons import centre, cost, pay, quantize, rotate, sketch
from turbo_kv.ui.lessons.lesson import Lesson

LESSONS: tuple[Lesson, ...] = (
    cost.LESSON,
    rotate.LESSON,
    quantize.LESSON,
    centre.LESSON,
    sketch.LESSON,
    pay.LESSON,
)

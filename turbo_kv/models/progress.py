"""How slow work says where it is: a plain callable of a fraction and a text.

Knows nothing of who listens; `gr.Progress()` fits, and so does a line on a terminal.
"""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done, 0 to 1, and what is being done now."""


def silent(_fraction: float, _text: str) -> None:
    """Nobody listens."""

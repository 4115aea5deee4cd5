"""A figure as the bytes of a file: SVG whose text stays text, or PNG.

Knows no figure. The same figure gives the same bytes.
"""

from io import BytesIO
from typing import Literal

from matplotlib import rcParams
from matplotlib.figure import Figure

rcParams["svg.fonttype"] = "none"
rcParams["svg.hashsalt"] = "turbo_kv"
rcParams["font.family"] = "sans-serif"

DOTS = 200
"""Dots per inch of a PNG."""

Format = Literal["png", "svg"]


def save(figure: Figure, form: Format) -> bytes:
    """The figure on white, cut to what is drawn."""
    file = BytesIO()
    metadata = {"Date": None} if form == "svg" else {}
    figure.savefig(
        file, format=form, dpi=DOTS, bbox_inches="tight", facecolor="white", metadata=metadata
    )
    return file.getvalue()


def inline(figure: Figure) -> str:
    """The SVG element alone, to stand inside an HTML page."""
    text = save(figure, "svg").decode()
    return text[text.index("<svg") :]

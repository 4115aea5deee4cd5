"""What the page says of itself to browsers and search engines, and its keys.

Everything is inline: the page asks nobody for anything.
"""

from base64 import b64encode
from html import escape
from pathlib import Path

from turbo_kv.figures.style import BEFORE, PARTS
from turbo_kv.ui.overview import CLAIM

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    f'<rect x="2" y="5" width="28" height="9" fill="{BEFORE}"/>'
    f'<rect x="2" y="18" width="6" height="9" fill="{PARTS["codes"]}"/></svg>'
)
"""A long bar over one a fifth of its length: the cache before and after."""


def html() -> str:
    """The elements for the page's head."""
    icon = b64encode(_ICON.encode()).decode()
    return (
        f'<meta name="description" content="{escape(CLAIM)}">'
        f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml;base64,{icon}">'
        f"<script>{(Path(__file__).parent / 'keys.js').read_text()}</script>"
    )

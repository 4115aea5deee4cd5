"""What the page says of itself to browsers, search engines and link previews, and its keys.

Everything is inline: the page asks nobody for anything. A preview's picture comes from this server.
"""

from base64 import b64encode
from html import escape
from pathlib import Path

from turbo_kv.figures.style import BEFORE, PARTS
from turbo_kv.ui.language import LANGUAGES, say

TAGS = {"en": "en", "zh": "zh-Hans"}
"""The languages as HTML names them."""

PREVIEW = "preview.png"
PREVIEW_SIZE = (1200, 630)
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    f'<rect x="2" y="5" width="28" height="9" fill="{BEFORE}"/>'
    f'<rect x="2" y="18" width="6" height="9" fill="{PARTS["codes"]}"/></svg>'
)
"""A long bar over one a fifth of its length: the cache before and after."""


_KEPT = """new MutationObserver(() => {
  const root = document.documentElement;
  if (root.lang !== 'LANG') root.lang = 'LANG';
}).observe(document.documentElement, { attributeFilter: ['lang'] });"""
"""Gradio declares the browser's language, whatever the document is written in."""


def html() -> str:
    """The elements that every language shares."""
    icon = b64encode(_ICON.encode()).decode()
    return (
        f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml;base64,{icon}">'
        f"<script>{(Path(__file__).parent / 'keys.js').read_text()}</script>"
    )


def about(root: str, language: str) -> str:
    """Description, link preview and the other languages; `root` is the page's address, without /.

    The language at hand is the document's.
    """
    claim, width, height = say("page.claim"), *PREVIEW_SIZE
    address = f"{root}/?lang={language}"
    named = {"description": claim, "twitter:card": "summary_large_image"}
    facts = {
        "og:type": "website",
        "og:title": "turbo_kv",
        "og:description": claim,
        "og:url": address,
        "og:image": f"{root}/{PREVIEW}",
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": say("page.preview"),
    }
    return (
        f"<script>{_KEPT.replace('LANG', TAGS[language])}</script>"
        + "".join(f'<meta name="{key}" content="{escape(text)}">' for key, text in named.items())
        + "".join(
            f'<meta property="{key}" content="{escape(text)}">' for key, text in facts.items()
        )
        + "".join(
            f'<link rel="alternate" hreflang="{code}" href="{escape(root)}/?lang={code}">'
            for code in LANGUAGES
        )
    )

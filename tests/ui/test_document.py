"""Which language a visitor gets, and what the document says of itself before it is a page."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.ui import document, head
from turbo_kv.ui.document import Document, preferred, with_head
from turbo_kv.ui.language import LANGUAGES, say, speaking

GRADIOS = """<!doctype html><html lang="en" style="a"><head><meta charset="utf-8" />
<meta property="og:title" content="Gradio" /><meta
  property="og:image"
  content="https://elsewhere/x.jpg" /><meta name="twitter:card" content="summary" />
</head><script>window.gradio_config = {"x": "<meta property='og:'>"};</script><body></body>
</html>"""


def ask(path, query="", method="GET", **headers):
    """Status, headers and body of an answer by the layer around a server that sends GRADIOS."""
    sent, asked = [], []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        kind = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        for piece, more in ((GRADIOS[:200], True), (GRADIOS[200:], False)):
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": more})

    async def send(message):
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope |= {"headers": [(b"host", b"example.org"), *raw], "scheme": "http"}
    asyncio.run(Document(app)(scope, None, send))
    body = b"".join(message.get("body", b"") for message in sent)
    answered = {name.decode().lower(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], answered, body.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh-TW;q=0.5,en;q=0.4", "zh"),
        ("de", "en"),
        ("zh;q=0, en", "en"),
        ("", "en"),
    ],
)
def test_the_heaviest_language_that_the_page_speaks_is_preferred(accepted, language):
    assert preferred(accepted) == language


@given(st.text())
def test_no_header_is_stumbled_over(accepted):
    assert preferred(accepted) in LANGUAGES


def test_a_browser_gets_its_language_and_a_link_goes_before_it():
    chinese = {"accept_language": "zh-CN,zh"}
    status, headers, _ = ask("/", "lesson=3&bits=4", **chinese)
    assert (status, headers["location"]) == (307, "zh?lesson=3&bits=4")
    assert headers["vary"] == "accept-language"
    assert ask("/", "lang=en", **chinese)[0] == 200
    assert ask("/", "lang=zh")[1]["location"] == "zh?lang=zh"
    assert ask("/zh", "lang=en&lesson=1")[1]["location"] == "./?lang=en&lesson=1"
    assert ask("/zh")[0] == ask("/")[0] == 200
    assert ask("/zh", "lang=xx")[0] == 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_our_head_takes_the_place_of_gradios(language):
    html = with_head(GRADIOS, "https://example.org/app", language)
    start, config = html.split("<script>window.gradio_config")
    assert f'<html lang="{head.TAGS[language]}"' in start
    assert "Gradio" not in start
    assert "elsewhere" not in start
    assert config == GRADIOS.split("<script>window.gradio_config")[1]
    found = dict(re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]+)">', start))
    assert found["og:image"] == f"https://example.org/app/{head.PREVIEW}"
    assert found["og:url"] == f"https://example.org/app/?lang={language}"
    assert found["twitter:card"] == "summary_large_image"
    with speaking(language):
        assert found["description"] == found["og:description"] == say("page.claim")


def test_the_document_is_rewritten_whole_and_its_length_told():
    status, headers, body = ask("/", x_forwarded_proto="https")
    assert status == 200
    assert int(headers["content-length"]) == len(body.encode())
    assert 'content="https://example.org/preview.png"' in body
    assert body.endswith("</html>")


def test_everything_else_passes_as_it_is():
    assert ask("/config")[2] == ask("/", method="POST")[2] == GRADIOS


def test_the_preview_is_a_picture_of_the_size_that_is_promised():
    status, headers, _ = ask(f"/{head.PREVIEW}")
    assert (status, headers["content-type"]) == (200, "image/png")
    picture = document.PICTURE.read_bytes()
    assert int(headers["content-length"]) == len(picture)
    size = tuple(int.from_bytes(picture[at : at + 4]) for at in (16, 20))
    assert size == head.PREVIEW_SIZE

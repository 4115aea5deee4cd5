"""A client that goes away frees the model: its work would never end otherwise, and here it does."""

import http.client
import json
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from urllib.parse import urlsplit

import gradio as gr
import pytest
import reports
from gradio_client import Client

from turbo_kv.ui import api, engine, limits
from turbo_kv.ui.following import StoppedError

PATIENCE = 60  # seconds; a client that is held up for so long fails the test
ENDLESS = 1024
SHORT = 64
WAITING = """
import sys
from gradio_client import Client
job = Client(sys.argv[1], verbose=False).submit(api_name=sys.argv[2], **eval(sys.argv[3]))
for step in job:
    print(step, flush=True)
"""


@pytest.fixture
def work(monkeypatch):
    """The measuring side: endless for ENDLESS tokens, until nobody follows; at once for SHORT."""
    state = SimpleNamespace(ended=threading.Event(), nobody=threading.Event())

    def endless(progress):
        try:
            while not state.nobody.wait(0.02):
                progress(0.5, "Working")
        except StoppedError:
            state.ended.set()
            raise

    def read(request, progress):
        if request.context == ENDLESS:
            endless(progress)
        return SimpleNamespace(capture=SimpleNamespace(nbytes=1))

    def measure(prepared, config):
        yield reports.report(config)

    def first_step(request, progress):
        endless(progress)

    monkeypatch.setattr(engine, "_read", read)
    monkeypatch.setattr(engine, "measure", measure)
    monkeypatch.setattr(engine, "first_step", first_step)
    monkeypatch.setattr(engine, "stamp", lambda: {"date": "2026-01-01"})
    yield state
    state.nobody.set()


@pytest.fixture
def url(work):
    with gr.Blocks(analytics_enabled=False) as demo:
        api.Api(limits.LOCAL, engine.Captures(1)).connect()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo.queue(api_open=False).launch(
        server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False
    )
    yield f"http://127.0.0.1:{port}"
    demo.close()


def hang_up(url: str, endpoint: str, given: dict) -> None:
    """Call as curl does, read one step and close the connection."""
    address = urlsplit(url)
    ask = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
    path = f"/gradio_api/call/v2/{endpoint}"
    ask.request("POST", path, json.dumps(given), {"Content-Type": "application/json"})
    event = json.load(ask.getresponse())["event_id"]
    ask.close()
    listen = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
    listen.request("GET", f"{path}/{event}")
    answer = listen.getresponse()
    assert answer.readline() == b"event: generating\n"
    assert json.loads(answer.readline().removeprefix(b"data: ")) == [
        {"done": 0.5, "doing": "Working"}
    ]
    answer.close()
    listen.close()


def be_killed(url: str, endpoint: str, given: dict) -> None:
    """Call through Gradio's client, in a process that ends while it waits."""
    program = [sys.executable, "-c", WAITING, url, f"/{endpoint}", repr(given)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as client:
        assert b"Working" in client.stdout.readline()
        client.kill()


@pytest.mark.parametrize("leave", [hang_up, be_killed])
@pytest.mark.parametrize(
    ("endpoint", "given"),
    [("analyze", {"context": ENDLESS}), ("generate", {"prompt": "Once"})],
    ids=["analyze", "generate"],
)
def test_the_work_of_a_client_that_left_ends_and_the_next_one_is_served(
    url, work, leave, endpoint, given
):
    leave(url, endpoint, given)
    report = Client(url, verbose=False).predict(context=SHORT, api_name="/analyze")
    assert report["memory"]["ratio"] > 1
    assert work.ended.wait(PATIENCE)

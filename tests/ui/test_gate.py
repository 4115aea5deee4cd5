"""The door of the server: sizes and rates, as a law of the gate and against the running app."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turbo_kv.ui import gate
from turbo_kv.ui.gate import LARGEST, WINDOW, Gate, Rate


def through(door, headers=(), *, chunks=(b"",), client="1.2.3.4", method="POST", path="/x"):
    """What the server answers, "passed" last when the app behind the gate read all of the body."""
    sent, bodies = [], list(chunks)
    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": list(headers),
        "client": (client, 1),
    }

    async def receive():
        more = len(bodies) > 1
        return {"type": "http.request", "body": bodies.pop(0), "more_body": more}

    async def send(message):
        sent.append(message)

    # In a thread of its own: the browser tests keep a loop running in this one.
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, door(scope, receive, send)).result()
    return sent


async def app(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            await send("passed")
            return


def detail(sent: list[dict]) -> str:
    return json.loads(sent[1]["body"])["detail"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=60),
    st.integers(1, 5),
    st.integers(1, 8),
)
def test_no_window_ever_holds_more_than_the_limits(visits, per_visitor, everybody):
    now, passed = [0.0], []
    rate = Rate(per_visitor, everybody, lambda: now[0])
    for visitor, pause in visits:
        now[0] += pause
        wait = rate.wait(visitor)
        if not wait:
            passed.append((visitor, now[0]))
        else:
            assert 0 < wait <= WINDOW
    for _, start in passed:
        inside = [who for who, when in passed if start <= when < start + WINDOW]
        assert len(inside) <= everybody
        assert all(inside.count(who) <= per_visitor for who in "abc")


def test_one_visitor_s_haste_does_not_shut_out_another():
    door = Gate(app, Rate(2, 0), behind_proxy=False)
    assert [through(door)[-1] for _ in range(2)] == ["passed", "passed"]
    refused = through(door)
    assert refused[0]["status"] == 429
    assert "Too many requests for this server. Try again in" in detail(refused)
    assert (b"retry-after", b"60") in refused[0]["headers"] or b"retry-after" in dict(
        refused[0]["headers"]
    )
    assert through(door, client="5.6.7.8") == ["passed"]
    assert through(door, method="GET") == ["passed"]


def test_behind_a_proxy_a_visitor_is_the_address_that_the_proxy_saw():
    door = Gate(app, Rate(1, 0), behind_proxy=True)
    forwarded = [(b"x-forwarded-for", b"9.9.9.9, 7.7.7.7")]
    assert through(door, forwarded) == ["passed"]
    invented = [(b"x-forwarded-for", b"8.8.8.8, 7.7.7.7")]
    assert through(door, invented)[0]["status"] == 429
    alone = Gate(app, Rate(1, 0), behind_proxy=False)
    assert through(alone, forwarded) == ["passed"]
    assert through(alone, invented)[0]["status"] == 429, "a header says nothing without a proxy"


@pytest.mark.parametrize("declared", [str(LARGEST + 1), "-1", "many", "9" * 400])
def test_a_request_too_large_is_not_read(declared):
    sent = through(Gate(app, Rate(0, 0), False), [(b"content-length", declared.encode())])
    assert sent[0]["status"] == 413
    assert detail(sent) == "The request has more than 4,000,000 bytes, which is the most read here."


def test_a_body_that_hides_its_size_is_cut_off():
    chunks = [b"x" * 1_000_000] * 5
    assert through(Gate(app, Rate(0, 0), False), chunks=chunks) == []
    assert through(Gate(app, Rate(0, 0), False), chunks=chunks[:4]) == ["passed"]


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError])
def test_what_gradio_stumbles_over_is_the_callers_mistake(error):
    async def stumbling(scope, receive, send):
        raise error("secret")

    sent = through(Gate(stumbling, Rate(0, 0), False))
    assert sent[0]["status"] == 400
    assert detail(sent) == "The request was not understood; see the page's API."


@pytest.mark.parametrize(("path", "status"), [("/gradio_api/run/x", 422), ("/other", 500)])
def test_a_value_refused_is_not_called_the_servers_failure(path, status):
    async def refusing(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})

    sent = through(Gate(refusing, Rate(0, 0), False), path=path)
    assert sent[0]["status"] == status


def test_a_failure_within_an_answer_is_not_hidden():
    async def stumbling(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        through(Gate(stumbling, Rate(0, 0), False))


def test_addresses_are_forgotten(monkeypatch):
    monkeypatch.setattr(gate, "VISITORS", 10)
    rate = Rate(1, 0)
    for address in range(100):
        rate.wait(str(address))
    assert len(rate._visits) == 10

"""Downloads from a hub on loopback: what goes well, and everything that goes wrong on the way.

The client's settings are patched within this process; where it must read them itself, at import, or
where a process must die, the case is a process of its own.
"""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path

import pytest
from hub_server import COMMIT, TOKEN, Hub
from huggingface_hub import constants

from turbo_kv.models import download as download_module
from turbo_kv.models import hub as hub_module
from turbo_kv.models import load as load_module
from turbo_kv.models.catalog import card
from turbo_kv.models.hub import fetch
from turbo_kv.models.load import load
from turbo_kv.models.transfer import Transfer

ROOT = Path(__file__).parents[2]
NAME, REPOSITORY = "Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"
CARD = card(NAME)
WEIGHTS = "model.safetensors"
BEFORE = f"Downloading {NAME} from the hub, once: 988 MB, licence Apache-2.0"
REMEDY = (
    f"Load {NAME} once with the network on, or set HF_HOME to a cache that has it, "
    "or choose the bundled model 'tiny' or the path of a model folder."
)


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A copy of the checkpoint to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """An empty hub cache, and no patience."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(download_module, "PAUSE", 0.01)
    monkeypatch.setattr(load_module, "_kept", {})
    return tmp_path / "hub"


@pytest.fixture
def ask(monkeypatch):
    """Points the client at an address."""

    def at(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return at


def snapshot(cache: Path) -> Path:
    return cache / "models--Qwen--Qwen2.5-0.5B" / "snapshots" / COMMIT


def unfinished(cache: Path) -> list[Path]:
    return list(cache.rglob("*.incomplete"))


def assert_whole(cache: Path, folder: Path) -> None:
    """The snapshot holds what the hub has, and nothing lies around."""
    for file in (*folder.glob("*.json"), *folder.glob("*.safetensors")):
        assert (snapshot(cache) / file.name).read_bytes() == file.read_bytes()
    assert unfinished(cache) == []


def refusal(hub: Hub, ask) -> str:
    ask(hub.url)
    with pytest.raises(ValueError, match=NAME) as caught:
        fetch(CARD)
    return str(caught.value)


# What goes well


def test_a_model_is_fetched_whole_and_told_in_bytes(folder, cache, ask):
    (folder / "pytorch_model.bin").write_bytes(b"never wanted")
    (folder / "modeling.py").write_text("raise SystemExit")
    said = []
    with Hub({REPOSITORY: folder}) as hub:
        ask(hub.url)
        assert fetch(CARD, lambda *step: said.append(step)) == snapshot(cache)
        assert_whole(cache, folder)
        assert said[0] == (0.0, BEFORE)
        assert all(0 <= fraction <= 1 for fraction, _ in said)
        assert any(f"Downloading {NAME}: " in text and " of " in text for _, text in said[1:])
        assert not any(".bin" in request or ".py" in request for request in hub.asked)
        bodies = [asked for asked in hub.asked if asked.startswith("GET") and "/api/" not in asked]
        assert len(bodies) == len(list(snapshot(cache).iterdir())) + 1  # weights are redirected
        hub.asked.clear()
        assert fetch(CARD) == snapshot(cache)
        assert hub.asked == []


def test_speed_and_time_left_are_told():
    now, said = [0.0], []
    transfer = Transfer("m", 3_000_000, lambda *step: said.append(step), lambda: now[0])
    transfer.skip(1_000_000)
    for _ in range(4):
        now[0] += 1
        transfer.add(250_000)
    assert said[-1] == (2 / 3, "Downloading m: 2.0 MB of 3.0 MB, 250 kB/s, 0:04 left")
    now[0] += 3600
    transfer.add(0)
    assert said[-1][1] == "Downloading m: 2.0 MB of 3.0 MB", "nothing came for an hour"


def test_a_complete_cache_is_used_without_the_network(folder, cache, ask, nobody):
    with Hub({REPOSITORY: folder}) as hub:
        ask(hub.url)
        fetch(CARD)
    ask(nobody)
    assert fetch(CARD) == snapshot(cache)
    (snapshot(cache) / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"the hub at {nobody} cannot be reached"):
        fetch(CARD)


def test_a_token_opens_what_a_login_guards(folder, cache, ask, monkeypatch):
    guarded = card(NAME).__class__(**CARD.__dict__ | {"repo_id": "private/model"})
    with Hub({"private/model": folder}) as hub:
        ask(hub.url)
        with pytest.raises(ValueError, match=r"does not offer private/model to you \(401\)"):
            fetch(guarded)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert (fetch(guarded) / WEIGHTS).is_file()


# What goes wrong and is mended


@pytest.mark.parametrize(
    "faults",
    [
        {"info": [500]},
        {WEIGHTS: [500, 503, 429]},
        {WEIGHTS: [(429, 0)]},
        {"head": [500, 503]},
        {WEIGHTS: ["cut"]},
        {WEIGHTS: ["cut", "cut", 500, "cut"], "tokenizer.json": ["cut", "unranged"]},
    ],
    ids=str,
)
def test_a_hiccup_is_waited_out_and_the_download_continues(folder, cache, ask, faults):
    with Hub({REPOSITORY: folder}, faults) as hub:
        ask(hub.url)
        fetch(CARD)
        assert_whole(cache, folder)
        resumed = any("bytes=" in request for request in hub.asked)
        assert resumed == ("cut" in str(faults))


def test_a_cancelled_download_stops_at_once_and_continues_later(folder, cache, ask):
    class Stopped(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        if any("/bytes/" in asked for asked in hub.asked) and " of " in text:
            raise Stopped

    with Hub({REPOSITORY: folder}, {WEIGHTS: ["slow"]}) as hub:
        ask(hub.url)
        with pytest.raises(Stopped):
            fetch(CARD, stop)
        assert hub_module.cached(CARD) is False
        fetch(CARD)
        assert_whole(cache, folder)


def test_a_killed_process_is_continued_where_it_stopped(folder, tmp_path):
    environment = environment_of("http://127.0.0.1:9", tmp_path)
    with Hub({REPOSITORY: folder}, {WEIGHTS: ["slow"]}) as hub:
        environment["HF_ENDPOINT"] = hub.url
        process = subprocess.Popen([sys.executable, "-c", FETCH, NAME], cwd=ROOT, env=environment)
        end = time.monotonic() + 60
        while not any(file.stat().st_size > 1000 for file in unfinished(tmp_path)):
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (part,) = [file for file in unfinished(tmp_path) if file.stat().st_size]
        have = part.stat().st_size
        lines, failure = run(FETCH, hub.url, tmp_path)
        assert (lines[-1], failure) == (str(snapshot(tmp_path / "hub")), "")
        assert f"GET /{REPOSITORY}/bytes/{COMMIT}/{WEIGHTS} bytes={have}-" in hub.asked
        assert_whole(tmp_path / "hub", folder)


def test_two_processes_download_one_copy(folder, tmp_path):
    with Hub({REPOSITORY: folder}, {"config.json": ["slow"]}) as hub:
        environment = environment_of(hub.url, tmp_path)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", FETCH, NAME],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        said = [process.communicate(timeout=60)[0].splitlines() for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert {lines[-1] for lines in said} == {str(snapshot(tmp_path / "hub"))}
        weights = [asked for asked in hub.asked if f"GET /{REPOSITORY}/bytes" in asked]
        assert len(weights) == 1, "downloaded twice"
        assert_whole(tmp_path / "hub", folder)


# What goes wrong and is said


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"info": repeat(500)}, "is in trouble (500); try again later"),
        ({WEIGHTS: repeat(503)}, "is in trouble (503); try again later"),
        ({"info": repeat(429)}, "too many requests from here (429)"),
        ({WEIGHTS: [(429, 3600)]}, "too many requests from here (429)"),
        ({"info": [403]}, f"does not offer {REPOSITORY} to you (403)"),
        ({WEIGHTS: [403]}, f"does not offer {REPOSITORY} to you (403)"),
        ({WEIGHTS: [404]}, f"does not offer {REPOSITORY} to you (404)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_refusal_is_said_with_what_to_do(folder, cache, ask, faults, said):
    with Hub({REPOSITORY: folder}, faults) as hub:
        message = refusal(hub, ask)
    assert f"is not in the cache {cache}, and the hub at {hub.url} {said}" in message.replace(
        "has had too", "too"
    )
    assert message.endswith(REMEDY)
    assert not hub_module.cached(CARD)
    with Hub({REPOSITORY: folder}) as hub:
        ask(hub.url)
        fetch(CARD)
    assert_whole(cache, folder)


def test_an_unknown_repository_and_an_unknown_revision_are_said(folder, cache, ask):
    with Hub({}) as hub:
        assert f"does not offer {REPOSITORY} to you (404): it has moved" in refusal(hub, ask)
    with Hub({REPOSITORY: folder}) as hub:
        ask(hub.url)
        moved = CARD.__class__(**CARD.__dict__ | {"revision": "0" * 40})
        with pytest.raises(ValueError, match=r"does not offer .* to you \(404\)"):
            fetch(moved)


@pytest.mark.parametrize("fault", ["damaged", "truncated"])
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_other_bytes_than_listed_are_never_kept(folder, cache, ask, fault, name):
    with Hub({REPOSITORY: folder}, {name: [fault]}) as hub:
        message = refusal(hub, ask)
        assert message.startswith(f"{name} of {NAME} arrived damaged: its checksum is not")
        assert not (snapshot(cache) / name).exists()
        assert unfinished(cache) == []
        fetch(CARD)
    assert_whole(cache, folder)


def test_a_stale_beginning_is_noticed_and_replaced(folder, cache, ask):
    with Hub({REPOSITORY: folder}, {WEIGHTS: ["cut", 403]}) as hub:
        refusal(hub, ask)
        part = max(unfinished(cache), key=lambda file: file.stat().st_size)
        part.write_bytes(b"\0" * part.stat().st_size)
        assert "arrived damaged" in refusal(hub, ask)
        fetch(CARD)
    assert_whole(cache, folder)


def test_a_disk_too_small_is_refused_before_the_first_byte(folder, cache, ask, monkeypatch):
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=hub_module.SPARE + 999))
    with Hub({REPOSITORY: folder}) as hub:
        message = refusal(hub, ask)
        assert "the disk is full: " in message
        assert "are still to come and 999 B are free. Free some space" in message
        assert not any("resolve" in request for request in hub.asked)


def test_a_disk_that_fills_up_meanwhile_is_said_and_continued(folder, cache, ask, monkeypatch):
    add = Transfer.add

    def full(self, size):
        add(self, size)
        if self.done > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Hub({REPOSITORY: folder}) as hub:
        monkeypatch.setattr(Transfer, "add", full)
        message = refusal(hub, ask)
        assert "the disk is full: No space left on device. Free some space" in message
        assert "What has arrived is kept" in message
        monkeypatch.setattr(Transfer, "add", add)
        fetch(CARD)
    assert_whole(cache, folder)


@pytest.mark.parametrize("absent", [WEIGHTS, "tokenizer.json", "config.json"])
def test_a_repository_that_lacks_a_part_is_said(folder, cache, ask, absent):
    (folder / absent).unlink()
    with Hub({REPOSITORY: folder}) as hub:
        ask(hub.url)
        with pytest.raises(ValueError, match=f"lacks {absent}; a model needs"):
            load(NAME, "cpu")


def test_a_model_deleted_while_in_use_stays_in_use(folder, cache, ask):
    with Hub({REPOSITORY: folder}) as hub:
        ask(hub.url)
        loaded = load(NAME, "cpu")
        total = sum(p.double().sum().item() for p in loaded.model.parameters())
        hub.asked.clear()
        shutil.rmtree(cache)
        assert load(NAME, "cpu") is loaded
        assert sum(p.double().sum().item() for p in loaded.model.parameters()) == total
        assert hub.asked == []


# The client reads its settings at import: processes of their own

FETCH = """
import sys
from turbo_kv.models.catalog import card
from turbo_kv.models.hub import fetch
print(fetch(card(sys.argv[1]), lambda fraction, text: print(text)))
"""


def environment_of(endpoint: str, home: Path) -> dict[str, str]:
    return os.environ | {
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
    }


def run(script: str, endpoint: str, home: Path, **settings: str) -> tuple[list[str], str]:
    """Lines printed, and the last line of the traceback if there is one."""
    done = subprocess.run(
        [sys.executable, "-c", script, NAME],
        cwd=ROOT,
        env=environment_of(endpoint, home) | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    failure = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    return done.stdout.splitlines(), failure


def test_the_client_s_own_settings_hold(folder, tmp_path, nobody):
    with Hub({REPOSITORY: folder}) as hub:
        lines, failure = run(FETCH, hub.url, tmp_path)
    assert (lines[0], failure) == (BEFORE, "")
    assert lines[-1] == str(snapshot(tmp_path / "hub"))
    assert run(FETCH, nobody, tmp_path, HF_HUB_OFFLINE="1") == ([lines[-1]], "")


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({}, "the hub at {} cannot be reached (ConnectError)"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids the network"),
    ],
)
def test_no_network_is_said_with_what_to_do(tmp_path, nobody, settings, obstacle):
    lines, failure = run(FETCH, nobody, tmp_path, **settings)
    assert lines[0] == BEFORE
    assert failure == (
        f"ValueError: {NAME} (988 MB) is not in the cache {tmp_path / 'hub'}, "
        f"and {obstacle.format(nobody)}. {REMEDY}"
    )

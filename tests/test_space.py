"""What a Space is told about the project agrees with the project; its limits with the README's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from turbo_kv.models.catalog import card
from turbo_kv.models.files import PATTERNS
from turbo_kv.ui import limits

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FRONT = README.split("---\n")[1]
GUIDE = re.search(r"## As a Space\n\n```bash\n(.*?)```", README, re.DOTALL)[1].splitlines()


def said(name: str) -> str:
    return re.search(rf"^{name}: \"?([^\"\n]+)", FRONT, re.MULTILINE)[1]


def listed(name: str) -> list[str]:
    lines = re.search(rf"^{name}:\n((?:  - .*\n)+)", FRONT, re.MULTILINE)[1]
    return [line.removeprefix("  - ") for line in lines.splitlines()]


def test_the_front_matter_names_what_is_there():
    assert (said("sdk"), said("app_file"), said("license")) == ("gradio", "app.py", "mit")
    assert (ROOT / said("app_file")).is_file()
    assert (ROOT / "LICENSE").read_text().startswith("MIT")
    wanted = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert tuple(map(int, said("python_version").split(".")[:2])) >= tuple(
        map(int, wanted.groups())
    )
    assert len(said("short_description")) <= 60


def test_what_is_preloaded_is_a_pinned_model_that_a_space_offers():
    for line in listed("preload_from_hub"):
        repository, files, revision = line.split(" ")
        known = card(repository)
        assert known.name in limits.SPACE.models
        assert revision == known.revision
        assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(files.split(","))
        assert all(
            Path(file).match(PATTERNS[0]) or Path(file).match(PATTERNS[1])
            for file in files.split(",")
        )
        assert repository in listed("models")


def test_the_app_asks_for_a_borrowed_gpu_before_it_imports_torch():
    source = (ROOT / "app.py").read_text()
    assert source.index("import spaces") < source.index("from turbo_kv")
    code = "import runpy, sys; runpy.run_path('app.py'); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_the_readme_s_limits_are_the_code_s():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", README, re.MULTILINE)
    table = {name: cells for name, *cells in rows}
    hosts = (limits.LOCAL, limits.SPACE, limits.ZERO_GPU)
    assert table["context, tokens"] == [f"{host.context:,}" for host in hosts]
    assert table["new tokens"] == [f"{host.new_tokens:,}" for host in hosts]
    assert table["own text, bytes"] == [f"{host.text_bytes:,}" for host in hosts]
    seconds = [f"{host.stage_seconds:g}" if host.stage_seconds else "any" for host in hosts]
    assert table["a stage of work, seconds"] == seconds
    rates = [f"{h.per_minute}, {h.all_per_minute}" if h.per_minute else "any" for h in hosts]
    assert table["requests a minute, of one and of all"] == rates
    for host, cell in zip(hosts[1:], table["models"][1:]):
        sizes = {re.sub(r"Qwen2\.5-|-Instruct", "", name) for name in host.models}
        assert set(cell.split(", ")) == sizes
    assert "sixteen visitors may wait" in README
    assert limits.QUEUE == 16


@pytest.mark.parametrize("line", [line for line in GUIDE if re.match("hf (repos|upload)", line)])
def test_the_guide_s_commands_exist_with_their_flags(line):
    words = line.split()
    command = words[1:3] if words[1] == "repos" else words[1:2]
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("hf")), *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(flag in shown for flag in words if flag.startswith("--"))

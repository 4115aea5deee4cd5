"""What `pip install` brings: every file the package reads, the command, and torch alone to code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("turbo_kv", "tests/requirements.txt", "requirements.txt", "pyproject.toml")
TEXTS = ("README.md", "LICENSE")
BUILD = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
from turbo_kv import QuantConfig, TurboQuantizer

quantizer = TurboQuantizer(64, QuantConfig(qjl=True))
print(quantizer.dequantize(quantizer.quantize(torch.randn(1, 2, 10, 64))).shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for name in (*SOURCES, *TEXTS):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    command = [sys.executable, "-c", BUILD]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    with ZipFile(folder / built.stdout.splitlines()[-1]) as archive:
        yield archive


def test_a_wheel_carries_every_file_of_the_package(wheel):
    files = (path for path in (ROOT / "turbo_kv").rglob("*") if path.is_file())
    expected = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    packed = {name for name in wheel.namelist() if name.startswith("turbo_kv/")}
    assert packed == expected
    assert "turbo_kv/py.typed" in packed
    assert any(re.fullmatch(r"turbo_kv/models/tiny/.*\.safetensors", name) for name in packed)


def test_a_wheel_installs_the_command_and_what_it_needs(wheel):
    parts = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    assert "turbo-kv = turbo_kv.__main__:app" in wheel.read(parts["entry_points.txt"]).decode()
    metadata = wheel.read(parts["METADATA"]).decode()
    needed = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE))
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert needed == set(re.findall(r"^[\w-]+", listed, re.MULTILINE))


def test_the_quantizer_needs_torch_alone():
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    others = set(re.findall(r"^[\w-]+", listed.replace("-", "_"), re.MULTILINE)) - {"torch"}
    code = ALONE.format(absent=others)
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout == "torch.Size([1, 2, 10, 64])\n", ran.stderr

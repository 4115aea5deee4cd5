"""The README's diffs apply to the package as it is, are as short as it says, and work."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
SHORT = 10  # lines

TRY = """
import json
from turbo_kv.bench.evaluation_text import read_text
from turbo_kv.bench.family_row import Job, measure_row
from turbo_kv.models.progress import silent
from turbo_kv.quant.config import QuantConfig
from turbo_kv.ui import build, limits, precomputed, sample
from turbo_kv.ui.actions import Actions

job = Job("tiny", 64, "cpu", read_text(None), QuantConfig(codebook="normal"))
row = measure_row(job, silent)
host, stored = limits.here(), precomputed.read()
page = build.build(Actions(host, stored), stored, sample.read(), host)
tabs = [part["props"]["label"] for part in page.config["components"] if part["type"] == "tabitem"]
print(json.dumps({"row": row, "tabs": tabs}))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the package with every diff of the README applied."""
    folder = tmp_path_factory.mktemp("changed")
    skipped = shutil.ignore_patterns("__pycache__", "screenshots")
    for name in ("turbo_kv", "assets"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for diff in DIFFS:
        applied = subprocess.run(
            ["git", "apply", "-"],
            cwd=folder,
            input=diff,
            capture_output=True,
            text=True,
            check=False,
        )
        assert applied.returncode == 0, applied.stderr + diff
    return folder


def test_there_is_one_diff_for_a_quantizer_a_metric_and_a_view():
    files = [re.findall(r"^\+\+\+ b/turbo_kv/(\w+)/", diff, re.MULTILINE) for diff in DIFFS]
    assert files == [["quant", "quant"], ["measure"], ["ui", "ui"]]


@pytest.mark.parametrize("diff", DIFFS, ids=range(len(DIFFS)))
def test_a_diff_is_short(diff):
    changes = re.findall(r"^[+-](?!\+\+ |-- )\s*\S.*$", diff, re.MULTILINE)
    assert 0 < len(changes) < SHORT


def test_with_the_diffs_applied_the_quantizer_the_metric_and_the_view_are_there(changed):
    command = [sys.executable, "-c", TRY]
    ran = subprocess.run(command, cwd=changed, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    cosine = found["row"]["cosine"]["keys"]
    assert cosine["worst vector"] < cosine["median vector"] < 1
    assert 0.95 < cosine["content, per vector"] < 0.99
    assert found["tabs"][-1] == "Bits"

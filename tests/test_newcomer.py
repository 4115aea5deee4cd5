"""The README keeps its word: its code runs, its tables are the results, its versions agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")
CODE = [
    code
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    if "gradio_client" not in code  # needs a running page: tests/ui/test_api.py
]


@pytest.mark.parametrize("code", CODE, ids=range(len(CODE)))
def test_the_code_runs(code):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_space_installs_the_gradio_that_is_required():
    version = re.search(r"^sdk_version: (\S+)$", README, re.MULTILINE)[1]
    assert f"gradio=={version}\n" in REQUIREMENTS


def test_every_picture_and_link_is_there():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_ci_runs_the_readme_s_own_test_command():
    commands = re.findall(r"^pip install .*&& python -m pytest$", README, re.MULTILINE)
    assert len(commands) == 1

"""The decode kernel as sm_90 code, compiled offline: a gate on its cost before a GPU runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
SCRIPT = Path(__file__).with_name("compile_decode.py")
MOST = {("64", "fast"): 3.1, ("128", "fast"): 2.7, ("128", "lloyd-max"): 3.2}  # instructions each
FEW = 6  # spills that one Triton leaves in the loop and another does not


@pytest.mark.parametrize(("head_dim", "codebook"), MOST)
def test_a_value_costs_few_instructions_and_no_shared_memory(head_dim, codebook):
    command = (sys.executable, str(SCRIPT), head_dim, "3", codebook)
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(SCRIPT.parents[2])}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    cost = json.loads(ran.stdout)
    assert 1.5 < cost["per_value"] < MOST[head_dim, codebook]
    assert cost["shared"] == 0
    assert cost["spilled"] <= FEW

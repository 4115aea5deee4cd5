"""What `import turbo_kv` offers, and what it does not load."""

import subprocess
import sys

import pytest

import turbo_kv


def test_every_public_name_resolves():
    assert sorted(turbo_kv.__all__) == dir(turbo_kv)
    for name in turbo_kv.__all__:
        assert getattr(turbo_kv, name).__name__ == name


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        turbo_kv.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["torch", "transformers", "gradio", "matplotlib"])
def test_importing_the_package_loads_no_library(module):
    code = f"import sys, turbo_kv; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("benchmark", ["attention_cpu", "quantize_cpu"])
def test_a_benchmark_of_a_cpu_needs_no_triton(benchmark):
    code = f"import sys; sys.modules['triton'] = None; import turbo_kv.bench.{benchmark}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

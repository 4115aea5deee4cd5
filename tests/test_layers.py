"""The doors between the rooms: who may import whom, and how long a module may be."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "turbo_kv"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 300

NUMERIC = {"torch", "numpy"}
LAYERS = {
    "quant": {"torch", "turbo_kv.quant"},
    "kernels": {"torch", "triton", "cuda.bindings", "turbo_kv.quant", "turbo_kv.kernels"},
    "models": {
        *NUMERIC,
        "transformers",
        "tokenizers",
        "safetensors",
        "huggingface_hub",
        "torchao",
        "turbo_kv.models",
    },
    "cache": {
        "torch",
        "transformers",
        "accelerate",
        "turbo_kv.quant",
        "turbo_kv.kernels",
        "turbo_kv.cache",
    },
    "measure": {
        *NUMERIC,
        "turbo_kv.quant",
        "turbo_kv.kernels",
        "turbo_kv.models",
        "turbo_kv.cache",
        "turbo_kv.measure",
    },
    "figures": {"matplotlib", "numpy", "turbo_kv.measure.report", "turbo_kv.figures"},
    "bench": {
        *NUMERIC,
        "transformers",
        "matplotlib",
        "playwright",
        "psutil",
        "triton",
        "gradio_client",
        "datasets",
        "turbo_kv.__version__",
        "turbo_kv.quant",
        "turbo_kv.kernels",
        "turbo_kv.models",
        "turbo_kv.cache",
        "turbo_kv.measure",
        "turbo_kv.figures",
        "turbo_kv.bench",
    },
    "ui": {
        "gradio",
        "matplotlib.figure",
        "numpy",
        "turbo_kv.bench.stamp",
        "turbo_kv.measure",
        "turbo_kv.figures",
        "turbo_kv.cache.generate",
        "turbo_kv.models.catalog",
        "turbo_kv.models.memory.release",
        "turbo_kv.models.shortage",
        "turbo_kv.quant.config",
        "turbo_kv.ui",
    },
}
SINGLE = {
    "turbo_kv/quant/config.py": set(),
    "turbo_kv/models/catalog.py": set(),
    "turbo_kv/measure/report.py": {"numpy", "turbo_kv.quant.config"},
    "turbo_kv/__main__.py": {
        "typer",
        "turbo_kv.terminal",
        "turbo_kv.measure",
        "turbo_kv.cache.generate",
        "turbo_kv.bench_commands",
        "turbo_kv.models",
        "turbo_kv.quant.config",
    },
    "turbo_kv/bench_commands.py": {"typer", "turbo_kv.terminal", "turbo_kv.bench"},
    "turbo_kv/terminal.py": {
        "rich",
        "turbo_kv.bench.stamp",
        "turbo_kv.measure",
        "turbo_kv.models.progress",
    },
    "turbo_kv/ui/gate.py": {"starlette"},
    "turbo_kv/ui/document.py": {"starlette", "turbo_kv.ui"},
    "turbo_kv/ui/limits.py": {
        "spaces",
        "gradio",
        "turbo_kv.models.catalog",
        "turbo_kv.measure",
        "turbo_kv.quant.config",
        "turbo_kv.ui.language",
    },
    "turbo_kv/__init__.py": {"turbo_kv"},
    "app.py": {"spaces", "turbo_kv.ui"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def allowed(path: Path) -> set[str]:
    name = path.relative_to(ROOT).as_posix()
    return SINGLE[name] if name in SINGLE else LAYERS[path.relative_to(PACKAGE).parts[0]]


def is_allowed(module: str, doors: set[str]) -> bool:
    return module.split(".", maxsplit=1)[0] in sys.stdlib_module_names or any(
        module == door or module.startswith(door + ".") for door in doors
    )


@pytest.mark.parametrize("path", [*MODULES, ROOT / "app.py"], ids=lambda p: p.name)
def test_a_module_imports_only_through_its_doors(path):
    if path.name == "__init__.py" and path.parent != PACKAGE:
        assert path.read_text() == "", f"{path} should be empty"
        return
    wrong = {module for module in imports(path) if not is_allowed(module, allowed(path))}
    assert not wrong, f"{path.relative_to(ROOT)} may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.name)
def test_a_module_is_short_and_says_what_it_is(path):
    source = path.read_text()
    assert source.count("\n") <= LONGEST
    if source:
        assert ast.get_docstring(ast.parse(source)), f"{path} has no module docstring"

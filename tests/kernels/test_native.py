"""Kernels in C: compiled once, by whoever comes first, or a reason."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from turbo_kv.cache.kv_cache import TurboKVCache
from turbo_kv.kernels import choose, native
from turbo_kv.kernels.native import NotCompiled, library

ROOT = Path(__file__).parents[2]
SHAPE = {"BITS": 2, "HEAD_DIM": 32, "ROWS": 1}
ASK = f"from turbo_kv.kernels.native import library; print(library('attend', **{SHAPE})._name)"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Nothing compiled yet, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remembered = (library, native._target, choose._why_not_compiled)
    for each in remembered:
        each.cache_clear()
    yield tmp_path / "turbo_kv" / "kernels"
    for each in remembered:
        each.cache_clear()


def compiler(folder, does):
    """A compiler that does so."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def needs_a_compiler():
    try:
        native._compiler()
    except NotCompiled as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("needs_a_compiler")
def test_a_kernel_is_compiled_once_for_a_shape(empty_folder, monkeypatch):
    first = library("attend", **SHAPE)
    library.cache_clear()
    monkeypatch.setattr(native, "_compile", None)
    assert library("attend", **SHAPE)._name == first._name
    assert [path.name for path in empty_folder.iterdir()] == [Path(first._name).name]
    assert empty_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("needs_a_compiler")
def test_another_shape_or_compiler_is_another_kernel(tmp_path, monkeypatch):
    names = {library("attend", **SHAPE)._name, library("attend", **SHAPE | {"ROWS": 2})._name}
    library.cache_clear()
    native._target.cache_clear()
    monkeypatch.setenv("CC", compiler(tmp_path, f'exec {native._compiler()[0]} "$@"'))
    assert len(names | {library("attend", **SHAPE)._name}) == 3


@pytest.mark.usefixtures("needs_a_compiler")
def test_processes_that_race_get_one_kernel(empty_folder):
    command = [sys.executable, "-c", ASK]
    racing = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    names = {process.communicate()[0].strip() for process in racing}
    assert {process.returncode for process in racing} == {0}
    assert names == {str(path) for path in empty_folder.iterdir()}


def test_without_a_compiler_the_reason_is_said_and_the_cache_works(random_qwen2, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    cache = TurboKVCache(random_qwen2.config)
    assert cache.path("cpu") == (
        "CPU, eager PyTorch on dense codes: no C compiler (cc, gcc, clang) was found"
    )
    random_qwen2.set_attn_implementation("turbo_kv")
    for tokens in (torch.tensor([[1, 2, 3]]), torch.tensor([[4]])):
        assert random_qwen2(tokens, cache=cache).logits.isfinite().all()
    random_qwen2.set_attn_implementation("sdpa")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo one; echo 'x.c:1: error: no such thing' >&2; exit 1", "x.c:1: error: no such thing"),
        ("exit 3", "no message"),
        ("case $1 in -m*) ;; *) echo 'error: disk full' >&2; exit 1;; esac", "error: disk full"),
    ],
)
def test_a_broken_compiler_leaves_its_words_and_no_file(
    does, said, empty_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("CC", compiler(tmp_path, does))
    with pytest.raises(NotCompiled, match=f"fails: .*{said}"):
        library("attend", **SHAPE)
    assert not empty_folder.exists() or not list(empty_folder.iterdir())


def test_a_compiler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("CC", "absent-cc -g")
    with pytest.raises(NotCompiled, match=r"\$CC names absent-cc, which was not found"):
        library("attend", **SHAPE)


@pytest.mark.usefixtures("needs_a_compiler")
def test_a_folder_that_is_not_ones_own_is_refused(empty_folder, tmp_path, monkeypatch):
    empty_folder.mkdir(parents=True)
    empty_folder.chmod(0o777)
    with pytest.raises(NotCompiled, match="others can write"):
        library("attend", **SHAPE)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NotCompiled, match="no folder for compiled kernels"):
        library("attend", **SHAPE)


def test_a_kernel_that_does_not_load_is_said(tmp_path, monkeypatch):
    writes_nonsense = 'for last; do :; done; echo "no library" > "$last"'
    monkeypatch.setenv("CC", compiler(tmp_path, writes_nonsense))
    with pytest.raises(NotCompiled, match="does not load"):
        library("attend", **SHAPE)

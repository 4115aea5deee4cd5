"""The C kernels of a CPU: compiled at first use, by the compiler that is there, and kept.

One library for one shape (bits, head_dim, ...), in about half a second. It is named after
everything that went into it (source, flags, and all that the compiler says of itself and of this
CPU), so a changed one is another file; it appears whole or not at all, so processes may race. It
lies in a folder that only its owner can write: a library that is loaded is trusted. Knows nothing
of what the kernels compute.
"""

import ctypes
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

from torch import Tensor

SOURCES = Path(__file__).parent / "c"
COMPILERS = ("cc", "gcc", "clang")  # after $CC
TUNED = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
FLAGS = ("-std=gnu11", "-O3", TUNED, "-shared", "-fPIC", "-pthread")
LONGEST_BUILD = 120  # seconds


class NotCompiled(Exception):
    """Why a kernel is not there."""


@cache
def library(name: str, **shape: int) -> ctypes.CDLL:
    """The kernel `name`.c for a shape, compiled unless it has been. Raises NotCompiled."""
    if os.name != "posix":
        raise NotCompiled("kernels are compiled on Linux and macOS only")
    command = [*_compiler(), *FLAGS, *(f"-D{key}={value}" for key, value in shape.items())]
    parts = [each.read_bytes() for each in sorted(SOURCES.iterdir())]
    identity = sha256(b"\0".join([*parts, *map(str.encode, command), _target()]))
    path = _folder() / f"{name}-{identity.hexdigest()[:32]}.so"
    if not path.exists():
        _compile([*command, str(SOURCES / f"{name}.c"), "-lm"], path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NotCompiled(f"the compiled kernel does not load: {error}") from error


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's first element lies; None for none."""
    return None if tensor is None else tensor.data_ptr()


@cache
def openmp() -> int | None:
    """The GOMP_parallel that PyTorch itself uses, if any: a kernel borrows its waiting threads."""
    run = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    return ctypes.cast(run, ctypes.c_void_p).value


def _compiler() -> list[str]:
    """The words that call the C compiler."""
    given = shlex.split(os.environ.get("CC", ""))
    if given and shutil.which(given[0]) is None:
        raise NotCompiled(f"$CC names {given[0]}, which was not found")
    found = given or [name for name in COMPILERS if shutil.which(name)][:1]
    if not found:
        raise NotCompiled(f"no C compiler ({', '.join(COMPILERS)}) was found")
    return found


@cache
def _target() -> bytes:
    """What the compiler predefines: its version, and what this CPU can do."""
    return _run([*_compiler(), TUNED, "-dM", "-E", "-x", "c", os.devnull]).stdout


def _folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "turbo_kv" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise NotCompiled(f"no folder for compiled kernels: {error}") from error
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotCompiled(f"others can write compiled kernels to {folder}")
    return folder


def _compile(command: list[str], path: Path) -> None:
    try:
        scratch = tempfile.TemporaryDirectory(dir=path.parent, prefix="compiling-")
    except OSError as error:
        raise NotCompiled(f"no folder for compiled kernels: {error}") from error
    with scratch as folder:
        made = Path(folder) / path.name
        _run([*command, "-o", str(made)])
        made.replace(path)


def _run(command: list[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=LONGEST_BUILD)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotCompiled(f"the C compiler {command[0]} does not run: {error}") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        said = next((line for line in lines if "error" in line), lines[0])
        raise NotCompiled(f"the C compiler {command[0]} fails: {said}") from error

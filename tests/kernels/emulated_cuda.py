"""Run a kernel in CUDA C on a CPU: compiled as C++, with emulated/lanes.cuh for what it lacks."""

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from turbo_kv.kernels import compiled_cuda

LANES = Path(__file__).with_name("emulated") / "lanes.cuh"
COMPILER = shutil.which("g++") or shutil.which("clang++")
END = """
extern "C" int launch(const Arguments* args, int x, int y, int bytes) {
  return run(x, y, THREADS, bytes, [=] { %s(*args); });
}
"""
FAILURES = {1: "threads wait for each other in vain", 2: "shared memory is written past its end"}


class Kernel:
    """As compiled_cuda.Kernel."""

    def __init__(self, library):
        self.library = library

    def launch(self, grid, threads, shared, arguments):
        status = self.library.launch(ctypes.byref(arguments), *grid, shared)
        assert status == 0, FAILURES[status]


@cache
def kernel(name, device, *, eager, **shape):
    """As compiled_cuda.kernel. eager: in which of two orders, see emulated/lanes.cuh."""
    del device
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-w", "-x", "c++", f"-DEAGER={int(eager)}"]
    flags += [f"-D{key}={value}" for key, value in shape.items()]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / f"{name}.cu", Path(folder) / "kernel.so"
        source.write_text((compiled_cuda.SOURCES / source.name).read_text() + END % name)
        shutil.copy(LANES, folder)
        command = [COMPILER, *flags, str(source), "-o", str(made)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return Kernel(ctypes.CDLL(str(made)))

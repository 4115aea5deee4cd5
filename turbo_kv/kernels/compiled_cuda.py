"""The CUDA C kernels of a GPU: compiled by NVRTC at first use, and launched through the driver.

NVRTC comes with PyTorch's CUDA builds, and cuda-bindings, which calls it and the driver, since
PyTorch 2.10. A kernel may start while the one before it ends, and waits for it by itself. Knows
nothing of what the kernels compute.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch

from turbo_kv.kernels.native import NotCompiled

SOURCES = Path(__file__).parent / "cuda"
CAPABILITY = (9, 0)  # which the kernels are written for and measured on
MOST_SHARED = 227 * 1024  # bytes of a program on it


class Kernel:
    """A kernel on one device."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def launch(
        self, grid: tuple[int, int], threads: int, shared: int, arguments: ctypes.Structure
    ) -> None:
        """Launch on the current stream of the current device. shared: bytes of a program."""
        driver, _ = _bindings()
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = *grid, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes = shared
        config.hStream = torch.cuda.current_stream().cuda_stream
        early = driver.CUlaunchAttribute()
        early.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        early.value.programmaticStreamSerializationAllowed = 1
        config.attrs, config.numAttrs = [early], 1
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        _checked(driver.cuLaunchKernelEx(config, self.function, ctypes.addressof(pointers), 0))


def check(device: torch.device) -> None:
    """Raises NotCompiled if kernels cannot be compiled for a device, saying why."""
    if device.type != "cuda":
        raise NotCompiled("CUDA C needs a CUDA device")
    _check(torch.cuda.get_device_capability(device))


@cache
def kernel(name: str, device: torch.device, **shape: int) -> Kernel:
    """The kernel `name` of `name`.cu for a shape, compiled in about half a second.

    device: the current one. Raises NotCompiled as `check`, and RuntimeError if it does not compile.
    """
    check(device)
    driver, _ = _bindings()
    module = _checked(driver.cuModuleLoadData(_compiled(name, shape)))
    function = _checked(driver.cuModuleGetFunction(module, name.encode()))
    attributes = driver.CUfunction_attribute
    for attribute, value in (
        (attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, MOST_SHARED),
        (attributes.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100),
    ):
        _checked(driver.cuFuncSetAttribute(function, attribute, value))
    return Kernel(function)


def _compiled(name: str, shape: dict[str, int]) -> bytes:
    """Machine code of a kernel."""
    _, nvrtc = _bindings()
    source = (SOURCES / f"{name}.cu").read_bytes()
    program = _checked(nvrtc.nvrtcCreateProgram(source, f"{name}.cu".encode(), 0, [], []))
    flags = [f"--gpu-architecture=sm_{CAPABILITY[0]}{CAPABILITY[1]}", "--std=c++17"]
    flags += [f"-I{SOURCES}", *(f"-D{key}={value}" for key, value in shape.items())]
    options = [flag.encode() for flag in ("--use_fast_math", *flags)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status):
        log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise RuntimeError(f"NVRTC does not compile {name}.cu: {log.decode(errors='replace')}")
    code = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return code


@cache
def _check(capability: tuple[int, int]) -> None:
    if capability != CAPABILITY:
        have, want = (".".join(map(str, each)) for each in (capability, CAPABILITY))
        raise NotCompiled(f"its kernels are written for compute capability {want}, not {have}")
    _, nvrtc = _bindings()
    try:
        _checked(nvrtc.nvrtcVersion())
    except RuntimeError as error:  # no such library
        raise NotCompiled(f"NVRTC is not there: {str(error).splitlines()[0]}") from error


@cache
def _bindings() -> tuple[Any, Any]:
    """The modules of the driver and of NVRTC."""
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError as error:
        raise NotCompiled("cuda-bindings is not installed") from error
    return driver, nvrtc


def _checked(result: tuple) -> Any:
    """What a call of either returned beside its status. Raises RuntimeError for a bad one."""
    status, *values = result
    if int(status):
        raise RuntimeError(f"CUDA says {status.name}")
    return values[0] if values else None

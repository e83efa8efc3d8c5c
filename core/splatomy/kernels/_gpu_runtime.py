"""CUDA programs compiled where they run: NVRTC and the driver, both called through ctypes.

The sources lie beside this file in ``cuda``. NVRTC comes with torch's CUDA wheels, so neither nvcc nor a C
compiler is needed. Machine code is kept in the user's cache folder under the hash of all that went into it.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import secrets
import struct
import sys
import threading
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from splatomy.errors import MissingBackendError
from splatomy.kernels import _torch, _torch_surfel

OLDEST = (7, 0)
"""Compute capability from which the kernels' warp instructions exist."""

_FOLDER = Path(__file__).with_name("cuda")
_OPTIONS = ("--std=c++17", "--ftz=true")
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\)')
_LETTERS = {"float": "f", "double": "d", "int": "i", "long long": "q", "unsigned": "I"}
_LOCK = threading.Lock()
_OUT_OF_MEMORY = 2
"""The driver's CUDA_ERROR_OUT_OF_MEMORY."""


def constants() -> str:
    """What all programs start with: the limits of ``_torch`` and ``_torch_surfel``, and the lattices."""
    names = (
        *("NEAR_MM", "MAX_MEAN_MM", "MIN_SCALE_MM", "MAX_SCALE_MM", "MIN_QUAT_NORM", "MAX_QUAT_NORM"),
        *("MAX_DENSITY", "MAX_VARIANCE", "MIN_DETERMINANT"),
    )
    surfel_names = (
        *("MIN_ALPHA", "MAX_ALPHA", "MIN_TRANSMITTANCE", "MEDIAN_TRANSMITTANCE", "MIN_COSINE"),
        *("LOW_PASS", "TINY", "MAX_SQUARE"),
    )
    lines = [f"#define {name} {float(getattr(_torch, name))!r}" for name in names]
    lines += [f"#define {name} {float(getattr(_torch_surfel, name))!r}" for name in surfel_names]
    for size in (2, 3):
        vectors = _torch.lattice(size)
        rows = ", ".join("{" + ", ".join(map(str, vector)) + "}" for vector in vectors)
        lines.append(f"#define LATTICE_{size}_ROWS {len(vectors)}")
        lines.append(f"__constant__ double LATTICE_{size}[{len(vectors)}][{size}] = {{{rows}}};")
    return "\n".join(lines) + "\n"


def source(parts: Iterable[str]) -> str:
    """The text of one program: the constants and the named files of ``cuda``, in order."""
    return constants() + "".join((_FOLDER / f"{part}.cu").read_text("utf-8") for part in parts)


def formats(text: str) -> dict[str, str]:
    """What ``struct`` packs for each kernel of a source, read off its declaration: "PPif"."""
    found = {}
    for name, arguments in _KERNEL.findall(text):
        letters = ""
        for argument in arguments.split(","):
            kind = argument.strip().removeprefix("const ").rsplit(" ", 1)[0]
            letters += "P" if kind.endswith("*") else _LETTERS[kind]
        found[name] = letters
    return found


class _Arguments(threading.local):
    """A kernel's packed arguments: memory of its own for each thread, as the backward pass has its own."""

    def __init__(self, layout: struct.Struct) -> None:
        self.packed = ctypes.create_string_buffer(max(layout.size, 1))
        self.size = ctypes.c_size_t(layout.size)
        # CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE and CU_LAUNCH_PARAM_END.
        places = (1, ctypes.addressof(self.packed), 2, ctypes.addressof(self.size), 0)
        self.extra = (ctypes.c_void_p * 5)(*places)


class Program:
    """One loaded program on one device."""

    def __init__(self, parts: tuple[str, ...], device: torch.device) -> None:
        """Compile or fetch the program, and load it.

        Raises:
            MissingBackendError: NVRTC or the driver cannot be used, or the device is too old.
        """
        text = source(parts)
        self.device = device
        with torch.cuda.device(device):
            # Makes torch's context, in which the program must lie.
            torch.cuda.current_stream().synchronize()
            self.driver = _driver()
            image = _machine_code(text, torch.cuda.get_device_capability(device))
            self._module = ctypes.c_void_p()
            _check(self.driver.cuModuleLoadData(ctypes.byref(self._module), image), "loading the kernels")
            self.context = ctypes.c_void_p()
            _check(self.driver.cuCtxGetCurrent(ctypes.byref(self.context)), "finding the device's context")
        self.kernels: dict[str, tuple[ctypes.c_void_p, struct.Struct, _Arguments]] = {}
        for name, letters in formats(text).items():
            function, layout = ctypes.c_void_p(), struct.Struct(f"@{letters}")
            found = self.driver.cuModuleGetFunction(ctypes.byref(function), self._module, name.encode())
            _check(found, f"finding the kernel {name}")
            self.kernels[name] = (function, layout, _Arguments(layout))

    def current(self) -> Launcher:
        """To be entered: makes the program's device torch's current one, and starts kernels on its stream."""
        return Launcher(self)


class Launcher:
    """Starts a program's kernels on the stream that was torch's current one when it was entered."""

    def __init__(self, program: Program) -> None:
        self._program = program
        # An index is looked up faster than a device.
        self._guard = torch.cuda.device(program.device.index)

    def __enter__(self) -> Self:
        self._guard.__enter__()
        self._stream = torch.cuda.current_stream(self._program.device.index)
        self._handle = self._stream.cuda_stream
        # A thread of autograd may not have the context yet.
        self._program.driver.cuCtxSetCurrent(self._program.context)
        return self

    def __exit__(self, *error: object) -> None:
        self._guard.__exit__(*error)

    def launch(self, name: str, blocks: tuple[int, int], threads: int, *arguments: Any) -> None:
        """Start a kernel; tensors stand for their memory, None for null."""
        across, down = blocks
        if across == 0 or down == 0:
            return
        function, layout, own = self._program.kernels[name]
        layout.pack_into(
            own.packed,
            0,
            *[a.data_ptr() if isinstance(a, Tensor) else 0 if a is None else a for a in arguments],
        )
        status = self._program.driver.cuLaunchKernel(
            *(function, across, down, 1, threads, 1, 1, 0, self._handle, None, own.extra)
        )
        if status:
            _check(status, f"starting the kernel {name}")

    def capturing(self) -> bool:
        """Whether the stream records a CUDA graph, so that the host may not wait for it."""
        return torch.cuda.is_current_stream_capturing()

    def mark(self) -> torch.cuda.Event | None:
        """An event after all that was launched so far, or None inside a CUDA graph."""
        return None if self.capturing() else self._stream.record_event()


_found: dict[tuple[tuple[str, ...], int | None], Program | MissingBackendError] = {}


def program(parts: tuple[str, ...], device: torch.device) -> Program:
    """The program of the named sources on a CUDA device, compiled on first use.

    Raises:
        MissingBackendError: it cannot be had here; the reason is found once and kept.
        MemoryError: the device is full at present.
    """
    found = _found.get((parts, device.index))
    if found is None:
        if not torch.cuda.is_available():
            raise MissingBackendError("torch finds no CUDA device")
        if device.index is None:
            return program(parts, torch.device("cuda", torch.cuda.current_device()))
        with _LOCK:
            found = _found.get((parts, device.index))
            if found is None:
                try:
                    found = Program(parts, device)
                except MissingBackendError as error:
                    found = error
                _found[parts, device.index] = found
    if isinstance(found, MissingBackendError):
        raise found
    return found


def problem(parts: tuple[str, ...], device: torch.device) -> str | None:
    """Why a program cannot be used on a device, or None."""
    try:
        program(parts, device)
    except MissingBackendError as error:
        return str(error)
    return None


def usable(parts: tuple[str, ...], device: torch.device) -> bool:
    """Whether a program can be used on a device; if not, a warning says why, once."""
    reason = problem(parts, device)
    if reason is not None:
        _warn(reason)
    return reason is None


@cache
def _warn(reason: str) -> None:
    warnings.warn(f"a slower backend draws on the GPU: {reason}", RuntimeWarning, stacklevel=4)


def _check(status: int, doing: str) -> None:
    if status == _OUT_OF_MEMORY:
        raise MemoryError(f"the GPU has no memory left for {doing}")
    if status:
        raise MissingBackendError(f"the CUDA driver failed with error {status} at {doing}")


@cache
def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError as error:
        raise MissingBackendError(f"the CUDA driver ({name}) did not load") from error
    # Without declared types every argument would be taken for a 32-bit integer.
    handle, unsigned = ctypes.c_void_p, ctypes.c_uint
    driver.cuLaunchKernel.argtypes = [handle, *[unsigned] * 7, handle, handle, handle]
    driver.cuCtxSetCurrent.argtypes = [handle]
    driver.cuModuleLoadData.argtypes = [handle, ctypes.c_char_p]
    return driver


def _nvrtc_names() -> Iterable[str]:
    """Where NVRTC may lie: torch's own folder, the wheels beside it, then the system."""
    major = (torch.version.cuda or "").split(".")[0]
    folders = [Path(torch.__file__).parent / "lib"]
    wheels = importlib.util.find_spec("nvidia")
    for place in (wheels.submodule_search_locations or []) if wheels else []:
        for wheel in (f"cu{major or '*'}", "cuda_nvrtc"):
            folders += [*Path(place).glob(f"{wheel}/lib"), *Path(place).glob(f"{wheel}/bin")]
    for folder in folders:
        for pattern in (f"libnvrtc.so.{major}*", f"libnvrtc-*.so.{major}*", f"nvrtc64_{major}*.dll"):
            yield from (str(p) for p in sorted(folder.glob(pattern)) if "builtins" not in p.name)
    yield f"nvrtc64_{major}0_0.dll" if sys.platform == "win32" else f"libnvrtc.so.{major}"


@cache
def nvrtc() -> Any:
    """NVRTC's library.

    Raises:
        MissingBackendError: it is not installed.
    """
    for name in _nvrtc_names():
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise MissingBackendError(
        "NVRTC, which compiles the GPU kernels, was not found; it comes with torch's CUDA wheels: "
        "install torch for CUDA with pip"
    )


def _cache_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "splatomy" / "kernels"


def _machine_code(text: str, capability: tuple[int, int]) -> bytes:
    """Machine code (or PTX, for a device newer than NVRTC) of a source, from the cache if it is there."""
    if capability < OLDEST:
        found, oldest = (".".join(map(str, pair)) for pair in (capability, OLDEST))
        raise MissingBackendError(
            f"the GPU has compute capability {found}; the kernels need {oldest} or more"
        )
    library = nvrtc()
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    identity = repr((text, capability, major.value, minor.value, _OPTIONS))
    path = _cache_folder() / f"{hashlib.sha256(identity.encode()).hexdigest()}.bin"
    with suppress(OSError):
        kept = path.read_bytes()
        # A file ends with the hash of what stands before, so that a damaged one is not loaded.
        if len(kept) > 32 and hashlib.sha256(kept[:-32]).digest() == kept[-32:]:
            return kept[:-32]
    code = compile_source(text, capability)
    # A folder that cannot be written to costs a compilation at each start, no more.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
        temporary.write_bytes(code + hashlib.sha256(code).digest())
        temporary.replace(path)
    return code


def compile_source(text: str, capability: tuple[int, int]) -> bytes:
    """Machine code of a source for a compute capability, or PTX where NVRTC is older than that.

    Raises:
        MissingBackendError: NVRTC is missing, or refuses the source (its log is in the text).
    """
    library = nvrtc()
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    wanted = capability[0] * 10 + capability[1]
    below = [arch for arch in known if arch <= wanted]
    if not below:
        raise MissingBackendError(f"this NVRTC no longer makes code for compute capability {wanted / 10}")
    exact = wanted in below
    target = f"sm_{wanted}" if exact else f"compute_{max(below)}"
    options = [o.encode() for o in (f"--gpu-architecture={target}", *_OPTIONS)]
    unit = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(unit), text.encode(), b"kernels.cu", 0, None, None)
    try:
        status = library.nvrtcCompileProgram(unit, len(options), (ctypes.c_char_p * len(options))(*options))
        size = ctypes.c_size_t()
        if status:
            library.nvrtcGetProgramLogSize(unit, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            library.nvrtcGetProgramLog(unit, log)
            raise MissingBackendError(f"NVRTC refused the GPU kernels: {log.value.decode(errors='replace')}")
        kind = "CUBIN" if exact else "PTX"
        getattr(library, f"nvrtcGet{kind}Size")(unit, ctypes.byref(size))
        code = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{kind}")(unit, code)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(unit))
    return code.raw

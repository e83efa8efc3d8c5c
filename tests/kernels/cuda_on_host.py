"""Runs the CUDA kernels on the host, so that their logic is tested without a GPU.

The very sources are compiled by the host's C++ compiler against ``cuda_on_host.hpp``, which has a fiber for
each thread of a block. Only tests need that compiler; the product compiles with NVRTC.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime

COMPILER = shutil.which("g++") or shutil.which("clang++")
_C_TYPES = {"P": ctypes.c_void_p, "f": ctypes.c_float, "d": ctypes.c_double, "i": ctypes.c_int}


class HostProgram:
    """The interface of ``_gpu_runtime.Program`` and its ``Launcher`` on CPU tensors."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        assert COMPILER is not None
        text = _gpu_runtime.source(parts)
        self._formats = _gpu_runtime.formats(text)
        entries = []
        for name in self._formats:
            declaration = re.search(rf"{name}\(([^)]*)\)", text)
            assert declaration is not None
            kinds = [a.strip().rsplit(" ", 1)[0] for a in declaration[1].split(",")]
            given = ", ".join(f"*({kind}*)given[{k}]" for k, kind in enumerate(kinds))
            entries.append(
                f"static void enter_{name}(void* p) {{ void** given = (void**)p; {name}({given}); }}\n"
                f'extern "C" int run_{name}(void** given, unsigned columns, unsigned rows, unsigned threads) '
                f"{{ return run_grid(enter_{name}, given, columns, rows, threads); }}\n"
            )
        with tempfile.TemporaryDirectory() as folder:
            unit, library = Path(folder, "unit.cpp"), Path(folder, "unit.so")
            header = Path(__file__).with_name("cuda_on_host.hpp")
            unit.write_text(f'#include "{header}"\n' + text + "".join(entries))
            command = [COMPILER, "-O1", "-std=c++17", "-fPIC", "-shared", "-w", "-o", str(library), str(unit)]
            subprocess.run(command, check=True)
            self._library = ctypes.CDLL(str(library))

    def current(self) -> AbstractContextManager[HostProgram]:
        return nullcontext(self)

    def capturing(self) -> bool:
        return False

    def mark(self) -> HostProgram:
        return self

    def synchronize(self) -> None:
        """A launch has ended when it returns."""

    def launch(self, name: str, blocks: tuple[int, int], threads: int, *arguments: Any) -> None:
        letters = self._formats[name]
        assert len(letters) == len(arguments), (name, len(letters), len(arguments))
        values = [
            _C_TYPES[letter](a.data_ptr() if isinstance(a, Tensor) else a)
            for letter, a in zip(letters, arguments)
        ]
        given = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
        status = getattr(self._library, f"run_{name}")(given, *blocks, threads)
        assert status == 0, f"the threads of {name} wait for each other for ever"


@cache
def host_program(parts: tuple[str, ...]) -> HostProgram:
    return HostProgram(parts)


@contextmanager
def kernels_on_host() -> Iterator[None]:
    """Within the block the GPU backends of CPU tensors run here."""

    def program(parts: tuple[str, ...], device: torch.device) -> HostProgram:
        assert device.type == "cpu"
        return host_program(parts)

    with patch.object(_gpu_runtime, "program", program):
        yield

"""How the GPU kernels are compiled, kept and found missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from splatomy.errors import MissingBackendError
from splatomy.kernels import (
    _gpu_adam,
    _gpu_harmonics,
    _gpu_objective,
    _gpu_runtime,
    _gpu_surfel,
    _gpu_voxelize,
    _gpu_xray,
)
from splatomy.kernels._gpu_lists import capacity_of
from splatomy.kernels.xray import gpu_problem

PROGRAMS = [
    _gpu_adam.PARTS,
    _gpu_objective.PARTS,
    _gpu_xray.PARTS,
    _gpu_voxelize.PARTS,
    _gpu_surfel.PARTS,
    _gpu_harmonics.PARTS,
]
H100 = (9, 0)


def has_nvrtc() -> bool:
    try:
        _gpu_runtime.nvrtc()
    except MissingBackendError:
        return False
    return True


needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="needs NVRTC (torch for CUDA, or nvidia-cuda-nvrtc)")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_arguments_are_read_off_the_declaration() -> None:
    text = """
    extern "C" __global__ void __launch_bounds__(128) first(
        const float* a, int b, double c, const unsigned long long* d, float e) {}
    __device__ inline void helper(float x) {}
    extern "C" __global__ void second(int4* items) {}
    """
    assert _gpu_runtime.formats(text) == {"first": "PidPf", "second": "P"}


@pytest.mark.parametrize("parts", PROGRAMS)
def test_every_kernel_is_found(parts: tuple[str, ...]) -> None:
    """No kernel of a source escapes the pattern, and none has an argument of an unknown type."""
    text = _gpu_runtime.source(parts)
    assert len(_gpu_runtime.formats(text)) == text.count("__global__") > 0


@needs_nvrtc
@pytest.mark.parametrize("parts", PROGRAMS)
def test_the_sources_compile(parts: tuple[str, ...]) -> None:
    assert len(_gpu_runtime.compile_source(_gpu_runtime.source(parts), H100)) > 1000


@needs_nvrtc
def test_a_faulty_source_is_told() -> None:
    with pytest.raises(MissingBackendError, match="undefined"):
        _gpu_runtime.compile_source('extern "C" __global__ void f() { nothing(); }', H100)


@needs_nvrtc
def test_machine_code_is_kept_and_a_damaged_file_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", str(tmp_path))
    text = 'extern "C" __global__ void f(int* a) { *a = 1; }'
    code = _gpu_runtime._machine_code(text, H100)
    (kept,) = (tmp_path / "splatomy" / "kernels").iterdir()
    written = kept.stat().st_mtime_ns
    assert _gpu_runtime._machine_code(text, H100) == code
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(kept.read_bytes()[:-1])
    assert _gpu_runtime._machine_code(text, H100) == code
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_an_old_device_is_refused() -> None:
    with pytest.raises(MissingBackendError, match=r"6\.1"):
        _gpu_runtime._machine_code("", (6, 1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_device_is_a_reason() -> None:
    assert gpu_problem(torch.device("cuda")) == "torch finds no CUDA device"


def test_room_follows_the_demand() -> None:
    """At least 16 a Gaussian, half more than was asked for, and never more than half a gigabyte."""
    assert capacity_of(0, 1000) == 16_000
    assert capacity_of(1_000_000, 1000) == 1_500_000
    assert capacity_of(1 << 30, 1000) == 1 << 27


@needs_cuda
def test_no_compiler_is_needed(tmp_path: Path) -> None:
    """A fresh process with no program in reach and an empty cache draws an X-ray image and surfels."""
    code = """
import shutil, torch
assert not any(shutil.which(name) for name in ("cc", "gcc", "g++", "clang", "clang++", "nvcc", "cl", "ptxas"))
from splatomy.kernels.surfel import splat_surfels
from splatomy.kernels.xray import splat
one, quat = torch.ones(1, device="cuda"), torch.tensor([[1.0, 0, 0, 0]], device="cuda")
mean = torch.tensor([[0.0, 0, 50]], device="cuda").requires_grad_()
k = torch.tensor([[50.0, 0, 8], [0, 50, 8], [0, 0, 1]])
image = splat(mean, quat, one.expand(1, 3), one, k, torch.eye(4), 16, 16, backend="gpu")
picture = splat_surfels(mean, quat, one.expand(1, 2), one, one[None], k, torch.eye(4), 16, 16, backend="gpu")
(image.sum() + picture.colour.sum()).backward()
assert image.max() > 1 and picture.alpha.max() > 0.9 and mean.grad.isfinite().all()
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH")}
    environment |= {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_driver_without_memory_is_told_as_a_lack_of_memory() -> None:
    _gpu_runtime._check(0, "loading")
    with pytest.raises(MemoryError, match="no memory left for loading"):
        _gpu_runtime._check(2, "loading")
    with pytest.raises(MissingBackendError, match="error 1 at loading"):
        _gpu_runtime._check(1, "loading")

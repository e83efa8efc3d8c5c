"""What counts as a lack of memory, whoever tells of it."""

from __future__ import annotations

import cv2
import pytest
import torch

from splatomy.errors import InputError, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
        ),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ImportError("libx.so: failed to map segment from shared object: Cannot allocate memory"),
        ImportError("libvtkCommonCore.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
        cv2.error("alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 8 bytes"),
    ],
)
def test_a_lack_of_memory_is_told_as_one(error: Exception) -> None:
    assert is_out_of_memory(error)


def raised(reason: Exception, link: str) -> Exception:
    """An error as a loader raises it that does not repeat the reason."""
    hiding = OSError("Could not find/load shared object file 'libx.so'")
    try:
        try:
            raise reason
        except (OSError, ValueError) as error:
            if link == "while handling":
                raise hiding  # noqa: B904 - as the loader does
            raise hiding from (error if link == "because of" else None)
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("link", "seen"), [("while handling", True), ("because of", True), ("in place of", False)]
)
def test_a_loader_that_hides_the_reason(link: str, seen: bool) -> None:
    assert is_out_of_memory(raised(OSError("libx.so: failed to map segment"), link)) is seen
    assert not is_out_of_memory(raised(ValueError("shapes differ"), link))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes differ"), InputError("The mesh does not fit: out of memory."), OSError(28, "")],
)
def test_other_errors_are_none(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(("free_mb", "seen"), [(7, True), (4000, False)])
def test_a_library_of_the_gpu_that_does_not_say_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, free_mb: int, seen: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_mb * 2**20, 80 * 2**30))
    assert is_out_of_memory(RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR")) is seen
    assert not is_out_of_memory(RuntimeError("shapes differ"))

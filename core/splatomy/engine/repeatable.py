"""Arithmetic that gives the same bits whenever the same work is done again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic

# The module sets itself up as its own class, so that its one property is unknown to a type checker.
_FILL = "fill_uninitialized_memory"


@contextmanager
def repeatable(device: torch.device, asked: bool) -> Iterator[None]:
    """Makes torch add in a fixed order: on the CPU always, as it costs little there; on a GPU when asked.

    On the CPU too, several threads otherwise add the gradients of gathered rows as they arrive. An operation
    of torch's that has no such form on the GPU only warns.
    """
    if device.type != "cpu" and not asked:
        yield
        return
    # Read by cuBLAS when it is loaded; a user's own choice stands.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was = torch.get_deterministic_debug_mode()
    filled = getattr(deterministic, _FILL)
    # ``use_deterministic_algorithms`` does the same and loads torch's compiler for it, 1 to 2 s.
    torch.set_deterministic_debug_mode("warn")
    # That would write every new tensor once more for the sake of code that reads what nobody wrote.
    setattr(deterministic, _FILL, False)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(was)
        setattr(deterministic, _FILL, filled)

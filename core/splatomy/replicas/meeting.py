"""How the processes of one training find each other: through a file in a private folder of one machine."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed

_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_PATIENCE = timedelta(days=30)
"""A paused leader keeps the others waiting; that one of them died is noticed otherwise."""


def can_meet() -> bool:
    """True where processes can be joined without being reached from elsewhere."""
    return sys.platform in _LOOPBACK and distributed.is_available()


def meet(folder: str, rank: int, count: int, device: torch.device) -> None:
    """Joins ``count`` processes; returns in all of them once all are there. ``device``: of this one.

    Tensors on the CPU travel by Gloo, those on CUDA by NCCL; both listen on the loopback interface alone.
    """
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ[name] = _LOOPBACK[sys.platform]
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    store = distributed.FileStore(str(Path(folder) / "meeting"), count)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)


def part(device: torch.device) -> None:
    """Leaves the others, who may be gone; nothing if they never met."""
    if not distributed.is_initialized():
        return
    # Whatever a broken connection says at its end, the result so far is not to be lost by it.
    with contextlib.suppress(RuntimeError):
        if device.type == "cuda" and distributed.group.WORLD is not None:
            # A kernel that waits for a dead process would never end by itself.
            distributed.group.WORLD.abort()
        distributed.destroy_process_group()

"""What can be said against a run before it begins."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from splatomy.capture import Capture
from splatomy.engine.memory import resident_mb
from splatomy.estimate import estimate
from splatomy.events import Notice
from splatomy.extract.room import free_bytes
from splatomy.kernels.xray import gpu_problem

_GIB = 1 << 30


def foreseen(
    method: str, config: Any, capture: Capture, device: torch.device, replicas: int, free: int | None = None
) -> list[Notice]:
    """Warnings: kernels that the GPU lacks, and a memory that is likely too small.

    Where memory ends, some libraries end the process before anybody can say why; so it is said before.
    free: bytes of main memory that this process may still take; None = asked of the system.
    """
    warnings = []
    problem = gpu_problem(device) if device.type == "cuda" else None
    if problem is not None:
        warnings.append(Notice("warning", "gpu-kernels", problem))
    height_px, width_px = capture.images.shape[1:3]
    fields = dataclasses.asdict(config)
    cost = estimate(method, fields, len(capture), width_px, height_px, device.type == "cuda")
    # What this process holds by now is part of the estimate.
    wanted = cost.gib * replicas - resident_mb() / 1024
    there = free_bytes() if free is None else free
    if there is not None and wanted * _GIB > there:
        text = (
            f"This run is likely to take about {wanted:.1f} GiB more memory, and {there / _GIB:.1f} GiB are "
            "free: if it ends in mid-run, use a coarser input (--bin, --crop, fewer --frames) or --preset "
            "draft, or close other programs, and go on with --resume."
        )
        warnings.append(Notice("warning", "memory", text))
    return warnings

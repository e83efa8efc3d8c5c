"""Kernels made ready before they are needed.

The first call of a compiled kernel on a machine compiles it, which takes 3 to 30 s, and the first call in
a process loads it. A task that made such a call itself would neither report nor stop meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import torch

from splatomy.background import beside
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.march import march
from splatomy.kernels.surfel import splat_surfels
from splatomy.kernels.voxelize import voxelize
from splatomy.kernels.xray import splat

_SIZE = 8
_STAGE = "compile kernels"
_CPU = torch.device("cpu")


def made_ready(*parts: Callable[[], None]) -> Task[None]:
    """Calls each of the functions below in a thread of its own, so that the task can be stopped."""
    for done, part in enumerate(parts):
        yield Progress(_STAGE, done, len(parts))
        yield from beside(_STAGE, done, len(parts), part)
    yield Progress(_STAGE, len(parts), len(parts))


def begin(*parts: Callable[[], None]) -> None:
    """Calls the functions one after the other in a thread of their own, while other things are prepared.

    To be followed by ``made_ready`` with those that are needed: it waits for what is not done yet, and tells
    what failed.
    """

    def call() -> None:
        for part in parts:
            with suppress(Exception):
                part()

    # By this beginning of its name a program that ends knows not to wait for it (``background.leave``).
    threading.Thread(target=call, name=f"splatomy {_STAGE}", daemon=True).start()


def on(device: torch.device, *parts: Callable[[torch.device], None]) -> list[Callable[[], None]]:
    """Parts for the device of a training, and for the CPU, where scenes are drawn afterwards."""
    devices = [device] if device.type == "cpu" else [device, _CPU]
    return [partial(part, each) for part in parts for each in devices]


def xray_kernels(device: torch.device = _CPU) -> None:
    """X-ray splatting with its gradients, and voxelisation."""
    gaussian, density = _gaussian(3, device), torch.ones(1, device=device)
    splat(*gaussian, density, *_view(), _SIZE, _SIZE, pixel_average=True).sum().backward()
    with torch.no_grad():
        voxelize(*gaussian, density, (_SIZE,) * 3, torch.eye(4, dtype=torch.float64))


def surfel_kernels(device: torch.device = _CPU) -> None:
    """Surfel splatting with its gradients."""
    means, quats, scales = _gaussian(2, device)
    opacity, colours = torch.full((1,), 0.5, device=device), torch.ones(1, 3, device=device)
    splat_surfels(means, quats, scales, opacity, colours, *_view(), _SIZE, _SIZE).colour.sum().backward()


def march_kernel() -> None:
    """Line integrals through voxels."""
    intrinsics, pose = _view()
    cameras = Cameras(intrinsics.numpy()[None], pose.numpy()[None], _SIZE, _SIZE)
    march(np.zeros((2, 2, 2), np.float32), np.eye(4), cameras)


def hash_kernel() -> None:
    """Hash encoding with its gradients."""
    # Imported on use, as the public functions do: Numba takes a second to load.
    from splatomy.kernels._numba_hash import Encode

    points, table = torch.zeros(1, 3).requires_grad_(), torch.zeros(1, 8, 2).requires_grad_()
    layout = (np.ones(1, np.int64), np.ones((1, 3), np.int64), np.full(1, -1))
    Encode.apply(points, table, *layout).sum().backward()


def _gaussian(num_scales: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centre, rotation and scales of one Gaussian in the middle of ``_view``."""
    rows = torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, num_scales)
    means, quats, scales = (row.to(device).requires_grad_() for row in rows)
    return means, quats, scales


def _view() -> tuple[torch.Tensor, torch.Tensor]:
    """Intrinsics and pose of a camera 20 mm in front of the origin."""
    intrinsics, pose = torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    intrinsics[0, 0] = intrinsics[1, 1] = 2.0 * _SIZE
    intrinsics[:2, 2] = _SIZE / 2
    pose[2, 3] = 20.0
    return intrinsics, pose

"""What the Gaussians so far do not explain, back-projected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.capture import Capture, Grid
from splatomy.events import Progress, Task
from splatomy.prepare.fdk import fdk
from splatomy.scene import Volume


def missing_volume(
    capture: Capture,
    drawn: Callable[[int], NDArray[np.float32]],
    grid: Grid,
    device: torch.device,
    told: Progress,
) -> Task[Volume]:
    """The filtered back-projection of the residual images on a grid; ``told`` is repeated meanwhile.

    drawn: the picture (H, W) of a frame by the Gaussians so far.
    """
    if (cameras := capture.cameras) is None:
        raise ValueError("residual seeding needs cameras")
    residuals = np.zeros_like(capture.images)
    for t in range(len(capture)):
        residuals[t] = capture.images[t] - drawn(t)[..., None]
        yield told
    if capture.occluded is not None:
        residuals[capture.occluded] = 0
    missing = Capture(capture.modality, residuals, capture.times_s, cameras=cameras, grid=capture.grid)
    task = fdk(missing, grid=grid, device=device)
    while True:
        try:
            next(task)
        except StopIteration as stop:
            volume: Volume = stop.value
            return volume
        yield told

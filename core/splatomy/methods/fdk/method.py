"""Filtered back-projection as a method."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Checkpoint, Snapshot, Task
from splatomy.fields.voxels import VoxelScene
from splatomy.kernels.ready import made_ready, march_kernel
from splatomy.methods.fdk.config import Config
from splatomy.prepare.fdk import fdk, source_arc
from splatomy.scene import Scene


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """A static voxel scene of the whole run.

    Raises:
        InputError: the arc is too short for filtered back-projection.
    """
    capture = next(c for c in captures if c is not None)
    if capture.grid is None:
        raise ValueError("fdk needs a grid")
    arc = source_arc(capture)
    # Frames that stand for wide steps hide missing data at the ends: allow one step of tolerance.
    if arc.is_short_of_data:
        raise InputError(
            f"The run's arc is {arc.length_rad * 57.2958:.0f} degrees: expected at least "
            f"{(arc.fan_rad + 3.14159265) * 57.2958:.0f} (180 plus the fan) for method fdk. "
            "Use --method dynamic_vessels."
        )
    yield from made_ready(march_kernel)
    volume = yield from fdk(
        capture,
        grid=capture.grid.binned(config.bin_volume),
        window=config.window,
        cutoff=config.cutoff,
        device=device,
    )
    scene = VoxelScene(volume, capture.times_s)
    yield Snapshot("fdk", 1, scene)
    return scene

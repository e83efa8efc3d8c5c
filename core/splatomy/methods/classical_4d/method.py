"""The scanner vendors' 4D-DSA, as the baseline that users know."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from splatomy.capture import Capture
from splatomy.events import Checkpoint, Progress, Snapshot, Task
from splatomy.fields.voxels import VoxelScene
from splatomy.kernels.march import march
from splatomy.kernels.ready import made_ready, march_kernel
from splatomy.methods.classical_4d.config import Config
from splatomy.prepare.fdk import fdk
from splatomy.scene import Scene, Volume

# Shadows below this share of the darkest give way to noise, so their ratios are drawn to zero.
_WEAK_SHARE = 0.1


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """A voxel scene whose static volume is multiplied by projected ratios over time.

    The constraint is the FDK of all frames with its haze cut off. Each frame's blurred picture over
    the blurred projection of the constraint is the factor along that frame's rays; overlapping
    vessels share it, which is the known weakness of the technique.

    Source: Davis et al., AJNR 34 (2013): multiplicative projection constrained by the 3D-DSA volume.
    """
    capture = next(c for c in captures if c is not None)
    if capture.grid is None or capture.cameras is None:
        raise ValueError("classical_4d needs cameras and grid")
    grid = capture.grid.binned(config.bin_volume)
    yield from made_ready(march_kernel)
    raw = yield from fdk(capture, grid=grid, device=device)
    peak = float(np.quantile(raw.values, 0.9999))
    constraint = Volume(np.where(raw.values > config.clip_share * peak, raw.values, 0), grid.affine_mm)
    frames = len(capture)
    ratios = np.zeros(capture.images.shape[:3], np.float32)
    for t in range(frames):
        static = march(constraint.values, grid.affine_mm, capture.cameras[t])[0]
        static = gaussian_filter(static, config.blur_px)
        # Clipped only after the blur: cutting noise at zero first would leave contrast where there is none.
        seen = gaussian_filter(capture.images[t, ..., 0], config.blur_px)
        weak = _WEAK_SHARE * max(float(static.max()), 1e-6)
        ratio = seen * static / (static**2 + weak**2)
        ratios[t] = np.clip(ratio, 0, config.max_ratio)
        yield Progress("ratios", t + 1, frames)
    scene = VoxelScene(constraint, capture.times_s, ratios, capture.cameras)
    yield Snapshot("ratios", frames, scene)
    return scene

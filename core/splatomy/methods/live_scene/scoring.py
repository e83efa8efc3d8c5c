"""How well the map foretells a frame."""

from __future__ import annotations

import math

import torch

from splatomy.gaussians.losses import dssim
from splatomy.methods.live_scene.frames import Level
from splatomy.methods.live_scene.tracking import View

_SOLID = 0.5


def scores(view: View, level: Level, gain: float) -> dict[str, float]:
    """How well the map foretells a frame: psnr in dB, ssim, and the mean relative depth residual."""
    good = level.usable & (view.alpha > _SOLID)
    if int(good.sum()) < 50:
        return {}
    shown = (gain * view.colour).clamp(0, 1)
    picture = level.image.permute(1, 2, 0)
    mse = float((shown - picture).square().mean(2)[good].mean())
    found = {"psnr": -10 * math.log10(max(mse, 1e-10))}
    blank = torch.where(good, picture.mean(2), 0.5)
    found["ssim"] = 1 - float(dssim(torch.where(good, shown.mean(2), 0.5), blank)) / float(
        good.float().mean()
    )
    deep = good & (level.depth > 0)
    if deep.any():
        off = (view.depth - level.depth).abs()[deep] / level.depth[deep]
        found["depth_residual"] = float(off.mean())
    return found

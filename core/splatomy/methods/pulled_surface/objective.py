"""Losses between a rendered view and its picture, and between the field and the Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from splatomy.gaussians.losses import dssim
from splatomy.kernels.surfel import SurfelRender
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.views import View

_SOLID = 0.5
_FAR = 0.1
"""Weight of the plain distance to the disk: the exponential has no slope far away."""


def view_loss(render: SurfelRender, view: View, config: Config, typical: float) -> Tensor:
    """Colour, silhouette, depth and regularity of one view; ``typical`` is a usual depth."""
    weight = view.weight
    total = weight.sum().clamp_min(1.0)
    error = (render.colour - view.image).abs().mean(2)
    loss = (1 - config.dssim_weight) * (error * weight).sum() / total
    if config.dssim_weight:
        grey = (render.colour.mean(2) * weight, view.image.mean(2) * weight)
        loss = loss + config.dssim_weight * dssim(*grey)
    if view.target is not None:
        loss = loss + config.mask_weight * ((render.alpha - view.target).abs() * weight).sum() / total
    if config.depth_weight and view.inverse_depth is not None:
        known = (view.inverse_depth > 0) & (render.alpha.detach() > _SOLID)
        gap = (1 / render.depth_mm.clamp_min(1e-3) - view.inverse_depth).abs() * typical
        # Sensors see things at edges that are not there: beyond a tenth the error counts no more.
        loss = loss + config.depth_weight * (gap.clamp_max(0.1) * known).sum() / known.sum().clamp_min(1)
    if config.normal_weight:
        loss = loss + config.normal_weight * normal_loss(render, view)
    if config.distortion_weight:
        loss = loss + config.distortion_weight * typical**2 * render.distortion.mean()
    return loss


def normal_loss(render: SurfelRender, view: View) -> Tensor:
    """Mean of alpha - N . N_depth over the solid part of a picture.

    Source: 2DGS (Huang et al. 2024), normal consistency.
    """
    z = render.depth_mm
    height, width = z.shape
    # Single values stay on the device: the host would wait for them.
    k = view.intrinsics
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    x = (torch.arange(width, device=z.device, dtype=z.dtype) - cx) / fx
    y = (torch.arange(height, device=z.device, dtype=z.dtype) - cy) / fy
    points = torch.stack([x * z, y[:, None] * z, z], 2)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    surface = normalize(torch.linalg.cross(down, across, dim=2), dim=2, eps=1e-9)
    alpha = render.alpha.detach()
    solid = alpha[1:-1, 1:-1] > _SOLID
    solid &= (alpha[1:-1, 2:] > _SOLID) & (alpha[1:-1, :-2] > _SOLID)
    solid &= (alpha[2:, 1:-1] > _SOLID) & (alpha[:-2, 1:-1] > _SOLID)
    return ((alpha[1:-1, 1:-1] - (render.normal[1:-1, 1:-1] * surface).sum(2)) * solid).mean()


@dataclass(frozen=True)
class Disks:
    """Gaussians that queries are pulled to, (Q, ...) each, in working units.

    centres (Q, 3), axes (Q, 3, 3) whose columns are the two axes and the outward normal, sizes (Q, 3):
    standard deviations along them, the last one being the thickness.
    """

    centres: Tensor
    axes: Tensor
    sizes: Tensor

    @property
    def normals(self) -> Tensor:
        """(Q, 3)."""
        return self.axes[:, :, 2]


def pull_loss(pulled: Tensor, disks: Disks, spacing: float, floor: Tensor, constant: bool) -> Tensor:
    """Mean of 1 - exp(-d^T Sigma^-1 d / 2) of pulled queries (Q, 3) and their nearest disks.

    floor: (), least standard deviations, so that the loss has a slope at the start. constant: the released
    code's Sigma, which is the same for all and much larger than the scene.

    Source: GS-Pull, pulling to the disk; the small plain distance and the floor are ours.
    """
    offset = pulled - disks.centres
    if constant:
        distance = (0.2 * offset / 100).square().sum(1)
        return (1 - torch.exp(-0.5 * distance)).mean()
    local = (disks.axes.transpose(1, 2) @ offset[:, :, None])[:, :, 0]
    distance = (local / disks.sizes.clamp_min(floor)).square().sum(1)
    return (1 - torch.exp(-0.5 * distance)).mean() + _FAR * (local[:, 2].abs() / spacing).mean()


def set_loss(pulled: Tensor, targets: Tensor) -> Tensor:
    """Half the sum of both mean nearest distances of two sets of points (Q, 3), in units of 100.

    Source: the released code of GS-Pull, its first loss.
    """
    apart = torch.cdist(pulled, targets) / 100
    return 0.5 * (apart.amin(1).mean() + apart.amin(0).mean())


def alignment(normals: Tensor, slopes: Tensor, signed: bool) -> Tensor:
    """(Q,) 1 - cosine of normals and the field's slopes, whichever way they point unless ``signed``.

    Source: GS-Pull, tangent and orthogonal losses; there the sign is free.
    """
    cosine = (normals * normalize(slopes, dim=1, eps=1e-6)).sum(1)
    return 1 - (cosine if signed else cosine.abs())

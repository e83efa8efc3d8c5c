"""The loss of one rendered frame."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from splatomy.gaussians.losses import dssim
from splatomy.kernels.surfel import SurfelRender
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.methods.dynamic_tissue.footage import View

_MIN_ALPHA = 0.3
"""Below this, depths are not compared: they rest on too little."""


def frame_loss(
    render: SurfelRender, view: View, config: Config, depth_weight: Tensor, typical_mm: float
) -> Tensor:
    """Colour, depth and regularity of one frame.

    depth_weight: by now, (); see ``fallen_weight``.

    Source: sheet endo-dynamic-2dgs, 2.7; weights by provenance are ours.
    """
    colour = colour_loss(render.colour, view, config)
    loss = colour
    if config.dssim_weight:
        seen = (view.weight > 0.4).float()
        grey = (render.colour.mean(2) * seen, view.image.mean(2) * seen)
        loss = loss + config.dssim_weight * dssim(*grey)
    relative = typical_mm / render.depth_mm.clamp_min(1e-3 * typical_mm)
    if config.depth_weight:
        depth = depth_loss(relative, render.alpha, view)
        loss = loss + adaptive_weight(config.depth_weight, depth_weight, colour, depth) * depth
    if config.hole_weight:
        unmeasured = 1 - view.depth_weight.clamp(0, 1)
        loss = loss + config.hole_weight * bending(relative, unmeasured * (render.alpha > _MIN_ALPHA))
    if config.normal_weight:
        loss = loss + config.normal_weight * normal_loss(render, view)
    if config.distortion_weight:
        loss = loss + config.distortion_weight * typical_mm**2 * render.distortion.mean()
    if config.opacity_weight:
        # Everything a camera in the body sees is tissue: no ray should come through.
        loss = loss + config.opacity_weight * (1 - render.alpha).mean()
    return loss


def colour_loss(colour: Tensor, view: View, config: Config) -> Tensor:
    """Mean Charbonnier error of trusted pixels: linear from the knee on, so that highlights do not rule."""
    error = torch.sqrt((colour - view.image).square() + config.colour_knee**2) - config.colour_knee
    return (error.mean(2) * view.weight).sum() / view.weight.sum().clamp_min(1.0)


def depth_loss(relative: Tensor, alpha: Tensor, view: View) -> Tensor:
    """Mean |error| of the inverse depth, relative to the typical one, where tissue of known depth is seen.

    The seed compares with the instrument's depth in its holes; here they take no part.
    """
    weight = view.depth_weight * (alpha.detach() > _MIN_ALPHA)
    return ((relative - view.inverse_depth).abs() * weight).sum() / weight.sum().clamp_min(1.0)


def fallen_weight(start: float, share: float) -> float:
    """The depth's weight after a share of the steps: it falls to a fifth over the run.

    Source: Diff2DGS, released code, base = 10 (1 - 0.8 share).
    """
    return start * (1 - 0.8 * share)


def adaptive_weight(start: float, fallen: Tensor, colour: Tensor, depth: Tensor) -> Tensor:
    """The depth's weight by now (), up to a quarter more where the colour lags behind.

    Source: Diff2DGS, released code, gain = 1 + 0.25 tanh(L_rgb / L_depth - 1), kept in [1, 10] there and in
    the same proportion to the start here.
    """
    gain = 1 + 0.25 * torch.tanh(colour.detach() / depth.detach().clamp_min(1e-8) - 1)
    return (fallen * gain).clamp(0.1 * start, start)


def bending(relative: Tensor, weight: Tensor) -> Tensor:
    """Mean |second difference| of the inverse depth (H, W) under a weight (H, W).

    Planes cost nothing, unlike with the total variation of the peers, which flattens tilted tissue.
    """
    across = (relative[:, 2:] - 2 * relative[:, 1:-1] + relative[:, :-2]).abs() * weight[:, 1:-1]
    down = (relative[2:] - 2 * relative[1:-1] + relative[:-2]).abs() * weight[1:-1]
    return (across.sum() + down.sum()) / weight.sum().clamp_min(1.0)


def normal_loss(render: SurfelRender, view: View) -> Tensor:
    """Mean of alpha - N . N_depth over the image.

    Source: 2DGS (Huang et al. 2024), normal consistency; the depth's normals from central differences.
    """
    height, width = render.depth_mm.shape
    z = render.depth_mm
    k = view.intrinsics.to(z)
    x = (torch.arange(width, device=z.device, dtype=z.dtype) - k[0, 2]) / k[0, 0]
    y = (torch.arange(height, device=z.device, dtype=z.dtype) - k[1, 2]) / k[1, 1]
    points = torch.stack([x * z, y[:, None] * z, z], 2)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    surface = normalize(torch.linalg.cross(down, across, dim=2), dim=2, eps=1e-9)
    alpha = render.alpha[1:-1, 1:-1].detach()
    solid = (alpha > 0.5).float()
    return ((alpha - (render.normal[1:-1, 1:-1] * surface).sum(2)) * solid).mean()

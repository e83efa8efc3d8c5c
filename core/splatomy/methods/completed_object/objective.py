"""What the rays of a step should be like: colours, outlines, depth, free space and regular slopes."""

from __future__ import annotations

import torch
from torch import Tensor

from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.rendering import Traced
from splatomy.methods.completed_object.views import Rays

_CERTAIN = 0.98
_CLIP = 1e-3
_STEEP = 5.0


def ray_loss(traced: Traced, rays: Rays, config: Config) -> Tensor:
    """The weighted sum of all losses of a batch of rays; every term is weighted by a pixel's provenance."""
    weight = rays.weight
    on = (rays.member > _CERTAIN).float()
    loss = config.colour_weight * _mean((traced.colour - rays.colour).abs().mean(1), weight * on)
    opacity = traced.opacity.clamp(_CLIP, 1 - _CLIP)
    outline = torch.nn.functional.binary_cross_entropy(opacity, rays.member, reduction="none")
    loss = loss + config.silhouette_weight * _mean(outline, weight)
    # Invented depth repeats what a smooth field says by itself, and errs like it.
    trust = torch.where(weight < 1, config.synthetic_depth * (weight > 0), weight)
    known = on * (rays.measured > 0) * trust
    # Sensor depth and rendered depth are both compared along the optical axis.
    gap = (traced.reach - rays.measured).abs() * rays.along
    loss = loss + config.depth_weight * _mean(gap.clamp_max(0.1), known)
    near, free = field_losses(traced, rays, config.band)
    loss = loss + config.near_weight * _mean(near, known)
    empty = weight * (rays.member < 1 - _CERTAIN)
    return loss + config.free_weight * _mean(free, known + empty)


def field_losses(traced: Traced, rays: Rays, band: float) -> tuple[Tensor, Tensor]:
    """(R,) the field's error within ``band`` of measured depth, and the matter in space seen through.

    Both compare distances along the same ray. Near the surface the distance along the ray times the cosine
    of its incidence is the distance to the surface; before it, it is an upper bound.

    Source: O2-Recon, depth losses; there the cosine is missing and z-depths are taken for ray distances.
    """
    ahead = rays.measured[:, None] - traced.distances
    value = traced.values
    on = (rays.member > _CERTAIN)[:, None]
    close = on & (ahead.abs() <= band)
    error = (value - ahead * rays.facing[:, None]).abs() * close
    near = error.sum(1) / close.sum(1).clamp_min(1)
    inside = torch.expm1(-_STEEP * value).clamp(0, 10)
    before = on & (ahead > band)
    # A pixel of something else frees its ray up to what was seen there, or all of it.
    past = ~on & ((rays.measured[:, None] <= 0) | (ahead > 0))
    too_far = (value - ahead).clamp_min(0) * before
    free = (inside * (before | past) + too_far).sum(1) / (before | past).sum(1).clamp_min(1)
    return near, free


def slope_loss(gradient: Tensor) -> Tensor:
    """Mean (|grad f| - 1)^2 of gradients (N, 3)."""
    return (gradient.norm(dim=1) - 1).square().mean()


def matter_loss(value: Tensor, empty: Tensor) -> Tensor:
    """Mean penalty of field values (N,) that claim matter where ``empty`` (N,) is 1."""
    return _mean(torch.expm1(-_STEEP * value).clamp(0, 10), empty)


def bend_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean change of direction between gradients (N, 3) at neighbouring places."""
    a, b = (torch.nn.functional.normalize(g, dim=1, eps=1e-6) for g in (first, second))
    return (a - b).norm(dim=1).mean()


def normal_loss(gradient: Tensor, given: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean angle (radians) between slopes (R, 3) and given unit normals (R, 3) in the world."""
    cosine = (torch.nn.functional.normalize(gradient, dim=1, eps=1e-6) * given).sum(1)
    return _mean(torch.acos(cosine.clamp(-1 + 1e-4, 1 - 1e-4)), weight)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1.0)

"""Volume rendering of the distance field along rays, with samples where the surface can be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from splatomy.methods.completed_object.fields import CascadedSdf, ColourField

_BINS = 64
_ANYWHERE = 0.15
"""Share of the samples that are spread over the whole ray."""
_MEASURED = 0.5
"""Share of the samples about a measured depth."""


@dataclass(frozen=True)
class Traced:
    """What R rays of S samples meet; distances along unit rays, in spheres.

    distances: (R, S) of the samples. values: (R, S) of the field. weights: (R, S - 1) of the intervals.
    opacity (R,), reach (R,): distance of the surface, colour (R, 3).
    """

    distances: Tensor
    values: Tensor
    weights: Tensor
    opacity: Tensor
    reach: Tensor
    colour: Tensor


def sphere_span(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (R,) at which unit rays enter and leave the unit sphere; equal where they miss it."""
    middle = -(origins * directions).sum(1)
    beside = (origins + middle[:, None] * directions).square().sum(1)
    half = (1 - beside).clamp_min(0).sqrt()
    return (middle - half).clamp_min(1e-3), (middle + half).clamp_min(2e-3)


def grid_points(cells: int, device: torch.device) -> Tensor:
    """(cells^3, 3) points over the cube [-1, 1]^3, in the order x, y, z of a (cells,) * 3 array."""
    line = torch.linspace(-1, 1, cells, device=device)
    return torch.cartesian_prod(line, line, line)


def looked_up(grid: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation of a (C, C, C) grid over [-1, 1]^3 at points (..., 3)."""
    flat = points.reshape(1, 1, 1, -1, 3).flip(-1)
    found = torch.nn.functional.grid_sample(grid[None, None], flat, align_corners=True, padding_mode="border")
    return found.reshape(points.shape[:-1])


@torch.no_grad()
def place_samples(
    origins: Tensor,
    directions: Tensor,
    measured: Tensor,
    grid: Tensor,
    count: int,
    sharpness: float,
    spread: float,
    draws: Tensor,
) -> Tensor:
    """Distances (R, count), rising, most of them where a coarse grid of the field or a sensor sees a surface.

    measured: (R,) distance of the sensor's surface, 0 = unknown. grid: values of the field on a cube.
    spread: standard deviation of samples about ``measured``. draws: (R, count) uniform numbers.

    Source: NeuS (Wang et al. 2021), importance sampling; the grid stands for its first pass, so that the
    field is asked once for every sample.
    """
    near, far = sphere_span(origins, directions)
    edges = torch.linspace(0, 1, _BINS + 1, device=near.device)
    t = near[:, None] + (far - near)[:, None] * edges
    values = looked_up(grid, origins[:, None] + t[..., None] * directions[:, None])
    density = interval_weights(values, sharpness)
    density = density + 1e-5
    density = density / density.sum(1, keepdim=True)
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    bump = torch.exp(-0.5 * ((middle - measured[:, None]) / spread).square()) + 1e-9
    known = (measured > 0)[:, None] * _MEASURED
    density = (1 - known) * density + known * bump / bump.sum(1, keepdim=True)
    density = (1 - _ANYWHERE) * density + _ANYWHERE / _BINS
    cumulated = torch.cat([torch.zeros_like(near)[:, None], density.cumsum(1)], 1)
    cumulated = cumulated / cumulated[:, -1:]
    wanted = (torch.arange(count, device=near.device) + draws) / count
    above = torch.searchsorted(cumulated, wanted.contiguous(), right=True).clamp(1, _BINS)
    low, high = cumulated.gather(1, above - 1), cumulated.gather(1, above)
    share = ((wanted - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    start = t.gather(1, above - 1)
    return start + share * (t.gather(1, above) - start)


def interval_weights(values: Tensor, sharpness: float) -> Tensor:
    """Weights (R, S - 1) of the intervals between samples with field values (R, S).

    Source: NeuS, equation 13: alpha = (Phi(f_i) - Phi(f_i+1)) / Phi(f_i), Phi the logistic function.
    """
    cdf = torch.sigmoid(values * sharpness)
    alpha = ((cdf[:, :-1] - cdf[:, 1:]) / cdf[:, :-1].clamp_min(1e-5)).clamp(0, 1)
    clear = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1] + 1e-7], 1), 1)
    return alpha * clear


def trace(
    field: CascadedSdf,
    colours: ColourField,
    origins: Tensor,
    directions: Tensor,
    distances: Tensor,
    sharpness: float,
    until: Tensor | None = None,
) -> Traced:
    """Colour, opacity and distance of what rays (R, 3) meet at given samples (R, S).

    until: (R,) distance beyond which a ray tells nothing, for something else was seen there.
    """
    rays, count = distances.shape
    points = (origins[:, None] + distances[..., None] * directions[:, None]).reshape(-1, 3)
    flat, features = field.full(points)
    values = flat.reshape(rays, count)
    weights = interval_weights(values, sharpness)
    middle = 0.5 * (distances[:, 1:] + distances[:, :-1])
    if until is not None:
        weights = weights * (middle < until[:, None])
    opacity = weights.sum(1)
    seen_from = directions[:, None].expand(-1, count, -1).reshape(-1, 3) if field.detailed else None
    colour = colours(points, features, seen_from).reshape(rays, count, 3)
    mixed = (weights[..., None] * 0.5 * (colour[:, 1:] + colour[:, :-1])).sum(1)
    reach = (weights * middle).sum(1) / opacity.clamp_min(1e-3)
    return Traced(distances, values, weights, opacity, reach, mixed)

"""The reference surfel kernel in plain torch: exact, differentiable by autograd, on any device.

Geometry (N of everything) is computed in float64 whatever the input, the pairs of a surfel with a
pixel in the input's own type. With p the centre in the camera, (a, b, n) its axes there and d the ray
of a pixel with d_z = 1, the ray meets the surfel's plane at (u, v) = (r0 / r2, r1 / r2) and at the
inverse depth q, all affine in the pixel:

    r0 = (b x p) . d / s_u      r1 = (p x a) . d / s_v      r2 = n . d      q = n . d / (n . p)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from splatomy.kernels._torch import _screen_gradient_hook, rotations, usable

TILE_PX = 16
MAX_ALPHA = 0.999
MIN_ALPHA = 1 / 255
MIN_TRANSMITTANCE = 1e-4
MEDIAN_TRANSMITTANCE = 0.5
MIN_COSINE = 0.05
"""Below this cosine between the centre's ray and the normal, a surfel has the depth of its centre."""
LOW_PASS = 2.0
"""A surfel is never sharper than exp(-LOW_PASS |pixel - centre|^2 / 2)."""
TINY = 1e-30
MAX_SQUARE = 1e30


class Sums(NamedTuple):
    """What every backend returns: sums over the hits of a pixel, each with its blending weight w.

    colour (H, W, C) and normal (H, W, 3): sum of w times the value. alpha (H, W): sum of w.
    first, second (H, W): sums of w (q - reference) and w (q - reference)^2 of the inverse depths q,
    1/mm; the reference keeps their differences exact in float32. median (H, W): q - reference of the
    last hit before which more than half of the light was left. radius_px (N,), without gradient.
    """

    colour: Tensor
    normal: Tensor
    alpha: Tensor
    first: Tensor
    second: Tensor
    median: Tensor
    reference: float
    radius_px: Tensor


class Footprints(NamedTuple):
    """Surfels in the image, float64; planes are coefficients of (1, x - centre x, y - centre y)."""

    centre: Tensor
    """Projected centres, (N, 2) px."""
    rays: Tensor
    """Planes r0, r1, r2, (N, 3, 3)."""
    inverse: Tensor
    """Plane of the inverse depth, (N, 3), 1/mm."""
    normal: Tensor
    """Camera-frame normals that face the camera, (N, 3)."""
    depth: Tensor
    """Depths of the centres, (N,) mm."""
    extent: Tensor
    """Homogeneous image of the unit disc's u and v axes about the centre, (N, 3, 2): x, y, depth."""


def project(
    means_mm: Tensor, quats_wxyz: Tensor, scales_mm: Tensor, intrinsics: Tensor, camera_from_world: Tensor
) -> Footprints:
    """The surfels' footprints; depths must be positive."""
    means_mm, quats_wxyz, scales_mm = means_mm.double(), quats_wxyz.double(), scales_mm.double()
    rotation = camera_from_world[:3, :3]
    p = means_mm @ rotation.T + camera_from_world[:3, 3]
    tangent_u, tangent_v, normal = (rotation @ rotations(quats_wxyz)).unbind(2)
    depth = p[:, 2]
    ray = p / depth[:, None]
    fx, skew, fy = intrinsics[0, 0], intrinsics[0, 1], intrinsics[1, 1]
    centre = torch.stack(
        [fx * ray[:, 0] + skew * ray[:, 1] + intrinsics[0, 2], fy * ray[:, 1] + intrinsics[1, 2]], 1
    )

    def plane(vector: Tensor, constant: Tensor) -> Tensor:
        """vector . d about the centre, where its value is ``constant``."""
        y = vector[:, 1] / fy - vector[:, 0] * skew / (fx * fy)
        return torch.stack([constant, vector[:, 0] / fx, y], 1)

    zero = torch.zeros_like(depth)
    cosine = (normal * ray).sum(1)
    r0 = plane(torch.linalg.cross(tangent_v, ray, dim=1) * (depth / scales_mm[:, 0])[:, None], zero)
    r1 = plane(torch.linalg.cross(ray, tangent_u, dim=1) * (depth / scales_mm[:, 1])[:, None], zero)
    r2 = plane(normal, cosine)
    steep = cosine.detach().abs() < MIN_COSINE * ray.detach().norm(dim=1)
    divisor = torch.where(steep, torch.ones_like(cosine), cosine)
    slope = torch.where(steep[:, None], torch.zeros_like(r2), r2 / divisor[:, None])
    inverse = torch.cat([torch.ones_like(slope[:, :1]), slope[:, 1:]], 1) / depth[:, None]
    axes = torch.stack([tangent_u, tangent_v], 2) * scales_mm[:, None, :]
    across = axes[:, :2] - ray[:, :2, None] * axes[:, 2:]
    extent = torch.stack([fx * across[:, 0] + skew * across[:, 1], fy * across[:, 1], axes[:, 2]], 1)
    facing = normal * torch.where(cosine.detach() > 0, -1.0, 1.0)[:, None]
    return Footprints(centre, torch.stack([r0, r1, r2], 1), inverse, facing, depth, extent)


def boxes(footprints: Footprints, opacity: Tensor, width_px: int, height_px: int) -> tuple[Tensor, Tensor]:
    """Pixel boxes (N, 4) x0 x1 y0 y1 that hold every visible hit, and the footprints' half sizes (N,) px.

    A surfel that comes too near the camera's plane gets the whole image.
    """
    cutoff2 = 2 * torch.log(opacity / MIN_ALPHA).clamp_min(0)
    depth, (m_x, m_y, m_z) = footprints.depth, footprints.extent.unbind(1)
    divisor = depth**2 - cutoff2 * m_z.square().sum(1)
    whole = depth - (cutoff2 * m_z.square().sum(1)).sqrt() < 1e-3 * depth
    divisor = torch.where(whole, torch.ones_like(divisor), divisor)
    low_pass = (cutoff2 / LOW_PASS).sqrt()
    edges, half = [], torch.zeros_like(depth)
    for axis, (m, size) in enumerate(((m_x, width_px), (m_y, height_px))):
        shift = -cutoff2 * (m * m_z).sum(1) / divisor
        spread = (shift**2 + cutoff2 * m.square().sum(1) / divisor).clamp_min(0).sqrt()
        low, high = torch.minimum(shift - spread, -low_pass), torch.maximum(shift + spread, low_pass)
        low = torch.where(whole, torch.full_like(low, -math.inf), low + footprints.centre[:, axis])
        high = torch.where(whole, torch.full_like(high, math.inf), high + footprints.centre[:, axis])
        half = torch.maximum(half, (high - low) / 2)
        first = torch.ceil(low).nan_to_num(0.0).clamp(0, size)
        end = (torch.floor(high) + 1).nan_to_num(0.0).clamp(0, size)
        edges += [first, end]
    return torch.stack(edges, 1).long(), half.clamp_max(float(max(width_px, height_px)))


def splat(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    opacity: Tensor,
    colours: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    near_mm: float,
    screen_gradient: Tensor | None,
) -> Sums:
    """The sums of an image; see ``kernels.surfel.splat_surfels``."""
    k, pose = intrinsics.double(), camera_from_world.double()
    with torch.no_grad():
        index = drawable(means_mm, quats_wxyz, scales_mm, opacity, colours, pose, near_mm)
        seen = project(means_mm[index], quats_wxyz[index], scales_mm[index], k, pose)
        box, half = boxes(seen, opacity[index].double(), width_px, height_px)
        inside = (box[:, 1] > box[:, 0]) & (box[:, 3] > box[:, 2]) & (opacity[index] >= MIN_ALPHA)
        inside &= seen.rays.isfinite().all(2).all(1)
        order = torch.nonzero(inside)[:, 0]
        order = order[torch.sort(seen.depth[order], stable=True).indices]
        index, box = index[order], box[order]
        radius = torch.zeros(len(means_mm), dtype=torch.float32, device=means_mm.device)
        radius[index] = half[order].float()
        reference = float((1 / seen.depth[order]).median()) if len(order) else 0.0
    # Only surfels that are drawn enter the graph, so that no NaN of another reaches a gradient.
    footprints = project(means_mm[index], quats_wxyz[index], scales_mm[index], k, pose)
    centre = footprints.centre
    if screen_gradient is not None and torch.is_grad_enabled():
        if not centre.requires_grad and (opacity.requires_grad or colours.requires_grad):
            centre.requires_grad_()
        if centre.requires_grad:
            size = torch.tensor([width_px, height_px], device=means_mm.device)
            centre.register_hook(_screen_gradient_hook(screen_gradient, index, size))
    dtype = means_mm.dtype
    inverse = footprints.inverse - centre.new_tensor([reference, 0, 0])
    values = torch.cat([colours[index], footprints.normal.to(dtype)], 1)
    limits = (-reference, 1 / near_mm - reference)
    arguments = (footprints.rays.to(dtype), inverse.to(dtype), opacity[index], values)
    image = _blend_image(centre, *arguments, box, limits, (width_px, height_px))
    alpha, first, second, median = image[..., :4].unbind(-1)
    colour, normal = image[..., 4:].split([colours.shape[1], 3], dim=-1)
    return Sums(colour, normal, alpha, first, second, median, reference, radius)


def drawable(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    opacity: Tensor,
    colours: Tensor,
    camera_from_world: Tensor,
    near_mm: float,
) -> Tensor:
    """Indices of the surfels inside the limits of ``_torch``, with opacity in [0, 1], beyond near_mm."""
    good = usable(means_mm, quats_wxyz, scales_mm, colours) & (opacity >= 0) & (opacity <= 1)
    depth = means_mm.double() @ camera_from_world[2, :3] + camera_from_world[2, 3]
    return torch.nonzero(good & (depth > near_mm))[:, 0]


def _blend_image(
    centre: Tensor,
    rays: Tensor,
    inverse: Tensor,
    opacity: Tensor,
    values: Tensor,
    box: Tensor,
    limits: tuple[float, float],
    size: tuple[int, int],
) -> Tensor:
    """Alpha, first, second, median and the blended values of every pixel, (H, W, 4 + K)."""
    width, height = size
    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    tiles, blended = [], []
    for tile in range(columns * rows):
        x, y = tile % columns * TILE_PX, tile // columns * TILE_PX
        meets = (box[:, 0] < x + TILE_PX) & (box[:, 1] > x) & (box[:, 2] < y + TILE_PX) & (box[:, 3] > y)
        members = torch.nonzero(meets)[:, 0]
        if len(members) == 0:
            continue
        steps = torch.arange(TILE_PX, device=centre.device)
        corner = torch.tensor([x, y], device=centre.device)
        # Offsets from the centres are small, so they keep their precision in float32.
        at = (corner - centre[members]).to(rays.dtype)
        dx = (at[:, 0, None, None] + steps).expand(-1, TILE_PX, -1).flatten(1)
        dy = (at[:, 1, None, None] + steps[:, None]).expand(-1, -1, TILE_PX).flatten(1)
        tiles.append(tile)
        arguments = (rays[members], inverse[members], opacity[members], values[members])
        blended.append(_blend_tile(torch.stack([torch.ones_like(dx), dx, dy], 1), *arguments, limits))
    image = torch.zeros(columns * rows, TILE_PX**2, 4 + values.shape[1], dtype=rays.dtype, device=rays.device)
    # Keep the graph, so that backward() of an empty image gives zeros instead of an error.
    image = image + 0 * (rays.sum() + inverse.sum() + opacity.sum() + values.sum())
    if tiles:
        image = image.index_copy(0, torch.tensor(tiles, device=rays.device), torch.stack(blended))
    image = image.reshape(rows, columns, TILE_PX, TILE_PX, -1).transpose(1, 2)
    return image.reshape(rows * TILE_PX, columns * TILE_PX, -1)[:height, :width]


def _blend_tile(
    place: Tensor,
    rays: Tensor,
    inverse: Tensor,
    opacity: Tensor,
    values: Tensor,
    limits: tuple[float, float],
) -> Tensor:
    """The sums (P, 4 + K) of a tile's P pixels over n surfels, near to far. place: (n, 3, P) 1, dx, dy."""
    r0, r1, r2 = torch.einsum("nij,njp->inp", rays, place).unbind(0)
    q = torch.einsum("nj,njp->np", inverse, place)
    disc = ((r0**2 + r1**2) / (r2**2 + TINY)).clamp_max(MAX_SQUARE)
    low_pass = LOW_PASS * (place[:, 1] ** 2 + place[:, 2] ** 2)
    alpha = opacity[:, None] * torch.exp(-0.5 * torch.where(disc <= low_pass, disc, low_pass))
    hit = (alpha >= MIN_ALPHA) & (q > limits[0]) & (q <= limits[1])
    alpha = torch.where(hit, alpha.clamp_max(MAX_ALPHA), torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 0)
    # A hit that would leave too little light is dropped, and so is all behind it.
    kept = after > MIN_TRANSMITTANCE
    alpha = torch.where(kept, alpha, torch.zeros_like(alpha))
    left = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(left[:1]), left[:-1]])
    weight = alpha * before
    number = torch.arange(1, len(q) + 1, device=q.device)[:, None]
    median = (number * (hit & kept & (before > MEDIAN_TRANSMITTANCE))).amax(0) - 1
    median = torch.where(median >= 0, q.gather(0, median.clamp_min(0)[None])[0], torch.zeros_like(q[0]))
    sums = [1 - left[-1], (weight * q).sum(0), (weight * q**2).sum(0), median]
    return torch.cat([torch.stack(sums, 1), weight.T @ values], 1)

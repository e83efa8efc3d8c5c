"""Filtered back-projection (Feldkamp, Davis, Kress) of cone-beam line integrals on any camera arc."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from splatomy.capture import Capture, Grid
from splatomy.events import Progress, Task
from splatomy.geometry.conebeam import fan_angle_rad, gantry_angles_rad
from splatomy.scene import Volume

# Small enough that a slab of many frames takes well under half a second.
_SLAB_VOXELS = 1 << 18


@dataclass(frozen=True)
class Arc:
    """The source's path: angles_rad (T,) increasing from 0 in ``order`` (T,) of the frames, and its length.

    columns_increase: True when image columns run along the direction of rotation.
    """

    angles_rad: np.ndarray
    order: np.ndarray
    length_rad: float
    columns_increase: bool
    fan_rad: float

    @property
    def is_full(self) -> bool:
        """True when the arc closes a whole turn."""
        return self.length_rad > 2 * math.pi * 0.95

    @property
    def is_short_of_data(self) -> bool:
        """True when some line through the volume is never measured: arc under 180 degrees plus fan."""
        return self.length_rad < math.pi + self.fan_rad - 1e-6


def source_arc(capture: Capture) -> Arc:
    """The arc of the capture's sources about the grid's centre, z being the rotation axis.

    The arc's length counts half an angular step beyond each end, since each frame stands for its step.
    """
    cameras, grid = capture.cameras, capture.grid
    if cameras is None or grid is None:
        raise ValueError("source_arc needs cameras and grid")
    primary = gantry_angles_rad(cameras, grid.bounds_mm.mean(0))[:, 0]
    order = np.argsort(primary, kind="stable")
    angles = primary[order] - primary[order[0]]
    first = int(order[0])
    tangent = np.array([-np.sin(primary[first]), np.cos(primary[first]), 0.0])
    columns_increase = bool(cameras.camera_from_world[first, 0, :3] @ tangent > 0)
    step = angles[-1] / max(len(angles) - 1, 1)
    return Arc(angles, order, float(angles[-1] + step), columns_increase, fan_angle_rad(cameras))


def short_scan_weights(angles_rad: torch.Tensor, fan_rad: torch.Tensor, length_rad: float) -> torch.Tensor:
    """Weights (T, W) that make each measured line count once, for an arc of 180 degrees plus overscan.

    angles_rad: (T,) from the arc's start. fan_rad: (W,) signed so that a ray's direction is angle + fan.

    Source: Parker, Med. Phys. 9 (1982), with the fan angle replaced by the arc's own overscan.
    """
    half_overscan = max((length_rad - math.pi) / 2, 1e-3)
    beta, gamma = angles_rad[:, None], fan_rad[None].clamp(-half_overscan, half_overscan)
    rise = torch.sin(math.pi / 4 * (beta / (half_overscan - gamma).clamp(min=1e-6)).clamp(0, 2)) ** 2
    rest = (length_rad - beta) / (half_overscan + gamma).clamp(min=1e-6)
    fall = torch.sin(math.pi / 4 * rest.clamp(0, 2)) ** 2
    weights = torch.ones(len(angles_rad), len(fan_rad), dtype=beta.dtype, device=beta.device)
    weights = torch.where(beta < 2 * (half_overscan - gamma), rise, weights)
    return torch.where(beta > math.pi - 2 * gamma, fall, weights)


def ramp_filter(
    rows: torch.Tensor, pitch_mm: float, window: Literal["ramp", "hann"], cutoff: float
) -> torch.Tensor:
    """Rows (..., W) convolved with the band-limited ramp of a pitch in mm; the result is per mm.

    cutoff: share of the Nyquist frequency at which the Hann window reaches zero.

    Source: Kak and Slaney, Principles of Computerized Tomographic Imaging, eq. 3.61.
    """
    width = rows.shape[-1]
    padded = 1 << math.ceil(math.log2(2 * width))
    n = torch.arange(padded, device=rows.device, dtype=torch.float64)
    n = torch.minimum(n, padded - n)
    kernel = torch.where(n % 2 == 1, -1.0 / (math.pi * n.clamp(min=1) * pitch_mm) ** 2, torch.zeros_like(n))
    kernel[0] = 1.0 / (4 * pitch_mm**2)
    response = torch.fft.rfft(kernel).real * pitch_mm
    if window == "hann":
        frequency = torch.linspace(0, 1, len(response), dtype=torch.float64, device=rows.device) / cutoff
        response = response * torch.where(frequency < 1, 0.5 + 0.5 * torch.cos(math.pi * frequency), 0.0)
    spectrum = torch.fft.rfft(rows, n=padded) * response.to(rows.dtype)
    filtered: torch.Tensor = torch.fft.irfft(spectrum, n=padded)[..., :width]
    return filtered


def filter_projections(
    capture: Capture, window: Literal["ramp", "hann"], cutoff: float, device: torch.device
) -> Task[torch.Tensor]:
    """Weighted and ramp-filtered projections (T, H, W), ready to be smeared back and summed."""
    cameras, grid = capture.cameras, capture.grid
    if cameras is None or grid is None:
        raise ValueError("fdk needs cameras and grid")
    arc = source_arc(capture)
    centre = torch.as_tensor(grid.bounds_mm.mean(0), dtype=torch.float64)
    steps = np.gradient(arc.angles_rad) if len(arc.angles_rad) > 1 else np.array([math.pi])
    images = torch.as_tensor(np.ascontiguousarray(capture.images[..., 0]), device=device).float()
    out = torch.empty_like(images)
    columns = torch.arange(cameras.width_px, dtype=torch.float64)
    rows = torch.arange(cameras.height_px, dtype=torch.float64)
    for rank, frame in enumerate(arc.order):
        k, pose = cameras.intrinsics[frame], torch.as_tensor(cameras.camera_from_world[frame])
        distance_mm = float((pose[:3, :3] @ centre + pose[:3, 3])[2])
        x, y = (columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1]
        cosine = 1 / torch.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
        if arc.is_full:
            weight = torch.full((len(x),), 0.5, dtype=torch.float64)
        elif arc.length_rad < math.pi:
            weight = torch.ones_like(x)
        else:
            fan = torch.atan(x) * (-1.0 if arc.columns_increase else 1.0)
            half_step = 0.5 * arc.length_rad / len(arc.order)
            angle = torch.tensor([arc.angles_rad[rank] + half_step], dtype=torch.float64)
            weight = short_scan_weights(angle, fan, arc.length_rad)[0]
        factor = (cosine * weight * float(steps[rank])).to(images)
        out[frame] = ramp_filter(images[frame] * factor, distance_mm / k[0, 0], window, cutoff)
        # The distance weight (d / depth)^2 of the back-projection: its numerator here, once per frame.
        out[frame] *= distance_mm**2
        if rank % 8 == 0:
            yield Progress("fdk", 0, grid.shape[0])
    return out


def back_project(
    filtered: torch.Tensor, capture: Capture, grid: Grid, first: int, count: int
) -> torch.Tensor:
    """The sum over frames of filtered values (T, H, W) seen by each voxel, over squared depth.

    Only the slab of ``count`` planes from plane ``first`` of the grid's first axis: (count, J, K).
    """
    cameras = capture.cameras
    if cameras is None:
        raise ValueError("back_project needs cameras")
    device = filtered.device
    _, j, k = grid.shape
    axes = [torch.arange(first, first + count), torch.arange(j), torch.arange(k)]
    a, b, c = (axis.to(device, torch.float32) for axis in axes)
    world_to_pixel = cameras.world_to_pixel @ grid.affine_mm
    total = torch.zeros(count, j, k, device=device)
    size = torch.tensor([cameras.width_px, cameras.height_px], device=device)
    for frame in range(len(filtered)):
        # Homogeneous pixels are affine in the voxel index: three broadcast sums per row of the matrix.
        m = torch.as_tensor(world_to_pixel[frame], dtype=torch.float32, device=device)
        h = [(m[r, 0] * a + m[r, 3])[:, None, None] + (m[r, 1] * b)[:, None] + m[r, 2] * c for r in range(3)]
        inverse_depth = torch.where(h[2] > 0, 1 / h[2], 0.0)
        where = torch.stack([h[0] * inverse_depth, h[1] * inverse_depth], -1)
        where = (2 * where + 1) / size - 1
        values = torch.nn.functional.grid_sample(
            filtered[frame][None, None], where.view(1, count * j, k, 2), align_corners=False
        )
        total += values.view(count, j, k) * inverse_depth.square()
    return total


def fdk(
    capture: Capture,
    *,
    grid: Grid | None = None,
    window: Literal["ramp", "hann"] = "hann",
    cutoff: float = 1.0,
    device: torch.device | None = None,
) -> Task[Volume]:
    """Attenuation in 1/mm on the grid (the capture's own by default), negative values kept.

    Source: Feldkamp, Davis and Kress, J. Opt. Soc. Am. A 1 (1984), eqs. 22-28, with Parker weights on
    a short scan, weight 1/2 on a full turn, and 1 on an arc too short for either (a rough picture).
    """
    grid = grid or capture.grid
    if grid is None:
        raise ValueError("fdk needs a grid")
    filtered = yield from filter_projections(capture, window, cutoff, device or torch.device("cpu"))
    planes = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    values = np.empty(grid.shape, dtype=np.float32)
    for first in range(0, grid.shape[0], planes):
        count = min(planes, grid.shape[0] - first)
        values[first : first + count] = back_project(filtered, capture, grid, first, count).cpu().numpy()
        yield Progress("fdk", first + count, grid.shape[0])
    return Volume(values, grid.affine_mm)

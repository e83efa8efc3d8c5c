"""New surfels from the depth of one frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from splatomy.methods.live_scene.frames import Bool, Float, Float32, Level

_LEAST_COSINE = 0.15
_MAX_STRETCH = 3.0


def seeds_of(
    level: Level, pose: Float, wanted: Bool, spacing_px: float, most: int
) -> dict[str, NDArray[np.float32]]:
    """Surfels at wanted pixels (h, w) of known depth: means_mm, quats_wxyz, log_scales, colours, (N, ...).

    They lie in the depth map's own plane and are as large as ``spacing_px``; grazing places are left out.
    Beyond ``most`` the lattice becomes coarser, so that the whole place is still covered.
    """
    depth = level.depth.cpu().numpy()
    spacing = max(1.0, spacing_px)
    expected = wanted.sum() / spacing**2
    if expected > most:
        spacing *= float(np.sqrt(expected / most))
    rows, columns = _lattice(wanted, spacing)
    if len(rows) > most:
        # Few wanted pixels may all lie on the lattice.
        chosen = np.linspace(0, len(rows) - 1, most).astype(int)
        rows, columns = rows[chosen], columns[chosen]
    k = level.intrinsics.numpy()
    known = (depth > 0).astype(np.float32)
    # Noise of single depths would tilt the normals at random.
    sigma = max(1.0, spacing)
    total = cv2.GaussianBlur(depth * known, (0, 0), sigma)
    smooth = np.asarray(total / np.maximum(cv2.GaussianBlur(known, (0, 0), sigma), 1e-6), np.float32)
    rays = _rays(rows, columns, k)
    normal = _normals(smooth, k, rows, columns)
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    cosine = np.abs((normal * rays).sum(1, keepdims=True)) / length
    keep = cosine[:, 0] > _LEAST_COSINE
    rows, columns, rays, normal = rows[keep], columns[keep], rays[keep], normal[keep]
    length, cosine = length[keep], cosine[keep]
    # The long axis lies where the surface falls away from the camera.
    fall = rays / length - (rays / length * normal).sum(1, keepdims=True) * normal
    any_tangent = np.cross(normal, np.eye(3)[np.abs(normal).argmin(1)])
    fall = np.where(np.linalg.norm(fall, axis=1, keepdims=True) < 1e-3, any_tangent, fall)
    along = fall / np.maximum(np.linalg.norm(fall, axis=1, keepdims=True), 1e-9)
    axes = np.stack([along, np.cross(normal, along), normal], 2)
    z = depth[rows, columns]
    footprint = spacing * z / k[0, 0]
    stretch = np.minimum(1 / np.maximum(cosine[:, 0], 1e-3), _MAX_STRETCH)
    image = level.image.permute(1, 2, 0).cpu().numpy()
    world = (rays * z[:, None] - pose[:3, 3]) @ pose[:3, :3]
    quats = np.zeros((0, 4)) if not len(rows) else Rotation.from_matrix(pose[:3, :3].T @ axes).as_quat()
    return {
        "means_mm": world.astype(np.float32),
        "quats_wxyz": quats[:, [3, 0, 1, 2]].astype(np.float32),
        "log_scales": np.log(np.stack([footprint * stretch, footprint], 1)).astype(np.float32),
        "colours": np.ascontiguousarray(image[rows, columns], dtype=np.float32),
    }


def _lattice(wanted: Bool, spacing_px: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first = 0.5 * (spacing_px - 1)
    rows, columns = (np.unique(np.arange(first, size, spacing_px).astype(int)) for size in wanted.shape)
    chosen = np.zeros_like(wanted)
    chosen[np.ix_(rows, columns)] = True
    where = np.nonzero(chosen & wanted)
    return where[0], where[1]


def _rays(rows: NDArray[np.intp], columns: NDArray[np.intp], k: Float) -> Float:
    """Directions (N, 3) with z = 1 of pixels."""
    y = (rows - k[1, 2]) / k[1, 1]
    return np.stack([(columns - k[0, 2]) / k[0, 0], y, np.ones(len(rows))], -1)


def _normals(depth: Float32, k: Float, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Float:
    """Camera-facing unit normals (N, 3) of a depth map (h, w) mm at some of its pixels."""
    height, width = depth.shape

    def point(down: int, right: int) -> Float:
        row, column = (rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)
        return np.asarray(_rays(row, column, k) * depth[row, column, None])

    normal = np.cross(point(1, 0) - point(-1, 0), point(0, 1) - point(0, -1))
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12))

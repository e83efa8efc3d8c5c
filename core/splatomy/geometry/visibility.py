"""Exact visibility of triangle meshes: the first triangle that each pixel's ray meets.

A z-buffer over triangles, in float64, that shares nothing with the splatting kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras

Float = NDArray[np.float64]

_NEAR_MM = 1e-3


@numba.njit(cache=True, parallel=True)
def _nearest(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xy, z, faces, height, width, bands, depth, owner, weights
):
    rows = (height + bands - 1) // bands
    for band in numba.prange(bands):
        low, high = band * rows, min((band + 1) * rows, height)
        for f in range(len(faces)):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            if z[a] < _NEAR_MM or z[b] < _NEAR_MM or z[c] < _NEAR_MM:
                continue
            y0 = max(low, int(np.ceil(min(xy[a, 1], xy[b, 1], xy[c, 1]))))
            y1 = min(high - 1, int(np.floor(max(xy[a, 1], xy[b, 1], xy[c, 1]))))
            if y0 > y1:
                continue
            x0 = max(0, int(np.ceil(min(xy[a, 0], xy[b, 0], xy[c, 0]))))
            x1 = min(width - 1, int(np.floor(max(xy[a, 0], xy[b, 0], xy[c, 0]))))
            area = (xy[b, 0] - xy[a, 0]) * (xy[c, 1] - xy[a, 1]) - (xy[b, 1] - xy[a, 1]) * (
                xy[c, 0] - xy[a, 0]
            )
            if area == 0.0:
                continue
            for y in range(y0, y1 + 1):
                for x in range(x0, x1 + 1):
                    u = (
                        (xy[c, 0] - xy[b, 0]) * (y - xy[b, 1]) - (xy[c, 1] - xy[b, 1]) * (x - xy[b, 0])
                    ) / area
                    v = (
                        (xy[a, 0] - xy[c, 0]) * (y - xy[c, 1]) - (xy[a, 1] - xy[c, 1]) * (x - xy[c, 0])
                    ) / area
                    w = 1.0 - u - v
                    if u < 0.0 or v < 0.0 or w < 0.0:
                        continue
                    # 1/z is linear over the picture of a plane.
                    inverse = u / z[a] + v / z[b] + w / z[c]
                    d = 1.0 / inverse
                    if d < depth[y, x]:
                        depth[y, x] = d
                        owner[y, x] = f
                        weights[y, x, 0] = u * d / z[a]
                        weights[y, x, 1] = v * d / z[b]
                        weights[y, x, 2] = w * d / z[c]


def first_hits(
    vertices_mm: Float,
    faces: NDArray[np.int32],
    intrinsics: Float,
    camera_from_world: Float,
    height_px: int,
    width_px: int,
) -> tuple[Float, NDArray[np.int32], Float]:
    """Depth (H, W) mm along z (inf = nothing), face (H, W) (-1 = nothing), barycentric weights (H, W, 3).

    vertices_mm: (V, 3). faces: (F, 3). intrinsics: (3, 3) px. camera_from_world: (4, 4), OpenCV axes.
    A triangle that reaches behind the camera is left out.
    """
    camera = vertices_mm @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    z = camera[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (camera @ intrinsics.T)[:, :2] / z[:, None]
    pixels = np.where(z[:, None] > _NEAR_MM, pixels, 0.0)
    depth = np.full((height_px, width_px), np.inf)
    owner = np.full((height_px, width_px), -1, np.int32)
    weights = np.zeros((height_px, width_px, 3))
    bands = 2 * numba.get_num_threads()
    _nearest(pixels, z, faces.astype(np.int32), height_px, width_px, bands, depth, owner, weights)
    return depth, owner, weights


@dataclass(frozen=True)
class MeshView:
    """What a camera sees of a mesh in the P pixels where it sees it.

    hit: (H, W), those pixels. corners: (P, 3) vertices of the faces there, and share: (P, 3) of each in the
    point that is seen. depth_mm: (P,) along z. normals: (P, 3) in the camera's axes, towards the camera.
    """

    hit: NDArray[np.bool_]
    corners: NDArray[np.int32]
    share: Float
    depth_mm: Float
    normals: Float


def look_at(vertices_mm: Float, faces: NDArray[np.int32], cameras: Cameras, camera: int) -> MeshView:
    """One camera's view of a mesh with vertices (V, 3) and faces (F, 3)."""
    k, pose = cameras.intrinsics[camera], cameras.camera_from_world[camera]
    depth, owner, weights = first_hits(vertices_mm, faces, k, pose, cameras.height_px, cameras.width_px)
    hit = owner >= 0
    corners, share = faces[owner[hit]], weights[hit]
    a, b, c = (vertices_mm[corners[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a) @ pose[:3, :3].T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    place = (a * share[:, :1] + b * share[:, 1:2] + c * share[:, 2:]) @ pose[:3, :3].T + pose[:3, 3]
    normals *= np.where((normals * place).sum(1) > 0, -1.0, 1.0)[:, None]
    return MeshView(hit, corners, share, depth[hit], normals)


def seen_vertices(
    vertices_mm: Float, faces: NDArray[np.int32], cameras: Cameras, camera: int, tolerance_mm: float
) -> NDArray[np.bool_]:
    """(V,) vertices that lie in a camera's picture and at most ``tolerance_mm`` behind what it sees there."""
    k, pose = cameras.intrinsics[camera], cameras.camera_from_world[camera]
    height, width = cameras.height_px, cameras.width_px
    depth, _, _ = first_hits(vertices_mm, faces, k, pose, height, width)
    pixels, z = cameras[camera].project(vertices_mm)
    with np.errstate(invalid="ignore"):
        inside = (z[0] > 0) & (pixels[0] > -0.5).all(1) & (pixels[0] < (width - 0.5, height - 0.5)).all(1)
    column, row = np.rint(np.where(inside[:, None], pixels[0], 0)).astype(int).T
    # Within a pixel the surface may slope away from the ray through its centre.
    slack = tolerance_mm + 2 * z[0] / k[0, 0]
    return np.asarray(inside & (z[0] < depth[row, column] + slack))

"""Line integrals through a voxel volume by trilinear ray marching (CPU)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import rays


@njit(parallel=True, fastmath=True, cache=True)
def _march(values, origin, directions, index_from_world, step_mm):  # type: ignore[no-untyped-def]
    height, width, _ = directions.shape
    ni, nj, nk = values.shape
    image = np.zeros((height, width), np.float32)
    rotation = np.ascontiguousarray(index_from_world[:3, :3])
    o = rotation @ origin + index_from_world[:3, 3]
    for row in prange(height):
        for column in range(width):
            d = rotation @ directions[row, column]
            near, far = 0.0, 1e30
            for axis in range(3):
                top = values.shape[axis] - 1.0
                if abs(d[axis]) < 1e-12:
                    if o[axis] < 0.0 or o[axis] > top:
                        far = -1.0
                else:
                    t0, t1 = -o[axis] / d[axis], (top - o[axis]) / d[axis]
                    near = max(near, min(t0, t1))
                    far = min(far, max(t0, t1))
            if far <= near:
                continue
            count = math.ceil((far - near) / step_mm)
            step = (far - near) / count
            total = 0.0
            for s in range(count):
                t = near + (s + 0.5) * step
                x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
                i, j, k = min(int(x), ni - 2), min(int(y), nj - 2), min(int(z), nk - 2)
                fx, fy, fz = x - i, y - j, z - k
                c00 = values[i, j, k] * (1 - fz) + values[i, j, k + 1] * fz
                c01 = values[i, j + 1, k] * (1 - fz) + values[i, j + 1, k + 1] * fz
                c10 = values[i + 1, j, k] * (1 - fz) + values[i + 1, j, k + 1] * fz
                c11 = values[i + 1, j + 1, k] * (1 - fz) + values[i + 1, j + 1, k + 1] * fz
                total += (c00 * (1 - fy) + c01 * fy) * (1 - fx) + (c10 * (1 - fy) + c11 * fy) * fx
            image[row, column] = total * step
    return image


def march(
    values: NDArray[np.float32], affine_mm: NDArray[np.float64], cameras: Cameras
) -> NDArray[np.float32]:
    """Line integrals (N, H, W), dimensionless, of attenuation (I, J, K) in 1/mm; two voxels a side or more.

    affine_mm: (4, 4) voxel-centre index -> world. The step is half the smallest voxel edge.
    """
    index_from_world = np.linalg.inv(affine_mm)
    step_mm = 0.5 * float(np.linalg.norm(affine_mm[:3, :3], axis=0).min())
    data = np.ascontiguousarray(values, dtype=np.float32)
    out = np.empty((len(cameras), cameras.height_px, cameras.width_px), np.float32)
    for n in range(len(cameras)):
        origin, directions = rays(cameras, n)
        origin, directions = np.ascontiguousarray(origin), np.ascontiguousarray(directions)
        out[n] = _march(data, origin, directions, index_from_world, step_mm)
    return out

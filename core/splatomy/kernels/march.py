"""Line integrals through a voxel volume, plane by plane (CPU)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import rays


@njit(cache=True)
def _bilinear(flat, base, b, c, size_b, size_c, stride_b, stride_c):  # type: ignore[no-untyped-def]
    ib, ic = min(max(int(b), 0), size_b - 2), min(max(int(c), 0), size_c - 2)
    fb, fc = np.float32(b - ib), np.float32(c - ic)
    at = base + ib * stride_b + ic * stride_c
    low = flat[at] + (flat[at + stride_c] - flat[at]) * fc
    at += stride_b
    high = flat[at] + (flat[at + stride_c] - flat[at]) * fc
    return low + (high - low) * fb


@njit(parallel=True, cache=True)
def _march(flat, shape, origin, directions, index_from_world):  # type: ignore[no-untyped-def]
    height, width, _ = directions.shape
    strides = (shape[1] * shape[2], shape[2], 1)
    image = np.zeros((height, width), np.float32)
    m = index_from_world
    o = np.empty(3)
    for axis in range(3):
        o[axis] = m[axis, 0] * origin[0] + m[axis, 1] * origin[1] + m[axis, 2] * origin[2] + m[axis, 3]
    for row in prange(height):
        d = np.empty(3)
        for column in range(width):
            x, y, z = directions[row, column, 0], directions[row, column, 1], directions[row, column, 2]
            near, far = 0.0, 1e30
            for axis in range(3):
                d[axis] = m[axis, 0] * x + m[axis, 1] * y + m[axis, 2] * z
                top = shape[axis] - 1.0
                if abs(d[axis]) < 1e-12:
                    if o[axis] < 0.0 or o[axis] > top:
                        far = -1.0
                else:
                    t0, t1 = -o[axis] / d[axis], (top - o[axis]) / d[axis]
                    near = max(near, min(t0, t1))
                    far = min(far, max(t0, t1))
            if far <= near:
                continue
            # Planes across the axis along which the ray runs fastest; between them it is linear.
            a = 0
            if abs(d[1]) > abs(d[a]):
                a = 1
            if abs(d[2]) > abs(d[a]):
                a = 2
            b, c = (a + 1) % 3, (a + 2) % 3
            start, end = o[a] + near * d[a], o[a] + far * d[a]
            low, high = min(start, end), max(start, end)
            first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
            slope_b, slope_c = d[b] / d[a], d[c] / d[a]
            total = 0.0
            for plane in range(max(first, 0), min(last, shape[a] - 1) + 1):
                weight = 1.0
                if plane == first:
                    weight += first - low - 0.5
                if plane == last:
                    weight += high - last - 0.5
                at_b, at_c = o[b] + (plane - o[a]) * slope_b, o[c] + (plane - o[a]) * slope_c
                total += weight * _bilinear(
                    flat, plane * strides[a], at_b, at_c, shape[b], shape[c], strides[b], strides[c]
                )
            if last < first:
                plane = min(max(round((low + high) / 2), 0), shape[a] - 1)
                at_b, at_c = o[b] + (plane - o[a]) * slope_b, o[c] + (plane - o[a]) * slope_c
                total = (high - low) * _bilinear(
                    flat, plane * strides[a], at_b, at_c, shape[b], shape[c], strides[b], strides[c]
                )
            image[row, column] = total / abs(d[a])
    return image


def march(
    values: NDArray[np.float32], affine_mm: NDArray[np.float64], cameras: Cameras
) -> NDArray[np.float32]:
    """Line integrals (N, H, W), dimensionless, of attenuation (I, J, K) in 1/mm; two voxels a side or more.

    affine_mm: (4, 4) voxel-centre index -> world. Between voxel centres the volume is linear.

    Source: Joseph, IEEE Trans. Med. Imaging 1 (1982): bilinear on the planes across each ray.
    """
    index_from_world = np.linalg.inv(affine_mm)
    data = np.ascontiguousarray(values, dtype=np.float32)
    out = np.empty((len(cameras), cameras.height_px, cameras.width_px), np.float32)
    for n in range(len(cameras)):
        origin, directions = rays(cameras, n)
        origin, directions = np.ascontiguousarray(origin), np.ascontiguousarray(directions)
        out[n] = _march(data.ravel(), data.shape, origin, directions, index_from_world)
    return out

"""One Gaussian's shadow on the detector, and the gradients of its parameters, compiled by Numba."""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import njit

from splatomy.kernels._numba_shared import is_usable, lattice_sum, rotation_backward, rotation_into
from splatomy.kernels._torch import MAX_VARIANCE, MIN_DETERMINANT, NEAR_MM, lattice

_LATTICE = np.array(lattice(2), dtype=np.float64)

_Work = namedtuple(
    "_Work",
    "rotation axes jacobian rows centre ray whitened covariance place d_mean2d d_covariance moments "
    "d_axes d_jacobian d_centre d_ray d_rotation",
)
"""One thread's scratch: the rotation, the scaled axes in the camera, J, J axes, and so on."""


@njit(cache=True)
def make_work():
    return _Work(
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((2, 3)),
        np.empty((2, 3)),
        np.empty(3),
        np.empty(3),
        np.empty(3),
        np.empty((2, 2)),
        np.empty(2),
        np.zeros(2),
        np.zeros((2, 2)),
        np.zeros(6, np.float32),
        np.empty((3, 3)),
        np.empty((2, 3)),
        np.empty(3),
        np.empty(3),
        np.empty((3, 3)),
    )


@njit(cache=True)
def project(mean, quat, scale, intrinsics, pose, cell, work):
    """Image mean (u, v), determinant of the covariance and peak line integral of one Gaussian.

    Fills ``work``; the peak is 0 for a Gaussian to be skipped. Not fastmath: it judges what is finite.
    """
    if not is_usable(mean, quat, scale):
        return 0.0, 0.0, 0.0, 0.0
    rotation_into(quat, work.rotation)
    for i in range(3):
        work.centre[i] = pose[i, 3]
        for j in range(3):
            work.centre[i] += pose[i, j] * mean[j]
            work.axes[i, j] = 0.0
            for k in range(3):
                work.axes[i, j] += pose[i, k] * work.rotation[k, j]
    x, y, z = work.centre[0], work.centre[1], work.centre[2]
    if not z > NEAR_MM:
        return 0.0, 0.0, 0.0, 0.0
    fx, skew, fy = intrinsics[0, 0], intrinsics[0, 1], intrinsics[1, 1]
    slope_x, slope_y = (fx * x + skew * y) / z, fy * y / z
    work.jacobian[0, 0], work.jacobian[0, 1], work.jacobian[0, 2] = fx / z, skew / z, -slope_x / z
    work.jacobian[1, 0], work.jacobian[1, 1], work.jacobian[1, 2] = 0.0, fy / z, -slope_y / z
    length = math.sqrt(x * x + y * y + z * z)
    norm2 = 0.0
    for j in range(3):
        work.ray[j] = work.centre[j] / length
    for j in range(3):
        along = 0.0
        for i in range(3):
            along += work.axes[i, j] * work.ray[i]
        work.whitened[j] = along / scale[j]
        norm2 += work.whitened[j] ** 2
        for i in range(3):
            work.axes[i, j] *= scale[j]
        for i in range(2):
            work.rows[i, j] = 0.0
            for k in range(3):
                work.rows[i, j] += work.jacobian[i, k] * work.axes[k, j]
    r0, r1 = work.rows[0], work.rows[1]
    xx = r0[0] ** 2 + r0[1] ** 2 + r0[2] ** 2
    xy = r0[0] * r1[0] + r0[1] * r1[1] + r0[2] * r1[2]
    yy = r1[0] ** 2 + r1[1] ** 2 + r1[2] ** 2
    c0, c1, c2 = (r0[1] * r1[2] - r0[2] * r1[1], r0[2] * r1[0] - r0[0] * r1[2], r0[0] * r1[1] - r0[1] * r1[0])
    sharp = c0 * c0 + c1 * c1 + c2 * c2
    determinant = sharp + cell * (xx + yy) + cell * cell
    work.covariance[0, 0], work.covariance[1, 1] = xx + cell, yy + cell
    work.covariance[0, 1] = work.covariance[1, 0] = xy
    if not (xx + cell <= MAX_VARIANCE and yy + cell <= MAX_VARIANCE and determinant >= MIN_DETERMINANT):
        return 0.0, 0.0, 0.0, 0.0
    peak = math.sqrt(2 * math.pi / norm2)
    u, v = slope_x + intrinsics[0, 2], slope_y + intrinsics[1, 2]
    if cell > 0:
        work.place[0], work.place[1] = u, v
        ratio = lattice_sum(work.place, work.covariance, _LATTICE, work.d_mean2d, work.d_covariance)
        peak *= math.sqrt(sharp / determinant) / ratio
    return u, v, determinant, peak


@njit(cache=True)
def chain(moments, amplitude, determinant, cell, work):
    """Gradients of the image mean and covariance (into work.d_*), and of the log amplitude (returned).

    With P the inverse covariance and M the second moments: dL/dC2 = amplitude P M P / 2.
    """
    m0, mx, my, mxx, mxy, myy = moments
    a = work.covariance[1, 1] / determinant
    b = -work.covariance[0, 1] / determinant
    c = work.covariance[0, 0] / determinant
    log_peak = amplitude * m0
    # With a cell, work.d_* hold the gradients of the logarithm of the lattice sum, which divides the peak.
    share = log_peak if cell > 0 else 0.0
    for i in range(2):
        work.d_mean2d[i] *= -share
        for j in range(2):
            work.d_covariance[i, j] *= -share
    work.d_mean2d[0] += amplitude * (a * mx + b * my)
    work.d_mean2d[1] += amplitude * (b * mx + c * my)
    p0x, p0y, p1x, p1y = a * mxx + b * mxy, a * mxy + b * myy, b * mxx + c * mxy, b * mxy + c * myy
    half = 0.5 * amplitude
    d_xx, d_xy, d_yy = half * (p0x * a + p0y * b), half * (p0x * b + p0y * c), half * (p1x * b + p1y * c)
    if cell > 0:
        # log sqrt(det(C2 - cell) / det(C2)).
        xx, yy, xy = work.covariance[0, 0] - cell, work.covariance[1, 1] - cell, work.covariance[0, 1]
        sharp = max(determinant - cell * (xx + yy) - cell * cell, MIN_DETERMINANT)
        d_xx += 0.5 * log_peak * (yy / sharp - a)
        d_xy += 0.5 * log_peak * (-xy / sharp - b)
        d_yy += 0.5 * log_peak * (xx / sharp - c)
    work.d_covariance[0, 0] += d_xx
    work.d_covariance[1, 1] += d_yy
    work.d_covariance[0, 1] += d_xy
    work.d_covariance[1, 0] += d_xy
    return log_peak


@njit(cache=True)
def to_parameters(log_peak, quat, scale, intrinsics, pose, work, d_mean, d_quat, d_scale):
    """Gradients of one Gaussian's parameters from those in ``work`` and of the log of its peak."""
    d_axes, d_centre, d_rotation = work.d_axes, work.d_centre, work.d_rotation
    d_jacobian, d_ray = work.d_jacobian, work.d_ray
    d_axes[:, :], d_jacobian[:, :], d_rotation[:, :] = 0.0, 0.0, 0.0
    d_centre[:], d_ray[:] = 0.0, 0.0
    x, y, z = work.centre[0], work.centre[1], work.centre[2]
    fx, skew, fy = intrinsics[0, 0], intrinsics[0, 1], intrinsics[1, 1]
    for i in range(2):
        for k in range(3):
            # rows = jacobian axes and C2 = rows rows^T.
            d_row = 2 * (
                work.d_covariance[i, 0] * work.rows[0, k] + work.d_covariance[i, 1] * work.rows[1, k]
            )
            for j in range(3):
                d_jacobian[i, j] += d_row * work.axes[j, k]
                d_axes[j, k] += work.jacobian[i, j] * d_row
        for j in range(3):
            d_centre[j] += work.jacobian[i, j] * work.d_mean2d[i]
    z2 = z * z
    d_centre[0] -= d_jacobian[0, 2] * fx / z2
    d_centre[1] -= (d_jacobian[0, 2] * skew + d_jacobian[1, 2] * fy) / z2
    d_centre[2] -= (d_jacobian[0, 0] * fx + d_jacobian[0, 1] * skew + d_jacobian[1, 1] * fy) / z2
    d_centre[2] += 2 * (d_jacobian[0, 2] * (fx * x + skew * y) + d_jacobian[1, 2] * fy * y) / (z2 * z)
    # peak = sqrt(2 pi) / |whitened|, whitened_k = (camera rotation of axis k) . ray / scale_k.
    norm2 = work.whitened[0] ** 2 + work.whitened[1] ** 2 + work.whitened[2] ** 2
    length = math.sqrt(x * x + y * y + z * z)
    for k in range(3):
        d_whitened = -log_peak * work.whitened[k] / norm2
        d_scale[k] = -d_whitened * work.whitened[k] / scale[k]
        for i in range(3):
            # axes holds axis k times scale k, whose gradient is taken apart below.
            d_ray[i] += d_whitened * work.axes[i, k] / (scale[k] * scale[k])
            for j in range(3):
                d_rotation[j, k] += pose[i, j] * work.ray[i] * d_whitened / scale[k]
    along = d_ray[0] * work.ray[0] + d_ray[1] * work.ray[1] + d_ray[2] * work.ray[2]
    for i in range(3):
        d_centre[i] += (d_ray[i] - along * work.ray[i]) / length
        for k in range(3):
            d_scale[k] += d_axes[i, k] * work.axes[i, k] / scale[k]
            for j in range(3):
                d_rotation[j, k] += pose[i, j] * d_axes[i, k] * scale[k]
    for j in range(3):
        d_mean[j] = pose[0, j] * d_centre[0] + pose[1, j] * d_centre[1] + pose[2, j] * d_centre[2]
    rotation_backward(quat, d_rotation, d_quat)

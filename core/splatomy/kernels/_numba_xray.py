"""The X-ray splatter on the CPU: projection, sums and gradients compiled by Numba.

Forward: Gaussians are binned to bands of image rows by a counting sort; each band is summed by one
thread in the order of the Gaussians, so the image does not depend on the number of threads.
Backward: each Gaussian gathers six moments of the image gradient under its footprint, and the
analytic chain rule (float64) takes them to its parameters. No atomics anywhere.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from splatomy.kernels._numba_shared import (
    HALF_LOG2_E,
    LANES,
    LAUNCH_LOCK,
    add_plane_block,
    arrays,
    bin_to_bands,
    is_usable,
    lattice_sum,
    plane_moments,
    rotation_backward,
    rotation_into,
)
from splatomy.kernels._torch import MAX_DENSITY, MAX_VARIANCE, MIN_DETERMINANT, NEAR_MM, lattice

_BAND_ROWS = 16
_CHUNK = 64
_LATTICE = np.array(lattice(2), dtype=np.float64)

_Work = namedtuple(
    "_Work",
    "rotation axes jacobian rows centre ray whitened covariance place d_mean2d d_covariance lanes "
    "d_axes d_jacobian d_centre d_ray d_rotation",
)
"""One thread's scratch: the rotation, the scaled axes in the camera, J, J axes, and so on."""


@njit(cache=True)
def _make_work():
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
        np.zeros((3, LANES), np.float32),
        np.empty((3, 3)),
        np.empty((2, 3)),
        np.empty(3),
        np.empty(3),
        np.empty((3, 3)),
    )


@njit(cache=True)
def _project(mean, quat, scale, intrinsics, pose, cell, work):
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
def _first_and_end(centre, half, size):
    """First integer and one past the last in [centre - half, centre + half] and in [0, size)."""
    # Clipped before the conversion: a float beyond the integers would become anything.
    low = max(0.0, min(float(size), math.ceil(centre - half)))
    high = max(0.0, min(float(size), math.floor(centre + half) + 1.0))
    return int(low), int(high)


@njit(parallel=True, cache=True)
def _project_all(
    means, quats, scales, density, intrinsics, pose, width, height, cutoff, cell, footprints, boxes, threads
):
    """Footprints (N, 6) dx dy a k e peak, and pixel boxes (N, 4) x0 x1 y0 y1, empty when skipped."""
    num_chunks = (len(means) + _CHUNK - 1) // _CHUNK
    for thread in prange(threads):
        work = _make_work()
        for chunk in range(thread, num_chunks, threads):
            for i in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                boxes[i, :] = 0
                u, v, determinant, peak = _project(
                    means[i], quats[i], scales[i], intrinsics, pose, cell, work
                )
                if not (peak > 0.0 and abs(density[i]) <= MAX_DENSITY):
                    continue
                xx, xy, yy = work.covariance[0, 0], work.covariance[0, 1], work.covariance[1, 1]
                x0, x1 = _first_and_end(u, cutoff * math.sqrt(xx), width)
                y0, y1 = _first_and_end(v, cutoff * math.sqrt(yy), height)
                if x1 <= x0 or y1 <= y0:
                    continue
                boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = x0, x1, y0, y1
                # -d^T P d / 2 with the square in dx completed: no cancellation for slanted needles.
                footprints[i, 0], footprints[i, 1] = x0 - u, y0 - v
                footprints[i, 2] = HALF_LOG2_E * yy / determinant
                footprints[i, 3] = xy / yy
                footprints[i, 4] = HALF_LOG2_E / yy
                footprints[i, 5] = peak


@njit(parallel=True, fastmath=True, cache=True)
def _sum_bands(footprints, boxes, density, starts, members, image, threads):
    """Add every footprint to image (H, W + LANES)."""
    stride = image.shape[1]
    num_bands = len(starts) - 1
    for thread in prange(threads):
        # Bands are dealt out in turn, as vessels crowd the middle of an image.
        for band in range(thread, num_bands, threads):
            for entry in range(starts[band], starts[band + 1]):
                i = members[entry]
                weight = footprints[i, 5] * density[i]
                if weight == 0:
                    continue
                y0 = max(boxes[i, 2], band * _BAND_ROWS)
                num_rows = min(boxes[i, 3], (band + 1) * _BAND_ROWS) - y0
                dy = footprints[i, 1] + np.float32(y0 - boxes[i, 2])
                for x in range(boxes[i, 0], boxes[i, 1], LANES):
                    add_plane_block(
                        image,
                        y0 * stride + x,
                        stride,
                        num_rows,
                        footprints[i, 0] + np.float32(x - boxes[i, 0]),
                        dy,
                        footprints[i, 2],
                        footprints[i, 3],
                        footprints[i, 4],
                        np.int32(boxes[i, 1] - x),
                        weight,
                    )


@njit(cache=True)
def _chain(moments, amplitude, determinant, cell, work):
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
def _to_parameters(log_peak, quat, scale, intrinsics, pose, work, d_mean, d_quat, d_scale):
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


@njit(parallel=True, cache=True)
def _backward_all(
    means,
    quats,
    scales,
    density,
    intrinsics,
    pose,
    cell,
    footprints,
    boxes,
    image,
    d_means,
    d_quats,
    d_scales,
    d_density,
    d_means2d,
    threads,
):
    """Gradients of all parameters from the image's gradient (H, W + LANES)."""
    stride = image.shape[1]
    num_chunks = (len(means) + _CHUNK - 1) // _CHUNK
    for thread in prange(threads):
        work = _make_work()
        for chunk in range(thread, num_chunks, threads):
            for i in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                if boxes[i, 1] <= boxes[i, 0]:
                    continue
                dx, dy, a = footprints[i, 0], footprints[i, 1], footprints[i, 2]
                k, e = footprints[i, 3], footprints[i, 4]
                moments = plane_moments(
                    image,
                    boxes[i, 2] * stride + boxes[i, 0],
                    stride,
                    boxes[i, 3] - boxes[i, 2],
                    boxes[i, 1] - boxes[i, 0],
                    dx,
                    dy,
                    a,
                    k,
                    e,
                    dx,
                    work.lanes,
                )
                _, _, determinant, peak = _project(
                    means[i], quats[i], scales[i], intrinsics, pose, cell, work
                )
                d_density[i] = peak * moments[0]
                log_peak = _chain(moments, peak * density[i], determinant, cell, work)
                d_means2d[i, 0], d_means2d[i, 1] = work.d_mean2d[0], work.d_mean2d[1]
                _to_parameters(
                    log_peak,
                    quats[i],
                    scales[i],
                    intrinsics,
                    pose,
                    work,
                    d_means[i],
                    d_quats[i],
                    d_scales[i],
                )


class Splat(torch.autograd.Function):
    """One image (H, W) of float32 CPU tensors; the camera gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        scales_mm: Tensor,
        density_per_mm: Tensor,
        intrinsics: Tensor,
        camera_from_world: Tensor,
        width_px: int,
        height_px: int,
        cutoff_sigma: float,
        cell_variance: float,
        screen_gradient: Tensor | None,
    ) -> Tensor:
        parameters = arrays(means_mm, quats_wxyz, scales_mm, density_per_mm)
        camera = arrays(intrinsics.double(), camera_from_world.double())
        footprints = np.empty((len(means_mm), 6), np.float32)
        boxes = np.empty((len(means_mm), 4), np.int32)
        image = np.zeros((height_px, width_px + LANES), np.float32)
        num_bands = -(-height_px // _BAND_ROWS)
        threads = numba.get_num_threads()
        launch: list[Any] = [*parameters, *camera, width_px, height_px, cutoff_sigma, cell_variance]
        launch += [footprints, boxes, threads]
        with LAUNCH_LOCK:
            _project_all(*launch)
            starts, members = bin_to_bands(boxes[:, 2], boxes[:, 3], num_bands, _BAND_ROWS)
            _sum_bands(footprints, boxes, parameters[3], starts, members, image, threads)
        ctx.save_for_backward(means_mm, quats_wxyz, scales_mm, density_per_mm)
        ctx.rest = (camera, cell_variance, footprints, boxes, screen_gradient, (width_px, height_px))
        return torch.from_numpy(np.ascontiguousarray(image[:, :width_px]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        camera, cell, footprints, boxes, screen_gradient, (width, height) = ctx.rest
        parameters = arrays(*ctx.saved_tensors)
        padded = np.zeros((height, width + LANES), np.float32)
        padded[:, :width] = grads[0].numpy()
        out = [np.zeros_like(p) for p in parameters]
        d_means2d = np.zeros((len(boxes), 2), np.float32)
        launch: list[Any] = [*parameters, *camera, cell, footprints, boxes, padded, *out, d_means2d]
        launch.append(numba.get_num_threads())
        with LAUNCH_LOCK:
            _backward_all(*launch)
        if screen_gradient is not None:
            # Normalised device coordinates: a pixel is 2/W and 2/H of them wide and high.
            ndc = np.hypot(d_means2d[:, 0] * (width / 2), d_means2d[:, 1] * (height / 2))
            screen_gradient[:, 0] += torch.from_numpy(ndc)
            screen_gradient[:, 1] += torch.from_numpy((boxes[:, 1] > boxes[:, 0]).astype(np.float32))
        return *(torch.from_numpy(g) for g in out), *(None,) * 7

"""The voxeliser on the CPU, compiled by Numba.

Forward: Gaussians are binned to slabs along the first index by a counting sort; each slab is summed
by one thread in the order of the Gaussians. Backward: each Gaussian gathers the moments of the
volume's gradient under its box. Neither depends on the number of threads.
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
from splatomy.kernels._torch import MAX_DENSITY, MAX_VARIANCE, MIN_DETERMINANT, lattice

_SLAB = 4
_CHUNK = 64
_LATTICE = np.array(lattice(3), dtype=np.float64)

_Work = namedtuple("_Work", "rotation rows centre covariance precision d_centre d_covariance")


@njit(cache=True)
def _make_work():
    return _Work(
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty(3),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.zeros(3),
        np.zeros((3, 3)),
    )


@njit(cache=True)
def _invert(rows, cell, m, out):
    """Inverse (3, 3) into out, and determinant, of m = rows rows^T + cell I."""
    for i in range(3):
        for j in range(3):
            a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            out[j, i] = m[a, c] * m[b, d] - m[a, d] * m[b, c]
    determinant = m[0, 0] * out[0, 0] + m[0, 1] * out[1, 0] + m[0, 2] * out[2, 0]
    if cell == 0:
        # The square of the factor's determinant does not cancel for needles.
        root = rows[0, 0] * (rows[1, 1] * rows[2, 2] - rows[1, 2] * rows[2, 1])
        root -= rows[0, 1] * (rows[1, 0] * rows[2, 2] - rows[1, 2] * rows[2, 0])
        root += rows[0, 2] * (rows[1, 0] * rows[2, 1] - rows[1, 1] * rows[2, 0])
        determinant = root * root
    out /= determinant
    return determinant


@njit(cache=True)
def _place(mean, quat, scale, index_from_world, origin, cell, work):
    """Peak of one Gaussian of unit density on the grid, 0 if it is to be skipped; fills ``work``."""
    if not is_usable(mean, quat, scale):
        return 0.0
    rotation_into(quat, work.rotation)
    for i in range(3):
        work.centre[i] = 0.0
        for j in range(3):
            work.centre[i] += index_from_world[i, j] * (mean[j] - origin[j])
            work.rows[i, j] = 0.0
            for k in range(3):
                work.rows[i, j] += index_from_world[i, k] * work.rotation[k, j] * scale[j]
    for i in range(3):
        for j in range(3):
            work.covariance[i, j] = cell if i == j else 0.0
            for k in range(3):
                work.covariance[i, j] += work.rows[i, k] * work.rows[j, k]
        if not work.covariance[i, i] <= MAX_VARIANCE:
            return 0.0
    determinant = _invert(work.rows, cell, work.covariance, work.precision)
    if not determinant > 0:
        return 0.0
    if cell == 0:
        return 1.0
    ratio = lattice_sum(work.centre, work.covariance, _LATTICE, work.d_centre, work.d_covariance)
    volume = scale[0] * scale[1] * scale[2]
    return volume * abs(_determinant(index_from_world)) / math.sqrt(determinant) / ratio


@njit(cache=True)
def _determinant(m):
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@njit(parallel=True, cache=True)
def _place_all(
    means, quats, scales, density, index_from_world, origin, size, cutoff, cell, shapes, boxes, threads
):
    """Shapes (N, 10) and boxes (N, 6) of first and end index per axis, empty when skipped.

    A shape is the offset of the box's corner (3), the rate along K, the shift of K per i and per j, the
    rate along J, the shift of J per i, the rate along I, and the peak; see ``_plane``.
    """
    num_chunks = (len(means) + _CHUNK - 1) // _CHUNK
    for thread in prange(threads):
        work = _make_work()
        for chunk in range(thread, num_chunks, threads):
            for n in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                boxes[n, :] = 0
                peak = _place(means[n], quats[n], scales[n], index_from_world, origin, cell, work)
                good = peak > 0.0
                for c in range(density.shape[1]):
                    good = good and abs(density[n, c]) <= MAX_DENSITY
                if not good:
                    continue
                cov, precision = work.covariance, work.precision
                for axis in range(3):
                    half = cutoff * math.sqrt(cov[axis, axis])
                    low = math.ceil(work.centre[axis] - half)
                    high = math.floor(work.centre[axis] + half) + 1.0
                    boxes[n, 2 * axis] = int(max(0.0, min(float(size[axis]), low)))
                    boxes[n, 2 * axis + 1] = int(max(0.0, min(float(size[axis]), high)))
                    good = good and boxes[n, 2 * axis] < boxes[n, 2 * axis + 1]
                    shapes[n, axis] = boxes[n, 2 * axis] - work.centre[axis]
                if not good:
                    boxes[n, :] = 0
                    continue
                # The quadratic form with the squares completed, K first, then J: no cancellation.
                # Given i and j, K has precision[2, 2]; given i, J has the variance left / cov[0, 0].
                left = max(cov[0, 0] * cov[1, 1] - cov[0, 1] ** 2, MIN_DETERMINANT)
                shapes[n, 3] = HALF_LOG2_E * precision[2, 2]
                shapes[n, 4] = precision[0, 2] / precision[2, 2]
                shapes[n, 5] = precision[1, 2] / precision[2, 2]
                shapes[n, 6] = HALF_LOG2_E * cov[0, 0] / left
                shapes[n, 7] = -cov[0, 1] / cov[0, 0]
                shapes[n, 8] = HALF_LOG2_E / cov[0, 0]
                shapes[n, 9] = peak


@njit(cache=True)
def _plane(shape, di):
    """Arguments dx dy a k e of ``add_plane_block`` for the J-K plane at offset ``di``, and its weight."""
    dy = shape[1] + shape[7] * di
    dx = shape[2] + (shape[4] - shape[5] * shape[7]) * di
    return dx, dy, shape[3], -shape[5], shape[6], math.exp(-math.log(2.0) * shape[8] * di * di)


@njit(parallel=True, cache=True)
def _sum_slabs(shapes, boxes, density, starts, members, out, threads):
    """Add every Gaussian, density (N,), to out (I, J, K + LANES)."""
    stride = out.shape[2]
    num_slabs = len(starts) - 1
    for thread in prange(threads):
        for slab in range(thread, num_slabs, threads):
            for entry in range(starts[slab], starts[slab + 1]):
                n = members[entry]
                peak = density[n] * shapes[n, 9]
                if peak == 0:
                    continue
                for i in range(max(boxes[n, 0], slab * _SLAB), min(boxes[n, 1], (slab + 1) * _SLAB)):
                    dx, dy, a, k, e, weight = _plane(shapes[n], shapes[n, 0] + np.float32(i - boxes[n, 0]))
                    offset = (i * out.shape[1] + boxes[n, 2]) * stride + boxes[n, 4]
                    num_rows, num_columns = boxes[n, 3] - boxes[n, 2], boxes[n, 5] - boxes[n, 4]
                    for x in range(0, num_columns, LANES):
                        start, columns = np.float32(x), np.int32(num_columns - x)
                        add_plane_block(
                            *(out, offset + x, stride, num_rows, dx + start, dy, a, k, e, columns),
                            peak * np.float32(weight),
                        )


@njit(parallel=True, cache=True)
def _gather_all(shapes, boxes, density, gradient, sums, d_density, threads):
    """Add density w g times 1, d_i and d_i d_j to sums (N, 10), and write w g to d_density (N,).

    Summed over the box, w of unit peak, g the gradient (I, J, K + LANES) of one column.
    sums: 1, i, j, k, ii, ij, ik, jj, jk, kk.
    """
    stride = gradient.shape[2]
    num_chunks = (len(boxes) + _CHUNK - 1) // _CHUNK
    for thread in prange(threads):
        moments = np.empty(6, np.float32)
        for chunk in range(thread, num_chunks, threads):
            for n in range(chunk * _CHUNK, min(len(boxes), (chunk + 1) * _CHUNK)):
                total = 0.0
                for i in range(boxes[n, 0], boxes[n, 1]):
                    di = shapes[n, 0] + np.float32(i - boxes[n, 0])
                    dx, dy, a, k, e, weight = _plane(shapes[n], di)
                    offset = (i * gradient.shape[1] + boxes[n, 2]) * stride + boxes[n, 4]
                    num_rows, num_columns = boxes[n, 3] - boxes[n, 2], boxes[n, 5] - boxes[n, 4]
                    m0, mk, my, mkk, mky, myy = plane_moments(
                        *(gradient, offset, stride, num_rows, num_columns, dx, dy, a, k, e),
                        *(shapes[n, 2], moments),
                    )
                    total += weight * m0
                    weight *= density[n]
                    # The plane's y is d_j + shift.
                    shift = shapes[n, 7] * di
                    mj, mjk, mjj = my - shift * m0, mky - shift * mk, myy - shift * (2 * my - shift * m0)
                    sums[n, 0] += weight * m0
                    sums[n, 1] += weight * m0 * di
                    sums[n, 2] += weight * mj
                    sums[n, 3] += weight * mk
                    sums[n, 4] += weight * m0 * di * di
                    sums[n, 5] += weight * mj * di
                    sums[n, 6] += weight * mk * di
                    sums[n, 7] += weight * mjj
                    sums[n, 8] += weight * mjk
                    sums[n, 9] += weight * mkk
                d_density[n] = total * shapes[n, 9] if boxes[n, 0] < boxes[n, 1] else 0.0


@njit(cache=True)
def _chain(sums, peak, scale, quat, index_from_world, cell, work, d_mean, d_quat, d_scale):
    """Gradients of one Gaussian's mean, quaternion and scales from its moments."""
    second = np.empty((3, 3))
    second[0, 0], second[0, 1], second[0, 2] = sums[4], sums[5], sums[6]
    second[1, 0], second[1, 1], second[1, 2] = sums[5], sums[7], sums[8]
    second[2, 0], second[2, 1], second[2, 2] = sums[6], sums[8], sums[9]
    precision, log_peak = work.precision, peak * sums[0]
    # The lattice sum, whose logarithm's gradients lie in work.d_*, divides the peak.
    share = log_peak if cell > 0 else 0.0
    product = precision @ second @ precision
    for i in range(3):
        work.d_centre[i] *= -share
        for j in range(3):
            work.d_centre[i] += peak * precision[i, j] * sums[1 + j]
            work.d_covariance[i, j] *= -share
            work.d_covariance[i, j] += 0.5 * peak * product[i, j] - 0.5 * share * precision[i, j]
    d_rows = 2 * (work.d_covariance @ work.rows)
    d_rotation = np.zeros((3, 3))
    for k in range(3):
        # The peak holds the product of the scales.
        d_scale[k] = share / scale[k]
        d_mean[k] = 0.0
        for i in range(3):
            d_scale[k] += d_rows[i, k] * work.rows[i, k] / scale[k]
            d_mean[k] += index_from_world[i, k] * work.d_centre[i]
            for j in range(3):
                d_rotation[j, k] += index_from_world[i, j] * d_rows[i, k] * scale[k]
    rotation_backward(quat, d_rotation, d_quat)


@njit(parallel=True, cache=True)
def _chain_all(
    means, quats, scales, index_from_world, origin, cell, boxes, sums, d_means, d_quats, d_scales, threads
):
    """Gradients of all means, quaternions and scales from the moments (N, 10)."""
    num_chunks = (len(means) + _CHUNK - 1) // _CHUNK
    for thread in prange(threads):
        work = _make_work()
        for chunk in range(thread, num_chunks, threads):
            for n in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                if boxes[n, 1] <= boxes[n, 0]:
                    continue
                peak = _place(means[n], quats[n], scales[n], index_from_world, origin, cell, work)
                _chain(
                    *(sums[n], peak, scales[n], quats[n], index_from_world, cell, work),
                    *(d_means[n], d_quats[n], d_scales[n]),
                )


class Voxelize(torch.autograd.Function):
    """Volumes (C, I, J, K) of float32 CPU tensors; the affine gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        scales_mm: Tensor,
        density_per_mm: Tensor,
        shape: tuple[int, int, int],
        affine_mm: Tensor,
        cutoff_sigma: float,
        cell_variance: float,
    ) -> Tensor:
        parameters = arrays(means_mm, quats_wxyz, scales_mm, density_per_mm)
        affine = arrays(affine_mm.double())[0]
        grid = (np.ascontiguousarray(np.linalg.inv(affine[:3, :3])), affine[:3, 3].copy())
        shapes = np.empty((len(means_mm), 10), np.float32)
        boxes = np.empty((len(means_mm), 6), np.int32)
        out = np.empty((density_per_mm.shape[1], *shape), np.float32)
        padded = np.empty((*shape[:2], shape[2] + LANES), np.float32)
        threads = numba.get_num_threads()
        launch: list[Any] = [*parameters, *grid, np.array(shape, np.int64), cutoff_sigma, cell_variance]
        launch += [shapes, boxes, threads]
        with LAUNCH_LOCK:
            _place_all(*launch)
            starts, members = bin_to_bands(boxes[:, 0], boxes[:, 1], -(-shape[0] // _SLAB), _SLAB)
            for column in range(len(out)):
                padded[...] = 0
                density = np.ascontiguousarray(parameters[3][:, column])
                _sum_slabs(shapes, boxes, density, starts, members, padded, threads)
                out[column] = padded[:, :, : shape[2]]
        ctx.save_for_backward(means_mm, quats_wxyz, scales_mm, density_per_mm)
        ctx.rest = (grid, cell_variance, shapes, boxes)
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grid, cell, shapes, boxes = ctx.rest
        parameters = arrays(*ctx.saved_tensors)
        gradients = [np.zeros_like(p) for p in parameters]
        volumes = grads[0].numpy()
        padded = np.zeros((*volumes.shape[1:3], volumes.shape[3] + LANES), np.float32)
        sums = np.zeros((len(boxes), 10))
        threads = numba.get_num_threads()
        with LAUNCH_LOCK:
            for column, volume in enumerate(volumes):
                padded[:, :, : volume.shape[2]] = volume
                density = np.ascontiguousarray(parameters[3][:, column])
                d_density = np.empty_like(density)
                _gather_all(shapes, boxes, density, padded, sums, d_density, threads)
                gradients[3][:, column] = d_density
            launch: list[Any] = [*parameters[:3], *grid, cell, boxes, sums, *gradients[:3], threads]
            _chain_all(*launch)
        return *(torch.from_numpy(g) for g in gradients), *(None,) * 4

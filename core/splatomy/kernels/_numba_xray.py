"""The X-ray splatter on the CPU: sums over all Gaussians and their gradients, compiled by Numba.

Forward: Gaussians are binned to bands of image rows by a counting sort; each band is summed by one
thread in the order of the Gaussians, so the image does not depend on the number of threads.
Backward: each Gaussian gathers six moments of the image gradient under its footprint, and the
analytic chain rule (float64) takes them to its parameters. No atomics anywhere.
"""

from __future__ import annotations

import math
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
    plane_moments,
)
from splatomy.kernels._numba_xray_project import chain, make_work, project, to_parameters
from splatomy.kernels._torch import MAX_DENSITY

_BAND_ROWS = 16
_CHUNK = 64


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
        work = make_work()
        for chunk in range(thread, num_chunks, threads):
            for i in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                boxes[i, :] = 0
                u, v, determinant, peak = project(means[i], quats[i], scales[i], intrinsics, pose, cell, work)
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


@njit(parallel=True, cache=True)
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
        work = make_work()
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
                    work.moments,
                )
                _, _, determinant, peak = project(means[i], quats[i], scales[i], intrinsics, pose, cell, work)
                d_density[i] = peak * moments[0]
                log_peak = chain(moments, peak * density[i], determinant, cell, work)
                d_means2d[i, 0], d_means2d[i, 1] = work.d_mean2d[0], work.d_mean2d[1]
                to_parameters(
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

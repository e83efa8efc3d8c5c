"""The hash encoding on the CPU: values and gradients compiled by Numba.

A level's table belongs to one thread, which goes through the points in order, so neither the values nor
the gradients depend on the number of threads. No atomics anywhere.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from splatomy.kernels._numba_shared import LAUNCH_LOCK, arrays


@njit(cache=True)
def _find_corners(points, point, resolution, strides, mask, fraction, weights, slots):
    """The 2^D corners of a point's cell; bit d of a corner says which end of axis d it lies at.

    points: (D, N) in [0, 1]. resolution: cells along an axis. strides: (D,) what an axis's index is
    multiplied by. mask: -1 for a table of all corners, else the table's size - 1, and corners are hashed.
    fraction (D,), weights (2 * 2^D,) and slots (2^D,) are overwritten: the place inside the cell, the
    corners' rows of the table, and the products of shares over the first d axes from entry 2^d on; the
    last 2^D of them are the corners' weights.
    """
    weights[1] = 1.0
    slots[0] = 0
    for axis in range(len(points)):
        scaled = points[axis, point] * np.float32(resolution)
        index = min(max(int(np.floor(scaled)), 0), resolution - 1)
        share = scaled - np.float32(index)
        fraction[axis] = share
        half = 1 << axis
        near, far = index * strides[axis], (index + 1) * strides[axis]
        for corner in range(half):
            parent, slot = weights[half + corner], slots[corner]
            weights[2 * half + corner] = parent * (np.float32(1) - share)
            weights[3 * half + corner] = parent * share
            slots[corner] = slot + near if mask < 0 else slot ^ near
            slots[half + corner] = slot + far if mask < 0 else slot ^ far
    for corner in range(len(slots)):
        slots[corner] &= mask


@njit(parallel=True, cache=True)
def _encode(points, table, resolutions, strides, masks, out, threads):
    """Features (2 levels, N) of points (D, N) from tables (levels, size, 2)."""
    dims, count = points.shape
    num_levels = len(table)
    for thread in prange(threads):
        fraction = np.empty(dims, np.float32)
        weights = np.empty(2 << dims, np.float32)
        slots = np.empty(1 << dims, np.int64)
        for level in range(thread, num_levels, threads):
            rows = table[level]
            for n in range(count):
                _find_corners(
                    points, n, resolutions[level], strides[level], masks[level], fraction, weights, slots
                )
                first, second = np.float32(0), np.float32(0)
                for corner in range(1 << dims):
                    slot, weight = slots[corner], weights[(1 << dims) + corner]
                    first += weight * rows[slot, 0]
                    second += weight * rows[slot, 1]
                out[2 * level, n], out[2 * level + 1, n] = first, second


@njit(parallel=True, cache=True)
def _backward(points, table, resolutions, strides, masks, d_out, d_table, d_points, threads):
    """Gradients of the tables (added to zeros) and each level's of the points (levels, D, N)."""
    dims, count = points.shape
    num_levels = len(table)
    for thread in prange(threads):
        fraction = np.empty(dims, np.float32)
        weights = np.empty(2 << dims, np.float32)
        slots = np.empty(1 << dims, np.int64)
        values = np.empty(1 << dims, np.float32)
        for level in range(thread, num_levels, threads):
            rows, d_rows = table[level], d_table[level]
            for n in range(count):
                _find_corners(
                    points, n, resolutions[level], strides[level], masks[level], fraction, weights, slots
                )
                first, second = d_out[2 * level, n], d_out[2 * level + 1, n]
                for corner in range(1 << dims):
                    slot, weight = slots[corner], weights[(1 << dims) + corner]
                    values[corner] = first * rows[slot, 0] + second * rows[slot, 1]
                    d_rows[slot, 0] += weight * first
                    d_rows[slot, 1] += weight * second
                # The interpolation undone axis by axis, the last first.
                for axis in range(dims - 1, -1, -1):
                    half = 1 << axis
                    slope = np.float32(0)
                    for corner in range(half):
                        step = values[half + corner] - values[corner]
                        slope += step * weights[half + corner]
                        values[corner] += step * fraction[axis]
                    d_points[level, axis, n] = slope * np.float32(resolutions[level])


class Encode(torch.autograd.Function):
    """Features (N, 2 levels) of float32 CPU points (N, D) from tables (levels, size, 2)."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        table: Tensor,
        resolutions: np.ndarray,
        strides: np.ndarray,
        masks: np.ndarray,
    ) -> Tensor:
        axes, rows = arrays(points.T, table)
        layout = (resolutions, strides, masks)
        # A row per feature: threads write apart from each other.
        out = np.empty((2 * len(table), len(points)), np.float32)
        launch: list[Any] = [axes, rows, *layout, out, numba.get_num_threads()]
        with LAUNCH_LOCK:
            _encode(*launch)
        ctx.save_for_backward(points, table)
        ctx.layout = layout
        return torch.from_numpy(out).T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        points, table = ctx.saved_tensors
        axes, rows, d_out = arrays(points.T, table, grads[0].T)
        d_table = np.zeros_like(rows)
        d_points = np.empty((len(rows), *axes.shape), np.float32)
        launch: list[Any] = [axes, rows, *ctx.layout, d_out, d_table, d_points, numba.get_num_threads()]
        with LAUNCH_LOCK:
            _backward(*launch)
        return torch.from_numpy(d_points).sum(0).T, torch.from_numpy(d_table), None, None, None

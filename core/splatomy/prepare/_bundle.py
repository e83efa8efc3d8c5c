"""Bundle adjustment: camera poses and points that explain followed pixels, and depths where there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from splatomy.events import Progress, Task
from splatomy.geometry.rigid import rigid, rotation_from_vector

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_PIXEL_ERROR = 1.0
_DEPTH_ERROR = 0.01
"""Relative error of a measured depth that weighs as much as one pixel."""
_LEAST_DEPTH = 1e-3


@dataclass(frozen=True)
class Observations:
    """What was seen: point (N,) and frame (N,) numbers, pixels (N, 2), depths (N,) with NaN = unknown."""

    point: NDArray[np.int64]
    frame: NDArray[np.int64]
    pixels: Float
    depths: Float


@dataclass(frozen=True)
class Structure:
    """Poses camera_from_world (T, 4, 4) and points (P, 3), in one unit."""

    poses: Float
    points: Float


def residuals(seen: Observations, intrinsics: Float, found: Structure) -> tuple[Float, Float]:
    """Misfits (N, 3): x, y in px and log depth over ``_DEPTH_ERROR``; and camera points (N, 3)."""
    pose = found.poses[seen.frame]
    local = (pose[:, :3, :3] @ found.points[seen.point][..., None])[..., 0] + pose[:, :3, 3]
    z = np.maximum(local[:, 2], _LEAST_DEPTH)
    k = intrinsics[seen.frame]
    x = k[:, 0, 0] * local[:, 0] / z + k[:, 0, 2] - seen.pixels[:, 0]
    y = k[:, 1, 1] * local[:, 1] / z + k[:, 1, 2] - seen.pixels[:, 1]
    depth = np.where(np.isfinite(seen.depths), np.log(z / np.where(seen.depths > 0, seen.depths, 1.0)), 0.0)
    return np.stack([x / _PIXEL_ERROR, y / _PIXEL_ERROR, depth / _DEPTH_ERROR], -1), local


def _weights(misfit: Float) -> Float:
    """Cauchy weights (N, 3): one for the pixel as a whole, one for the depth."""
    pixel = 1 / (1 + (misfit[:, :2] ** 2).sum(1) / 4)
    depth = 1 / (1 + misfit[:, 2] ** 2 / 4)
    return np.stack([pixel, pixel, depth], -1)


def _cost(misfit: Float) -> float:
    return float(
        2 * np.log1p((misfit[:, :2] ** 2).sum(1) / 4).sum() + 2 * np.log1p(misfit[:, 2] ** 2 / 4).sum()
    )


def _jacobian(
    seen: Observations, intrinsics: Float, found: Structure, local: Float, column_of_frame: NDArray[np.int64]
) -> sparse.csr_matrix:
    """Derivatives (3 N, 6 per free pose + 3 P) for small motions of the cameras and of the points."""
    n = len(seen.point)
    x, y = local[:, 0], local[:, 1]
    z = np.maximum(local[:, 2], _LEAST_DEPTH)
    k = intrinsics[seen.frame]
    by_local = np.zeros((n, 3, 3))
    by_local[:, 0, 0] = k[:, 0, 0] / z / _PIXEL_ERROR
    by_local[:, 0, 2] = -k[:, 0, 0] * x / z**2 / _PIXEL_ERROR
    by_local[:, 1, 1] = k[:, 1, 1] / z / _PIXEL_ERROR
    by_local[:, 1, 2] = -k[:, 1, 1] * y / z**2 / _PIXEL_ERROR
    by_local[:, 2, 2] = np.where(np.isfinite(seen.depths), 1 / z / _DEPTH_ERROR, 0.0)
    zero = np.zeros(n)
    # A turn w moves the point by w x X.
    turn = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).reshape(n, 3, 3)
    by_pose = np.concatenate([by_local @ turn, by_local], -1)
    by_point = by_local @ found.poses[seen.frame][:, :3, :3]
    rows = 3 * np.arange(n)[:, None, None] + np.arange(3)[None, :, None]
    first = column_of_frame[seen.frame]
    free = first >= 0
    pose_columns = np.broadcast_to(first[:, None, None] + np.arange(6), (n, 3, 6))[free]
    num_pose = 6 * int((column_of_frame >= 0).sum())
    point_columns = np.broadcast_to(num_pose + 3 * seen.point[:, None, None] + np.arange(3), (n, 3, 3))
    values = np.concatenate([by_pose[free].ravel(), by_point.ravel()])
    where_rows = np.concatenate(
        [np.broadcast_to(rows, (n, 3, 6))[free].ravel(), np.broadcast_to(rows, (n, 3, 3)).ravel()]
    )
    where_columns = np.concatenate([pose_columns.ravel(), point_columns.ravel()])
    shape = (3 * n, num_pose + 3 * len(found.points))
    return sparse.csr_matrix((values, (where_rows, where_columns)), shape=shape)


def _moved(found: Structure, step: Float, column_of_frame: NDArray[np.int64]) -> Structure:
    free = column_of_frame >= 0
    count = 6 * int(free.sum())
    change = step[:count].reshape(-1, 6)
    poses = found.poses.copy()
    poses[free] = rigid(rotation_from_vector(change[:, :3]), change[:, 3:]) @ poses[free]
    return Structure(poses, found.points + step[count:].reshape(-1, 3))


def adjust(
    seen: Observations, intrinsics: Float, start: Structure, held: Bool, iterations: int = 25
) -> Task[Structure]:
    """Poses and points with the least robust misfit; the poses of ``held`` frames (T,) stay.

    Source: Triggs et al., Bundle Adjustment - A Modern Synthesis (2000): Levenberg-Marquardt with
    Cauchy weights and a sparse factorisation.
    """
    column = np.full(len(start.poses), -1)
    column[~held] = 6 * np.arange(int((~held).sum()))
    damping, found = 1e-4, start
    misfit, local = residuals(seen, intrinsics, found)
    cost = _cost(misfit)
    for iteration in range(iterations):
        yield Progress("adjust poses", iteration, iterations)
        jacobian = _jacobian(seen, intrinsics, found, local, column)
        weight = _weights(misfit).ravel()
        weighted = jacobian.T @ sparse.diags(weight)
        normal, right = (weighted @ jacobian).tocsc(), weighted @ misfit.ravel()
        diagonal = normal.diagonal()
        better = False
        for _ in range(6):
            lifted = normal + sparse.diags(damping * diagonal + 1e-9)
            factors = splu(lifted.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
            tried = _moved(found, -factors.solve(right), column)
            new_misfit, new_local = residuals(seen, intrinsics, tried)
            new_cost = _cost(new_misfit)
            if new_cost < cost:
                better = True
                break
            damping *= 10
        if not better:
            break
        gain = (cost - new_cost) / max(cost, 1e-12)
        found, misfit, local, cost = tried, new_misfit, new_local, new_cost
        damping = max(damping * 0.2, 1e-8)
        if gain < 1e-5:
            break
    return found

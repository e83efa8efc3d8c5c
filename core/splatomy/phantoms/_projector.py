"""Exact X-ray line integrals through round cones and ellipsoids, and a ray marcher for voxels.

Independent of any Gaussian: a vessel is a union of round cones (the convex hull of two spheres), cut
analytically by every ray. Where several cones overlap, the one of lowest index owns the place; the
projector, the voxels and the label all use that one rule, so they agree exactly.

Element rows are (ax, ay, az, ra, bx, by, bz, rb) in mm; a sphere has two equal ends.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras

Float = NDArray[np.float64]
_BRICK_BITS = 2
"""Empty bricks of 2 ** bits voxels an edge are skipped by the marcher."""


@numba.njit(cache=True, inline="always")
def _sphere_cut(px: float, py: float, pz: float, dx: float, dy: float, dz: float, r: float) -> Any:
    """Ray parameters inside a sphere about the origin of p; (inf, -inf) for a miss."""
    b = px * dx + py * dy + pz * dz
    h = b * b - (px * px + py * py + pz * pz - r * r)
    if h <= 0.0:
        return math.inf, -math.inf
    h = math.sqrt(h)
    return -b - h, -b + h


@numba.njit(cache=True)
def cut(e: Any, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> Any:
    """Interval (t0, t1) in mm in which the ray o + t d (d unit) lies in round cone ``e``.

    The body is convex, so the interval runs from the first to the last hit of its three parts.
    """
    px, py, pz = ox - e[0], oy - e[1], oz - e[2]
    t0, t1 = _sphere_cut(px, py, pz, dx, dy, dz, e[3])
    wx, wy, wz = e[4] - e[0], e[5] - e[1], e[6] - e[2]
    length = math.sqrt(wx * wx + wy * wy + wz * wz)
    s0, s1 = _sphere_cut(ox - e[4], oy - e[5], oz - e[6], dx, dy, dz, e[7])
    if length <= abs(e[3] - e[7]) + 1e-9:
        # One sphere holds the other.
        if e[7] > e[3]:
            return s0, s1
        return t0, t1
    t0, t1 = min(t0, s0), max(t1, s1)
    wx, wy, wz = wx / length, wy / length, wz / length
    sine = (e[3] - e[7]) / length
    z0 = px * wx + py * wy + pz * wz
    zd = dx * wx + dy * wy + dz * wz
    # Lateral wall: cos * rho + sin * z = ra with rho the distance from the axis, squared.
    left = e[3] - sine * z0
    c2 = 1.0 - sine * sine
    qa = c2 - zd * zd
    qb = c2 * (px * dx + py * dy + pz * dz - z0 * zd) + sine * zd * left
    qc = c2 * (px * px + py * py + pz * pz - z0 * z0) - left * left
    h = qb * qb - qa * qc
    if h > 0.0 and abs(qa) > 1e-12:
        h = math.sqrt(h)
        low, high = sine * e[3], length + sine * e[7]
        for sign in (-1.0, 1.0):
            t = (-qb + sign * h) / qa
            z = z0 + t * zd
            if low <= z <= high:
                t0, t1 = min(t0, t), max(t1, t)
    return t0, t1


@numba.njit(cache=True)
def distance(e: Any, x: float, y: float, z: float) -> float:
    """Signed distance in mm from a point to the wall of round cone ``e``, negative inside."""
    px, py, pz = x - e[0], y - e[1], z - e[2]
    wx, wy, wz = e[4] - e[0], e[5] - e[1], e[6] - e[2]
    length = math.sqrt(wx * wx + wy * wy + wz * wz)
    to_a = math.sqrt(px * px + py * py + pz * pz) - e[3]
    qx, qy, qz = x - e[4], y - e[5], z - e[6]
    to_b = math.sqrt(qx * qx + qy * qy + qz * qz) - e[7]
    if length <= abs(e[3] - e[7]) + 1e-9:
        return to_b if e[7] > e[3] else to_a
    axial = (px * wx + py * wy + pz * wz) / length
    rho = math.sqrt(max(px * px + py * py + pz * pz - axial * axial, 0.0))
    sine = (e[3] - e[7]) / length
    cosine = math.sqrt(1.0 - sine * sine)
    # The foot of the perpendicular to the slanted wall, measured along the wall from A's circle.
    along = axial * cosine - rho * sine
    if along <= 0.0:
        return to_a
    if along >= length * cosine:
        return to_b
    return cosine * rho + sine * axial - e[3]


@numba.njit(cache=True)
def _bounds(e: Any, p: Any, sub: int, width: int, height: int) -> Any:
    """Sub-pixel box (u0, u1, v0, v1), ends excluded, that holds the element's shadow."""
    u0, u1, v0, v1 = math.inf, -math.inf, math.inf, -math.inf
    scale = math.sqrt(p[2, 0] ** 2 + p[2, 1] ** 2 + p[2, 2] ** 2)
    for end in range(2):
        x, y, z, r = e[4 * end], e[4 * end + 1], e[4 * end + 2], e[4 * end + 3]
        # Corners of the box around the sphere bound its shadow safely.
        for corner in range(8):
            cx = x + (r if corner & 1 else -r)
            cy = y + (r if corner & 2 else -r)
            cz = z + (r if corner & 4 else -r)
            w = p[2, 0] * cx + p[2, 1] * cy + p[2, 2] * cz + p[2, 3]
            if w <= 1e-6 * scale:
                return 0, sub * width, 0, sub * height
            u = (p[0, 0] * cx + p[0, 1] * cy + p[0, 2] * cz + p[0, 3]) / w
            v = (p[1, 0] * cx + p[1, 1] * cy + p[1, 2] * cz + p[1, 3]) / w
            u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    a = max(0, math.floor((u0 + 0.5) * sub))
    b = min(sub * width, math.floor((u1 + 0.5) * sub) + 1)
    c = max(0, math.floor((v0 + 0.5) * sub))
    d = min(sub * height, math.floor((v1 + 0.5) * sub) + 1)
    return a, max(a, b), c, max(c, d)


@numba.njit(cache=True)
def _ray(m: Any, u: float, v: float) -> Any:
    """Unit world direction of pixel (u, v); m (3, 3) maps homogeneous pixels to directions."""
    dx = m[0, 0] * u + m[0, 1] * v + m[0, 2]
    dy = m[1, 0] * u + m[1, 1] * v + m[1, 2]
    dz = m[2, 0] * u + m[2, 1] * v + m[2, 2]
    n = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
    return dx * n, dy * n, dz * n


@numba.njit(cache=True)
def _owned(t0: Any, t1: Any, owner: Any, values: Any, n: int) -> float:
    """Integral along one ray of the values of the lowest-index element at every place."""
    if n == 1:
        return (t1[0] - t0[0]) * values[owner[0]]
    ends = np.sort(np.concatenate((t0[:n], t1[:n])))
    total = 0.0
    for k in range(2 * n - 1):
        step = ends[k + 1] - ends[k]
        if step <= 0.0:
            continue
        middle = 0.5 * (ends[k] + ends[k + 1])
        best = -1
        for i in range(n):
            if t0[i] < middle < t1[i] and (best < 0 or owner[i] < best):
                best = owner[i]
        if best >= 0:
            total += step * values[best]
    return total


@numba.njit(cache=True)
def _frame(out: Any, elements: Any, values: Any, p: Any, m: Any, o: Any, sub: int) -> None:
    """One view of the elements into ``out`` (H, W): line integral of the mean transmitted intensity."""
    height, width = out.shape
    room = 0
    for i in range(len(elements)):
        a, b, c, d = _bounds(elements[i], p, sub, width, height)
        room += (b - a) * (d - c)
    head = np.full(height * width * sub * sub, -1, np.int32)
    link = np.empty(room, np.int32)
    owner = np.empty(room, np.int32)
    t0 = np.empty(room)
    t1 = np.empty(room)
    n = 0
    for i in range(len(elements)):
        a, b, c, d = _bounds(elements[i], p, sub, width, height)
        for row in range(c, d):
            for column in range(a, b):
                dx, dy, dz = _ray(m, (column + 0.5) / sub - 0.5, (row + 0.5) / sub - 0.5)
                near, far = cut(elements[i], o[0], o[1], o[2], dx, dy, dz)
                if far > near:
                    cell = row * width * sub + column
                    t0[n], t1[n], owner[n], link[n] = near, far, i, head[cell]
                    head[cell] = n
                    n += 1
    lo, hi, who = np.empty(64), np.empty(64), np.empty(64, np.int32)
    for v in range(height):
        for u in range(width):
            light, hit = 0.0, False
            for s in range(sub * sub):
                at = head[(v * sub + s // sub) * width * sub + u * sub + s % sub]
                k = 0
                while at >= 0:
                    if k == len(lo):
                        lo, hi = np.concatenate((lo, lo)), np.concatenate((hi, hi))
                        who = np.concatenate((who, who))
                    lo[k], hi[k], who[k] = t0[at], t1[at], owner[at]
                    k += 1
                    at = link[at]
                if k:
                    hit = True
                    light += math.exp(-_owned(lo, hi, who, values, k))
                else:
                    light += 1.0
            out[v, u] = -math.log(light / (sub * sub)) if hit else 0.0


@numba.njit(cache=True, parallel=True)
def _frames(out: Any, elements: Any, values: Any, p: Any, m: Any, o: Any, sub: int) -> None:
    for f in numba.prange(len(out)):
        _frame(out[f], elements, values[f], p[f], m[f], o[f], sub)


def _pixel_rays(cameras: Cameras) -> tuple[Float, Float, Float]:
    """Projection matrices (N, 3, 4), pixel-to-direction matrices (N, 3, 3) and sources (N, 3)."""
    turn = np.swapaxes(cameras.camera_from_world[:, :3, :3], 1, 2)
    directions = np.ascontiguousarray(turn @ np.linalg.inv(cameras.intrinsics))
    return np.ascontiguousarray(cameras.world_to_pixel), directions, np.ascontiguousarray(cameras.centres_mm)


def project_elements(
    elements: Float, values_per_mm: Float, cameras: Cameras, subrays: int = 2
) -> NDArray[np.float32]:
    """Line integrals (N, H, W) of a union of round cones, exact along every ray.

    elements: (E, 8). values_per_mm: (N, E) attenuation of every element in every view.
    subrays: rays per pixel and direction. As in a detector, the transmitted intensities of a pixel's
        rays are averaged, not their line integrals.
    """
    out = np.zeros((len(cameras), cameras.height_px, cameras.width_px), np.float32)
    _frames(out, elements, values_per_mm, *_pixel_rays(cameras), subrays)
    return out


@numba.njit(cache=True, parallel=True)
def _ellipsoids(out: Any, m: Any, o: Any, shapes: Any, values: Any) -> None:
    height, width = out.shape[1:]
    for job in numba.prange(len(out) * height):
        f, v = job // height, job % height
        for u in range(width):
            dx, dy, dz = _ray(m[f], float(u), float(v))
            total = 0.0
            for e in range(len(shapes)):
                g = shapes[e]
                qx, qy, qz = (o[f, 0] - g[0]) / g[3], (o[f, 1] - g[1]) / g[4], (o[f, 2] - g[2]) / g[5]
                ex, ey, ez = dx / g[3], dy / g[4], dz / g[5]
                a = ex * ex + ey * ey + ez * ez
                b = qx * ex + qy * ey + qz * ez
                h = b * b - a * (qx * qx + qy * qy + qz * qz - 1.0)
                if h > 0.0:
                    total += values[e] * 2.0 * math.sqrt(h) / a
            out[f, v, u] = total


def project_ellipsoids(shapes_mm: Float, values_per_mm: Float, cameras: Cameras) -> NDArray[np.float32]:
    """Line integrals (N, H, W) of a sum of axis-aligned ellipsoids.

    shapes_mm: centre and half axes, (E, 6). values_per_mm: (E,), may be negative (a hollow).
    """
    out = np.zeros((len(cameras), cameras.height_px, cameras.width_px), np.float32)
    _, directions, sources = _pixel_rays(cameras)
    _ellipsoids(out, directions, sources, shapes_mm, values_per_mm)
    return out


@numba.njit(cache=True, inline="always")
def _trilinear(volume: Any, x: float, y: float, z: float) -> float:
    """The value at a voxel coordinate that lies at least one voxel inside the (padded) volume."""
    i, j, k = int(x), int(y), int(z)
    fx, fy, fz = x - i, y - j, z - k
    c00 = volume[i, j, k] * (1 - fz) + volume[i, j, k + 1] * fz
    c01 = volume[i, j + 1, k] * (1 - fz) + volume[i, j + 1, k + 1] * fz
    c10 = volume[i + 1, j, k] * (1 - fz) + volume[i + 1, j, k + 1] * fz
    c11 = volume[i + 1, j + 1, k] * (1 - fz) + volume[i + 1, j + 1, k + 1] * fz
    return (c00 * (1 - fy) + c01 * fy) * (1 - fx) + (c10 * (1 - fy) + c11 * fy) * fx


@numba.njit(cache=True, error_model="numpy")
def _march(volume: Any, bricks: Any, x: Any, d: Any, step: float) -> float:
    """Sum of trilinear samples every ``step`` mm along x + t d (voxel units per mm), times the step."""
    t0, t1 = 0.0, math.inf
    for a in range(3):
        size = volume.shape[a] - 1.001
        # A component that is exactly zero would divide to NaN; this one never leaves its slab.
        if abs(d[a]) < 1e-12:
            d[a] = 1e-12
        p, q = -x[a] / d[a], (size - x[a]) / d[a]
        t0, t1 = max(t0, min(p, q)), min(t1, max(p, q))
    x0, x1, x2, d0, d1, d2 = x[0], x[1], x[2], d[0], d[1], d[2]
    i0, i1, i2 = 1.0 / d0, 1.0 / d1, 1.0 / d2
    u0, u1, u2 = int(d0 > 0), int(d1 > 0), int(d2 > 0)
    total = 0.0
    # Samples sit at fixed multiples of the step, so that skipping never moves them.
    k = math.ceil(t0 / step)
    last = math.floor(t1 / step)
    while k <= last:
        t = k * step
        b0 = int(x0 + t * d0) >> _BRICK_BITS
        b1 = int(x1 + t * d1) >> _BRICK_BITS
        b2 = int(x2 + t * d2) >> _BRICK_BITS
        leave = min(
            (((b0 + u0) << _BRICK_BITS) - x0) * i0,
            (((b1 + u1) << _BRICK_BITS) - x1) * i1,
            (((b2 + u2) << _BRICK_BITS) - x2) * i2,
        )
        end = min(max(k + 1, math.ceil(leave / step)), last + 1)
        if bricks[b0, b1, b2]:
            for n in range(k, end):
                t = n * step
                total += _trilinear(volume, x0 + t * d0, x1 + t * d1, x2 + t * d2)
        k = end
    return total * step


@numba.njit(cache=True, parallel=True)
def _march_view(out: Any, volume: Any, bricks: Any, m: Any, o: Any, w: Any, step: float, sub: int) -> None:
    height, width = out.shape
    for v in numba.prange(height):
        x, d = np.empty(3), np.empty(3)
        for a in range(3):
            x[a] = w[a, 0] * o[0] + w[a, 1] * o[1] + w[a, 2] * o[2] + w[a, 3]
        for u in range(width):
            light = 0.0
            for s in range(sub * sub):
                dx, dy, dz = _ray(m, u + (s % sub + 0.5) / sub - 0.5, v + (s // sub + 0.5) / sub - 0.5)
                for a in range(3):
                    d[a] = w[a, 0] * dx + w[a, 1] * dy + w[a, 2] * dz
                light += math.exp(-_march(volume, bricks, x, d, step))
            out[v, u] = -math.log(light / (sub * sub))


class VoxelProjector:
    """Line integrals through trilinear voxels by marching, with the empty bricks found once.

    mask: voxels that may ever differ from zero, (I, J, K) bool. affine_mm: index to world, (4, 4).
    step_voxels: distance of the samples along a ray, in smallest voxel edges.
    """

    def __init__(self, mask: NDArray[np.bool_], affine_mm: Float, step_voxels: float = 0.5) -> None:
        brick = 1 << _BRICK_BITS
        # One voxel of air on the low side, at least one up to a whole brick on the high side.
        pads = [(1, 1 + (-n - 2) % brick) for n in mask.shape]
        padded = np.pad(mask, pads)
        a, b, c = (n // brick for n in padded.shape)
        used = padded.reshape(a, brick, b, brick, c, brick).any((1, 3, 5))
        # A brick is also needed when its high neighbour is: their common cells lie in it.
        # (The roll wraps round, which at worst marks an empty brick.)
        for axis in range(3):
            used = used | np.roll(used, -1, axis)
        self._bricks = used
        self._values = np.zeros(padded.shape, np.float32)
        self._inner = tuple(slice(1, 1 + n) for n in mask.shape)
        self._index = np.linalg.inv(affine_mm)
        self._index[:3, 3] += 1.0
        self._step_mm = step_voxels * float(np.linalg.norm(affine_mm[:3, :3], axis=0).min())

    def project(self, values: NDArray[np.floating], camera: Cameras, subrays: int = 1) -> NDArray[np.float32]:
        """Line integrals (H, W) of values (I, J, K), 1/mm, zero outside the mask, for the first camera."""
        self._values[self._inner] = values
        _, directions, sources = _pixel_rays(camera)
        out = np.zeros((camera.height_px, camera.width_px), np.float32)
        _march_view(
            out, self._values, self._bricks, directions[0], sources[0], self._index,
            self._step_mm, subrays,
        )  # fmt: skip
        return out

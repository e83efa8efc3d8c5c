"""Per-surfel geometry of the CPU surfel splatter: footprints, and the chain rule back from them, float64."""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import njit, prange

from splatomy.kernels._numba_shared import is_usable, rotation_backward, rotation_into
from splatomy.kernels._numba_surfel_rows import (
    GRADIENTS,
    OPACITY,
    QX,
    QY,
    R0X,
    R0Y,
    R1X,
    R1Y,
    R2,
    R2X,
    R2Y,
)
from splatomy.kernels._torch import MAX_DENSITY
from splatomy.kernels._torch_surfel import LOW_PASS, MIN_ALPHA, MIN_COSINE

_CHUNK = 64

_Work = namedtuple(
    "_Work", "rotation axes centre ray across_u across_v scale record d_axes d_ray d_centre d_rotation d_pose"
)
"""One thread's scratch: the rotation; the axes and centre in the camera and the centre's ray; b x ray and
ray x a; the scales and 1; the summed record; and gradients."""


@njit(cache=True, error_model="numpy")
def _make_work(num_gradients):
    return _Work(
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty(3),
        np.empty(3),
        np.empty(3),
        np.empty(3),
        np.ones(3),
        np.empty(num_gradients),
        np.empty((3, 3)),
        np.empty(3),
        np.empty(3),
        np.empty((3, 3)),
        np.zeros((3, 4)),
    )


@njit(cache=True, error_model="numpy")
def _cross(a, b, out):
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@njit(cache=True, error_model="numpy")
def _place(mean, quat, pose, work):
    """Fill the axes, centre, ray and crosses of one usable surfel; n . ray, and whether that is steep."""
    rotation_into(quat, work.rotation)
    for i in range(3):
        work.centre[i] = pose[i, 3]
        for j in range(3):
            work.centre[i] += pose[i, j] * mean[j]
            work.axes[i, j] = 0.0
            for k in range(3):
                work.axes[i, j] += pose[i, k] * work.rotation[k, j]
    z = work.centre[2]
    cosine, length2 = 0.0, 0.0
    for i in range(3):
        work.ray[i] = work.centre[i] / z
        cosine += work.axes[i, 2] * work.ray[i]
        length2 += work.ray[i] * work.ray[i]
    _cross(work.axes[:, 1], work.ray, work.across_u)
    _cross(work.ray, work.axes[:, 0], work.across_v)
    return cosine, abs(cosine) < MIN_COSINE * math.sqrt(length2)


@njit(cache=True, error_model="numpy")
def _side(centre, m0, m1, w0, w1, z, cutoff2, whole, size):
    """First pixel, end and half size in px of the box of |(u, v)| <= cutoff along one image axis.

    m: the image of the surfel's axes about its centre, times depth; w: their depths.
    """
    if whole:
        return 0, size, float(size)
    divisor = z * z - cutoff2 * (w0 * w0 + w1 * w1)
    shift = -cutoff2 * (m0 * w0 + m1 * w1) / divisor
    spread = math.sqrt(max(shift * shift + cutoff2 * (m0 * m0 + m1 * m1) / divisor, 0.0))
    low_pass = math.sqrt(cutoff2 / LOW_PASS)
    low, high = min(shift - spread, -low_pass) + centre, max(shift + spread, low_pass) + centre
    # Clipped before the conversion: a float beyond the integers would become anything.
    first = int(max(0.0, min(float(size), math.ceil(low))))
    end = int(max(0.0, min(float(size), math.floor(high) + 1.0)))
    return first, end, (high - low) / 2


@njit(cache=True, error_model="numpy")
def _project(scale, opacity, intrinsics, size, cosine, steep, footprint, centre, box, work):
    """Footprint, centre, box and half size of a placed surfel; the half size is 0 if it is out of sight."""
    fx, skew, fy = intrinsics[0, 0], intrinsics[0, 1], intrinsics[1, 1]
    x, y, z = work.ray[0], work.ray[1], work.centre[2]
    centre[0] = fx * x + skew * y + intrinsics[0, 2]
    centre[1] = fy * y + intrinsics[1, 2]
    shear = -skew / (fx * fy)
    footprint[R0X] = work.across_u[0] / fx * z / scale[0]
    footprint[R0Y] = (work.across_u[0] * shear + work.across_u[1] / fy) * z / scale[0]
    footprint[R1X] = work.across_v[0] / fx * z / scale[1]
    footprint[R1Y] = (work.across_v[0] * shear + work.across_v[1] / fy) * z / scale[1]
    footprint[R2] = cosine
    footprint[R2X] = work.axes[0, 2] / fx
    footprint[R2Y] = work.axes[0, 2] * shear + work.axes[1, 2] / fy
    footprint[QX] = 0.0 if steep else footprint[R2X] / (cosine * z)
    footprint[QY] = 0.0 if steep else footprint[R2Y] / (cosine * z)
    footprint[OPACITY] = opacity
    finite = True
    for k in range(len(footprint)):
        finite = finite and math.isfinite(footprint[k])
    cutoff2 = 2 * math.log(opacity / MIN_ALPHA)
    w0, w1 = work.axes[2, 0] * scale[0], work.axes[2, 1] * scale[1]
    y0 = fy * (work.axes[1, 0] * scale[0] - y * w0)
    y1 = fy * (work.axes[1, 1] * scale[1] - y * w1)
    x0 = fx * (work.axes[0, 0] * scale[0] - x * w0) + skew / fy * y0
    x1 = fx * (work.axes[0, 1] * scale[1] - x * w1) + skew / fy * y1
    whole = z - math.sqrt(cutoff2 * (w0 * w0 + w1 * w1)) < 1e-3 * z
    box[0], box[1], half_x = _side(centre[0], x0, x1, w0, w1, z, cutoff2, whole, size[0])
    box[2], box[3], half_y = _side(centre[1], y0, y1, w0, w1, z, cutoff2, whole, size[1])
    if not finite or box[1] <= box[0] or box[3] <= box[2]:
        box[:] = 0
        return 0.0
    return min(max(half_x, half_y), float(max(size[0], size[1])))


@njit(parallel=True, cache=True, error_model="numpy")
def project_all(
    means,
    quats,
    scales,
    opacity,
    colours,
    intrinsics,
    pose,
    near,
    size,
    centres,
    footprints,
    values,
    boxes,
    depths,
    radius,
    threads,
):
    """Fill the last six of the surfels in sight; a depth of 0 marks the rest. Not fastmath: judges NaN."""
    num_chunks = (len(means) + _CHUNK - 1) // _CHUNK
    channels = colours.shape[1]
    for thread in prange(threads):
        work = _make_work(1)
        for chunk in range(thread, num_chunks, threads):
            for i in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                work.scale[0], work.scale[1] = scales[i, 0], scales[i, 1]
                good = is_usable(means[i], quats[i], work.scale) and opacity[i] <= 1
                for k in range(channels):
                    good = good and abs(colours[i, k]) <= MAX_DENSITY
                if not (good and opacity[i] >= np.float32(MIN_ALPHA)):
                    continue
                depth = pose[2, 3]
                for j in range(3):
                    depth += pose[2, j] * means[i, j]
                if not depth > near:
                    continue
                cosine, steep = _place(means[i], quats[i], pose, work)
                half = _project(
                    *(work.scale, np.float64(opacity[i]), intrinsics, size, cosine, steep),
                    *(footprints[i], centres[i], boxes[i], work),
                )
                if half == 0.0:
                    continue
                radius[i], depths[i] = half, work.centre[2]
                for k in range(channels):
                    values[i, k] = colours[i, k]
                for k in range(3):
                    values[i, channels + k] = -work.axes[k, 2] if cosine > 0 else work.axes[k, 2]


@njit(cache=True, error_model="numpy")
def _to_camera(scale, intrinsics, cosine, steep, with_normal, channels, footprint, work):
    """Gradients of axes, ray and centre depth into ``work``, and of the scales and the projected centre.

    d_centre holds the gradient of the depth alone, in its third place.
    """
    fx, skew, fy = intrinsics[0, 0], intrinsics[0, 1], intrinsics[1, 1]
    shear, z, g = -skew / (fx * fy), work.centre[2], work.record
    d_axes, d_ray = work.d_axes, work.d_ray
    d_axes[:, :], d_ray[:] = 0.0, 0.0
    # r0 and r1: across z / s, along the image's directions.
    d_u0, d_u1 = (g[1] / fx + g[2] * shear) * z / scale[0], g[2] / fy * z / scale[0]
    d_v0, d_v1 = (g[4] / fx + g[5] * shear) * z / scale[1], g[5] / fy * z / scale[1]
    along_u = d_u0 * work.across_u[0] + d_u1 * work.across_u[1]
    along_v = d_v0 * work.across_v[0] + d_v1 * work.across_v[1]
    # across_u = b x ray and across_v = ray x a; their third components are not seen.
    a, b, ray = work.axes[:, 0], work.axes[:, 1], work.ray
    d_axes[0, 1] -= d_u1 * ray[2]
    d_axes[1, 1] += d_u0 * ray[2]
    d_axes[2, 1] += d_u1 * ray[0] - d_u0 * ray[1]
    d_ray[0] += d_u1 * b[2]
    d_ray[1] -= d_u0 * b[2]
    d_axes[0, 0] += d_v1 * ray[2]
    d_axes[1, 0] -= d_v0 * ray[2]
    d_axes[2, 0] += d_v0 * ray[1] - d_v1 * ray[0]
    d_ray[0] -= d_v1 * a[2]
    d_ray[1] += d_v0 * a[2]
    # r2 = n . d and q = (1 + n . d / n . ray) / z.
    d_x, d_y, d_cosine, d_z = g[7], g[8], g[6], (along_u + along_v) / z
    d_z -= g[9] / (z * z)
    if not steep:
        d_x += g[10] / (cosine * z)
        d_y += g[11] / (cosine * z)
        along_q = g[10] * footprint[QX] + g[11] * footprint[QY]
        d_cosine -= along_q / cosine
        d_z -= along_q / z
    d_axes[0, 2] += d_x / fx + d_y * shear
    d_axes[1, 2] += d_y / fy
    sign = -1.0 if cosine > 0 else 1.0
    for k in range(3):
        d_axes[k, 2] += d_cosine * ray[k]
        d_ray[k] += d_cosine * work.axes[k, 2]
        if with_normal:
            d_axes[k, 2] += sign * g[GRADIENTS + channels + k]
    work.d_centre[2] = d_z
    # The centre: every plane and the low-pass move with it.
    d_cx = -(footprint[R0X] * g[0] + footprint[R1X] * g[3] + footprint[R2X] * g[6] + footprint[QX] * g[9])
    d_cy = -(footprint[R0Y] * g[0] + footprint[R1Y] * g[3] + footprint[R2Y] * g[6] + footprint[QY] * g[9])
    d_cx -= 2 * LOW_PASS * g[12]
    d_cy -= 2 * LOW_PASS * g[13]
    d_ray[0] += fx * d_cx
    d_ray[1] += skew * d_cx + fy * d_cy
    return -along_u / scale[0], -along_v / scale[1], d_cx, d_cy


@njit(cache=True, error_model="numpy")
def _to_world(mean, quat, pose, work, d_mean, d_quat):
    """Gradients of one surfel's mean and quaternion, those of the pose added to ``work.d_pose``."""
    z = work.centre[2]
    for i in range(2):
        work.d_centre[i] = work.d_ray[i] / z
        work.d_centre[2] -= work.d_ray[i] * work.ray[i] / z
    for i in range(3):
        work.d_pose[i, 3] += work.d_centre[i]
        for j in range(3):
            work.d_rotation[i, j] = 0.0
            work.d_pose[i, j] += work.d_centre[i] * mean[j]
            for k in range(3):
                work.d_pose[i, j] += work.d_axes[i, k] * work.rotation[j, k]
                work.d_rotation[i, j] += pose[k, i] * work.d_axes[k, j]
    d = work.d_centre
    for j in range(3):
        d_mean[j] = pose[0, j] * d[0] + pose[1, j] * d[1] + pose[2, j] * d[2]
    rotation_backward(quat, work.d_rotation, d_quat)


@njit(cache=True, error_model="numpy")
def _clear(matrix):
    matrix[:, :] = 0.0


@njit(cache=True, error_model="numpy")
def _sum_records(first, end, entries, records, work):
    """The sum of a surfel's records in the order of its tiles, into ``work``."""
    work.record[:] = 0.0
    for at in range(first, end):
        for k in range(records.shape[1]):
            work.record[k] += records[entries[at], k]


@njit(parallel=True, cache=True, error_model="numpy")
def chain_all(
    means,
    quats,
    scales,
    intrinsics,
    pose,
    entry_starts,
    entries,
    records,
    footprints,
    d_means,
    d_quats,
    d_scales,
    d_opacity,
    d_colours,
    d_pose,
    d_centres,
    threads,
):
    """Gradients of all parameters and of the pose (4, 4) from the records of ``_gather_tiles``."""
    num_chunks = (len(means) + _CHUNK - 1) // _CHUNK
    channels = d_colours.shape[1]
    with_normal = records.shape[1] > GRADIENTS + channels
    poses = np.zeros((num_chunks, 3, 4))
    for thread in prange(threads):
        work = _make_work(records.shape[1])
        for chunk in range(thread, num_chunks, threads):
            _clear(work.d_pose)
            for i in range(chunk * _CHUNK, min(len(means), (chunk + 1) * _CHUNK)):
                if entry_starts[i + 1] == entry_starts[i]:
                    continue
                _sum_records(entry_starts[i], entry_starts[i + 1], entries, records, work)
                cosine, steep = _place(means[i], quats[i], pose, work)
                d_scales[i, 0], d_scales[i, 1], d_centres[i, 0], d_centres[i, 1] = _to_camera(
                    scales[i], intrinsics, cosine, steep, with_normal, channels, footprints[i], work
                )
                d_opacity[i] = work.record[14]
                for k in range(channels):
                    d_colours[i, k] = work.record[GRADIENTS + k]
                _to_world(means[i], quats[i], pose, work, d_means[i], d_quats[i])
            poses[chunk] = work.d_pose
    for chunk in range(num_chunks):
        d_pose[:3] += poses[chunk]

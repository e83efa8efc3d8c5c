"""Rotations and rigid motions as plain arrays (quaternions are w, x, y, z)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def rotation_from_quat(quats_wxyz: NDArray[np.floating]) -> Float:
    """Rotation matrices, (..., 3, 3), of quaternions (..., 4); they need not be normalised.

    Raises:
        ValueError: a quaternion is zero.
    """
    q = np.asarray(quats_wxyz, dtype=np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if np.any(norm == 0):
        raise ValueError("a zero quaternion has no rotation")
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_from_vector(vectors_rad: NDArray[np.floating]) -> Float:
    """Rotation matrices, (..., 3, 3), of rotation vectors (..., 3) in radians (Rodrigues)."""
    v = np.asarray(vectors_rad, dtype=np.float64)
    angle = np.linalg.norm(v, axis=-1)
    half = 0.5 * angle
    # sin(a/2)/a has the limit 1/2 at zero; np.sinc is sin(pi x)/(pi x).
    scale = 0.5 * np.sinc(half / np.pi)
    quats = np.concatenate([np.cos(half)[..., None], scale[..., None] * v], axis=-1)
    return rotation_from_quat(quats)


def rigid(rotation: NDArray[np.floating], translation_mm: NDArray[np.floating]) -> Float:
    """Homogeneous matrices, (..., 4, 4), from rotations (..., 3, 3) and translations (..., 3)."""
    r = np.asarray(rotation, dtype=np.float64)
    out = np.zeros((*r.shape[:-2], 4, 4))
    out[..., :3, :3] = r
    out[..., :3, 3] = translation_mm
    out[..., 3, 3] = 1.0
    return out


def inverse(a_from_b: NDArray[np.floating]) -> Float:
    """The rigid motion b_from_a, (..., 4, 4)."""
    m = np.asarray(a_from_b, dtype=np.float64)
    r_t = np.swapaxes(m[..., :3, :3], -1, -2)
    return rigid(r_t, -(r_t @ m[..., :3, 3:])[..., 0])


def transform_points(a_from_b: NDArray[np.floating], points_b: NDArray[np.floating]) -> Float:
    """Points (..., 3) moved by one affine or rigid matrix (4, 4)."""
    m = np.asarray(a_from_b, dtype=np.float64)
    return np.asarray(points_b, dtype=np.float64) @ m[:3, :3].T + m[:3, 3]

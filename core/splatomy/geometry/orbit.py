"""Cameras on a circle about a thing, upright as the pictures that it was made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import rotation_from_vector

Float = NDArray[np.float64]

_TURNED, _LEVEL = 0.1, 0.1
"""Spread of the pictures' rows in the level, and out of it, over their largest spread."""
_ALL_AROUND = 0.3
"""Mean of the unit directions to the cameras: shorter ones say that they stand on all sides."""


def front_and_up(cameras: Cameras, middle_mm: Float) -> tuple[Float, Float]:
    """Unit vectors (3,) at right angles: from a thing to where it was seen from, and up in the pictures.

    Cameras all around have no side of their own; then one of theirs is the front.
    """
    axes = cameras.camera_from_world[:, :3, :3]
    up = -axes[:, 1].mean(0)
    if np.linalg.norm(up) < 1e-6:
        up = -axes[0, 1]
    # Cameras that are held level have rows at right angles to up, however far they look down.
    _, spread, directions = np.linalg.svd(axes[:, 0], full_matrices=len(axes) < 3)
    if len(spread) > 2 and spread[1] > _TURNED * spread[0] and spread[2] < _LEVEL * spread[0]:
        up = directions[2] * np.sign(directions[2] @ up)
    up = up / np.linalg.norm(up)
    towards = cameras.centres_mm - middle_mm
    towards /= np.linalg.norm(towards, axis=1, keepdims=True).clip(1e-12)
    level = towards - (towards @ up)[:, None] * up
    front = level.mean(0)
    if np.linalg.norm(front) < _ALL_AROUND:
        front = level[int(np.linalg.norm(level, axis=1).argmax())] if level.any() else axes[0, 0]
    if np.linalg.norm(front) < 1e-6:
        front = axes[0, 0] - (axes[0, 0] @ up) * up
    return front / np.linalg.norm(front), up


def orbit(
    front: Float,
    up: Float,
    middle_mm: Float,
    radius_mm: float,
    turns_rad: NDArray[np.floating],
    lifts_rad: NDArray[np.floating],
    size_px: int,
    fov_rad: float = np.radians(24.0),
    fill: float = 0.94,
) -> Cameras:
    """Square pictures (N) that a ball of that radius about the middle fills.

    turns_rad: (N,) from the front to the right. lifts_rad: (N,) above the level, below a right angle.
    """
    focal = size_px / (2 * np.tan(fov_rad / 2))
    k = np.array([[focal, 0, (size_px - 1) / 2], [0, focal, (size_px - 1) / 2], [0, 0, 1.0]])
    far = radius_mm / np.sin(fov_rad / 2) / fill
    poses = np.tile(np.eye(4), (len(turns_rad), 1, 1))
    for pose, turn, lift in zip(poses, turns_rad, lifts_rad, strict=True):
        level = rotation_from_vector(float(turn) * up) @ front
        towards = np.cos(lift) * level + np.sin(lift) * up
        right = np.cross(-towards, up)
        right /= np.linalg.norm(right)
        pose[:3, :3] = np.stack([right, np.cross(-towards, right), -towards])
        pose[:3, 3] = -pose[:3, :3] @ (middle_mm + far * towards)
    return Cameras(np.repeat(k[None], len(poses), 0), poses, size_px, size_px)


def ball_about(points_mm: NDArray[np.floating]) -> tuple[Float, float]:
    """Middle (3,) and radius of a ball that holds nearly all points (N, 3); a few strays are left out."""
    low, high = np.quantile(points_mm, [0.002, 0.998], axis=0)
    middle = np.asarray((low + high) / 2, np.float64)
    return middle, float(np.quantile(np.linalg.norm(points_mm - middle, axis=1), 0.998))

"""C-arm cone-beam geometry: gantry angles and distances to pinhole cameras, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import rigid


def cone_beam(
    primary_rad: ArrayLike,
    secondary_rad: ArrayLike,
    source_to_isocentre_mm: ArrayLike,
    source_to_detector_mm: ArrayLike,
    width_px: int,
    height_px: int,
    pixel_mm: tuple[float, float],
    *,
    offset_px: ArrayLike = (0.0, 0.0),
    roll_rad: ArrayLike = 0.0,
) -> Cameras:
    """Cameras of a C-arm that turns about world z, with the isocentre at the origin.

    primary_rad, secondary_rad: gantry angles, scalars or (N,).
    source_to_isocentre_mm, source_to_detector_mm: scalars or (N,).
    pixel_mm: detector pitch along columns (x) and rows (y).
    offset_px: shift of the principal point from the detector's centre, (2,) or (N, 2).
    roll_rad: rotation of the detector about its normal, scalar or (N,).

    The source lies at ``sad * (cos a cos b, sin a cos b, sin b)``; image columns run along
    increasing primary angle and image row 0 is the +z end.

    Source: 4DRGS (IPMI 2025), acquisition model; the secondary angle, offset and roll are ours.
    """
    a = np.atleast_1d(np.asarray(primary_rad, dtype=np.float64))
    b = np.broadcast_to(np.asarray(secondary_rad, dtype=np.float64), a.shape)
    sad = np.broadcast_to(np.asarray(source_to_isocentre_mm, dtype=np.float64), a.shape)
    sid = np.broadcast_to(np.asarray(source_to_detector_mm, dtype=np.float64), a.shape)
    roll = np.broadcast_to(np.asarray(roll_rad, dtype=np.float64), a.shape)
    offset = np.broadcast_to(np.asarray(offset_px, dtype=np.float64), (*a.shape, 2))
    zero = np.zeros_like(a)
    x = np.stack([-np.sin(a), np.cos(a), zero], -1)
    y = np.stack([np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), -np.cos(b)], -1)
    z = np.stack([-np.cos(b) * np.cos(a), -np.cos(b) * np.sin(a), -np.sin(b)], -1)
    cos_r, sin_r = np.cos(roll)[:, None], np.sin(roll)[:, None]
    rotation = np.stack([cos_r * x + sin_r * y, -sin_r * x + cos_r * y, z], axis=1)
    poses = rigid(rotation, np.stack([zero, zero, sad], -1))
    intrinsics = np.zeros((*a.shape, 3, 3))
    intrinsics[:, 0, 0] = sid / pixel_mm[0]
    intrinsics[:, 1, 1] = sid / pixel_mm[1]
    intrinsics[:, 0, 2] = (width_px - 1) / 2 + offset[:, 0]
    intrinsics[:, 1, 2] = (height_px - 1) / 2 + offset[:, 1]
    intrinsics[:, 2, 2] = 1.0
    return Cameras(intrinsics, poses, width_px, height_px)


def isocentre_mm(cameras: Cameras) -> NDArray[np.float64]:
    """The point (3,) in mm nearest to all optical axes; parallel axes leave their direction's part at 0."""
    centres = cameras.centres_mm
    axes = cameras.camera_from_world[:, 2, :3]
    # The least-squares meeting point: sum (I - d d^T) (x - c) = 0.
    projectors = np.eye(3) - axes[:, :, None] * axes[:, None]
    normal = projectors.sum(0) + 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(normal, (projectors @ centres[..., None])[..., 0].sum(0)))


def cameras_at_angles(
    like: Cameras, primary_rad: ArrayLike, secondary_rad: ArrayLike, size_px: int
) -> Cameras:
    """Cameras of square pictures at gantry angles, with the distances and field of view of a recorded run.

    like: the run's cameras; the C-arm turns about their common point.
    primary_rad, secondary_rad: scalars or (N,). size_px: side of the pictures.
    """
    centre = isocentre_mm(like)
    source_mm = float(np.linalg.norm(like.centres_mm - centre, axis=1).mean())
    focal_px = float(like.intrinsics[:, 0, 0].mean())
    # A pinhole knows the detector's distance in pixels only, which is all a picture needs.
    pitch = max(like.width_px, like.height_px) / size_px
    cameras = cone_beam(primary_rad, secondary_rad, source_mm, focal_px, size_px, size_px, (pitch, pitch))
    poses = cameras.camera_from_world.copy()
    poses[:, :3, 3] -= poses[:, :3, :3] @ centre
    return Cameras(cameras.intrinsics, poses, size_px, size_px)


def gantry_angles_rad(cameras: Cameras, centre_mm: ArrayLike = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Primary (unwrapped) and secondary angle, (N, 2) radians, of each source seen from ``centre_mm``."""
    direction = cameras.centres_mm - np.asarray(centre_mm, dtype=np.float64)
    primary = np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))
    secondary = np.arctan2(direction[:, 2], np.hypot(direction[:, 0], direction[:, 1]))
    return np.stack([primary, secondary], -1)


def fan_angle_rad(cameras: Cameras) -> float:
    """The full fan angle across detector columns, radians, of the widest camera."""
    k = cameras.intrinsics
    left = np.arctan(k[:, 0, 2] / k[:, 0, 0])
    right = np.arctan((cameras.width_px - 1 - k[:, 0, 2]) / k[:, 0, 0])
    return float(np.max(left + right))


def rays(cameras: Cameras, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Source (3,) in mm and unit world directions (H, W, 3) of the pixel-centre rays of one camera."""
    camera = cameras[index]
    rows, columns = np.mgrid[0 : cameras.height_px, 0 : cameras.width_px].astype(np.float64)
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1)
    directions = pixels @ np.linalg.inv(camera.intrinsics[0]).T @ camera.camera_from_world[0, :3, :3]
    return camera.centres_mm[0], directions / np.linalg.norm(directions, axis=-1, keepdims=True)

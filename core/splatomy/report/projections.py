"""Flat views of voxel data: maximum projections along the world's axes, and a shaded surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Plane:
    """A viewing plane: which world axes run right and up or down in the picture, and which is looked along.

    edges: anatomical letters at left, right, top, bottom when the world is LPS.
    near_is_high: the reader sits at the high end of the depth axis (right-handed: right x up points to them).
    """

    name: str
    across: int
    vertical: int
    depth: int
    upwards: bool
    edges: tuple[str, str, str, str]
    near_is_high: bool


# Radiological convention: the patient faces the reader, so the patient's right is on the left.
PLANES = (
    Plane("axial", 0, 1, 2, False, ("R", "L", "A", "P"), False),
    Plane("coronal", 0, 2, 1, True, ("R", "L", "H", "F"), False),
    Plane("sagittal", 1, 2, 0, True, ("A", "P", "H", "F"), True),
)


@dataclass(frozen=True)
class WorldGrid:
    """How to lay a voxel array along the world's axes: permuted and flipped, never resampled.

    first_mm: outer low corner of the box, (3,). step_mm: voxel edges along x, y, z, (3,).
    oblique: the voxel axes are turned against the world's, so positions are approximate.
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]
    first_mm: NDArray[np.float64]
    step_mm: NDArray[np.float64]
    shape: tuple[int, ...]
    oblique: bool

    @staticmethod
    def of(shape: tuple[int, ...], affine_mm: NDArray[np.float64]) -> WorldGrid:
        """The layout of an array of that shape and affine."""
        directions = affine_mm[:3, :3]
        spacing = np.linalg.norm(directions, axis=0)
        cosines = directions / np.where(spacing > 0, spacing, 1.0)
        # Each world axis takes the voxel axis that is most parallel to it among those left.
        order = [-1, -1, -1]
        score = np.abs(cosines)
        for _ in range(3):
            world, voxel = np.unravel_index(np.argmax(score), score.shape)
            order[world] = int(voxel)
            score[world, :] = -1.0
            score[:, voxel] = -1.0
        step = spacing[order]
        flips = tuple(bool(cosines[world, voxel] < 0) for world, voxel in enumerate(order))
        laid = tuple(shape[voxel] for voxel in order)
        centre = directions @ ((np.array(shape) - 1) / 2) + affine_mm[:3, 3]
        aligned = np.abs(cosines[range(3), order])
        return WorldGrid(
            tuple(order), flips, centre - np.array(laid) / 2 * step, step, laid, bool(aligned.min() < 0.9999)
        )

    def lay(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of the array (I, J, K) with axes x, y, z, each increasing."""
        turned = array.transpose(self.order)
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def extent_mm(self, plane: Plane) -> tuple[float, float, float, float]:
        """The picture's left, right, bottom, top in world coordinates."""
        last = self.first_mm + np.array(self.shape) * self.step_mm
        a, v = plane.across, plane.vertical
        low, high = float(self.first_mm[v]), float(last[v])
        bottom, top = (low, high) if plane.upwards else (high, low)
        return float(self.first_mm[a]), float(last[a]), bottom, top


def picture_of(flat: NDArray[np.generic], plane: Plane) -> NDArray[np.generic]:
    """The projection, axes in world order, as rows from the picture's top."""
    rows = flat.T if plane.across < plane.vertical else flat
    return rows[::-1] if plane.upwards else rows


def project_max(laid: NDArray[np.floating], plane: Plane) -> NDArray[np.floating]:
    """Maximum along the line of sight, (rows, columns) from the top."""
    picture: NDArray[np.floating] = picture_of(laid.max(axis=plane.depth), plane)  # type: ignore[assignment]
    return picture


def project_by_strength(
    laid: NDArray[np.floating], strength: NDArray[np.floating], plane: Plane
) -> NDArray[np.floating]:
    """The map's value at the strongest known voxel on each line of sight; NaN where none is known.

    Strengths count in thirds of their top, and the nearest of equals wins: the better filled core of a
    vessel is preferred to its wall, and two equal vessels that cross are not mixed pixel by pixel.
    """
    known = np.isfinite(laid)
    top = max(float(np.percentile(strength[known], 99)) if known.any() else 0.0, 1e-12)
    level = np.clip(strength / top * 3, 0, 2.999).astype(np.int8) + np.int8(1)
    ranked = np.where(known, level, np.int8(0))
    values = laid
    if plane.near_is_high:
        ranked, values = np.flip(ranked, plane.depth), np.flip(laid, plane.depth)
    index = np.expand_dims(ranked.argmax(axis=plane.depth), plane.depth)
    flat = np.take_along_axis(values, index, axis=plane.depth).squeeze(plane.depth)
    picture: NDArray[np.floating] = picture_of(flat, plane)  # type: ignore[assignment]
    return picture


def shade_label(
    laid: NDArray[np.generic], step_mm: NDArray[np.float64], turn_rad: float, size_px: int = 620
) -> NDArray[np.float64]:
    """A lit picture of the label's surface, (rows, columns, 3) in [0, 1], turned about the z axis.

    Source: ours; surface voxels painted far to near, lit by the gradient of the blurred label.
    """
    image = np.full((size_px, size_px, 3), 0.06)
    filled = np.asarray(laid, bool)
    if not filled.any():
        return image
    box = tuple(
        slice(int(where[0]), int(where[-1]) + 1)
        for where in (np.flatnonzero(filled.any(axis=(*{0, 1, 2} - {axis},))) for axis in range(3))
    )
    points_mm, normals = _surface(np.pad(filled[box], 3), step_mm)
    points_mm -= (points_mm.min(0) + points_mm.max(0)) / 2
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    across = np.array([cos, sin, 0.0])
    away = np.array([-sin, cos, 0.0])
    depth = points_mm @ away
    # The scale must not depend on the turn, or the two pictures could not be compared.
    reach = max(float(np.hypot(points_mm[:, 0], points_mm[:, 1]).max()), float(np.abs(points_mm[:, 2]).max()))
    scale = size_px / (2.1 * max(reach, float(step_mm.max())))
    column = (points_mm @ across * scale + size_px / 2).astype(int)
    row = (size_px / 2 - points_mm[:, 2] * scale).astype(int)
    light = -away * 0.8 + across * -0.35 + np.array([0.0, 0.0, 0.5])
    lit = 0.25 + 0.75 * np.clip(normals @ (light / np.linalg.norm(light)), 0, 1)
    nearness = 1 - (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    brightness = lit * (0.45 + 0.55 * nearness)
    colour = brightness[:, None] * np.array([1.0, 0.78, 0.66])
    # Discs wider than a voxel's half diagonal: neighbours overlap from every side and leave no slits.
    disc_px = scale * float(step_mm.max()) * 0.9
    order = np.argsort(-depth)
    offsets = range(-int(np.ceil(disc_px)), int(np.ceil(disc_px)) + 1)
    shift = np.array([(r, c) for r in offsets for c in offsets if r * r + c * c <= max(disc_px**2, 1)])
    # Far to near, so that what is painted last is what is seen; in pieces to bound the memory.
    for piece in np.array_split(order, len(order) // 100_000 + 1):
        rows = np.clip(row[piece, None] + shift[:, 0], 0, size_px - 1).ravel()
        columns = np.clip(column[piece, None] + shift[:, 1], 0, size_px - 1).ravel()
        image[rows, columns] = np.repeat(colour[piece], len(shift), axis=0)
    return image


def _surface(
    filled: NDArray[np.bool_], step_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (N, 3) in mm and outward unit normals (N, 3) of the voxels with an empty neighbour."""
    inner = filled.copy()
    smooth = filled.astype(np.float32)
    for axis in range(3):
        inner &= np.roll(filled, 1, axis) & np.roll(filled, -1, axis)
        for _ in range(2):
            smooth = 0.5 * smooth + 0.25 * (np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis))
    index = np.argwhere(filled & ~inner)
    normals = np.empty((len(index), 3))
    for axis in range(3):
        # The padding of the box guarantees that both neighbours exist.
        ahead, behind = index.copy(), index.copy()
        ahead[:, axis] += 1
        behind[:, axis] -= 1
        rise = smooth[tuple(behind.T)] - smooth[tuple(ahead.T)]
        normals[:, axis] = rise / step_mm[axis]
    steepness = np.linalg.norm(normals, axis=1, keepdims=True)
    normals /= np.maximum(steepness, 1e-12)
    # Moved outwards to the level 0.5 (the slope is half this difference), which takes the voxel steps off.
    above = smooth[tuple(index.T)][:, None] - 0.5
    shift_mm = np.clip(2 * above / np.maximum(steepness, 1e-12), 0, float(step_mm.max()))
    return index * step_mm + normals * shift_mm, normals

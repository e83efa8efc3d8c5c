"""Where surfels start: every piece of tissue gets them from the frame that shows it best."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from splatomy.methods.dynamic_tissue.footage import Footage

Float32 = NDArray[np.float32]
_OVERLAP = 0.75
"""Standard deviation of a new surfel in distances to its neighbours: just enough to leave no gaps."""
_MAX_STRETCH = 3.0


@dataclass(frozen=True)
class Seeds:
    """New surfels, in the world at their frame's time; evidence: (N,), 1 = observed tissue, 0 = made up."""

    means_mm: Float32
    quats_wxyz: Float32
    log_scales: Float32
    colours: Float32
    evidence: Float32


def seed(footage: Footage, frame: int, carried_mm: Float32, spacing_px: float, hidden: bool) -> Seeds:
    """Surfels at the pixels of a frame that none covers yet.

    carried_mm: (H, W) depths of the surfels so far in this frame, 0 = not covered.

    hidden: False = only where tissue of known depth is visible; True = everywhere, with completed depths
    and colours, for what no frame shows.

    Their normals are those of the depth map, their sizes those of its pixels: the seed starts with random
    rotations.
    """
    depth, known = footage.depth_known(frame)
    rows, columns = _lattice(known.shape, spacing_px)
    places = np.ix_(rows, columns)
    wanted = (carried_mm[places] <= 0) & ~footage.outside[places]
    if not hidden:
        wanted &= (known[places] > 0) & footage.seen(frame)[places]
    rows, columns = (axis[n] for axis, n in zip((rows, columns), wanted.nonzero(), strict=True))
    if not len(rows):
        vectors = [np.zeros((0, n), np.float32) for n in (3, 4, 2, 3)]
        return Seeds(vectors[0], vectors[1], vectors[2], vectors[3], np.zeros(0, np.float32))
    given = (known > 0).astype(np.float32)
    if hidden:
        depth, given = footage.bare_depth(frame, carried_mm)[0], np.ones_like(given)
    # Noise of single depths would tilt the normals at random.
    sigma = max(1.0, spacing_px)
    total = cv2.GaussianBlur(depth * given, (0, 0), sigma)
    smooth = np.asarray(total / np.maximum(cv2.GaussianBlur(given, (0, 0), sigma), 1e-6), np.float32)
    k = footage.cameras.intrinsics[frame]
    rays = _rays(rows, columns, k)
    z = (smooth if hidden else depth)[rows, columns]
    normal = _normals(smooth, k, rows, columns)
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    cosine = np.abs((normal * rays).sum(1, keepdims=True)) / length
    # The long axis lies where the surface falls away from the camera.
    fall = rays / length - (rays / length * normal).sum(1, keepdims=True) * normal
    any_tangent = np.cross(normal, np.eye(3)[np.abs(normal).argmin(1)])
    fall = np.where(np.linalg.norm(fall, axis=1, keepdims=True) < 1e-3, any_tangent, fall)
    u = fall / np.linalg.norm(fall, axis=1, keepdims=True)
    axes = np.stack([u, np.cross(normal, u), normal], 2)
    pose = footage.cameras.camera_from_world[frame]
    world = (rays * z[:, None] - pose[:3, 3]) @ pose[:3, :3]
    footprint = _OVERLAP * spacing_px * z / k[0, 0]
    stretch = np.minimum(1 / np.maximum(cosine[:, 0], 1e-3), _MAX_STRETCH)
    image = footage.bare_colour(frame)
    colours = image[rows, columns]
    evidence = footage.seen(frame)[rows, columns] & (known[rows, columns] > 0)
    return Seeds(
        world.astype(np.float32),
        _quats(pose[:3, :3].T @ axes),
        np.log(np.stack([footprint * stretch, footprint], 1)).astype(np.float32),
        colours.astype(np.float32),
        evidence.astype(np.float32),
    )


def _lattice(shape: tuple[int, ...], spacing_px: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a lattice of that spacing in a picture (H, W)."""
    first = 0.5 * (spacing_px - 1)
    rows, columns = (np.unique(np.arange(first, size, spacing_px).astype(np.intp)) for size in shape)
    return rows, columns


def _rays(rows: NDArray[np.intp], columns: NDArray[np.intp], k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions (N, 3) with z = 1 of pixels."""
    y = (rows - k[1, 2]) / k[1, 1]
    return np.stack([(columns - k[0, 2] - k[0, 1] * y) / k[0, 0], y, np.ones(len(rows))], -1)


def _normals(
    depth: Float32, k: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Camera-facing unit normals (N, 3) of a depth map (H, W) mm at some of its pixels."""
    height, width = depth.shape

    def point(down: int, right: int) -> NDArray[np.float64]:
        row, column = (rows + down).clip(0, height - 1), (columns + right).clip(0, width - 1)
        return np.asarray(_rays(row, column, k) * depth[row, column, None])

    normal = np.cross(point(1, 0) - point(-1, 0), point(0, 1) - point(0, -1))
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12))


def _quats(rotation: NDArray[np.floating]) -> Float32:
    """Quaternions (N, 4), w first, of rotation matrices (N, 3, 3)."""
    return Rotation.from_matrix(rotation).as_quat()[:, [3, 0, 1, 2]].astype(np.float32)

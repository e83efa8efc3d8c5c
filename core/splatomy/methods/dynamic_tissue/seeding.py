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


def seed(footage: Footage, frame: int, covered: NDArray[np.bool_], spacing_px: float, hidden: bool) -> Seeds:
    """Surfels at the pixels of a frame that are not covered (H, W) yet.

    hidden: False = only where tissue of known depth is visible; True = everywhere, with completed depths
    and colours, for what no frame shows.

    Their normals are those of the depth map, their sizes those of its pixels: the seed starts with random
    rotations.
    """
    depth, known = footage.bare_depth(frame)
    wanted = ~covered if hidden else ~covered & (known > 0) & footage.seen(frame)
    rows, columns = _lattice(wanted, spacing_px)
    # Noise of single depths would tilt the normals at random.
    smooth = np.asarray(cv2.GaussianBlur(depth, (0, 0), max(1.0, spacing_px)), np.float32)
    k = footage.cameras.intrinsics[frame]
    rays = np.stack(
        [
            (columns - k[0, 2] - k[0, 1] * (rows - k[1, 2]) / k[1, 1]) / k[0, 0],
            (rows - k[1, 2]) / k[1, 1],
            np.ones(len(rows)),
        ],
        -1,
    )
    z = (smooth if hidden else depth)[rows, columns]
    normal = _normals(smooth, k)[rows, columns]
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
    evidence = (footage.seen(frame) & (known > 0))[rows, columns]
    return Seeds(
        world.astype(np.float32),
        _quats(pose[:3, :3].T @ axes),
        np.log(np.stack([footprint * stretch, footprint], 1)).astype(np.float32),
        colours.astype(np.float32),
        evidence.astype(np.float32),
    )


def _lattice(wanted: NDArray[np.bool_], spacing_px: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of wanted pixels on a lattice of that spacing."""
    first = 0.5 * (spacing_px - 1)
    rows, columns = (np.unique(np.arange(first, size, spacing_px).astype(int)) for size in wanted.shape)
    chosen = np.zeros_like(wanted)
    chosen[np.ix_(rows, columns)] = True
    where = np.nonzero(chosen & wanted)
    return where[0], where[1]


def _normals(depth: Float32, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera-facing unit normals (H, W, 3) of a depth map (H, W) mm."""
    height, width = depth.shape
    rows, columns = np.indices((height, width))
    points = np.stack([(columns - k[0, 2]) / k[0, 0] * depth, (rows - k[1, 2]) / k[1, 1] * depth, depth], -1)
    across, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normal = np.cross(down, across)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12))


def _quats(rotation: NDArray[np.floating]) -> Float32:
    """Quaternions (N, 4), w first, of rotation matrices (N, 3, 3)."""
    return Rotation.from_matrix(rotation).as_quat()[:, [3, 0, 1, 2]].astype(np.float32)

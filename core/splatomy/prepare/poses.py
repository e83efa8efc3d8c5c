"""Camera poses of a clip: does the camera move, and if so, from where was each frame taken?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from splatomy.capture import Capture
from splatomy.errors import MissingBackendError
from splatomy.events import Notice, Task
from splatomy.geometry.rigid import inverse
from splatomy.method import setting
from splatomy.prepare._colmap import colmap_installed, colmap_poses
from splatomy.prepare._odometry import odometry
from splatomy.prepare._self_rectify import RELATIVE_DEPTH
from splatomy.prepare._tracks import RigidFit, Tracks, follow, rigid_fit

__all__ = ["CameraMotion", "PoseConfig", "camera_motion", "estimate_poses"]

Float = NDArray[np.float64]

_FEWEST_POINTS, _FEWEST_PAIRS, _MOST_PAIRS = 40, 3, 9
_MOVED = 0.012
_STILL_SHARE = 0.3
_RIGID_RATIO = 0.2
_EPIPOLAR_RATIO, _EPIPOLAR_SHARE = 0.05, 0.75
_DEFORMING_RATIO, _DEFORMING_EPIPOLAR = 0.45, 0.065
"""Where tissue deforms under a moving camera: what a rigid motion may leave of both. Measured on phantoms of
moving and of resting cameras (28 to 63 % and 8 % or more of a resting one's)."""
_COLMAP_FRAMES = 60


@dataclass(frozen=True)
class PoseConfig:
    """How camera poses are found."""

    camera: Literal["auto", "fixed", "moving"] = setting("auto", doc="Decide by measurement, or by decree")
    solver: Literal["auto", "colmap", "own"] = setting(
        "auto", doc="COLMAP where it is installed and there is no depth, or the built-in odometry"
    )
    timeout_s: float = setting(600.0, 1.0, 86400.0, "s", "Longest time that COLMAP may take")


@dataclass(frozen=True)
class CameraMotion:
    """Whether the camera moves, and the sentence that says why. fits: of the frame pairs looked at."""

    moves: bool
    reason: str
    fits: tuple[RigidFit, ...]


def camera_motion(capture: Capture, tracks: Tracks) -> CameraMotion:
    """Whether one rigid motion explains how the tissue's points move between distant frames.

    Breathing and pulling move points too, but each part its own way. With depth a rigid pose has to meet
    every point in both directions; without, only its epipolar line, so more points must agree. Where the
    tissue deforms as well, neither alone can tell: then both have to be met about as well.
    """
    if capture.cameras is None:
        raise ValueError("camera_motion needs intrinsics")
    frames, _, width, _ = capture.images.shape
    fits: list[RigidFit] = []
    lines: list[RigidFit] = []
    still: list[float] = []
    with_depth = capture.depth_mm is not None
    for gap in sorted({max(1, frames // d) for d in (2, 3, 4, 8, 16)}, reverse=True):
        fits, lines, still = [], [], []
        starts = np.unique(np.linspace(0, frames - 1 - gap, _MOST_PAIRS).astype(int))
        for first in starts[starts >= 0].tolist():
            both = tracks.common(first, first + gap)
            p, q = tracks.pixels[both, first], tracks.pixels[both, first + gap]
            depth = None
            if capture.depth_mm is not None:
                x, y = np.rint(p).astype(int).T
                depth = np.asarray(capture.depth_mm[first][y, x], np.float64)
                known = np.isfinite(depth)
                p, q, depth = p[known], q[known], depth[known]
            if len(p) >= _FEWEST_POINTS:
                fits.append(rigid_fit(p, q, capture.cameras.intrinsics[first], depth))
                if with_depth:
                    lines.append(rigid_fit(p, q, capture.cameras.intrinsics[first], None))
                still.append(float((np.linalg.norm(q - p, axis=1) < 0.002 * width + 0.5).mean()))
        if len(fits) >= min(_FEWEST_PAIRS, max(frames - gap, 1)):
            break
    if not fits:
        return CameraMotion(False, "too few points of the tissue can be followed to tell", ())
    moved = float(np.median([f.moved_px for f in fits]))
    if moved < _MOVED * width:
        return CameraMotion(False, f"the tissue moves by {moved:.1f} px only", tuple(fits))
    if np.median(still) > _STILL_SHARE:
        text = f"{100 * float(np.median(still)):.0f} % of the tissue stands still while the rest moves"
        return CameraMotion(False, text, tuple(fits))
    share, ratio = _unexplained(fits)
    if with_depth:
        line_share, line_ratio = _unexplained(lines)
        deforming = ratio < _DEFORMING_RATIO and line_ratio < _DEFORMING_EPIPOLAR
        moves = ratio < _RIGID_RATIO or (deforming and line_share > _EPIPOLAR_SHARE)
    else:
        moves = ratio < _EPIPOLAR_RATIO and share > _EPIPOLAR_SHARE
    text = (
        f"points move by {moved:.1f} px, of which one rigid motion leaves {100 * ratio:.0f} % unexplained "
        f"({100 * share:.0f} % of the points follow it)"
    )
    return CameraMotion(moves, text, tuple(fits))


def _unexplained(fits: list[RigidFit]) -> tuple[float, float]:
    """The typical share of points that follow a rigid motion, and of their way that it does not explain."""
    share = float(np.median([f.inliers for f in fits]))
    return share, float(np.median([f.residual_px / max(f.moved_px, 1e-6) for f in fits]))


def estimate_poses(capture: Capture, config: PoseConfig | None = None) -> Task[Capture]:
    """The capture with one pose per frame, the first camera being the world, and ``metric`` as it is then.

    A camera at rest keeps identity poses. Poses without any scale are brought to the capture's own
    relative depth where there is one, else to a median depth of 60 units.

    Raises:
        MissingBackendError: COLMAP was asked for but is not installed.
    """
    config = config or PoseConfig()
    if capture.cameras is None:
        raise ValueError("estimate_poses needs intrinsics")
    if config.solver == "colmap" and not colmap_installed():
        raise MissingBackendError("COLMAP is not installed: pip install pycolmap, or use solver=own.")
    if config.camera == "fixed" or len(capture) < 2:
        yield Notice("info", "camera-fixed", "The camera is taken to be at rest, as asked for.")
        return _fixed(capture)
    tracks = yield from follow(capture)
    if config.camera == "auto":
        motion = camera_motion(capture, tracks)
        if not motion.moves:
            yield Notice("info", "camera-fixed", f"The camera is taken to be at rest: {motion.reason}.")
            return _fixed(capture)
        yield Notice("info", "camera-moves", f"The camera moves: {motion.reason}.")
    poses, solver = yield from _moving_poses(capture, tracks, config)
    if poses is None:
        text = "The camera's path could not be found; it is taken to be at rest, so expect blur."
        yield Notice("warning", "poses-failed", text)
        return _fixed(capture)
    missing = int((~np.isfinite(poses[:, 0, 0])).sum())
    text = f"Camera poses come from {solver}" + (
        f"; {missing} of {len(poses)} frames were placed between their neighbours." if missing else "."
    )
    yield Notice("warning" if missing else "info", "poses-found", text)
    poses = _filled(poses)
    poses = poses @ inverse(poses[0])
    cameras = replace(capture.cameras, camera_from_world=poses)
    metric = capture.metric and capture.depth_mm is not None
    return capture.prepared(
        f"camera poses by {solver}", cameras=cameras, metric=metric, world="first camera",
        details={**capture.details, "pose_source": solver},
    )  # fmt: skip


def _fixed(capture: Capture) -> Capture:
    if capture.cameras is None:
        raise ValueError("poses need intrinsics")
    poses = np.tile(np.eye(4), (len(capture), 1, 1))
    return capture.prepared(
        "camera at rest", cameras=replace(capture.cameras, camera_from_world=poses), world="first camera",
        metric=capture.metric and capture.depth_mm is not None,
        details={**capture.details, "pose_source": "fixed camera"},
    )  # fmt: skip


def _moving_poses(capture: Capture, tracks: Tracks, config: PoseConfig) -> Task[tuple[Float | None, str]]:
    """Poses (T, 4, 4) with NaN gaps, and who found them."""
    if capture.cameras is None:
        raise ValueError("poses need intrinsics")
    intrinsics, width = capture.cameras.intrinsics, capture.cameras.width_px
    # Depth ties every frame to the same unit, which COLMAP cannot use.
    first_colmap = config.solver == "colmap" or (
        config.solver == "auto" and capture.depth_mm is None and colmap_installed()
    )
    if first_colmap:
        count = min(_COLMAP_FRAMES, len(capture))
        frames = np.unique(np.linspace(0, len(capture) - 1, count).astype(np.int64))
        poses = yield from colmap_poses(capture, frames, config.timeout_s)
        if poses is not None and np.isfinite(poses[frames, 0, 0]).mean() > 0.6:
            return _relative(poses, tracks, intrinsics), "COLMAP"
        text = "COLMAP placed too few frames; the built-in odometry takes over."
        yield Notice("warning", "colmap-failed", text)
    poses = yield from odometry(tracks, intrinsics, width, capture.depth_mm)
    if poses is None:
        return None, "the built-in odometry"
    if capture.depth_mm is None:
        poses = _relative(poses, tracks, intrinsics)
    return poses, "the built-in odometry"


def _relative(poses: Float, tracks: Tracks, intrinsics: Float) -> Float:
    """The poses scaled so that the followed points lie ``RELATIVE_DEPTH`` from the cameras."""
    placed = np.flatnonzero(np.isfinite(poses[:, 0, 0]))
    depths: list[float] = []
    for a, b in zip(placed[: -len(placed) // 2], placed[len(placed) // 2 :], strict=False):
        both = tracks.common(int(a), int(b))
        if len(both) < 8:
            continue
        pair = [intrinsics[t] @ poses[t, :3] for t in (a, b)]
        points = cv2.triangulatePoints(
            pair[0], pair[1], tracks.pixels[both, a].T.copy(), tracks.pixels[both, b].T.copy()
        )
        z = (poses[a, 2] @ (points / points[3])).ravel()
        depths += z[np.isfinite(z) & (z > 0)].tolist()
    if not depths:
        return poses
    scaled = poses.copy()
    scaled[:, :3, 3] *= RELATIVE_DEPTH / float(np.median(depths))
    return scaled


def _filled(poses: Float) -> Float:
    """The poses with gaps interpolated and ends repeated."""
    placed = np.flatnonzero(np.isfinite(poses[:, 0, 0]))
    world = inverse(poses[placed])
    when = np.clip(np.arange(len(poses)), placed[0], placed[-1])
    out = np.tile(np.eye(4), (len(poses), 1, 1))
    for axis in range(3):
        out[:, axis, 3] = np.interp(when, placed, world[:, axis, 3])
    out[:, :3, :3] = world[0, :3, :3]
    if len(placed) > 1:
        out[:, :3, :3] = Slerp(placed, Rotation.from_matrix(world[:, :3, :3]))(when).as_matrix()
    return inverse(out)

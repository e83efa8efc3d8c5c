"""Camera poses from followed points: each frame against the points known so far, then all together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.events import Progress, Task
from splatomy.geometry.rigid import inverse, rigid, transform_points
from splatomy.prepare._bundle import Observations, Structure, adjust
from splatomy.prepare._tracks import Tracks

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

_WINDOW, _OVERLAP = 48, 16
_FEWEST_POINTS = 12
_PAIR_MOTION = 0.03
_LEAST_ANGLE_RAD = 0.01
_PNP_PX = 3.0


def _sampled(depth_mm: NDArray[np.float32], pixels: Float) -> Float:
    """Depths (P, T) at followed pixels (P, T, 2), NaN where either is unknown; nearest pixel."""
    out = np.full(pixels.shape[:2], np.nan)
    for t in range(pixels.shape[1]):
        here = np.flatnonzero(np.isfinite(pixels[:, t, 0]))
        x, y = np.rint(pixels[here, t]).astype(int).T
        height, width = depth_mm[t].shape
        out[here, t] = depth_mm[t][np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return out


def _posed(points: Float, pixels: Float, intrinsics: Float, guess: Float) -> Float | None:
    """The pose (4, 4) from which points (N, 3) appear at pixels (N, 2), or None."""
    turn, _ = cv2.Rodrigues(guess[:3, :3])
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points, pixels, intrinsics, None, turn, guess[:3, 3].reshape(3, 1).copy(), True, 300, _PNP_PX
    )
    if not found or inliers is None or len(inliers) < _FEWEST_POINTS // 2:
        return None
    chosen = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(points[chosen], pixels[chosen], intrinsics, None, turn, shift)
    rotation, _ = cv2.Rodrigues(turn)
    return rigid(np.asarray(rotation, np.float64), np.asarray(shift, np.float64).ravel())


def _rays(pixels: Float, intrinsics: Float) -> Float:
    return np.pad(pixels, ((0, 0), (0, 1)), constant_values=1) @ np.linalg.inv(intrinsics).T


def _first_pair(tracks: Tracks, intrinsics: Float, width: int) -> tuple[int, int, Float, Float, Float] | None:
    """Two frames with enough parallax, the second one's pose, and the points (N, 3) of numbers (N,)."""
    frames = tracks.pixels.shape[1]
    best: tuple[float, int, int, Float, Float, Float] | None = None
    for first in {0, frames // 4, frames // 2}:
        for second in range(first + 1, frames):
            both = tracks.common(first, second)
            if len(both) < 50:
                break
            p, q = tracks.pixels[both, first], tracks.pixels[both, second]
            if np.median(np.linalg.norm(q - p, axis=1)) < _PAIR_MOTION * width:
                continue
            k = intrinsics[first]
            matrix, mask = cv2.findEssentialMat(p, q, k, cv2.USAC_MAGSAC, 0.999, 1.5, 2000)
            if matrix is None or matrix.shape != (3, 3):
                continue
            _, rotation, shift, mask, points = cv2.recoverPose(matrix, p, q, k, distanceThresh=1e4, mask=mask)
            good = mask.ravel() > 0
            world = (points[:3] / points[3]).T
            pose = rigid(rotation, shift.ravel())
            angle = _angles(world[good], pose)
            score = float(good.sum()) * min(float(np.median(angle)) if good.any() else 0.0, 0.1)
            if good.sum() >= 30 and (best is None or score > best[0]):
                best = score, first, second, pose, both[good], world[good]
    return None if best is None else best[1:]


def _angles(points: Float, second: Float) -> Float:
    """Angles (N,) in radians between the rays from the origin and from a second camera."""
    other = points - inverse(second)[:3, 3]
    cosine = (points * other).sum(1) / (
        np.linalg.norm(points, axis=1) * np.linalg.norm(other, axis=1) + 1e-12
    )
    return np.asarray(np.arccos(np.clip(cosine, -1, 1)))


def _triangulated(tracks: Tracks, intrinsics: Float, poses: Float, known: Bool, points: Float) -> None:
    """Gives every unknown point that two posed frames see under a fair angle its place, in ``points``."""
    posed = np.isfinite(poses[:, 0, 0])
    for number in np.flatnonzero(~known & (tracks.seen[:, posed].sum(1) >= 2)).tolist():
        frames = np.flatnonzero(tracks.seen[number] & posed)
        a, b = int(frames[0]), int(frames[-1])
        pair = [intrinsics[t] @ poses[t, :3] for t in (a, b)]
        at = cv2.triangulatePoints(
            pair[0], pair[1], tracks.pixels[number, a][:, None], tracks.pixels[number, b][:, None]
        )
        place = at[:3, 0] / at[3, 0] if at[3, 0] != 0 else np.full(3, np.nan)
        if not np.isfinite(place).all():
            continue
        depths = [transform_points(poses[t], place)[2] for t in (a, b)]
        local = transform_points(poses[a], place)[None]
        angle = _angles(local, poses[b] @ inverse(poses[a]))[0]
        if min(depths) > 0 and angle > _LEAST_ANGLE_RAD:
            points[number], known[number] = place, True


def _observations(
    tracks: Tracks, depths: Float | None, known: Bool, frames: NDArray[np.int64]
) -> Observations:
    """What the given frames saw of the known points, with frames numbered from their first."""
    chosen = tracks.seen[:, frames] & known[:, None]
    point, frame = np.nonzero(chosen)
    pixels = tracks.pixels[point, frames[frame]]
    if depths is None:
        return Observations(point, frame, pixels, np.full(len(point), np.nan))
    return Observations(point, frame, pixels, depths[point, frames[frame]])


def _adjusted(
    tracks: Tracks, depths: Float | None, intrinsics: Float, poses: Float, points: Float, known: Bool
) -> Task[tuple[Float, Float]]:
    """All posed frames and known points adjusted, in overlapping windows when there are many."""
    posed = np.flatnonzero(np.isfinite(poses[:, 0, 0]))
    start = 0
    while True:
        frames = posed[start : start + _WINDOW]
        seen = _observations(tracks, depths, known, frames)
        used, point = np.unique(seen.point, return_inverse=True)
        seen = Observations(point, seen.frame, seen.pixels, seen.depths)
        held = np.zeros(len(frames), bool)
        held[0] = True
        if start:
            held[: _OVERLAP // 2] = True
        found = yield from adjust(seen, intrinsics[frames], Structure(poses[frames], points[used]), held)
        poses[frames], points[used] = found.poses, found.points
        if start + _WINDOW >= len(posed):
            return poses, points
        start += _WINDOW - _OVERLAP


def odometry(
    tracks: Tracks, intrinsics: Float, width: int, depth_mm: NDArray[np.float32] | None
) -> Task[Float | None]:
    """Poses camera_from_world (T, 4, 4), NaN for frames without; None when the points do not suffice.

    intrinsics: (T, 3, 3). depth_mm: (T, H, W) gives the unit; without it the scale is arbitrary.

    Source: Mur-Artal and Tardos, T-RO 33 (2017), reduced to tracking and bundle adjustment.
    """
    frames = tracks.pixels.shape[1]
    poses = np.full((frames, 4, 4), np.nan)
    points = np.full((len(tracks.pixels), 3), np.nan)
    known = np.zeros(len(points), bool)
    depths = None if depth_mm is None else _sampled(depth_mm, tracks.pixels)
    if depths is None:
        pair = _first_pair(tracks, intrinsics, width)
        if pair is None:
            return None
        first, second, pose, numbers, world = pair
        poses[first], poses[second] = np.eye(4), pose
        points[numbers], known[numbers] = world, True
        order = [*range(first + 1, frames), *range(first - 1, -1, -1)]
    else:
        poses[0] = np.eye(4)
        _placed(tracks, intrinsics, poses, depths, 0, points, known)
        order = list(range(1, frames))
    for step, t in enumerate(order):
        yield Progress("place cameras", step, frames)
        if not np.isfinite(poses[t, 0, 0]):
            here = np.flatnonzero(known & tracks.seen[:, t])
            near = np.flatnonzero(np.isfinite(poses[:, 0, 0]))
            guess = poses[near[np.argmin(np.abs(near - t))]]
            if len(here) >= _FEWEST_POINTS:
                pose_t = _posed(points[here], tracks.pixels[here, t], intrinsics[t], guess)
                if pose_t is not None:
                    poses[t] = pose_t
        if np.isfinite(poses[t, 0, 0]):
            if depths is None:
                _triangulated(tracks, intrinsics, poses, known, points)
            else:
                _placed(tracks, intrinsics, poses, depths, t, points, known)
    if np.isfinite(poses[:, 0, 0]).sum() < 2:
        return None
    poses, points = yield from _adjusted(tracks, depths, intrinsics, poses, points, known)
    return poses


def _placed(
    tracks: Tracks, intrinsics: Float, poses: Float, depths: Float, frame: int, points: Float, known: Bool
) -> None:
    """Gives unknown points that a posed frame sees with depth their place, in ``points``."""
    fresh = np.flatnonzero(~known & tracks.seen[:, frame] & np.isfinite(depths[:, frame]))
    local = _rays(tracks.pixels[fresh, frame], intrinsics[frame]) * depths[fresh, frame][:, None]
    points[fresh] = transform_points(inverse(poses[frame]), local)
    known[fresh] = True

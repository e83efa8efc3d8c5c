"""One unit for camera poses and depths that come from different sources, and what it is in mm."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.events import Notice, Task
from splatomy.prepare._instrument_width import shaft_depth
from splatomy.prepare._tracks import Tracks, follow

_FEWEST_POINTS = 30
_LEAST_PARALLAX_RAD = 0.02
_MISFIT_PX = 3.0


def poses_at_depth_scale(capture: Capture) -> Task[Capture]:
    """The capture with its camera path stretched until what it sees lies at the depths of the capture.

    The unit is then that of the depth. A path too short to triangulate anything is left as it is.
    """
    if capture.cameras is None or capture.depth_mm is None:
        raise ValueError("poses_at_depth_scale needs cameras and depth_mm")
    tracks = yield from follow(capture)
    ratios = _depth_ratios(capture, tracks)
    if len(ratios) < _FEWEST_POINTS:
        text = (
            "The given poses have a scale of their own, and the camera moves too little to bring them to "
            "that of the depth; expect blur where it moves."
        )
        yield Notice("warning", "pose-scale-unknown", text)
        return capture
    factor = float(np.median(ratios))
    poses = capture.cameras.camera_from_world.copy()
    poses[:, :3, 3] *= factor
    text = f"The given poses were scaled by {factor:.3g}, so that what they see lies at the estimated depth."
    yield Notice("info", "poses-scaled", text)
    return capture.prepared(
        "given poses scaled to the depth", cameras=replace(capture.cameras, camera_from_world=poses)
    )


def _depth_ratios(capture: Capture, tracks: Tracks) -> NDArray[np.float64]:
    """Depth of the capture over triangulated depth, of points that two distant frames show."""
    if capture.cameras is None or capture.depth_mm is None:
        raise ValueError("ratios need cameras and depth_mm")
    cameras, frames = capture.cameras, len(capture)
    found: list[NDArray[np.float64]] = [np.zeros(0)]
    for gap in sorted({max(1, frames // d) for d in (2, 4, 8, 16)}):
        for a in range(0, frames - gap, max(1, gap // 2)):
            b = a + gap
            both = tracks.common(a, b)
            if len(both) < 8:
                continue
            p, q = tracks.pixels[both, a], tracks.pixels[both, b]
            views = [cameras.world_to_pixel[t] for t in (a, b)]
            points = cv2.triangulatePoints(views[0], views[1], p.T.copy(), q.T.copy())
            world = (points[:3] / points[3]).T
            good = np.isfinite(world).all(1)
            sight = [world - cameras.centres_mm[t] for t in (a, b)]
            length = [np.maximum(np.linalg.norm(s, axis=1), 1e-12) for s in sight]
            cosine = (sight[0] * sight[1]).sum(1) / (length[0] * length[1])
            good &= np.arccos(cosine.clip(-1, 1)) > _LEAST_PARALLAX_RAD
            for frame, seen in ((a, p), (b, q)):
                shown, z = cameras[frame].project(world)
                with np.errstate(invalid="ignore"):
                    good &= (z[0] > 0) & (np.linalg.norm(shown[0] - seen, axis=1) < _MISFIT_PX)
            x, y = np.rint(p[good]).astype(int).T
            depth = np.asarray(capture.depth_mm[a][y, x], np.float64)
            ratio = depth / cameras[a].project(world[good])[1][0]
            found.append(ratio[np.isfinite(ratio) & (ratio > 0)])
    return np.concatenate(found)


def scale_by_instruments(capture: Capture, diameter_mm: float | None) -> Task[Capture]:
    """The capture in millimetres, if the instruments' known diameter gives the scale and nothing else did.

    diameter_mm: of the straight shafts in view, None = unknown. Depth and camera path are stretched together.
    """
    if capture.metric:
        return capture
    if capture.depth_mm is None or capture.cameras is None:
        raise ValueError("scale_by_instruments needs cameras and depth_mm")
    if diameter_mm is None:
        yield Notice("warning", "scale-unknown", "The scale is unknown: lengths have no unit.")
        return capture
    factor = shaft_depth(capture, diameter_mm)
    if factor is None:
        text = "No straight shaft of constant width was found, so the scale stays unknown."
        yield Notice("warning", "scale-unknown", text)
        return capture
    poses = capture.cameras.camera_from_world.copy()
    poses[:, :3, 3] *= factor
    text = (
        f"The scale comes from the instruments' diameter of {diameter_mm:g} mm and holds as far as the "
        "tissue lies near them."
    )
    yield Notice("warning", "scale-from-instrument", text)
    depth = np.empty_like(capture.depth_mm)
    for t, frame in enumerate(capture.depth_mm):
        depth[t] = frame * np.float32(factor)
    return capture.prepared(
        "scale from the instruments' diameter", depth_mm=depth, metric=True,
        cameras=replace(capture.cameras, camera_from_world=poses),
    )  # fmt: skip

"""Cameras of photographs of a still scene that come without any: structure from motion by COLMAP."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.errors import InputError, MissingBackendError
from splatomy.events import Notice, Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.prepare._colmap import ColmapModel, colmap_installed, colmap_model

Float = NDArray[np.float64]

_LENS_GUESS = 1.2
"""Focal length of an unknown lens over the longer side: COLMAP's own start."""
_FEWEST, _FEWEST_SHARE = 3, 0.3
_TIMEOUT_S = 3600.0
_BENT = 1e-3
"""Distortion at the picture's corner, over the picture's size, that is worth taking out."""


def photo_poses(capture: Capture) -> Task[Capture]:
    """The photographs that could be placed, with cameras, sparse points and a lens without distortion.

    ``details["intrinsics"]`` (3, 3) is the lens when it is known; otherwise one lens is found for all. The
    unit of the poses is arbitrary. Hidden pixels are not looked at.

    Raises:
        InputError: too few pictures share enough of the scene.
        MissingBackendError: COLMAP is not installed.
    """
    if not colmap_installed():
        raise MissingBackendError(
            "The pictures have no camera poses, and what finds them is not installed: pip install pycolmap, "
            "or give poses with --poses."
        )
    _, height, width, _ = capture.images.shape
    known = capture.details.get("intrinsics")
    guess = np.array(
        [
            [_LENS_GUESS * max(width, height), 0, (width - 1) / 2],
            [0, _LENS_GUESS * max(width, height), (height - 1) / 2],
            [0, 0, 1.0],
        ]
    )
    lens = guess if known is None else np.asarray(known, np.float64)
    everything = np.arange(len(capture))
    model = yield from colmap_model(capture, everything, lens, known is None, _TIMEOUT_S)
    placed = 0 if model is None else len(model.frames)
    if model is None or placed < max(_FEWEST, _FEWEST_SHARE * len(capture)):
        raise InputError(
            f"Camera poses were found for {placed} of the {len(capture)} pictures; expected most of them: "
            "take more pictures that overlap, with texture in them, or give poses with --poses."
        )
    if placed < len(capture):
        text = f"{len(capture) - placed} of {len(capture)} pictures could not be placed and are left out."
        yield Notice("warning", "poses-missing", text)
    text = (
        f"Camera poses of {placed} pictures and {len(model.points)} points were found by structure from "
        "motion; their unit is not known."
    )
    yield Notice("info", "poses-found", text)
    return (yield from _placed(capture, model, lens, known is None))


def _placed(capture: Capture, model: ColmapModel, lens: Float, refined: bool) -> Task[Capture]:
    """The placed pictures, their lens straightened if it was found to be bent."""
    details = dict(capture.details)
    for name in ("names", "frames", "has_target"):
        if name in details:
            details[name] = [details[name][n] for n in model.frames.tolist()]
    details |= {
        "points_mm": model.points.astype(np.float32),
        "point_colours": model.colours.astype(np.float32),
        "geometry_source": "structure from motion (COLMAP)",
        "pose_source": "structure from motion",
    }
    placed = capture.frames(model.frames)
    radial = model.lens[3]
    if refined:
        focal, x, y, _ = model.lens
        lens = np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]])
    _, height, width, _ = placed.images.shape
    cameras = Cameras(np.repeat(lens[None], len(placed), 0), model.camera_from_world, width, height)
    placed = replace(placed, cameras=cameras, metric=False, world="structure from motion")
    radius_squared = ((width / 2) ** 2 + (height / 2) ** 2) / lens[0, 0] ** 2
    if refined and abs(radial) * radius_squared > _BENT:
        placed = yield from _straightened(placed, lens, radial)
    return placed.prepared("poses by structure from motion", details=details)


def _straightened(capture: Capture, lens: Float, radial: float) -> Task[Capture]:
    """Pictures and masks without the lens's distortion; what lies outside of a picture counts as hidden."""
    count, height, width, _ = capture.images.shape
    bent = np.array([radial, 0, 0, 0, 0])
    maps = cv2.initUndistortRectifyMap(lens, bent, np.eye(3), lens, (width, height), cv2.CV_32FC1)
    images = np.zeros((count, height, width, 3), np.float32)
    hidden = np.ones((count, height, width), np.bool_)
    target = None if capture.target is None else np.zeros_like(hidden)
    for t in range(count):
        images[t] = cv2.remap(np.asarray(capture.images[t], np.float32), *maps, cv2.INTER_LINEAR)
        given = np.zeros((height, width), np.uint8)
        if capture.occluded is not None:
            given[np.asarray(capture.occluded[t])] = 1
        hidden[t] = cv2.remap(given, *maps, cv2.INTER_NEAREST, borderValue=1) > 0
        if target is not None and capture.target is not None:
            target[t] = cv2.remap(capture.target[t].astype(np.uint8), *maps, cv2.INTER_NEAREST) > 0
        yield Progress("straighten", t + 1, count)
    changes = {"images": images, "occluded": hidden if hidden.any() else None, "target": target}
    return capture.prepared("lens distortion removed", **changes)

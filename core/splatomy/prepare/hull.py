"""Where vessels can be, from the shadows of a few views: the start where back-projection has too little."""

from __future__ import annotations

import cv2
import numpy as np

from splatomy.capture import Capture, Grid
from splatomy.events import Progress, Task
from splatomy.kernels.march import march
from splatomy.prepare.few_views import directions_of, vessel_mask
from splatomy.scene import Volume

_MAX_DIRECTIONS = 6
_TOLERANCE_PX = 3.0
_OUTSIDE_WEIGHT = 0.25
_FLOOR = 0.1


def has_few_directions(capture: Capture) -> bool:
    """True when filtered back-projection of the frames would be streaks alone."""
    return capture.cameras is not None and int(directions_of(capture.cameras).max()) < _MAX_DIRECTIONS


def shadow_hull(capture: Capture, grid: Grid) -> Task[Volume]:
    """Attenuation in 1/mm where every viewing direction shows a vessel, zero elsewhere.

    One value for all of it, so that its projection is as dark as the pictures. A single direction says
    nothing of depth: its vessels are laid into the plane through the grid's centre.

    Source: ours, after the visual hull (Laurentini, PAMI 1994), with soft edges for disagreeing views.
    """
    if capture.cameras is None:
        raise ValueError("shadow_hull needs cameras")
    hidden = capture.occluded
    used = np.array([hidden is None or not hidden[t].all() for t in range(len(capture))])
    numbers = directions_of(capture.cameras)
    index = np.indices(grid.shape).reshape(3, -1)
    points = (grid.affine_mm[:3, :3] @ index + grid.affine_mm[:3, 3:]).T
    weight = np.ones(len(points), np.float32)
    darkness = []
    directions = np.unique(numbers[used])
    for step, number in enumerate(directions):
        frames = np.flatnonzero((numbers == number) & used)
        picture = capture.images[frames, ..., 0].max(0)
        mask = vessel_mask(picture) if capture.target is None else capture.target[frames].mean(0) > 0.2
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        # Without any vessel the distance is the largest number there is.
        near = np.exp(-0.5 * (np.minimum(distance, 1e6) / _TOLERANCE_PX) ** 2).astype(np.float32)
        camera = capture.cameras[int(frames[0])]
        pixels, depth = camera.project(points)
        seen = cv2.remap(
            near,
            pixels[0, :, 0].astype(np.float32).reshape(grid.shape[0], -1),
            pixels[0, :, 1].astype(np.float32).reshape(grid.shape[0], -1),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_OUTSIDE_WEIGHT,
        )
        weight *= seen.reshape(-1)
        if len(directions) == 1:
            middle = float(np.median(depth))
            weight[np.abs(depth[0] - middle) > 0.75 * float(grid.spacing_mm.max())] = 0.0
        darkness.append((camera, picture, mask))
        yield Progress("hull", step + 1, len(directions))
    values = np.where(weight > _FLOOR, weight, np.float32(0)).reshape(grid.shape)
    ratios = []
    for camera, picture, mask in darkness:
        shadow = march(values, grid.affine_mm, camera)[0]
        both = mask & (shadow > 0)
        if both.any():
            ratios.append(float(np.median(picture[both]) / np.median(shadow[both])))
        yield Progress("hull", len(directions), len(directions))
    return Volume(values * np.float32(np.mean(ratios) if ratios else 0.0), grid.affine_mm)

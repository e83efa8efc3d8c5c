"""What the rendered views say of space: cells that cameras look through, and cells that none can see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.methods.pulled_surface.start import pixels_of
from splatomy.methods.pulled_surface.views import HALF

Float = NDArray[np.float64]

CELLS = 64
CELL = 2 * HALF / CELLS
"""Side of a cell."""
_BEHIND_SHARE = 0.9
_FEWEST_VIEWS = 3
_NO_OBJECT = 0.02
_RIM_PX = 2


@dataclass(frozen=True)
class Space:
    """Flat indices of cells of the working cube: ``free`` (F,) for certain, ``solid`` (S,) very likely; and
    points (P, 3) on the rendered surface with normals (P, 3) towards the cameras."""

    free: NDArray[np.int32]
    solid: NDArray[np.int32]
    points: NDArray[np.float32]
    normals: NDArray[np.float32]

    def centres(self, cells: NDArray[np.integer]) -> NDArray[np.float32]:
        """Working coordinates (N, 3) of the middles of cells (N,)."""
        index = np.stack(np.unravel_index(cells, (CELLS,) * 3), -1)
        return ((index + 0.5) * CELL - HALF).astype(np.float32)


def rendered_points(
    depth: NDArray[np.floating],
    normal: NDArray[np.floating],
    camera: Cameras,
    most: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """At most ``most`` points of a rendered view, spread evenly over it, and their normals, (P, 3) each.

    depth: (H, W), 0 = none. normal: (H, W, 3) in the camera's axes, of any length. Rims are left out, since
    there a pixel sees near and far things at once.
    """
    inner = ndimage.binary_erosion(depth > 0, iterations=_RIM_PX)
    rows, columns = np.nonzero(inner)
    if len(rows) > most:
        pick = np.sort(rng.choice(len(rows), most, replace=False))
        rows, columns = rows[pick], columns[pick]
    pixels = np.stack([columns, rows], -1).astype(np.float64)
    points = camera.unproject(pixels[None], depth[rows, columns][None].astype(np.float64))[0]
    turned = normal[rows, columns].astype(np.float64) @ camera.camera_from_world[0, :3, :3]
    turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)
    return points.astype(np.float32), turned.astype(np.float32)


def seen_space(
    cameras: Cameras,
    depths: NDArray[np.float32],
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    weight: NDArray[np.float32] | None = None,
    target: NDArray[np.float32] | None = None,
    has_target: NDArray[np.bool_] | None = None,
) -> Task[Space]:
    """Cells in front of the rendered surface or outside of a silhouette, and those behind it everywhere.

    cameras: in the working cube. depths: (T, H, W) of the rendered surface there, 0 = none. points, normals:
    what ``rendered_points`` found in all views. weight:
    (T, H, W), 0 where something hides the scene. target: (T, H, W) share of the object, in the views
    ``has_target`` (T,).
    """
    line = (np.arange(CELLS) + 0.5) / CELLS * 2 * HALF - HALF
    centres = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    margin = 1.5 * CELL
    free = np.zeros(len(centres), np.bool_)
    shown, behind = np.zeros(len(centres), np.int32), np.zeros(len(centres), np.int32)
    for t in range(len(cameras)):
        camera = cameras[t]
        column, row, within = pixels_of(camera, centres)
        z = centres @ camera.camera_from_world[0, 2, :3] + camera.camera_from_world[0, 2, 3]
        trusted = within if weight is None else within & (weight[t][row, column] > 0)
        depth = depths[t][row, column]
        free |= trusted & (depth > 0) & (z < depth - margin)
        if target is not None and has_target is not None and has_target[t]:
            free |= trusted & (target[t][row, column] < _NO_OBJECT)
        shown += within
        behind += within & (depth > 0) & (z > depth + margin)
        yield Progress("look around", t + 1, len(cameras))
    enough = min(_FEWEST_VIEWS, len(cameras))
    solid = ~free & (shown >= enough) & (behind >= _BEHIND_SHARE * shown)
    return Space(
        np.flatnonzero(free).astype(np.int32), np.flatnonzero(solid).astype(np.int32), points, normals
    )

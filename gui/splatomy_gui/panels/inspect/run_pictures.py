"""The pictures of a run: each frame as recorded, without instruments, its depth, and what nobody observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.io.views import Views, read_views
from splatomy.review import Mask
from splatomy_gui.frames import Frames, Picture
from splatomy_gui.panels.inspect.moving_surface import OBSERVED, MovingSurface

DEPTH_STEP = 0.01
"""Of the 16-bit depth pictures of a run, in its unit."""
_COARSE_PX = 192
_SPACING_PX = 0.7
_MOST_STEPS = 12
_KEPT = 256


@dataclass(frozen=True)
class FramePictures:
    """Of one frame, any of them None. unobserved: (H, W), places of the rendered one that nobody observed.

    depth: (H, W) in the run's unit, NaN = unknown.
    """

    frame: int
    recorded: Picture | None
    rendered: Picture | None
    depth: NDArray[np.float32] | None
    unobserved: Mask | None


@dataclass
class RunPictures:
    """Reads pictures, on any thread but one at a time. views: None for a run that does not hold them."""

    run: Path
    surface: MovingSurface | None = None
    views: Views | None = None
    _masks: dict[int, Mask | None] = field(default_factory=dict)

    def camera(self, frame: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int, int] | None:
        """Intrinsics (3, 3) px, camera from world (4, 4), width and height of a frame's camera."""
        if self.views is None:
            return None
        cameras = self.views.cameras
        n = min(frame, len(cameras) - 1)
        return (
            np.asarray(cameras.intrinsics[n], np.float64),
            np.asarray(cameras.camera_from_world[n], np.float64),
            cameras.width_px,
            cameras.height_px,
        )

    def read(self, frame: int, time_s: float, frames: Frames | None) -> FramePictures:
        """Everything there is of a frame."""
        folder = self.run / "renders"
        colour = _read(folder / f"frame_{frame:04d}.png", cv2.IMREAD_COLOR_RGB)
        codes = _read(folder / f"frame_{frame:04d}_depth.png", cv2.IMREAD_UNCHANGED)
        depth = None
        if codes is not None:
            depth = np.where(codes > 0, codes * np.float32(DEPTH_STEP), np.float32(np.nan))
        recorded = None if frames is None or frame >= frames.count else frames.picture(frame)
        mask = None if colour is None else self._unobserved(frame, time_s, colour.shape[:2])
        return FramePictures(frame, recorded, colour, depth, mask)

    def _unobserved(self, frame: int, time_s: float, shape: tuple[int, ...]) -> Mask | None:
        if frame not in self._masks:
            camera = self.camera(frame)
            mask = None
            if self.surface is not None and camera is not None:
                mask = unobserved_mask(self.surface, time_s, *camera[:2], (shape[1], shape[0]))
            if len(self._masks) >= _KEPT:
                self._masks.clear()
            self._masks[frame] = mask
        return self._masks[frame]


def _read(path: Path, flags: int) -> NDArray[np.uint8] | None:
    """The picture of a PNG; None without one, since only some frames of a long clip are kept."""
    if not path.is_file():
        return None
    codes = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    return None if codes is None else np.asarray(codes)


def read_picture_file(path: Path) -> Picture | None:
    """A picture that the engine made, as RGB; None once it is gone."""
    return _read(path, cv2.IMREAD_COLOR_RGB)


def read_run_views(run: Path) -> Views | None:
    """The views a run was made from; None for one that does not hold them."""
    path = run / "scene" / "cameras.json"
    return read_views(path, 1, 1) if path.is_file() else None


def unobserved_mask(
    surface: MovingSurface,
    time_s: float,
    intrinsics: NDArray[np.float64],
    camera_from_world: NDArray[np.float64],
    size_px: tuple[int, int],
) -> Mask | None:
    """Where a camera sees parts of the surface that nobody observed, (H, W); None = nowhere.

    Points on all triangles, closer than pixels, are drawn from far to near into a coarse picture.
    A triangle counts as not observed if one of its corners was not.
    """
    hidden = np.asarray((surface.evidence < OBSERVED)[surface.mesh.faces].any(1))
    if not hidden.any():
        return None
    width, height = size_px
    scale = min(1.0, _COARSE_PX / max(width, height))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    placed = surface.at(time_s) @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    projected = placed @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (projected[:, :2] / projected[:, 2:] + 0.5) * scale - 0.5
    corners = pixels[surface.mesh.faces]
    ahead = (placed[:, 2] > 0)[surface.mesh.faces].all(1)
    low, high = corners.min(1), corners.max(1)
    inside = np.asarray((high >= -1).all(1) & (low <= [w, h]).all(1) & ahead)
    if not (hidden & inside).any():
        return None
    corners, flags = corners[inside], hidden[inside]
    depth = placed[:, 2][surface.mesh.faces[inside]].mean(1)
    order = np.argsort(-depth)
    corners, flags = corners[order], flags[order].astype(np.uint8)
    longest = np.quantile(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1), 0.95)
    steps = int(np.clip(np.ceil(longest / _SPACING_PX), 1, _MOST_STEPS))
    share = (np.arange(steps) + 1 / 3) / steps
    u, v = (grid.ravel() for grid in np.meshgrid(share, share))
    weights = np.stack([u, v, 1 - u - v], -1)[u + v < 1]
    seen = np.zeros((h, w), np.uint8)
    # Triangle by triangle: one point of each at a time would mix near and far ones.
    points = np.rint(np.einsum("sk,fkc->fsc", weights, corners)).astype(np.int64).reshape(-1, 2)
    kept = ((points >= 0) & (points < [w, h])).all(1)
    seen[points[kept, 1], points[kept, 0]] = np.repeat(flags, len(weights))[kept]
    closed = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    mask = cv2.resize(closed, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    return mask if mask.any() else None

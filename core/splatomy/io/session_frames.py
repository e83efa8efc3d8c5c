"""The kept frames of a live session: a folder of the EndoNeRF layout that grows frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.cameras import Cameras
from splatomy.io.depth_folder import write_depth_png
from splatomy.io.endonerf import write_endonerf_geometry
from splatomy.io.frames import write_picture

_UNITS = 60_000


@dataclass(frozen=True)
class KeptFrame:
    """A frame whose pictures are on disk under ``name``. part: number of the map that the pose belongs to."""

    name: str
    time_s: float
    camera_from_world: NDArray[np.float64]
    part: int


def write_frame(
    folder: Path,
    name: str,
    image: NDArray[np.uint8],
    depth: NDArray[np.floating] | None,
    occluded: NDArray[np.bool_],
    depth_scale: float,
) -> None:
    """Writes one frame's picture (H, W, 3), mask and depth (H, W) in units of ``depth_scale``."""
    write_picture(folder / "images" / f"{name}.png", image)
    write_picture(folder / "masks" / f"{name}.png", np.where(occluded, 255, 0).astype(np.uint8))
    known = np.zeros(occluded.shape) if depth is None else np.nan_to_num(np.asarray(depth, np.float64))
    write_depth_png(folder / "depth" / f"{name}.png", known.clip(0, _UNITS * depth_scale), depth_scale)


def remove_frame(folder: Path, name: str) -> None:
    """Removes what ``write_frame`` wrote."""
    for kind in ("images", "masks", "depth"):
        (folder / kind / f"{name}.png").unlink(missing_ok=True)


def close_folder(
    folder: Path,
    frames: Sequence[KeptFrame],
    intrinsics: NDArray[np.float64],
    size_px: tuple[int, int],
    depth_scale: float,
    typical: float,
    metric: bool,
) -> None:
    """Writes the geometry of the kept frames, which makes the folder an input like any other.

    intrinsics: (3, 3) px. size_px: width and height. depth_scale: length of a unit of the depth pictures.
    typical: the median depth.
    """
    poses = np.stack([frame.camera_from_world for frame in frames])
    cameras = Cameras(np.repeat(intrinsics[None], len(frames), 0), poses, *size_px)
    times = np.array([frame.time_s for frame in frames])
    near_far = (0.2 * typical, 4 * typical)
    write_endonerf_geometry(folder, times - times[0], cameras, near_far, depth_scale, metric)

"""Whether counts, times, lengths and intensities of a DSA run can be what they claim to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import fan_angle_rad

# Far beyond any C-arm or angiographic frame rate, far from the next unit.
_WIDEST_FAN_DEG = 60.0
_NARROWEST_MM = 1.0
_SLOWEST_S = 10.0
_NEAREST_MM = 150.0
# How much longer the tail of brighter pixels must be, and its least length in line integrals.
_LONGER_TAIL, _LEAST_CONTRAST = 2.0, 0.05
# Even the emptiest compressed frame has a head of its own.
_LEAST_FRAME_BYTES, _MANY_FRAMES = 8, 10_000


def check_frame_count(count: int, path: Path) -> None:
    """Raises InputError for more frames than a file can hold, before anything of their number is made."""
    size = path.stat().st_size
    if not 1 <= count <= max(_MANY_FRAMES, size // _LEAST_FRAME_BYTES):
        raise InputError(
            f"{path.name} announces {count} frames; expected at least one and no more than its {size} bytes "
            "can hold: copy or export the run again."
        )


def check_frame_times(times_s: NDArray[np.float64]) -> None:
    """Raises InputError for times (T,) that no angiography has in seconds."""
    steps = np.abs(np.diff(times_s))
    if len(steps) and np.median(steps) > _SLOWEST_S:
        raise InputError(
            f"The frames are {np.median(steps):.4g} seconds apart, which looks like milliseconds; expected "
            "seconds: divide the times by 1000."
        )


def check_lengths(cameras: Cameras, grid: Grid | None) -> None:
    """Raises InputError for a geometry that no C-arm has in millimetres."""
    fan = float(np.degrees(fan_angle_rad(cameras)))
    if fan > _WIDEST_FAN_DEG:
        raise InputError(
            f"The geometry opens a fan of {fan:.0f} degrees; expected less than {_WIDEST_FAN_DEG:.0f}, as of "
            "a C-arm: check that distances and pixel size are all in millimetres."
        )
    shares = cameras.width_px / cameras.intrinsics[:, 0, 0]
    width_mm = float(np.median(shares * np.linalg.norm(cameras.centres_mm, axis=1)))
    if width_mm < _NARROWEST_MM:
        raise InputError(
            f"The images are {width_mm:.2g} mm wide at the isocentre; expected at least {_NARROWEST_MM:g} "
            "mm: check that distances and pixel size are all in millimetres."
        )
    if grid is not None and not _is_seen(cameras, grid.bounds_mm.mean(0)):
        raise InputError(
            "The middle of the wanted volume lies outside of every image; expected it near the isocentre: "
            "check the volume's position and its units."
        )


def _is_seen(cameras: Cameras, point_mm: NDArray[np.float64]) -> bool:
    """True if some image holds the point (3,)."""
    x, y, depth = (cameras.world_to_pixel @ np.append(point_mm, 1.0)).T
    ahead = depth > 0
    x, y = x[ahead] / depth[ahead], y[ahead] / depth[ahead]
    return bool(((x >= 0) & (x < cameras.width_px) & (y >= 0) & (y < cameras.height_px)).any())


def contrast_notes(run: NDArray[np.float32], mask: NDArray[np.float32] | None, is_log: bool) -> list[str]:
    """A sentence if contrast makes pictures brighter: swapped runs, or grey values that are inverted.

    run: (T, H, W) intensities (or their logarithm, ``is_log``), or line integrals when there is no mask.
    Vessels cover little of a picture, so that the longer tail of the integrals is theirs.
    """
    step = max(1, run.size >> 20)
    values = run.ravel()[::step].astype(np.float64)
    if mask is not None:
        without = mask.ravel()[::step].astype(np.float64)
        if not is_log:
            tiny = 1e-3 * max(float(without.max()), 1e-9)
            values, without = np.log(np.maximum(values, tiny)), np.log(np.maximum(without, tiny))
        values = without - values
    low, middle, high = np.percentile(values, [1, 50, 99])
    if middle - low <= max(_LONGER_TAIL * (high - middle), _LEAST_CONTRAST):
        return []
    return [
        "Contrast makes these pictures brighter instead of darker, so no vessel can be found: check whether "
        "mask and fill run are swapped, or the grey values inverted."
    ]


def length_notes(cameras: Cameras) -> list[str]:
    """A sentence about lengths that are rather centimetres, or rows that are rather columns."""
    notes = []
    distance_mm = float(np.median(np.linalg.norm(cameras.centres_mm, axis=1)))
    if distance_mm < _NEAREST_MM:
        notes.append(
            f"The source is {distance_mm:.3g} mm from the isocentre, where a C-arm has 500 to 1000: check "
            "that the lengths are millimetres and not centimetres."
        )
    centred = cameras.centres_mm - cameras.centres_mm.mean(0)
    spread, axes = np.linalg.svd(centred)[1:]
    if len(centred) >= 3 and spread[1] > 0.2 * distance_mm:
        # The source's plane; what is normal to it stands upright in the pictures of a turning C-arm.
        along = np.abs(cameras.camera_from_world[:, :2, :3] @ axes[2]).mean(0)
        if along[0] > 2 * along[1]:
            notes.append(
                "By its geometry the C-arm turns about an axis along the pictures' rows, where columns are "
                "usual: check that rows and columns are not swapped."
            )
    return notes


def check_intensities(name: str, images: NDArray[np.float32]) -> int:
    """How many values of X-ray intensities (T, H, W) are zero or negative, and so have no logarithm.

    Raises:
        InputError: too many to be noise and collimator.
    """
    bad = int((images <= 0).sum())
    low, high = np.percentile(images.ravel()[:: max(1, images.size >> 20)], [1, 99]) if bad else (0, 0)
    if 2 * bad > images.size or low < -0.1 * high:
        raise InputError(
            f"The {name} has zero or negative values in {100 * bad / images.size:.0f} % of its pixels; "
            "expected positive X-ray intensities: check the pixel type, or say --already-subtracted if "
            "they are line integrals."
        )
    return bad


def constant_frames(images: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices of the frames of (T, H, W) that hold one value everywhere: dropped or blanked ones."""
    return np.flatnonzero([frame.min() == frame.max() for frame in images])

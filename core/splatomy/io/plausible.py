"""Whether times, lengths and intensities of a DSA run can be what they claim to be."""

from __future__ import annotations

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

"""Synthetic DSA: C-arm angles, ray sums of a volume, and the comparison of a frame with its rendering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.geometry.conebeam import cone_beam, rays
from splatomy.scene import Volume

_SOURCE_MM = 750.0
_MAGNIFICATION = 1.6
_FIELD_OF_VIEW = 1.12


def gantry_of(lao_deg: float, cranial_deg: float) -> tuple[float, float]:
    """The engine's primary and secondary angle, degrees, of LAO and cranial angle (head first, supine)."""
    return lao_deg + 90.0, -cranial_deg


def angle_words(lao_deg: float, cranial_deg: float) -> str:
    """Angles as they are read on a C-arm."""
    side = "LAO" if lao_deg >= 0 else "RAO"
    end = "CRA" if cranial_deg >= 0 else "CAU"
    return f"{side} {abs(lao_deg):.0f}\u00b0  {end} {abs(cranial_deg):.0f}\u00b0"


def ray_sums(volume: Volume, lao_deg: float, cranial_deg: float, size_px: int) -> NDArray[np.float32]:
    """Line integrals (size, size) of a volume in a C-arm view about its centre, trilinear.

    The view shows the sphere about the volume that is as wide as its longest edge, as the engine's does.
    """
    from scipy.ndimage import map_coordinates

    bounds = volume.grid.bounds_mm
    width = float((bounds[1] - bounds[0]).max())
    source = max(_SOURCE_MM, 2 * width)
    pitch = _FIELD_OF_VIEW * _MAGNIFICATION * width / size_px
    primary, secondary = np.radians(gantry_of(lao_deg, cranial_deg))
    camera = cone_beam(primary, secondary, source, _MAGNIFICATION * source, size_px, size_px, (pitch, pitch))
    origin, directions = rays(camera, 0)
    steps = max(96, size_px // 2)
    radius = 0.5 * float(np.linalg.norm(bounds[1] - bounds[0]))
    step = 2 * radius / steps
    index_from_world = np.linalg.inv(volume.affine_mm)
    start = index_from_world[:3, :3] @ (origin + bounds.mean(0)) + index_from_world[:3, 3]
    turned = (directions @ index_from_world[:3, :3].T).reshape(-1, 3)
    total = np.zeros(len(turned), np.float32)
    for n in range(steps):
        along = source - radius + (n + 0.5) * step
        places = (start + along * turned).T
        total += map_coordinates(volume.values, places, order=1, mode="constant", cval=0.0)
    return (total * step).reshape(size_px, size_px)


def engine_camera_of(geometry: Mapping[str, Any], frame: int, factor: float) -> dict[str, Any] | None:
    """The camera of a recorded frame for the engine, with pixels ``factor`` times as many; None = unknown."""
    if "intrinsics_px" not in geometry:
        return None
    k = np.array(geometry["intrinsics_px"][frame], dtype=np.float64)
    # Pixel centres are whole numbers, so the corner of the picture lies at -0.5.
    k[:2, 2] = (k[:2, 2] + 0.5) * factor - 0.5
    k[0, 0], k[0, 1], k[1, 1] = k[0, 0] * factor, k[0, 1] * factor, k[1, 1] * factor
    return {"intrinsics": k.tolist(), "camera_from_world": geometry["camera_from_world"][frame]}


def matched(rendered: NDArray[np.uint8], recorded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Line integrals (H, W) of a rendered picture, on the scale of the recorded ones.

    rendered: (H, W) grey, vessels dark; its scale is the engine's own, so that the factor is found by least
    squares over pixels that are not fully black.
    """
    dark = (255.0 - rendered.astype(np.float32)) / 255.0
    usable = (rendered > 0) & np.isfinite(recorded)
    power = float((dark[usable] ** 2).sum())
    scale = float((dark[usable] * recorded[usable]).sum()) / power if power > 0 else 0.0
    return np.asarray(dark * np.float32(max(scale, 0.0)))


def difference_picture(
    recorded: NDArray[np.float32], rendered: NDArray[np.float32], top: float
) -> NDArray[np.uint8]:
    """RGB (H, W, 3): white = equal, red = only recorded, blue = only rendered; full colour at ``top``."""
    share = np.clip(np.nan_to_num(recorded - rendered) / max(top, 1e-9), -1, 1)
    more, less = np.maximum(share, 0), np.maximum(-share, 0)
    made = np.stack([1 - less, 1 - more - less, 1 - more], -1)
    return np.rint(made * 255).astype(np.uint8)


def resized(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A picture (H, W) at another size, linear."""
    if image.shape == (height, width):
        return image
    from scipy.ndimage import map_coordinates

    rows = (np.arange(height) + 0.5) * image.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * image.shape[1] / width - 0.5
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    return np.asarray(map_coordinates(np.nan_to_num(image), places, order=1, mode="nearest"), np.float32)

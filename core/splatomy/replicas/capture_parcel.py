"""A capture as arrays and values, for its way to other processes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture, Grid, Modality
from splatomy.events import Checkpoint
from splatomy.geometry.cameras import Cameras

_NOT_SENT = ("modality", "cameras", "grid", "metric", "world", "provenance", "problems", "details")
_ARRAYS = tuple(f.name for f in fields(Capture) if f.name not in _NOT_SENT)


def packed(capture: Capture) -> Checkpoint:
    """All of a capture that a training looks at: not its provenance, its problems and its details."""
    arrays: dict[str, NDArray[Any]] = {
        name: array for name in _ARRAYS if (array := getattr(capture, name)) is not None
    }
    values: dict[str, Any] = {"modality": capture.modality.value, "metric": capture.metric}
    if capture.cameras is not None:
        arrays["cameras.intrinsics"] = capture.cameras.intrinsics
        arrays["cameras.camera_from_world"] = capture.cameras.camera_from_world
        values["camera_size_px"] = [capture.cameras.width_px, capture.cameras.height_px]
    if capture.grid is not None:
        arrays["grid.affine_mm"] = capture.grid.affine_mm
        values["grid_shape"] = [int(n) for n in capture.grid.shape]
    return Checkpoint({k: np.asarray(v) for k, v in arrays.items()}, {**values, "world": capture.world})


def unpacked(parcel: Checkpoint) -> Capture:
    """The capture that ``packed`` took apart."""
    arrays, values = dict(parcel.arrays), parcel.values
    cameras, grid = None, None
    if "camera_size_px" in values:
        pose = arrays.pop("cameras.intrinsics"), arrays.pop("cameras.camera_from_world")
        cameras = Cameras(*pose, *values["camera_size_px"])
    if "grid_shape" in values:
        i, j, k = values["grid_shape"]
        grid = Grid((i, j, k), arrays.pop("grid.affine_mm"))
    same_name = {"metric": bool(values["metric"]), "world": str(values["world"])}
    return Capture(Modality(values["modality"]), **arrays, cameras=cameras, grid=grid, **same_name)  # type: ignore[arg-type]

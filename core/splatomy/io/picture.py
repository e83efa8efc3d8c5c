"""Single pictures on disk: PNG of 8 or 16 bit, and plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.io.atomic import atomic_path, write_bytes


def write_png(path: Path | str, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes a grey (H, W) or RGB (H, W, 3) picture atomically."""
    # OpenCV wants blue first.
    ordered = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(".png", np.ascontiguousarray(ordered))
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} and type {picture.dtype} cannot be encoded")
    write_bytes(path, data.tobytes())


def write_array(path: Path | str, array: NDArray[Any]) -> None:
    """Writes an array as a plain .npy file atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)

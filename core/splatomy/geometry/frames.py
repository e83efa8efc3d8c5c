"""Anatomical and camera axis conventions: the only place where axes are flipped.

Called by ``io`` and by the Slicer bridge alone; everything else works in one frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FLIP_XY = np.diag([-1.0, -1.0, 1.0, 1.0])
_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])


def ras_from_lps(affine_lps: NDArray[np.floating]) -> NDArray[np.float64]:
    """The affine (4, 4) that maps to RAS (NIfTI, Slicer) instead of LPS (DICOM, ITK)."""
    flipped: NDArray[np.float64] = _FLIP_XY @ np.asarray(affine_lps, dtype=np.float64)
    return flipped


def lps_from_ras(affine_ras: NDArray[np.floating]) -> NDArray[np.float64]:
    """The affine (4, 4) that maps to LPS (DICOM, ITK) instead of RAS (NIfTI, Slicer)."""
    return np.asarray(_FLIP_XY @ np.asarray(affine_ras, dtype=np.float64))


def points_ras_from_lps(points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points (..., 3) in RAS mm from LPS mm; its own inverse."""
    flipped: NDArray[np.float64] = np.asarray(points_mm, dtype=np.float64) * np.array([-1.0, -1.0, 1.0])
    return flipped


def opencv_from_opengl(camera_from_world: NDArray[np.floating]) -> NDArray[np.float64]:
    """View matrices (..., 4, 4) with OpenCV axes (y down, z forward) from OpenGL axes."""
    flipped: NDArray[np.float64] = _FLIP_YZ @ np.asarray(camera_from_world, dtype=np.float64)
    return flipped

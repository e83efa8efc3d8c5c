"""About how long a reconstruction takes, and how much memory, from figures measured on two CPU cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_GPU_SPEED_UP = 12.0
_BASE_GIB = 0.7
"""The engine with its libraries."""

# Seconds on two CPU cores: for each step of training a fixed part and one for each million pixels or each
# hundred thousand Gaussians, and a share for everything around the training. From resources/benchmarks.
_TISSUE_STEP_S = 0.012
_TISSUE_STEP_PER_MPX_S = 0.45
_TISSUE_PREPARE_PER_MPX_S = 0.9
_VESSEL_STEP_S = 0.004
_VESSEL_STEP_PER_MPX_S = 0.09
_VESSEL_PRODUCTS_PER_MVOXEL_S = 0.9
_FDK_PER_MPX_MVOXEL_S = 0.02
_STILL_STEP_S = {"pulled_surface": 0.25, "completed_object": 0.25}


@dataclass(frozen=True)
class Estimate:
    """seconds and gib of one run; both are rough."""

    seconds: float
    gib: float

    def text(self) -> str:
        """In words."""
        minutes = self.seconds / 60
        time = f"{max(1, round(self.seconds / 10) * 10)} s" if minutes < 1.5 else f"{minutes:.0f} min"
        return f"about {time}, about {max(1.0, self.gib):.1f} GiB of memory"


def estimate(
    method: str, config: Mapping[str, Any], frames: int, width_px: int, height_px: int, on_gpu: bool
) -> Estimate:
    """The estimate for a method's settings and an input of that size."""
    megapixels = width_px * height_px / 1e6
    all_megapixels = megapixels * frames
    views_per_step = int(config.get("views_per_step", config.get("frames_per_step", 1)))
    steps = int(config.get("steps", 0)) * views_per_step
    if method == "dynamic_tissue":
        train = steps * (_TISSUE_STEP_S + _TISSUE_STEP_PER_MPX_S * megapixels)
        around = _TISSUE_PREPARE_PER_MPX_S * all_megapixels + 8
        gib = _BASE_GIB + all_megapixels * (12 + 8 + 4 + 2) / 1024 + 0.4
    elif method == "dynamic_vessels":
        side = min(256, max(width_px, height_px))
        voxels = side**3 / 1e6
        shrink = float(config.get("finest_bin", 1)) ** 2
        train = steps * (_VESSEL_STEP_S + _VESSEL_STEP_PER_MPX_S * megapixels / shrink)
        around = _VESSEL_PRODUCTS_PER_MVOXEL_S * voxels + 12
        gib = _BASE_GIB + all_megapixels * 16 / 1024 + voxels * 40 / 1024
    elif method in _STILL_STEP_S:
        steps = sum(int(v) for k, v in config.items() if k.endswith("_steps"))
        train = steps * _STILL_STEP_S[method]
        around = 40.0
        gib = _BASE_GIB + all_megapixels * 20 / 1024 + 0.6
    else:
        side = min(256, max(width_px, height_px))
        voxels = side**3 / 1e6
        train = _FDK_PER_MPX_MVOXEL_S * all_megapixels * voxels
        around = _VESSEL_PRODUCTS_PER_MVOXEL_S * voxels + 8
        gib = _BASE_GIB + all_megapixels * 16 / 1024 + voxels * 40 / 1024
    return Estimate((train / _GPU_SPEED_UP if on_gpu else train) + around, gib)

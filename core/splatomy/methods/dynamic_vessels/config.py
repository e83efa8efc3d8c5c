"""Settings of the 4D radiative Gaussians."""

from dataclasses import dataclass, replace
from typing import Literal

from splatomy.method import setting

_COARSEST_BIN = 8


@dataclass(frozen=True)
class Config:
    """Settings of the 4D radiative Gaussians."""

    steps: int = setting(10000, 20, 1_000_000, "steps", "Training steps")
    views_per_step: int = setting(
        1, 1, 1024, "views", "Views in the mean loss of a step; replicas share them"
    )
    seed: int = setting(0, 0, 2**31 - 1, "", "Random seed; the run's own seed replaces it")
    field: Literal["curves", "grid"] = setting("curves", doc="Per-Gaussian curves, or the paper's hash grids")
    num_start: int = setting(30000, 10, 2_000_000, "", "Gaussians drawn from the filtered back-projection")
    max_gaussians: int = setting(200000, 100, 20_000_000, "", "Growth stops at this many")
    spline_s: float = setting(0.5, 0.01, 60.0, "s", "Time between the splines of each curve")
    coarsest_bin: int = setting(4, 1, 16, "px", "Detector binning at the start of training")
    finest_bin: int = setting(1, 1, 16, "px", "Detector binning at the end of training")
    min_scale_voxels: float = setting(0.4, 1e-3, 10.0, "voxels", "Smallest standard deviation")
    max_scale_voxels: float = setting(4.0, 0.1, 100.0, "voxels", "Largest standard deviation")
    robust_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of the noise-aware robust loss")
    robust_knee: float = setting(3.0, 0.1, 100.0, "sigma", "Where the robust loss turns linear")
    l1_weight: float = setting(0.0, 0.0, 100.0, "", "Weight of the paper's L1 loss")
    dssim_weight: float = setting(0.0, 0.0, 100.0, "", "Weight of the paper's D-SSIM loss")
    sparsity: float = setting(0.01, 0.0, 10.0, "", "Weight of the total attenuation, against haze")
    roughness: float = setting(0.05, 0.0, 100.0, "", "Weight of the curves' second differences")
    kinship: float = setting(0.3, 0.0, 100.0, "", "Weight of curves that differ from their neighbours'")
    time_jitter_views: float = setting(1.0, 0.0, 5.0, "views", "Time perturbation of the grid field")
    position_rate: float = setting(1e-4, 1e-8, 1.0, "volume sizes/step", "Start rate of positions")
    scale_rate: float = setting(5e-3, 1e-8, 1.0, "1/step", "Start rate of log scales")
    rotation_rate: float = setting(1e-3, 1e-8, 1.0, "1/step", "Start rate of quaternions")
    curve_rate: float = setting(2e-2, 1e-8, 10.0, "1/step", "Start rate of the curves")
    grid_rate: float = setting(1e-3, 1e-8, 1.0, "1/step", "Start rate of the grid field")
    log2_table: int = setting(16, 8, 22, "", "Size of the grid field's tables, as a power of two")
    grow_every: int = setting(200, 10, 10000, "steps", "Density control interval")
    grow_until: float = setting(0.6, 0.0, 1.0, "", "Share of the steps after which nothing grows")
    grow_share: float = setting(0.01, 0.0, 1.0, "", "Share of the Gaussians that may grow at a time")
    prune_snr: float = setting(0.2, 0.0, 100.0, "sigma", "Drop Gaussians whose peak shadow is fainter")
    residual_seeds: int = setting(2, 0, 20, "", "Times that Gaussians are added where residuals point")
    snapshot_every_s: float = setting(5.0, 0.1, 600.0, "s", "Time between snapshots")


def halved(config: Config) -> Config | None:
    """Half the Gaussians, compared with pictures of half the side; None = hardly any pixels are left."""
    finest_bin = 2 * config.finest_bin
    if finest_bin > _COARSEST_BIN:
        return None
    return replace(
        config,
        finest_bin=finest_bin,
        coarsest_bin=max(config.coarsest_bin, finest_bin),
        num_start=max(10, config.num_start // 2),
        max_gaussians=max(100, config.max_gaussians // 2),
    )

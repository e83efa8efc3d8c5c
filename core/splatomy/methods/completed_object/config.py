"""Settings of the completed object."""

from dataclasses import dataclass, replace

from splatomy.method import setting

_FEWEST_RAYS = 32


@dataclass(frozen=True)
class Config:
    """Settings of the completed object."""

    coarse_steps: int = setting(600, 10, 1_000_000, "steps", "Steps of the smooth field alone")
    fine_steps: int = setting(2400, 0, 1_000_000, "steps", "Steps of both fields")
    seed: int = setting(0, 0, 2**31 - 1, "", "Random seed; the run's own seed replaces it")
    longest_side_px: int = setting(640, 16, 8192, "px", "Larger pictures are binned for training")
    rays: int = setting(512, 16, 65_536, "", "Rays of a step, half of them on the object")
    samples: int = setting(24, 8, 256, "", "Samples of a ray")
    levels: int = setting(9, 2, 16, "", "Levels of the fine field's hash grid")
    log2_table: int = setting(16, 10, 24, "", "Logarithm of the entries of each level")
    rate: float = setting(2e-3, 1e-6, 1.0, "1/step", "Start rate of the networks; it falls to a twentieth")
    table_rate: float = setting(1e-2, 1e-6, 1.0, "1/step", "Start rate of the hash grid")
    first_sharpness: float = setting(20.0, 1.0, 1e4, "1/sphere", "Steepness of the surface at the start")
    last_sharpness: float = setting(200.0, 1.0, 1e4, "1/sphere", "Steepness of the surface at the end")
    synthetic_weight: float = setting(
        0.3, 0.0, 1.0, "", "Weight of colours and outlines filled by given weights; seen have 1"
    )
    synthetic_depth: float = setting(0.03, 0.0, 1.0, "", "Weight of invented depth; measured depth has 1")
    colour_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of colours that differ")
    silhouette_weight: float = setting(0.5, 0.0, 100.0, "", "Weight of outlines that differ")
    depth_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of depths that differ")
    near_weight: float = setting(3.0, 0.0, 100.0, "", "Weight of the field's distance to measured depth")
    free_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of matter before measured depth")
    eikonal_weight: float = setting(0.1, 0.0, 100.0, "", "Weight of slopes other than one")
    normal_weight: float = setting(0.1, 0.0, 100.0, "", "Weight of normals that differ from given ones")
    smooth_weight: float = setting(0.01, 0.0, 100.0, "", "Weight of normals that turn from place to place")
    photometric_weight: float = setting(
        0.1, 0.0, 100.0, "", "Weight of surface points that look different in two pictures"
    )
    semantic_weight: float = setting(
        0.1, 0.0, 100.0, "", "Weight of new views that CLIP finds unlike the object (with weights)"
    )
    symmetry_weight: float = setting(
        0.5,
        0.0,
        1.0,
        "",
        "Weight of what a symmetry of the object says of its hidden parts; 0 = off",
    )
    semantic_every: int = setting(20, 1, 100_000, "steps", "Steps between two new views for CLIP")
    band: float = setting(0.12, 0.01, 1.0, "spheres", "How far from measured depth the field is told it")
    mesh_resolution: int = setting(192, 16, 2048, "cells", "Cells of the mesh's grid along the longest side")
    snapshot_every_s: float = setting(10.0, 0.1, 600.0, "s", "Time between snapshots")


def halved(config: Config) -> Config | None:
    """Half the rays of a step; None = there are hardly any left."""
    rays = config.rays // 2
    return replace(config, rays=rays) if rays >= _FEWEST_RAYS else None

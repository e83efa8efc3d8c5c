"""Settings of the pulled surface."""

from dataclasses import dataclass, replace
from typing import Literal

from splatomy.method import setting

_FEWEST = 2000


@dataclass(frozen=True)
class Config:
    """Settings of the pulled surface."""

    splat_steps: int = setting(2000, 10, 1_000_000, "steps", "Steps with Gaussians alone, one picture each")
    joint_steps: int = setting(
        3000, 10, 1_000_000, "steps", "Steps in which Gaussians and field pull each other"
    )
    finish_steps: int = setting(
        0, 0, 1_000_000, "steps", "Last steps, for the pictures alone: the surface stays as it is"
    )
    seed: int = setting(0, 0, 2**31 - 1, "", "Random seed; the run's own seed replaces it")
    field: Literal["hash", "mlp"] = setting(
        "hash", doc="Hash grid with a small network, or the paper's network"
    )
    signed: bool = setting(True, doc="Inside and outside; false for open sheets without a back")
    longest_side_px: int = setting(640, 32, 8192, "px", "Larger pictures are binned for training")
    start_points: int = setting(30_000, 100, 5_000_000, "", "Gaussians at the start, at most")
    max_surfels: int = setting(100_000, 100, 20_000_000, "", "Growth stops at this many")
    sh_degree: int = setting(1, 0, 3, "", "Highest degree of view-dependent colour")
    background: Literal["auto", "black", "white", "none"] = setting(
        "auto", doc="What lies behind the object; none: everything in the pictures belongs to the scene"
    )
    dssim_weight: float = setting(0.2, 0.0, 1.0, "", "Share of the structural loss")
    mask_weight: float = setting(
        0.3, 0.0, 100.0, "", "Weight of silhouettes that differ from the object's masks"
    )
    depth_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of measured depth, relative")
    normal_weight: float = setting(0.05, 0.0, 10.0, "", "Weight of normals that disagree with the depth")
    distortion_weight: float = setting(10.0, 0.0, 1e5, "", "Weight of hits spread along a ray")
    thin_weight: float = setting(1.0, 0.0, 1e4, "", "Weight of the Gaussians' thickness")
    tangent_weight: float = setting(
        0.1, 0.0, 100.0, "", "Weight of Gaussians that are not tangent to the surface"
    )
    pull_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of queries that miss their Gaussian's disk")
    zero_weight: float = setting(0.3, 0.0, 100.0, "", "Weight of the field's value at the Gaussians")
    surface_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of the field's value where pictures see")
    centre_weight: float = setting(0.1, 0.0, 100.0, "", "Weight of Gaussians off the surface")
    orthogonal_weight: float = setting(
        0.05, 0.0, 100.0, "", "Weight of the field's slope off the disk's normal"
    )
    eikonal_weight: float = setting(0.1, 0.0, 100.0, "", "Weight of slopes other than one")
    space_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of matter where cameras look through")
    set_weight: float = setting(0.0, 0.0, 100.0, "", "Weight of the released code's point-set distance")
    constant_disk: bool = setting(False, doc="The released code's constant disk in place of the real one")
    render_pulled: bool = setting(True, doc="Pictures are made of the pulled Gaussians, and teach the field")
    render_every: int = setting(3, 1, 1000, "steps", "Joint steps between two that render a picture")
    queries: int = setting(4096, 64, 1_000_000, "", "Points pulled in each joint step")
    levels: int = setting(10, 4, 16, "", "Levels of the hash grid")
    log2_table: int = setting(17, 10, 24, "", "Logarithm of the entries of each level")
    field_rate: float = setting(2e-3, 1e-6, 1.0, "1/step", "Start rate of the field")
    position_rate: float = setting(0.4, 1e-6, 10.0, "spacings/100 steps", "Start rate of positions")
    freed_rate: float = setting(
        20.0, 1e-6, 1000.0, "spacings/100 steps", "Start rate of positions in the last steps"
    )
    fadings: int = setting(2, 0, 100, "", "Times that all disks are made faint in the last steps")
    grow_every: int = setting(100, 10, 10_000, "steps", "Density control interval")
    grow_share: float = setting(0.15, 0.0, 1.0, "", "Share of the Gaussians that may split at a time")
    prune_opacity: float = setting(0.05, 0.0, 1.0, "", "Fainter Gaussians are dropped")
    mesh_resolution: int = setting(256, 16, 2048, "cells", "Cells of the mesh's grid along the longest side")
    mesh_level: float = setting(0.0, -0.1, 0.1, "cubes", "Value of the field on the mesh")
    trim: bool = setting(True, doc="Faces that no picture shows are dropped, unless they close the object")
    snapshot_every_s: float = setting(10.0, 0.1, 600.0, "s", "Time between snapshots")


def halved(config: Config) -> Config | None:
    """Half the Gaussians and half the points of a step; None = there are hardly any left."""
    if config.max_surfels < _FEWEST or config.queries < _FEWEST:
        return None
    return replace(
        config,
        start_points=max(100, config.start_points // 2),
        max_surfels=config.max_surfels // 2,
        queries=config.queries // 2,
    )

"""Settings of the deforming surfels."""

from dataclasses import dataclass, replace
from typing import Literal

from splatomy.method import setting

_COARSEST_BIN = 4


@dataclass(frozen=True)
class Config:
    """Settings of the deforming surfels."""

    steps: int = setting(2500, 20, 1_000_000, "steps", "Training steps")
    frames_per_step: int = setting(
        1, 1, 1024, "frames", "Frames in the mean loss of a step; replicas share them"
    )
    seed: int = setting(0, 0, 2**31 - 1, "", "Random seed; the run's own seed replaces it")
    deformation: Literal["nodes", "curves"] = setting(
        "nodes", doc="Motion by shared control nodes, or by the paper's curve for each surfel"
    )
    track_start: bool = setting(True, doc="Start the motion from optical flow and depth")
    spacing_px: float = setting(2.0, 1.0, 32.0, "px", "Distance of neighbouring surfels at the start")
    max_surfels: int = setting(60_000, 100, 20_000_000, "", "Growth stops at this many")
    opacity_start: float = setting(0.7, 0.01, 0.99, "", "Opacity of new surfels")
    sh_degree: int = setting(0, 0, 3, "", "Highest degree of view-dependent colour")
    node_spacing: float = setting(0.025, 0.005, 0.5, "image widths", "Distance of neighbouring nodes")
    frames_per_spline: float = setting(1.0, 0.5, 50.0, "frames", "Frames to each time spline of a node")
    num_bases: int = setting(17, 2, 200, "", "Bump functions of each of the paper's curves")
    curve_width: float = setting(0.1, 1e-4, 1.0, "clip lengths", "Start width of the paper's bumps")
    finest_bin: int = setting(1, 1, 8, "px", "Binning of the images that the surfels are compared with")
    coarse_share: float = setting(
        0.3, 0.0, 0.9, "", "Share of the steps on images of half the size, at the start"
    )
    propagated_weight: float = setting(
        0.5, 0.0, 1.0, "", "Weight of hidden pixels filled with tissue that other frames show"
    )
    synthesised_weight: float = setting(0.1, 0.0, 1.0, "", "Weight of hidden pixels that were made up")
    highlight_weight: float = setting(0.5, 0.0, 1.0, "", "Weight of mirrored light")
    colour_knee: float = setting(0.02, 1e-5, 1.0, "", "Colour error from which the loss is linear")
    dssim_weight: float = setting(0.1, 0.0, 10.0, "", "Weight of the structural loss")
    depth_weight: float = setting(1.0, 0.0, 100.0, "", "Start weight of the relative inverse depth")
    normal_weight: float = setting(0.02, 0.0, 10.0, "", "Weight of normals that disagree with the depth")
    distortion_weight: float = setting(0.0, 0.0, 1e4, "", "Weight of hits spread along a ray")
    hole_weight: float = setting(0.2, 0.0, 100.0, "", "Weight of the bending of depth that nothing measured")
    opacity_weight: float = setting(0.01, 0.0, 1.0, "", "Weight of rays that pass through the tissue")
    roughness: float = setting(1e-2, 0.0, 100.0, "", "Weight of the nodes' bending over time")
    rigidity: float = setting(1e-4, 0.0, 100.0, "", "Weight of nodes that move unlike their neighbours")
    position_rate: float = setting(0.02, 1e-8, 10.0, "px/step", "Start rate of positions")
    scale_rate: float = setting(5e-3, 1e-8, 1.0, "1/step", "Start rate of log scales")
    rotation_rate: float = setting(
        2e-3, 1e-8, 1.0, "1/step", "Start rate of quaternions, and of the paper's curves"
    )
    opacity_rate: float = setting(0.02, 1e-8, 1.0, "1/step", "Start rate of opacity logits")
    colour_rate: float = setting(0.01, 1e-8, 1.0, "1/step", "Start rate of colours")
    motion_rate: float = setting(0.05, 1e-8, 10.0, "px/step", "Start rate of the deformation")
    grow_every: int = setting(100, 10, 10000, "steps", "Density control interval")
    grow_until: float = setting(0.6, 0.0, 1.0, "", "Share of the steps after which nothing grows")
    grow_share: float = setting(0.05, 0.0, 1.0, "", "Share of the surfels that may split at a time")
    prune_opacity: float = setting(0.02, 0.0, 1.0, "", "Surfels fainter than this are dropped")
    default_focal: float = setting(
        0.9, 0.1, 10.0, "image widths", "Focal length that is assumed when no camera is known"
    )
    snapshot_every_s: float = setting(5.0, 0.1, 600.0, "s", "Time between snapshots")


def halved(config: Config) -> Config | None:
    """Half the surfels, compared with pictures of half the side; None = hardly any pixels are left."""
    finest_bin = 2 * config.finest_bin
    if finest_bin > _COARSEST_BIN:
        return None
    return replace(config, finest_bin=finest_bin, max_surfels=max(100, config.max_surfels // 2))

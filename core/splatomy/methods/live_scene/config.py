"""Settings of the live reconstruction."""

from dataclasses import dataclass, replace
from typing import Literal

from splatomy.method import setting

_LEAST_LEARN_PX, _LEAST_TRACK_PX, _LEAST_SURFELS = 64, 32, 500


@dataclass(frozen=True)
class Config:
    """Settings of the live reconstruction."""

    seed: int = setting(0, 0, 2**31 - 1, "", "Random seed; the run's own seed replaces it")
    profile: Literal["rigid", "deforming"] = setting(
        "rigid", doc="Tissue that keeps its shape, or that is bent by shared control nodes in every frame"
    )
    poses: Literal["track", "given"] = setting(
        "track", doc="Find the camera in every frame, or believe the poses that come with the frames"
    )
    prior_weight: float = setting(
        1.0, 0.0, 1e4, "", "Weight of a given pose against the picture, when the camera is tracked"
    )
    working_distance: float = setting(
        60.0, 1.0, 1000.0, "mm", "Assumed distance of the tissue when no depth has a scale"
    )
    default_focal: float = setting(
        0.9, 0.1, 10.0, "image widths", "Focal length that is assumed when no camera is known"
    )
    track_px: int = setting(160, 32, 1280, "px", "Width of the finest picture that the camera is tracked in")
    steps_per_frame: int = setting(4, 1, 200, "steps", "Mapping steps after each frame at full service")
    budget_s: float = setting(
        0.33, 0.005, 60.0, "s", "Time after which no further mapping step begins for a frame at the real rate"
    )
    learn_px: int = setting(320, 64, 2048, "px", "Width of the picture that the map is compared with")
    spacing_px: float = setting(1.5, 1.0, 16.0, "px", "Distance of new surfels in a frame 160 px wide")
    max_surfels: int = setting(150_000, 500, 5_000_000, "", "The map never holds more")
    max_new_surfels: int = setting(20_000, 100, 1_000_000, "", "Most surfels that a frame may add")
    max_keyframes: int = setting(96, 4, 4096, "", "Keyframes that are kept against forgetting")
    keyframe_distance: float = setting(
        0.06, 0.001, 1.0, "median depths", "Way of the camera from which a frame becomes a keyframe"
    )
    keyframe_angle: float = setting(8.0, 0.1, 90.0, "degrees", "Turn from which a frame becomes a keyframe")
    keyframe_new_share: float = setting(
        0.05, 0.001, 1.0, "", "Share of unmapped picture from which a frame becomes a keyframe"
    )
    keyframe_longest_s: float = setting(2.0, 0.1, 60.0, "s", "Longest time between keyframes")
    lost_after: int = setting(10, 1, 1000, "frames", "Bad frames in a row after which the camera is lost")
    submap_after_s: float = setting(
        6.0, 0.5, 600.0, "s", "Time of good pictures without a known place after which a new map begins"
    )
    depth_sigma: float = setting(
        0.01, 1e-4, 0.2, "depths", "Expected error of the depth that comes with frames"
    )
    colour_sigma: float = setting(0.04, 1e-3, 1.0, "", "Expected error of rendered brightness")
    depth_weight: float = setting(1.0, 0.0, 100.0, "", "Weight of depths against colours in the map")
    dssim_weight: float = setting(0.0, 0.0, 1.0, "", "Weight of the structural loss in the map")
    keep_gain: float = setting(3.0, 1.0, 20.0, "", "Weight of regions that the surgeon wants kept well")
    node_spacing: float = setting(
        0.12, 0.02, 1.0, "median depths", "Distance of neighbouring control nodes of the deforming profile"
    )
    node_steps: int = setting(2, 1, 50, "steps", "Steps that fit the deformation of each frame")
    rigidity: float = setting(0.5, 0.0, 1e3, "", "Weight of nodes that move unlike their neighbours")
    position_rate: float = setting(0.05, 1e-6, 10.0, "px/step", "Rate of positions")
    scale_rate: float = setting(5e-3, 1e-8, 1.0, "1/step", "Rate of log scales")
    rotation_rate: float = setting(2e-3, 1e-8, 1.0, "1/step", "Rate of quaternions")
    opacity_rate: float = setting(0.05, 1e-8, 1.0, "1/step", "Rate of opacity logits")
    colour_rate: float = setting(0.01, 1e-8, 1.0, "1/step", "Rate of colours")
    prune_opacity: float = setting(0.05, 0.0, 1.0, "", "Surfels fainter than this are dropped")
    refine_passes: int = setting(
        1, 0, 100, "", "Visits to each keyframe after the last frame of a recording, when nobody waits"
    )
    snapshot_every_s: float = setting(5.0, 0.05, 600.0, "s", "Time between snapshots of a recording's run")
    publish_every_s: float = setting(0.5, 0.02, 60.0, "s", "Time between snapshots for those who look on")
    mesh_every_s: float = setting(5.0, 0.5, 600.0, "s", "Time between mesh previews")
    checkpoint_every_s: float = setting(
        45.0, 1.0, 60.0, "s", "Time between checkpoints: what a crash may cost"
    )
    keep_every_s: float = setting(0.5, 0.02, 60.0, "s", "Time between frames kept for an offline run")
    late_after_s: float = setting(0.6, 0.02, 60.0, "s", "Age of a frame from which the session sheds load")


def halved(config: Config, width_px: int | None = None) -> Config | None:
    """Half the surfels, and pictures of half the side; None = hardly any pixels are left.

    width_px: of the frames, where it is known: wider pictures than these are not made.
    """
    widest = config.learn_px if width_px is None else min(config.learn_px, width_px)
    if widest // 2 < _LEAST_LEARN_PX:
        return None
    tracked = config.track_px if width_px is None else min(config.track_px, width_px)
    return replace(
        config,
        learn_px=widest // 2,
        track_px=max(_LEAST_TRACK_PX, tracked // 2),
        max_surfels=max(_LEAST_SURFELS, config.max_surfels // 2),
        max_new_surfels=max(_LEAST_SURFELS, config.max_new_surfels // 2),
    )

"""Reconstruction while the video arrives: tracking, mapping and publishing frame by frame."""

from splatomy.capture import Modality
from splatomy.method import MethodSpec

_GPU = {
    "track_px": 320,
    "learn_px": 640,
    "max_surfels": 400_000,
    "max_new_surfels": 100_000,
    "budget_s": 0.032,
}
"""For a CUDA device: all that a frame of 640 x 512 shows, within the time that 25 frames/s leave."""

METHOD = MethodSpec(
    name="live_scene",
    title="Live surfels that grow with the video (after DynamicSurg3D)",
    modality=Modality.COLOUR,
    requires=("depth_mm",),
    abilities=frozenset({"render", "surface"}),
    config="splatomy.methods.live_scene.config:Config",
    reconstruct="splatomy.methods.live_scene.method:reconstruct",
    load_scene="splatomy.methods.live_scene.model:load_scene",
    presets={
        "draft": {"steps_per_frame": 2, "learn_px": 160, "track_px": 96},
        "standard": {},
        "best": {"steps_per_frame": 10, "learn_px": 640, "track_px": 320, "max_surfels": 600_000},
        "deforming": {"profile": "deforming"},
        "gpu": _GPU,
        "gpu-deforming": {**_GPU, "profile": "deforming", "budget_s": 0.05},
    },
    halved="splatomy.methods.live_scene.config:halved",
    citation="DynamicSurg3D; the online method follows EndoGSLAM (MICCAI 2024) and Endo-2DTAM",
)

"""A whole object from views in which other things hide parts of it."""

from splatomy.capture import Modality
from splatomy.method import MethodSpec

METHOD = MethodSpec(
    name="completed_object",
    title="Completed object (O2-Recon)",
    modality=Modality.COLOUR,
    requires=("cameras", "target"),
    abilities=frozenset({"render", "surface"}),
    still=True,
    config="splatomy.methods.completed_object.config:Config",
    halved="splatomy.methods.completed_object.config:halved",
    reconstruct="splatomy.methods.completed_object.method:reconstruct",
    load_scene="splatomy.methods.completed_object.model:load_scene",
    presets={
        "draft": {
            "coarse_steps": 300,
            "fine_steps": 900,
            "longest_side_px": 320,
            "rays": 320,
            "samples": 20,
            "mesh_resolution": 128,
            "levels": 8,
        },
        "standard": {},
        "best": {
            "coarse_steps": 3000,
            "fine_steps": 17_000,
            "longest_side_px": 1300,
            "rays": 2048,
            "samples": 48,
            "levels": 11,
            "log2_table": 19,
            "last_sharpness": 600.0,
            "mesh_resolution": 384,
        },
    },
    citation="O2-Recon: completing 3D reconstruction of occluded objects with a pre-trained 2D diffusion "
    "model, AAAI 2024",
)

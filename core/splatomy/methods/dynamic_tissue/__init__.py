"""Deforming tissue as moving surfels, with the instruments taken out."""

from splatomy.capture import Modality
from splatomy.method import MethodSpec

METHOD = MethodSpec(
    name="dynamic_tissue",
    title="Deforming 2D Gaussian surfels (Diff2DGS)",
    modality=Modality.COLOUR,
    requires=("depth_mm",),
    abilities=frozenset({"render", "surface"}),
    config="splatomy.methods.dynamic_tissue.config:Config",
    halved="splatomy.methods.dynamic_tissue.config:halved",
    reconstruct="splatomy.methods.dynamic_tissue.method:reconstruct",
    load_scene="splatomy.methods.dynamic_tissue.model:load_scene",
    follow="splatomy.methods.dynamic_tissue.method:follow",
    shared="frames_per_step",
    presets={
        "draft": {"steps": 600, "dssim_weight": 0.0},
        "standard": {},
        "best": {"steps": 8000, "spacing_px": 1.6, "max_surfels": 200_000},
        "paper": {
            "deformation": "curves",
            "curve_width": 0.01,
            "track_start": False,
            "steps": 3000,
            "coarse_share": 0.0,
            "dssim_weight": 0.0,
            "sh_degree": 3,
            "normal_weight": 0.0,
            "hole_weight": 0.0,
            "highlight_weight": 1.0,
            "depth_weight": 10.0,
            "propagated_weight": 1.0,
            "synthesised_weight": 1.0,
            "opacity_start": 0.1,
            "max_surfels": 500_000,
        },
    },
    citation="Diff2DGS: occluded surgical scenes with diffusion and 2D Gaussian splatting, RA-L 2026",
)

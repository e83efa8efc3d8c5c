"""4D radiative Gaussians of contrast-filled vessels."""

from splatomy.capture import Modality
from splatomy.method import MethodSpec

METHOD = MethodSpec(
    name="dynamic_vessels",
    title="4D radiative Gaussians (4DRGS)",
    modality=Modality.ATTENUATION,
    requires=("cameras", "grid"),
    abilities=frozenset({"render", "volume"}),
    config="splatomy.methods.dynamic_vessels.config:Config",
    halved="splatomy.methods.dynamic_vessels.config:halved",
    reconstruct="splatomy.methods.dynamic_vessels.method:reconstruct",
    load_scene="splatomy.methods.dynamic_vessels.model:load_scene",
    follow="splatomy.methods.dynamic_vessels.method:follow",
    shared="views_per_step",
    presets={
        "draft": {
            "steps": 1200,
            "num_start": 15000,
            "finest_bin": 2,
            # So few steps are over before slow growth gets anywhere, and before curves take up much noise.
            "grow_share": 0.02,
            "kinship": 0.1,
        },
        "standard": {},
        "best": {"steps": 12000, "num_start": 40000},
        "paper": {
            "field": "grid",
            "steps": 30000,
            "robust_weight": 0.0,
            "l1_weight": 0.8,
            "dssim_weight": 0.2,
            "sparsity": 0.0,
            "residual_seeds": 0,
            "coarsest_bin": 1,
            "min_scale_voxels": 0.1,
            "grow_share": 0.04,
        },
    },
    citation="4DRGS: 4D Radiative Gaussian Splatting for Efficient 3D Vessel Reconstruction, IPMI 2025",
)

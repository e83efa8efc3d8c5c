"""Feldkamp reconstruction: what a scanner's static 3D-DSA does."""

from splatomy.capture import Modality
from splatomy.method import MethodSpec

METHOD = MethodSpec(
    name="fdk",
    title="Filtered back-projection (FDK)",
    modality=Modality.ATTENUATION,
    requires=("cameras", "grid"),
    abilities=frozenset({"render", "volume"}),
    config="splatomy.methods.fdk.config:Config",
    halved="splatomy.methods.fdk.config:halved",
    reconstruct="splatomy.methods.fdk.method:reconstruct",
    load_scene="splatomy.fields.voxels:load_voxel_scene",
    presets={"draft": {"bin_volume": 2}, "standard": {}, "best": {"cutoff": 0.8}},
    citation="Feldkamp, Davis, Kress: Practical cone-beam algorithm. J. Opt. Soc. Am. A 1 (1984)",
)

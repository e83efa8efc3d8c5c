"""Classical 4D-DSA: a static volume modulated by each frame's projection."""

from splatomy.capture import Modality
from splatomy.method import MethodSpec

METHOD = MethodSpec(
    name="classical_4d",
    title="Classical 4D-DSA (multiplicative back-projection)",
    modality=Modality.ATTENUATION,
    requires=("cameras", "grid"),
    abilities=frozenset({"render", "volume"}),
    config="splatomy.methods.classical_4d.config:Config",
    halved="splatomy.methods.classical_4d.config:halved",
    reconstruct="splatomy.methods.classical_4d.method:reconstruct",
    load_scene="splatomy.fields.voxels:load_voxel_scene",
    presets={"draft": {"bin_volume": 2}, "standard": {}, "best": {"blur_px": 1.0}},
    citation="Davis et al.: 4D digital subtraction angiography. AJNR 34 (2013)",
)

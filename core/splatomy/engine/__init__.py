"""The engine: opens an input, drives a method, and keeps the run folder."""

from splatomy.engine.evaluation import evaluate
from splatomy.engine.loading import load_scene
from splatomy.engine.measuring import VolumeRequest, measure_volume
from splatomy.engine.opening import capture_from_dsa, default_method, open_capture
from splatomy.engine.own_input import find_own_input, recorded_options
from splatomy.engine.products import ProductOptions, make_products, vessels_of, write_vessels
from splatomy.engine.request import RunRequest
from splatomy.engine.running import run

__all__ = [
    "ProductOptions",
    "RunRequest",
    "VolumeRequest",
    "capture_from_dsa",
    "default_method",
    "evaluate",
    "find_own_input",
    "load_scene",
    "make_products",
    "measure_volume",
    "open_capture",
    "recorded_options",
    "run",
    "vessels_of",
    "write_vessels",
]

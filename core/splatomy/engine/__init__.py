"""The engine: opens an input, drives a method, and keeps the run folder."""

from splatomy.engine.evaluation import evaluate
from splatomy.engine.loading import load_scene
from splatomy.engine.opening import capture_from_dsa, open_capture
from splatomy.engine.products import ProductOptions, make_products, vessels_of, write_vessels
from splatomy.engine.running import RunRequest, run

__all__ = [
    "ProductOptions",
    "RunRequest",
    "capture_from_dsa",
    "evaluate",
    "load_scene",
    "make_products",
    "open_capture",
    "run",
    "vessels_of",
    "write_vessels",
]

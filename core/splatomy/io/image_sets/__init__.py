"""Pictures of one still scene from many sides, in the layouts of the field, as one Capture.

``layouts`` finds out what a folder is, one module each reads COLMAP, NeuS/DTU, NeRF, Middlebury and RGB-D
folders, ``load`` reads the pixels.
"""

from splatomy.io.image_sets.layouts import image_set_reader, image_set_source
from splatomy.io.image_sets.load import load_image_set
from splatomy.io.image_sets.report import ImageSetReport, inspect_image_set, shows_occluder
from splatomy.io.image_sets.source import ImageSetInput, ImageSetSource, View
from splatomy.io.image_sets.write import write_object_folder, write_object_truth

__all__ = [
    "ImageSetInput",
    "ImageSetReport",
    "ImageSetSource",
    "View",
    "image_set_reader",
    "image_set_source",
    "inspect_image_set",
    "load_image_set",
    "shows_occluder",
    "write_object_folder",
    "write_object_truth",
]

"""An input as plain pictures, for front ends that cannot read video, DICOM or the published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splatomy.capture import Capture, Modality
from splatomy.engine.opening import open_source
from splatomy.events import Progress, Task
from splatomy.geometry.conebeam import gantry_angles_rad, isocentre_mm
from splatomy.io.atomic import write_json
from splatomy.io.options import InputOptions
from splatomy.io.picture import write_array, write_png
from splatomy.io.views import Views, write_views

UNPACKED_FILES = ("frames.json", "views.json", "pictures", "occluded", "target", "line_integrals.npy")


def unpacked(path: Path, options: InputOptions, out: Path) -> Task[Path]:
    """The folder ``out`` with the frames of an input, as a method would see them; frames.json comes last.

    A clip becomes pictures/NUMBER.png, a DSA run line_integrals.npy (T, H, W) float32. occluded/NUMBER.png
    (255 = hidden), target/NUMBER.png (255 = the wanted object of an image set, of the views whose mask was
    given) and views.json (cameras) are there when they are known.

    Raises:
        InputError: the input cannot be used.
    """
    capture, clip = yield from open_source(path, options)
    count = len(capture)
    is_colour = capture.modality is Modality.COLOUR
    given = capture.details.get("has_target", [True] * count)
    for index in range(count):
        yield Progress("unpack", index, count)
        if is_colour:
            picture = np.rint(np.clip(np.asarray(capture.images[index]), 0, 1) * 255).astype(np.uint8)
            write_png(out / "pictures" / f"{index:06d}.png", picture)
        if capture.occluded is not None:
            hidden = np.where(capture.occluded[index], np.uint8(255), np.uint8(0))
            write_png(out / "occluded" / f"{index:06d}.png", hidden)
        if is_colour and capture.target is not None and given[index]:
            wanted = np.where(capture.target[index], np.uint8(255), np.uint8(0))
            write_png(out / "target" / f"{index:06d}.png", wanted)
    if not is_colour:
        write_array(out / "line_integrals.npy", np.asarray(capture.images[..., 0], np.float32))
    yield Progress("unpack", count, count)
    if capture.cameras is not None:
        positioner = bool(capture.details.get("positioner_angles"))
        views = Views(capture.cameras, capture.times_s, capture.grid, positioner)
        write_views(out / "views.json", views)
    frames = list(range(count)) if clip is None else clip.frames.tolist()
    write_json(out / "frames.json", {**_about(capture), "frames": frames})
    return out


def _about(capture: Capture) -> dict[str, object]:
    """What frames.json says of the capture; primary and secondary angles, null when unknown."""
    angles = None
    positioner = bool(capture.details.get("positioner_angles"))
    if capture.modality is Modality.ATTENUATION and capture.cameras is not None:
        primary, secondary = np.degrees(gantry_angles_rad(capture.cameras, isocentre_mm(capture.cameras))).T
        if positioner:
            # See io.dicom_xa: positive = LAO and cranial.
            primary, secondary = (primary + 90) % 360 - 180, -secondary
        # Adding zero turns -0.0 into 0.0.
        angles = (np.stack([primary, secondary], -1).round(4) + 0.0).tolist()
    _, height, width, _ = capture.images.shape
    return {
        "contract": 1,
        "modality": str(capture.modality),
        "width_px": width,
        "height_px": height,
        "times_s": capture.times_s.tolist(),
        "metric": capture.metric,
        "world": capture.world,
        "masks": capture.occluded is not None,
        "angles": "positioner" if positioner else "gantry",
        "angles_deg": angles,
        "layout": str(capture.details.get("layout", "")),
        "names": capture.details.get("names"),
        "straightened": "lens distortion removed" in capture.provenance,
        "problems": list(capture.problems),
    }

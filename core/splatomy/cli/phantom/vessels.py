"""The vessel phantom on the command line: a DSA run as a case folder, with truth/."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from splatomy.background import beside
from splatomy.events import Progress, Task
from splatomy.io.dsa import write_case
from splatomy.io.truth import Truth, write_truth
from splatomy.io.volume import read_volume
from splatomy.phantoms.vessels import VesselPhantom, make_vessels


def write_vessel_phantom(case: Path, phantom: VesselPhantom) -> None:
    """The phantom as a case folder with truth/."""
    shifted = not np.allclose(phantom.cameras.camera_from_world, phantom.nominal_cameras.camera_from_world)
    write_case(
        case,
        phantom.mask_run,
        phantom.fill_run,
        phantom.times_s,
        phantom.primary_rad,
        phantom.secondary_rad,
        phantom.source_to_isocentre_mm,
        phantom.source_to_detector_mm,
        (phantom.pixel_mm, phantom.pixel_mm),
        phantom.grid,
        phantom.cameras if shifted else None,
    )
    label = replace(phantom.volume_mean, values=phantom.label.astype(np.float32))
    truth = Truth(
        phantom.volume_mean,
        label,
        phantom.arrival,
        phantom.surface,
        phantom.projections,
        phantom.centreline_mm,
        phantom.radius_mm,
    )
    write_truth(case / "truth", truth, {"volume": "mean over time", "provenance": list(phantom.provenance)})


def written_vessels(case: Path, preset: str, seed: int, volume: Path | None = None) -> Task[None]:
    """Simulates the run and writes it.

    volume: vessels of the user's own, an image or a label.

    Raises:
        InputError: no such preset, or the volume cannot be read.
    """
    given = None if volume is None else read_volume(volume)
    phantom = yield from make_vessels(preset, seed, given)
    yield from beside("write", 0, 1, partial(write_vessel_phantom, case, phantom))
    yield Progress("write", 1, 1)

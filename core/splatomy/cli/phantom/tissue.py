"""The tissue phantom on the command line: a clip in a published layout, with truth/."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from splatomy.background import beside
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.endonerf import write_endonerf
from splatomy.io.stereomis import write_stereomis
from splatomy.io.truth_endoscopy import write_tissue_truth
from splatomy.phantoms.tissue import TissuePhantom, make_tissue

Layout = Literal["endonerf", "stereomis"]


def write_tissue_phantom(case: Path, phantom: TissuePhantom, layout: Layout) -> Task[None]:
    """The phantom as an input folder of a published layout, with truth/.

    Raises:
        InputError: StereoMIS without a second eye.
    """
    yield Progress("write", 0, 1)
    if layout == "endonerf":
        depth = phantom.observed_depth_mm
        work = partial(
            write_endonerf, case, phantom.images, phantom.times_s, phantom.cameras, phantom.occluded, depth
        )
    elif phantom.images_right is None:
        raise InputError(
            "The StereoMIS layout needs two eyes, which this phantom has not: expected --layout endonerf."
        )
    else:
        k = phantom.cameras.intrinsics[0]
        right_from_left = np.eye(4)
        right_from_left[0, 3] = -phantom.baseline_mm
        lens = Lens(k, np.zeros(5))
        calibration = Calibration(lens, lens, right_from_left)
        work = partial(
            write_stereomis,
            case, phantom.images, phantom.images_right, phantom.times_s, phantom.cameras, calibration,
            phantom.occluded,
        )  # fmt: skip
    yield from beside("write", 0, 1, work)
    yield Progress("write", 1, 1)
    yield from write_tissue_truth(
        case / "truth",
        phantom.rgb,
        phantom.depth_mm,
        phantom.occluded,
        phantom.never_seen,
        phantom.mesh(0),
        phantom.vertices_mm,
        phantom.cameras,
        phantom.times_s,
        {
            "provenance": list(phantom.provenance),
            "instrument_diameter_mm": phantom.instrument_diameter_mm,
            "baseline_mm": phantom.baseline_mm,
        },
    )


def written_tissue(case: Path, preset: str, seed: int, layout: Layout) -> Task[None]:
    """Simulates the clip and writes it."""
    phantom = yield from make_tissue(preset, seed)
    yield from write_tissue_phantom(case, phantom, layout)

"""The tissue phantom on the command line, and the demo that is made from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from splatomy.cli.phantom_folder import own_folder
from splatomy.cli.progress import drive
from splatomy.engine import RunRequest, run
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.endonerf import write_endonerf
from splatomy.io.stereomis import write_stereomis
from splatomy.io.truth_endoscopy import write_tissue_truth
from splatomy.phantoms.tissue import TissuePhantom, make_tissue

Layout = Literal["endonerf", "stereomis"]
DEMO_FILES = ("case", "run")
_SHOWN = (
    "psnr", "psnr_masked", "psnr_hidden", "psnr_hidden_seen", "psnr_zero_filled", "ssim", "depth_mae_mm",
    "depth_rmse_mm", "depth_rmse_clipped_mm", "depth_hidden_mae_mm", "chamfer_mean_mm", "flicker",
)  # fmt: skip


def write_tissue_phantom(case: Path, phantom: TissuePhantom, layout: Layout) -> Task[None]:
    """The phantom as an input folder of a published layout, with truth/.

    Raises:
        InputError: StereoMIS without a second eye.
    """
    yield Progress("write", 0, 1)
    if layout == "endonerf":
        depth = phantom.observed_depth_mm
        write_endonerf(case, phantom.images, phantom.times_s, phantom.cameras, phantom.occluded, depth)
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
        write_stereomis(
            case, phantom.images, phantom.images_right, phantom.times_s, phantom.cameras, calibration,
            phantom.occluded,
        )  # fmt: skip
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


def endoscopy_demo(out: Path, seed: int) -> Task[Path]:
    """A stereo clip, its reconstruction, and both against the truth; the report."""
    case = out / "case"
    # Stereo, so that depth is found in noisy pictures and not handed over from the simulation.
    yield from written_tissue(case, "demo", seed, "stereomis")
    request = RunRequest(
        source=case,
        out=out / "run",
        method="dynamic_tissue",
        preset="draft",
        seed=seed,
        force=True,
        truth=case / "truth",
    )
    folder = yield from run(request)
    return folder.path / "report.html"


def demo_endoscopy(out: Path, seed: int) -> None:
    """Makes the demo and prints its figures."""
    own_folder(out, True, DEMO_FILES, "an earlier demo")
    report = drive(endoscopy_demo(out, seed))
    figures = json.loads((out / "run" / "evaluation.json").read_text())
    for key in _SHOWN:
        value = figures.get(key)
        sys.stdout.write(f"{key:<24} {'-' if value is None else f'{value:.3f}':>10}\n")
    sys.stdout.write(f"Report: {report}\n")

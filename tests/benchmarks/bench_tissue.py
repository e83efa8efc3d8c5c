"""Quality and time of ``dynamic_tissue`` on the tissue phantom.

``python tests/benchmarks/bench_tissue.py [--preset draft] [--phantom demo] [CASE ...]``

Cases: ``filled`` = true colours inside the holes, ``bare`` = no inpainting; the others are ``filled`` with
settings changed, see CASES.
Depths hold the instruments, as a sensor's do. Prints a table and updates
resources/benchmarks/tissue_cpu.json (or tissue_cuda.json). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import numpy as np
import torch

from splatomy.capture import Capture, Modality
from splatomy.events import finish
from splatomy.method import find_method, load_symbol, make_config
from splatomy.metrics.endoscopy import depth_metrics, hidden_metrics, unsteadiness
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue

FOLDER = Path(__file__).parents[2] / "resources" / "benchmarks"
CASES: dict[str, dict[str, Any]] = {
    "filled": {},
    "bare": {},
    "curves": {"deformation": "curves"},
    "still": {"track_start": False},
    "flat_motion": {"frames_per_spline": 8.0},
    "little_depth": {"depth_weight": 0.1},
    "no_regularity": {"normal_weight": 0.0, "hole_weight": 0.0, "opacity_weight": 0.0},
}


def capture_of(phantom: TissuePhantom, filled: bool) -> Capture:
    """What a camera and a depth sensor see; ``filled`` = an inpainting that is right everywhere."""
    images, synthetic = phantom.images, None
    if filled:
        images = np.where(phantom.occluded[..., None], phantom.rgb, images)
        synthetic = phantom.occluded & phantom.never_seen
    return Capture(
        Modality.COLOUR,
        images,
        phantom.times_s,
        cameras=phantom.cameras,
        occluded=phantom.occluded,
        synthetic=synthetic,
        depth_mm=phantom.observed_depth_mm,
    )


def bench(phantom: TissuePhantom, case: str, preset: str, device: torch.device) -> dict[str, Any]:
    """Figures of one case."""
    spec = find_method("dynamic_tissue")
    config = make_config(spec, preset, CASES[case])
    capture = capture_of(phantom, case != "bare")
    start, start_processor = time.perf_counter(), time.process_time()
    scene = finish(load_symbol(spec.reconstruct)([capture], config, device))
    row: dict[str, Any] = {
        "case": case,
        "preset": preset,
        "surfels": len(scene.surfels["means_mm"]),
        "wall_s": time.perf_counter() - start,
        "processor_s": time.process_time() - start_processor,
    }
    found = scene.render(phantom.cameras, phantom.times_s)
    row |= hidden_metrics(found.colour, phantom.rgb, phantom.occluded, phantom.never_seen)
    row["unsteadiness"] = unsteadiness(found.colour, phantom.rgb, phantom.occluded)
    for name, where in (("", None), ("visible_", ~phantom.occluded), ("hidden_", phantom.occluded)):
        figures = depth_metrics(found.depth_mm, phantom.depth_mm, where)
        row |= {name + key: value for key, value in figures.items()}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=["filled", "bare"])
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--phantom", default="demo", choices=PRESETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    phantom = finish(make_tissue(replace(PRESETS[options.phantom], baseline_mm=0.0), options.seed))
    out = FOLDER / f"tissue_{torch.device(options.device).type}.json"
    record = json.loads(out.read_text()) if out.exists() else {}
    print(
        f"{'case':22}{'PSNR':>7}{'seen':>7}{'hidden':>8}{'RMSE mm':>9}{'hidden':>8}{'worst':>7}{'CPU s':>8}"
    )
    for case in options.cases:
        row = bench(phantom, case, options.preset, torch.device(options.device))
        print(
            f"{case:22}{row['psnr']:7.2f}{row['psnr_masked']:7.2f}{row['psnr_hidden']:8.2f}"
            f"{row['depth_rmse_mm']:9.3f}{row['hidden_depth_rmse_mm']:8.3f}{row['depth_worst_mm']:7.2f}"
            f"{row['processor_s']:8.1f}"
        )
        record[f"{options.phantom}, seed {options.seed}, {options.preset}, {case}"] = row
        record["machine"] = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_at_end": round(os.getloadavg()[0], 2),
            "torch": torch.__version__,
            "software": splatomy.__version__,
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

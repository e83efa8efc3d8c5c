"""Quality and time of ``dynamic_tissue`` on the tissue phantom.

``python tests/benchmarks/bench_tissue.py [--preset draft] [--phantom demo] [CASE ...]``

Cases: ``filled`` = true colours inside the holes, ``bare`` = no inpainting; the others are ``filled`` with
settings changed, see CASES.
Depths hold the instruments, as a sensor's do. Prints a table, under each row what the start took by stages
(``taskset -c 0`` before the command lends one core), and updates resources/benchmarks/tissue_cpu.json (or
tissue_cuda.json). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import itertools
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
from splatomy.events import Progress, Snapshot, finish
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


def rates(scene: Any, phantom: TissuePhantom, rounds: int = 100) -> dict[str, float]:
    """Novel views of 1280 x 1024 a second: as arrays on the host, and drawn alone; moving camera and time."""
    camera = phantom.cameras[0]
    k = camera.intrinsics * np.array([[[1280 / camera.width_px], [1024 / camera.height_px], [1.0]]])
    camera = replace(camera, intrinsics=k, width_px=1280, height_px=1024)
    times = np.linspace(*scene.time_range_s, rounds)
    found = {}
    for name, draw in (
        ("views_per_s", lambda t: scene.render(camera, t)),
        ("drawn_per_s", lambda t: scene._draw(camera, 0, scene.surfels_at(t))),
    ):
        for timed in (False, True):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for t in times:
                draw(float(t))
            torch.cuda.synchronize()
            if timed:
                found[name] = rounds / (time.perf_counter() - begun)
    return found


def bench(
    phantom: TissuePhantom, case: str, preset: str, device: torch.device, settings: dict[str, Any]
) -> dict[str, Any]:
    """Figures of one case."""
    spec = find_method("dynamic_tissue")
    config = make_config(spec, preset, {**CASES[case], **settings})
    capture = capture_of(phantom, case != "bare")
    start, start_processor = time.perf_counter(), time.process_time()
    task, trains = load_symbol(spec.reconstruct)([capture], config, device), start
    stages: dict[str, float] = {}
    last, stage = start, "footage"
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            scene = stop.value
            break
        now = time.perf_counter()
        # What passes before a stage's first event belongs to the stage before.
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now
        stage = event.stage if isinstance(event, Progress | Snapshot) else stage
        if isinstance(event, Snapshot) and event.step == 0:
            trains = time.perf_counter()
    row: dict[str, Any] = {
        "case": case,
        "preset": preset,
        "settings": settings,
        "surfels": len(scene.surfels["means_mm"]),
        "wall_s": time.perf_counter() - start,
        "train_s": time.perf_counter() - trains,
        "start_s": trains - start,
        "stages_s": stages,
        "processor_s": time.process_time() - start_processor,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
    }
    scene = scene.on(device)
    if device.type == "cuda":
        row |= rates(scene, phantom)
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
    parser.add_argument(
        "--set", nargs="*", default=[""], help="settings of a run, as a=1,b=2; one word a run"
    )
    options = parser.parse_args()
    phantom = finish(make_tissue(replace(PRESETS[options.phantom], baseline_mm=0.0), options.seed))
    out = FOLDER / f"tissue_{torch.device(options.device).type}.json"
    record = json.loads(out.read_text()) if out.exists() else {}
    print(
        f"{'case':22}{'PSNR':>7}{'seen':>7}{'hidden':>8}{'RMSE mm':>9}{'hidden':>8}{'worst':>7}{'CPU s':>8}"
        f"{'s':>8}{'train s':>8}{'views/s':>8}{'drawn/s':>8}"
    )
    for case, words in itertools.product(options.cases, options.set):
        settings = dict(word.split("=") for word in words.split(",") if word)
        row = bench(phantom, case, options.preset, torch.device(options.device), settings)
        print(
            f"{case:22}{row['psnr']:7.2f}{row['psnr_masked']:7.2f}{row['psnr_hidden']:8.2f}"
            f"{row['depth_rmse_mm']:9.3f}{row['hidden_depth_rmse_mm']:8.3f}{row['depth_worst_mm']:7.2f}"
            f"{row['processor_s']:8.1f}{row['wall_s']:8.1f}{row['train_s']:8.1f}"
            f"{row.get('views_per_s', 0):8.1f}{row.get('drawn_per_s', 0):8.1f}  {words}",
            flush=True,
        )
        start = ", ".join(f"{name} {s:.2f}" for name, s in row["stages_s"].items() if name != "train")
        print(f"    start {row['start_s']:.2f} s: {start}", flush=True)
        name = f"{options.phantom}, seed {options.seed}, {options.preset}, {case}"
        record[f"{name}, {words}" if words else name] = row
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

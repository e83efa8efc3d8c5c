"""``dynamic_vessels`` on a CUDA device: ``python tests/benchmarks/bench_vessels_gpu.py [--seeds 101]``.

The set-up of bench_hard_dsa.py (phantom ``hard``, 30 of 133 views, 280^3 voxels) without files, so that it
runs where torch and numba alone are installed. For each seed and setting: training time and rate, time of one
voxelised volume, Dice at the own and at the best level, and held-out views against noise-free line integrals.
``--surfaces`` (needs vtk and trimesh) adds distances between the vessels' walls, the recall of thin vessels
and the error of arrival times. Prints a table and writes resources/benchmarks/vessels_gpu.json. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import numpy as np
import torch

from splatomy.capture import Capture, Grid, Modality
from splatomy.events import Progress, finish
from splatomy.extract.timemaps import vessel_time_maps
from splatomy.extract.vessels import VesselLabel, vessel_label
from splatomy.method import find_method, load_symbol, make_config
from splatomy.metrics.image import image_metrics
from splatomy.metrics.volume import dice, dice_best, recall_by_radius, time_error_s
from splatomy.phantoms.vessels import VesselPhantom, make_vessels
from splatomy.prepare.subtract import SubtractConfig, subtract
from splatomy.scene import Volume

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "vessels_gpu.json"
_HELD_OUT = 24
_TIMES = 46


def _capture(phantom: Any) -> Capture:
    product = finish(subtract(phantom.mask_run, phantom.fill_run, SubtractConfig()))
    return Capture(
        Modality.ATTENUATION,
        product.line_integrals[..., None],
        phantom.times_s,
        cameras=phantom.nominal_cameras,
        occluded=product.occluded,
        noise_std=product.noise_std,
        grid=phantom.grid,
    )


def _trained(capture: Capture, settings: dict[str, Any], preset: str, device: torch.device) -> dict[str, Any]:
    """One training: the scene, seconds, steps a second (the first ones, which compile, left out)."""
    spec = find_method("dynamic_vessels")
    config = make_config(spec, preset, settings)
    task = load_symbol(spec.reconstruct)([capture], config, device)
    start = time.perf_counter()
    marks = []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            scene = stop.value
            break
        if isinstance(event, Progress) and event.stage == "train":
            marks.append((event.step, time.perf_counter()))
    seconds = time.perf_counter() - start
    early = next((m for m in marks if m[0] > 0.1 * config.steps), marks[0])
    rate = (marks[-1][0] - early[0]) / max(marks[-1][1] - early[1], 1e-9)
    return {"scene": scene, "seconds": seconds, "steps_per_s": rate, "config": asdict(config)}


def _surfaces(scene: Any, volume: Volume, found: VesselLabel, phantom: VesselPhantom) -> dict[str, Any]:
    """Figures of walls and times, as ``splatomy evaluate`` has them."""
    from splatomy.extract.mesh import vessel_surface
    from splatomy.metrics.surface import point_metrics, sample_surface

    walls = sample_surface(vessel_surface(found)), sample_surface(phantom.surface, seed=1)
    far = point_metrics(*walls, ())
    times = np.linspace(phantom.times_s[0], phantom.times_s[-1], _TIMES)
    maps = vessel_time_maps(((float(t), scene.volume(phantom.grid, float(t)).values) for t in times), found)
    line = phantom.centreline_mm, phantom.radius_mm
    figures = {
        "chamfer_sum_mm": far["chamfer_sum_mm"],
        "hd95_mm": far["hd95_mm"],
        "recall_thin": recall_by_radius(found.label, volume.affine_mm, *line, below_mm=0.5),
        "arrival_error_s": time_error_s(maps.arrival_s, phantom.arrival.values, phantom.label > 0),
    }
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in figures.items()}


def main() -> None:
    """Runs every seed with every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[101])
    parser.add_argument("--phantom", default="hard")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--views", type=int, default=30)
    parser.add_argument(
        "--set", nargs="*", default=[""], help="settings of a run, as a=1,b=2; one word a run"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--surfaces", action="store_true", help="figures of walls and times too")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rows = []
    for seed in arguments.seeds:
        phantom = finish(make_vessels(arguments.phantom, seed))
        capture = _capture(phantom)
        count = len(capture)
        train = np.floor(np.arange(arguments.views) * count / arguments.views).astype(int)
        held = np.setdiff1d(np.arange(count), train)
        held = held[np.unique(np.linspace(0, len(held) - 1, _HELD_OUT).astype(int))]
        for words in arguments.set:
            settings = dict(word.split("=") for word in words.split(",") if word)
            found = _trained(capture.frames(train), settings, arguments.preset, device)
            scene = found.pop("scene")
            scene = scene.on(device)
            grid = Grid.centred((256,) * 3, tuple(np.ptp(phantom.grid.bounds_mm, 0) / 256))
            cubes = []
            for _ in range(4):
                begun = time.perf_counter()
                scene.volume(grid, None)
                cubes.append(time.perf_counter() - begun)
            volume = scene.volume(phantom.grid, None)
            vessels = vessel_label(volume, None, local=True)
            best, level = dice_best(volume.values, phantom.label)
            views = [
                scene.render(capture.cameras[int(t)], float(capture.times_s[t])).colour[0, ..., 0]
                for t in held
            ]
            image = image_metrics(np.stack(views), phantom.projections[held])
            row = {
                "seed": seed,
                "settings": words,
                "device": name,
                "train_s": round(found["seconds"], 2),
                "steps_per_s": round(found["steps_per_s"], 1),
                "volume_256_s": round(min(cubes), 4),
                "gaussians": len(scene.means_mm),
                "dice_own": round(float(dice(vessels.label, phantom.label)), 4),
                "dice_best": round(float(best), 4),
                "dice_best_level": float(level),
                "psnr": round(float(image["psnr"]), 2),
                **(_surfaces(scene, volume, vessels, phantom) if arguments.surfaces else {}),
                "software": splatomy.__version__,
                "config": found["config"],
            }
            rows.append(row)
            shown = {k: v for k, v in row.items() if k not in ("config", "software", "device")}
            print(json.dumps(shown), flush=True)
            OUT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

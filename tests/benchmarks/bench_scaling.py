"""One case on several replicas: ``python tests/benchmarks/bench_scaling.py [--device cuda]``.

The same steps of the same number of views, shared by more and more processes: steps per second, efficiency
(how much of N times the rate of one process is reached), what an all-reduce moves and the time it takes.
Prints the table and writes resources/benchmarks/scaling.json and scaling.md; rows of other devices that were
measured before stay, and those of GPUs that nobody measured say so. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import numpy as np
import torch

from splatomy.capture import Capture, Modality
from splatomy.events import Progress, finish
from splatomy.method import find_method, make_config
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.phantoms.vessels import PRESETS as VESSELS
from splatomy.phantoms.vessels import make_vessels
from splatomy.replicas.leading import replicated

ROOT = Path(__file__).parents[2]
OUT = ROOT / "resources" / "benchmarks"
METHODS = ("dynamic_vessels", "dynamic_tissue")
COUNTS = (1, 2, 4)
_WARM_SHARE = 0.2
"""Of the steps, left out of the rates: kernels are loaded and caches filled in them."""
HEAD = (
    "| method | device | replicas | steps/s | efficiency | all-reduced per step | share of the time in it "
    "| fastest sum | Gaussians, difference | measured |\n|---|---|---|---|---|---|---|---|---|---|\n"
)
TEXT = """# Scaling over replicas

Made by `python tests/benchmarks/bench_scaling.py --device cuda` (or `cpu`). Every row trains the same case
with the same {batch} views a step, which the replicas share; efficiency: steps/s over N times those of one
replica. Difference: the root mean square of what the scene's arrays differ by from the first training by one
replica, over that of the arrays, of the array that differs most; in the row of one replica it is that of a
second such training, since GPUs add in another order every time.

A step sums one flat float32 bucket over the replicas: the gradient of every parameter and the statistics of
density control; for vessels it also takes the largest of their peak densities. The size follows from the
number of Gaussians alone, not from the pictures. A ring all-reduce over N replicas moves 2 (N - 1) / N times
that out of each. The share of the time holds the wait for the slowest replica, whose views may show more; the
fastest sum of a run, in which nobody waited for long, is about what the exchange itself takes. Decisions of
density control are sent every few hundred steps, one byte for each Gaussian and decision.

Rows on the CPU check the function alone: all replicas share the cores that one has to itself.
"""


def _vessels(preset: str) -> Capture:
    phantom = finish(make_vessels(SHARED_VESSELS if preset == "shared" else preset, 0))
    return Capture(
        Modality.ATTENUATION,
        phantom.projections[..., None],
        phantom.times_s,
        cameras=phantom.cameras,
        noise_std=np.full(phantom.projections.shape, 0.005, np.float32),
        grid=phantom.grid,
    )


def _tissue(preset: str) -> Capture:
    chosen = SHARED_TISSUE if preset == "shared" else PRESETS[preset]
    phantom = finish(make_tissue(replace(chosen, baseline_mm=0.0), 0))
    known = {"occluded": phantom.occluded, "depth_mm": phantom.observed_depth_mm}
    return Capture(Modality.COLOUR, phantom.images, phantom.times_s, cameras=phantom.cameras, **known)


SHARED_VESSELS = replace(
    VESSELS["hard"], frames=48, grid_shape=(140, 140, 140), voxel_mm=0.8, num_trees=1, background=False
)
SHARED_TISSUE = replace(PRESETS["hard"], frames=24, width_px=640, height_px=512, node_mm=2.0)
"""Views of more than 512 by 512 px, that many of them and objects so simple that they are soon made."""
STARTS: dict[str, dict[str, Any]] = {
    "dynamic_vessels": {"num_start": 60_000},
    "dynamic_tissue": {"max_surfels": 150_000, "track_start": False},
}
"""More Gaussians than usual, so that there is something to share."""
MAKERS: dict[str, Callable[[str], Capture]] = {"dynamic_vessels": _vessels, "dynamic_tissue": _tissue}


def _trained(
    method: str, capture: Capture, settings: dict[str, Any], device: str, count: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of one training, and the arrays of its scene."""
    spec = find_method(method)
    config = make_config(spec, "standard", settings)
    marks: list[tuple[int, float]] = []
    costs: list[dict[str, float]] = []
    task = replicated(spec, capture, config, torch.device(device), count)
    while True:
        try:
            event = next(task)
        except StopIteration as end:
            arrays: dict[str, Any] = end.value.state().arrays
            break
        if not isinstance(event, Progress) or "loss" not in event.metrics:
            continue
        marks.append((event.step, time.perf_counter()))
        if event.step > _WARM_SHARE * config.steps and "reduced_mb" in event.metrics:
            costs.append({**event.metrics, "span_s": marks[-1][1] - marks[-2][1]})
    first = next(mark for mark in marks if mark[0] >= _WARM_SHARE * config.steps)
    row: dict[str, Any] = {
        "steps_per_s": (marks[-1][0] - first[0]) / (marks[-1][1] - first[1]),
        "gaussians": len(next(array for name, array in arrays.items() if name.endswith("means_mm"))),
    }
    if costs:
        # The costs of an event are of the steps since the one before.
        spans = [c["span_s"] for c in costs]
        row |= {
            "reduced_mb": float(np.mean([c["reduced_mb"] for c in costs])),
            "reduce_share": float(np.average([c["reduce_share"] for c in costs], weights=spans)),
            "reduce_fastest_s": min(c["reduce_fastest_s"] for c in costs),
        }
    return row, arrays


def _difference(ours: dict[str, Any], first: dict[str, Any]) -> float | None:
    """How much two scenes differ, 0 = not at all; None when they do not have the same Gaussians."""
    if any(ours[name].shape != array.shape for name, array in first.items()):
        return None
    return max(
        float(np.linalg.norm(ours[name] - array) / max(np.linalg.norm(array), 1e-12))
        for name, array in first.items()
    )


def _commit() -> str:
    """The commit, with "+" when files differ from it."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _line(row: dict[str, Any]) -> str:
    start = f"| {row['method']} | {row['device']} | {row['replicas']} |"
    if "steps_per_s" not in row:
        return f"{start} not measured | | | | | | |\n"
    cost = " | | |"
    if "reduced_mb" in row:
        fastest_ms = 1e3 * row["reduce_fastest_s"]
        cost = f" {row['reduced_mb']:.2f} MB | {row['reduce_share']:.0%} | {fastest_ms:.2f} ms |"
    end = ""
    if "gaussians" in row:
        by = "others" if row["difference"] is None else f"{row['difference']:.1e}"
        end = f"{row['gaussians']:,}, {by}"
    measured = f"{row['date']}, {row['commit']}{', ' + row['note'] if row['note'] else ''}"
    return f"{start} {row['steps_per_s']:.1f} | {row['efficiency']:.0%} |{cost} {end} | {measured} |\n"


def _write(rows: list[dict[str, Any]]) -> None:
    """Both files: first what was measured on GPUs, or was not, then the CPU."""
    for method in METHODS:
        known = {r["replicas"] for r in rows if r["method"] == method and r["kind"] == "cuda"}
        for count in sorted({*COUNTS} - known):
            rows.append({"method": method, "kind": "cuda", "device": "GPU", "replicas": count})
    rows.sort(key=lambda r: (r["kind"] == "cpu", METHODS.index(r["method"]), r["replicas"]))
    batches = sorted({str(r["batch"]) for r in rows if "batch" in r})
    table = HEAD + "".join(map(_line, rows))
    print(table)
    measured = [r for r in rows if "steps_per_s" in r]
    (OUT / "scaling.json").write_text(json.dumps({"contract": 1, "rows": measured}, indent=1) + "\n")
    (OUT / "scaling.md").write_text(TEXT.format(batch=" or ".join(batches)) + "\n" + table)


def main() -> None:
    """Measures every method with every number of replicas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--replicas", nargs="+", type=int, default=list(COUNTS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--phantom", help="preset; without it shared on a GPU and tiny on the CPU")
    parser.add_argument("--batch", type=int, default=8, help="views a step")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--set", nargs="*", default=[], help="more settings, as a=1")
    parser.add_argument("--note", default="", help="for the table, such as what else the machine did")
    arguments = parser.parse_args()
    kind = torch.device(arguments.device).type
    phantom = arguments.phantom or ("shared" if kind == "cuda" else "tiny")
    there = torch.cuda.device_count() if kind == "cuda" else max(COUNTS)
    name = torch.cuda.get_device_name(arguments.device) if kind == "cuda" else f"CPU, {os.cpu_count()} cores"
    file = OUT / "scaling.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    for method in arguments.methods:
        shared = find_method(method).shared
        settings = {"steps": arguments.steps, shared: arguments.batch, "snapshot_every_s": 600.0}
        settings |= STARTS[method] if phantom == "shared" else {}
        settings |= dict(word.split("=") for word in arguments.set)
        capture = MAKERS[method](phantom)
        alone, scene = None, None
        for count in (n for n in arguments.replicas if n <= min(there, arguments.batch)):
            found, arrays = _trained(method, capture, settings, arguments.device, count)
            alone, scene = alone or found["steps_per_s"] / count, scene or arrays
            row = {
                "method": method,
                "kind": kind,
                "device": name,
                "replicas": count,
                "batch": arguments.batch,
                **found,
                "difference": _difference(arrays, scene),
                "efficiency": found["steps_per_s"] / (count * alone),
                "date": time.strftime("%Y-%m-%d"),
                "commit": _commit(),
                "software": splatomy.__version__,
                "note": arguments.note,
            }
            print(json.dumps(row), flush=True)
            rows = [r for r in rows if (r["method"], r["kind"], r["replicas"]) != (method, kind, count)]
            rows.append(row)
    _write(rows)


if __name__ == "__main__":
    main()

"""What completion adds to ``completed_object``: hidden parts of simulated objects against their truth.

``python tests/benchmarks/bench_completed_object.py [--seeds 21 22 23] [--shape body mirrored]``
``... --quick`` for a busy machine: fewer and smaller views, and a third of the steps of ``draft``
``... --preset standard --device cuda`` for a GPU: finer pictures too, and the whole of that preset

Shapes: ``body`` = no symmetry at all; ``mirrored`` = the same kind of body, its own mirror image by an
upright plane that nobody is told. Rows: ``released`` = hidden pixels count as "not the object", as in the
release without inpainting; ``unknown`` = hidden pixels teach nothing, and no symmetry is sought;
``completed`` = the hidden part drawn into three views and completed in all, symmetry where the seen surface
shows one, the rest bent as little as its rim allows.

Distances are those of truth vertices to 1.5 million points of the mesh (completeness) and back (accuracy).
"hidden" are vertices that the same views would show without the block and do not show with it, "near" those
of them that lie within ``NEAR`` radii of a seen vertex, "rim" those that a camera faces but sees too
obliquely, block or not, "never" those that no view faces.
Updates resources/benchmarks/completed_object.json. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import splatomy  # first: it sets how torch's idle threads wait

# isort: split

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree

from splatomy.capture import Capture, Modality
from splatomy.engine.completing import COARSE, complete_views
from splatomy.events import finish
from splatomy.geometry.rigid import rotation_from_vector
from splatomy.geometry.visibility import seen_vertices
from splatomy.method import find_method, load_symbol, make_config
from splatomy.metrics.surface import sample_surface
from splatomy.phantoms._object_shapes import bumpy_body
from splatomy.phantoms.object import OBJECT, PRESETS, ObjectPhantom, _seen, make_object
from splatomy.scene import Mesh

FILE = Path(__file__).parents[2] / "resources" / "benchmarks" / "completed_object.json"
ROWS = ("released", "unknown", "completed")
SIZE = {"views": 16, "width_px": 160, "height_px": 120, "focal_px": 140.0, "subrays": 1}
QUICK_SIZE = {**SIZE, "views": 12, "width_px": 112, "height_px": 84, "focal_px": 98.0}
FINE_SIZE = {"views": 24, "width_px": 480, "height_px": 360, "focal_px": 420.0, "subrays": 1}
QUICK: dict[str, Any] = {
    "coarse_steps": 130,
    "fine_steps": 230,
    "rays": 224,
    "samples": 18,
    "mesh_resolution": 96,
}
QUICK_COARSE = replace(COARSE, coarse_steps=200, rays=192, samples=18)
SAMPLES = 1_500_000
NEAR = 0.12


def mirrored_body(seed: int, radius_mm: float) -> Mesh:
    """A body of the phantom's kind that is its own mirror image by some upright plane."""
    rng = np.random.default_rng([seed, 11])
    body = bumpy_body(rng, radius_mm)
    directions = np.asarray(trimesh.creation.icosphere(subdivisions=6).vertices)
    across = np.array([1.0, -1.0, 1.0])
    _, image = cKDTree(directions).query(directions * across)
    vertices = np.asarray(body.vertices_mm, np.float64)
    vertices = (vertices + vertices[image] * across) / 2
    turn = rotation_from_vector(np.array([0.0, 0.0, rng.uniform(0, 2 * np.pi)]))
    return Mesh((vertices @ turn.T).astype(np.float32), body.faces)


def capture_of(phantom: ObjectPhantom, row: str, quick: bool, device: torch.device) -> Capture:
    """The views of a row; those to complete come with masks drawn into three of them."""
    p = phantom
    occluded = np.zeros_like(p.occluder) if row == "released" else p.occluder
    capture = Capture(
        Modality.COLOUR,
        p.images,
        np.zeros(len(p.images)),
        cameras=p.cameras,
        target=p.target,
        occluded=occluded,
        depth_mm=p.depth_mm,
    )
    if row != "completed":
        return capture
    whole = np.isfinite(p.true_depth_mm)
    chosen = np.linspace(0, len(whole) - 1, 5).astype(int)[1:-1]
    drawn = {int(t): whole[t] & ~p.target[t] for t in chosen}
    capture = replace(capture, details={"drawn_masks": drawn})
    with tempfile.TemporaryDirectory() as folder:
        everything = np.arange(len(whole))
        coarse = QUICK_COARSE if quick else COARSE
        return finish(complete_views(Path(folder), capture, everything, {}, str(device), coarse=coarse))


def figures(phantom: ObjectPhantom, mesh: Mesh) -> dict[str, float]:
    """Distances in mm."""
    truth = np.asarray(phantom.mesh.vertices_mm, np.float64)
    faced, bare = np.zeros(len(truth), np.bool_), np.zeros(len(truth), np.bool_)
    for t in range(len(phantom.images)):
        faced |= seen_vertices(truth, phantom.mesh.faces, phantom.cameras, t, 0.5)
        alone = phantom.true_depth_mm[t].astype(np.float64)
        part = np.where(np.isfinite(alone), OBJECT, -1).astype(np.int32)
        bare |= _seen(phantom.mesh, phantom.cameras[t], alone, part)
    seen = phantom.mesh.evidence > 0
    hidden = bare & ~seen
    near = hidden & (cKDTree(truth[seen]).query(truth)[0] < NEAR * np.linalg.norm(truth, axis=1).max())
    to_mesh, _ = cKDTree(sample_surface(mesh, SAMPLES)).query(truth)
    points = sample_surface(mesh, 60_000, 1)
    to_truth, _ = cKDTree(sample_surface(phantom.mesh, SAMPLES, 2)).query(points)
    return {
        "accuracy_mm": float(to_truth.mean()),
        "completeness_mm": float(to_mesh.mean()),
        "chamfer_mean_mm": float((to_truth.mean() + to_mesh.mean()) / 2),
        "completeness_seen_mm": float(to_mesh[seen].mean()),
        "completeness_hidden_mm": float(to_mesh[hidden].mean()),
        "completeness_hidden_near_mm": float(to_mesh[near].mean()),
        "completeness_rim_mm": float(to_mesh[faced & ~bare].mean()),
        "completeness_never_mm": float(to_mesh[~faced & ~seen].mean()),
        "hidden_share": float(hidden.mean()),
    }


def measured(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Figures of every shape, seed and row."""
    spec = find_method("completed_object")
    quick, device = options.quick, torch.device(options.device)
    changed = {"snapshot_every_s": 600.0, **(QUICK if quick else {})}
    size = QUICK_SIZE if quick else SIZE if options.preset == "draft" else FINE_SIZE
    preset = replace(PRESETS["demo_occluded"], arc_deg=options.arc, **size)
    label = "quick" if quick else options.preset
    if device.type == "cuda":
        label += f", {torch.cuda.get_device_name(device)}"
    for seed in options.seeds:
        for shape in options.shape:
            given = mirrored_body(seed, preset.radius_mm) if shape == "mirrored" else None
            phantom = finish(make_object(preset, seed, given))
            for row in options.rows:
                symmetry = {} if row == "completed" else {"symmetry_weight": 0.0}
                config = make_config(spec, options.preset, {**changed, **symmetry})
                start = time.perf_counter()
                capture = capture_of(phantom, row, quick, device)
                trained = time.perf_counter()
                scene = finish(load_symbol(spec.reconstruct)([capture], config, device))
                end = time.perf_counter()
                found: dict[str, Any] = {**figures(phantom, scene.surface(0.0))}
                found["seconds"], found["train_s"] = round(end - start, 1), round(end - trained, 1)
                found["symmetry"] = scene.state().values["symmetry"]
                yield f"{shape} {seed}, arc {options.arc:g}, {label}, {row}", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--arc", type=float, default=100.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--preset", choices=("draft", "standard", "best"), default="draft")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", nargs="+", choices=("body", "mirrored"), default=["body"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options = parser.parse_args()
    for name, found in measured(options):
        print(name, {k: v if isinstance(v, str) else round(v, 3) for k, v in found.items()}, flush=True)
        stored = json.loads(FILE.read_text()) if FILE.is_file() else {"cases": {}}
        stored["software"] = splatomy.__version__
        stored["machine"] = {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "note": "shared machine: seconds are upper bounds",
        }
        stored["cases"][name] = found
        FILE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

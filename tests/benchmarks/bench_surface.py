"""Quality and time of ``pulled_surface`` on object phantoms, beside TSDF fusion and Poisson of its Gaussians.

``python tests/benchmarks/bench_surface.py [--preset draft] [--phantoms demo,demo_occluded] [--seeds 11,12]``

All three meshes come from the same run: the distance field's zero set; the depths that the run's own
Gaussians show in the training views, fused; Poisson's surface of those depths, or of the Gaussians' centres
and normals. Of TSDF and Poisson several resolutions are tried and the one with the best Chamfer distance is
taken, a choice that no user has. Whole figures are measured against the whole object; the seen ones leave
out of the truth what no view shows. Every sixth view is held out. Prints a table and updates
resources/benchmarks/surfaces.json. Nothing is asserted.
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
import open3d
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.capture import Capture, Modality
from splatomy.events import finish
from splatomy.extract.mesh import largest_components
from splatomy.extract.open3d_baselines import poisson_mesh, tsdf_mesh
from splatomy.gaussians.density import rotate
from splatomy.method import find_method, load_symbol, make_config
from splatomy.methods.pulled_surface.model import PulledScene
from splatomy.metrics.surface import point_metrics, sample_surface
from splatomy.phantoms.object import ObjectPhantom, make_object
from splatomy.scene import Mesh

FOLDER = Path(__file__).parents[2] / "resources" / "benchmarks"
HOLD_EVERY = 6
_LEAST_PIECE = 0.02
_SOLID = 0.3


def capture_of(phantom: ObjectPhantom, views: NDArray[np.intp], depth: bool) -> Capture:
    """The chosen views with masks of the object and of what hides it."""
    whole = Capture(
        Modality.COLOUR,
        phantom.images,
        np.zeros(len(phantom.images)),
        cameras=phantom.cameras,
        occluded=phantom.occluder if phantom.occluder.any() else None,
        target=phantom.target,
        depth_mm=phantom.depth_mm if depth else None,
    )
    return whole.frames(views)


def centres_mesh(scene: PulledScene, capture: Capture, depth: int) -> Mesh:
    """Poisson's surface (Kazhdan and Hoppe 2013) of the solid Gaussians' centres and normals."""
    surfels = scene.surfels
    solid = 1 / (1 + np.exp(-surfels["opacity_logit"])) > _SOLID
    centres = surfels["means_mm"][solid] * scene.scale + scene.centre
    quats = torch.from_numpy(surfels["quats_wxyz"][solid])
    normals = rotate(quats, torch.tensor([[0.0, 0.0, 1.0]]).repeat(len(quats), 1)).numpy()
    assert capture.cameras is not None
    normals *= _outward(centres, normals, capture)[:, None]
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(centres))
    cloud.normals = open3d.utility.Vector3dVector(normals)
    mesh, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=depth, n_threads=1)
    return _ours(mesh)


def _outward(
    centres: NDArray[np.floating], normals: NDArray[np.floating], capture: Capture
) -> NDArray[np.floating]:
    """(N,) signs that turn normals to the camera that faces them most squarely."""
    assert capture.cameras is not None
    towards = capture.cameras.centres_mm[:, None] - centres
    towards /= np.linalg.norm(towards, axis=2, keepdims=True)
    # The rest of the object hides a point from the cameras behind it.
    middle = centres - centres.mean(0)
    outside = np.sign((normals * middle).sum(1))
    cosine = (towards * normals).sum(2)
    facing = np.take_along_axis(cosine, np.abs(cosine).argmax(0)[None], 0)[0]
    return np.where(np.abs((normals * middle).sum(1)) > 0.3 * np.linalg.norm(middle, axis=1), outside, facing)


def _ours(mesh: Any) -> Mesh:
    """An open3d mesh as ours."""
    found = Mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.triangles, np.int32).reshape(-1, 3))
    return largest_components(found, keep=0, min_area_share=_LEAST_PIECE)


def seen_part(truth: Mesh) -> Mesh:
    """The faces of which a view shows a corner."""
    assert truth.evidence is not None
    seen = truth.evidence[truth.faces].max(1) > 0
    return replace(truth, faces=truth.faces[seen])


def figures(mesh: Mesh, truth: Mesh) -> dict[str, float]:
    """Distances to the whole truth, and with the truth's unseen part left out of completeness."""
    points = sample_surface(mesh, seed=0)
    whole = point_metrics(points, sample_surface(truth, seed=1), (1.0,))
    to_mesh, _ = cKDTree(points).query(sample_surface(seen_part(truth), seed=1), workers=-1)
    completeness_seen = float(to_mesh.mean())
    return {
        "chamfer_mean_mm": whole["chamfer_mean_mm"],
        "accuracy_mm": whole["accuracy_mm"],
        "completeness_mm": whole["completeness_mm"],
        "fscore_1mm": whole["fscore_1mm"],
        "completeness_seen_mm": completeness_seen,
        "chamfer_seen_mm": (whole["accuracy_mm"] + completeness_seen) / 2,
    }


def held_out_psnr(scene: PulledScene, phantom: ObjectPhantom, views: NDArray[np.intp]) -> float:
    """Mean PSNR of held-out views in the object's box, black behind it, without hidden pixels."""
    found = []
    for t in views:
        target = phantom.target[t]
        rows, columns = np.flatnonzero(target.any(1)), np.flatnonzero(target.any(0))
        box = np.ix_(range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1))
        want = phantom.images[t] * target[..., None]
        have = scene.render(phantom.cameras[int(t)], 0.0).colour[0]
        visible = ~phantom.occluder[t][box]
        error = np.square(want - have)[box][visible].mean()
        found.append(-10 * np.log10(max(float(error), 1e-12)))
    return float(np.mean(found))


def run_case(name: str, seed: int, preset: str, depth: bool, settings: dict[str, Any]) -> dict[str, Any]:
    """One phantom: the three meshes' figures."""
    phantom = finish(make_object(name, seed))
    order = np.arange(len(phantom.images))
    held, train = order[3::HOLD_EVERY], order[np.arange(len(order)) % HOLD_EVERY != 3]
    capture = capture_of(phantom, train, depth)
    spec = find_method("pulled_surface")
    config = make_config(spec, preset, settings)
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scene = finish(load_symbol(spec.reconstruct)([capture], config, device))
    seconds = time.perf_counter() - started
    assert isinstance(scene, PulledScene) and scene.mesh is not None
    assert capture.cameras is not None
    cells = (64, 96, 128, 192)
    fused = [finish(tsdf_mesh(scene, capture.cameras, n)) for n in cells]
    solved = [finish(poisson_mesh(scene, capture.cameras, d)) for d in (6, 7, 8)]
    solved += [centres_mesh(scene, capture, d) for d in (6, 7, 8)]

    def best(tried: list[Mesh], by: str = "chamfer_mean_mm") -> dict[str, float]:
        kept = [largest_components(m, keep=0, min_area_share=_LEAST_PIECE) for m in tried]
        return min((figures(m, phantom.mesh) for m in kept), key=lambda f: f[by])

    return {
        "phantom": name,
        "seed": seed,
        "depth": depth,
        "preset": preset,
        "set": settings,
        "psnr": held_out_psnr(scene, phantom, held),
        "seconds": seconds,
        "surfels": len(scene.surfels["means_mm"]),
        "pulled": figures(scene.mesh, phantom.mesh),
        "tsdf": best(fused),
        "poisson": best(solved),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    head = (
        f"{'phantom':<16}{'seed':>5} {'mesh':<8}{'Chamfer':>9}{'accuracy':>10}{'complete':>10}{'F 1 mm':>8}"
        f"{'Chamfer seen':>14}{'held-out dB':>13}{'seconds':>9}"
    )
    lines = [head]
    for row in rows:
        for mesh in ("pulled", "tsdf", "poisson"):
            f = row[mesh]
            name = row["phantom"] + ("+depth" if row["depth"] else "")
            lines.append(
                f"{name:<16}{row['seed']:>5} {mesh:<8}{f['chamfer_mean_mm']:>9.3f}{f['accuracy_mm']:>10.3f}"
                f"{f['completeness_mm']:>10.3f}{f['fscore_1mm']:>8.3f}{f['chamfer_seen_mm']:>14.3f}"
                + (f"{row['psnr']:>13.2f}{row['seconds']:>9.0f}" if mesh == "pulled" else "")
            )
    return "\n".join(lines)


def main() -> None:
    """Runs the cases and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--phantoms", default="demo,demo_occluded,ring,occluded")
    parser.add_argument("--seeds", default="11,12")
    parser.add_argument("--depth", action="store_true", help="with the phantom's depth sensor")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    settings = dict(item.split("=", 1) for item in arguments.set)
    path = FOLDER / "surfaces.json"
    rows: list[dict[str, Any]] = []
    for name in arguments.phantoms.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            rows.append(run_case(name, seed, arguments.preset, arguments.depth, settings))
            print(table(rows[-1:]), flush=True)
            if not arguments.no_write:
                _write(path, rows[-1])
    print()
    print(table(rows))


def _write(path: Path, row: dict[str, Any]) -> None:
    """Adds a row, in place of an older one of the same phantom, seed, preset and settings."""
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    keys = ("phantom", "seed", "depth", "preset", "set")
    kept = [r for r in kept if any(r.get(k, {}) != row[k] for k in keys)]
    machine = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "splatomy": splatomy.__version__,
        "load_at_end": round(os.getloadavg()[0], 2),
    }
    rounded = json.loads(json.dumps({**row, **machine}), parse_float=lambda x: round(float(x), 4))
    rows = sorted([*kept, rounded], key=lambda r: [str(r.get(k, {})) for k in keys])
    path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

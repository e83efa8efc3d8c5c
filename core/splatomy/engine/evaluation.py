"""A run against exact truth."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.engine.holdout import training_frames
from splatomy.engine.loading import load_scene
from splatomy.engine.own_input import recorded_options
from splatomy.engine.surface_evaluation import SURFACE_PROTOCOLS, surface_figures
from splatomy.engine.tissue_evaluation import tissue_figures
from splatomy.engine.volume_evaluation import read_any_truth, volume_figures
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.dsa import Window
from splatomy.io.mesh import read_mesh
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder
from splatomy.io.truth_endoscopy import is_tissue_truth
from splatomy.metrics.image import image_metrics, psnr_minmax, ssim_minmax
from splatomy.metrics.surface import surface_metrics, vertex_metrics


def evaluate(
    folder: RunFolder, truth_path: Path, capture: Capture | None, protocol: str
) -> Task[dict[str, Any]]:
    """All figures that the truth allows, under the contract's names.

    capture: the run's input, for the held-out views; None leaves the image figures out.
    protocol: "default", or "4drgs" which adds the paper's variants (ICP, vertices, min-max images); of still
        scenes "dtu", "tnt" or "o2recon".

    Raises:
        InputError: the truth folder holds nothing to compare with, or does not match the run.
    """
    if "views" in folder.record():
        figures = yield from surface_figures(folder, truth_path, protocol)
        return {key: _plain(value) for key, value in figures.items()}
    if protocol in SURFACE_PROTOCOLS:
        raise InputError(
            f"The protocol {protocol} scores surfaces of still scenes: expected a run of an image set, got "
            f"{folder.path.name}. Choose another run, or leave --protocol out."
        )
    if is_tissue_truth(truth_path):
        figures = yield from tissue_figures(folder, truth_path)
        return {key: _plain(value) for key, value in figures.items()}
    if not (folder.path / "volumes" / "volume.nii.gz").is_file():
        raise InputError(
            f"{folder.path.name} holds no volume, since its run is {folder.record().get('state')}: expected "
            "a finished one. Start it again, or go on with --resume."
        )
    truth = read_any_truth(truth_path)
    found: dict[str, Any] = {}
    yield Progress("evaluate", 0, 3)
    if truth.label is not None or truth.volume is not None:
        figures, notices = yield from beside("evaluate", 0, 3, partial(volume_figures, folder, truth))
        found |= figures
        yield from notices
    yield Progress("evaluate", 1, 3)
    mesh_file = folder.path / "meshes" / "mesh.ply"
    if truth.mesh is not None and mesh_file.exists():
        mesh = read_mesh(mesh_file)
        found |= yield from beside("evaluate", 1, 3, partial(surface_metrics, mesh, truth.mesh))
        if protocol == "4drgs":
            work = partial(vertex_metrics, mesh, truth.mesh)
            theirs = yield from beside("evaluate", 1, 3, work)
            found |= {f"{key}_4drgs": value for key, value in theirs.items()}
    yield Progress("evaluate", 2, 3)
    if truth.projections is not None and capture is not None and capture.cameras is not None:
        yield from _image_figures(folder, truth.projections, capture, protocol, found)
    if not found:
        raise InputError(
            f"{truth_path.name} holds nothing to compare this run with: expected vessels.nii.gz, "
            "volume.nii.gz, mesh.ply or projections.npy. Give the truth folder that belongs to the input."
        )
    yield Progress("evaluate", 3, 3)
    return {key: _plain(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    number = float(value)
    return number if np.isfinite(number) else None


def _as_opened(projections: np.ndarray, options: InputOptions) -> np.ndarray:
    """The true projections (T, H, W) after the frames, crop and bin that the run's input was opened with."""
    frames, height, width = projections.shape
    start, stop, step = options.frames or (None, None, None)
    window = Window(np.arange(frames)[start:stop:step], options.crop or (0, 0, width, height), options.bin)
    return window.cut(projections[window.frames])


def _image_figures(
    folder: RunFolder, projections: np.ndarray, capture: Capture, protocol: str, found: dict[str, Any]
) -> Task[None]:
    """Held-out views against noise-free line integrals."""
    record = json.loads((folder.path / "run.json").read_text())
    train, held = training_frames(len(capture), record.get("num_views"))
    chosen = held if len(held) else train
    projections = _as_opened(projections, recorded_options(folder))
    if projections.shape != capture.images.shape[:3] or capture.cameras is None:
        yield Notice(
            "warning",
            "views-skipped",
            f"The held-out views were not measured: the truth has images of {projections.shape}, the input "
            f"of {capture.images.shape[:3]} (frames, rows, columns).",
        )
        return
    scene = load_scene(folder)
    rendered = []
    for n, frame in enumerate(chosen):
        image = scene.render(capture.cameras[int(frame)], float(capture.times_s[frame]))
        rendered.append(image.colour[0, ..., 0])
        yield Progress("held-out views", n + 1, len(chosen))
    count, stack = len(chosen), np.stack(rendered)
    work = partial(image_metrics, stack, projections[chosen])
    found |= yield from beside("held-out views", count, count, work)
    if protocol == "4drgs":
        for name, figure in (("psnr_4drgs", psnr_minmax), ("ssim_4drgs", ssim_minmax)):
            theirs = partial(figure, stack, projections[chosen])
            found[name] = yield from beside("held-out views", count, count, theirs)

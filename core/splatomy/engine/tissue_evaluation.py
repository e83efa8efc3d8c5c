"""A run of an endoscopic clip against exact truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.engine.holdout import spread_over, training_frames
from splatomy.engine.loading import load_scene
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.io.frame_source import cut, storage
from splatomy.io.mesh import read_mesh
from splatomy.io.run import RunFolder
from splatomy.io.truth_endoscopy import TissueTruth, read_tissue_truth
from splatomy.io.views import read_views
from splatomy.metrics.endoscopy import (
    depth_metrics,
    flicker,
    hidden_metrics,
    psnr_zero_filled,
    ssim_zero_filled,
    unsteadiness,
)
from splatomy.metrics.surface import surface_metrics
from splatomy.scene import Mesh

_MOST_FRAMES = 120
_SURFACES = 3


def tissue_figures(folder: RunFolder, truth_path: Path) -> Task[dict[str, Any]]:
    """All figures of a clip's run that the truth allows, on its held-out frames, or on all without any.

    Raises:
        InputError: the run is of no clip, or the truth does not belong to it.
    """
    record = folder.record()
    clip = record.get("clip")
    if not isinstance(clip, Mapping):
        raise InputError(
            f"{truth_path.name} is truth of an endoscopic clip, but {folder.path.name} is no run of one: "
            "expected the two to belong together. Give the truth of the run's own input."
        )
    yield Progress("evaluate", 0, 3)
    truth = yield from beside("evaluate", 0, 3, partial(_truth_as_opened, truth_path, clip))
    views = read_views(folder.path / "scene" / "cameras.json", 1, 1)
    times, cameras = views.times_s, views.cameras
    size = (len(cameras), cameras.height_px, cameras.width_px)
    for name in ("rgb", "depth_mm", "occluded", "never_seen"):
        part = getattr(truth, name)
        if part is not None and part.shape[:3] != size:
            raise InputError(
                f"The truth's {name} has {part.shape[:3]} frames, rows and columns, the run {size}: expected "
                "the same. Give the truth of the run's own input."
            )
    if times is None:
        raise InputError(f"{folder.path.name} does not say when its frames were taken. Reconstruct again.")
    train, held = training_frames(len(cameras), record.get("num_views"))
    chosen = spread_over(held if len(held) else train, _MOST_FRAMES)
    scene = load_scene(folder)
    colour = storage((len(chosen), *size[1:], 3), np.float32)
    depth = storage((len(chosen), *size[1:]), np.float32)
    for n, frame in enumerate(chosen.tolist()):
        made = scene.render(cameras[frame], float(times[frame]))
        colour[n] = made.colour[0]
        depth[n] = np.nan if made.depth_mm is None else made.depth_mm[0]
        yield Progress("truth views", n + 1, len(chosen))
    metric = bool(record.get("metric"))
    work = partial(_figures, truth, colour, depth, chosen, metric)
    found = yield from beside("evaluate", 1, 3, work)
    yield Progress("evaluate", 2, 3)
    if truth.mesh_files and metric and int(clip["frames"][0]) == 0:
        found |= yield from beside("evaluate", 2, 3, partial(_surface_figures, folder, truth))
    elif truth.mesh_files:
        text = "The surfaces were not compared: the run has no scale, or does not start with the first frame."
        yield Notice("info", "surfaces-skipped", text)
    yield Progress("evaluate", 3, 3)
    return found


def _truth_as_opened(path: Path, clip: Mapping[str, Any]) -> TissueTruth:
    """The truth after the frames, crop and bin with which the run's input was opened.

    Raises:
        InputError: it has too few frames.
    """
    truth = read_tissue_truth(path)
    frames = np.asarray(clip["frames"], dtype=np.intp)
    crop, bin_px = tuple(clip["crop"]), int(clip["bin"])

    def opened(part: NDArray[Any] | None) -> NDArray[Any] | None:
        if part is None:
            return None
        if frames.max() >= len(part):
            raise InputError(
                f"The truth has {len(part)} frames, the run uses frame {frames.max()}: expected the truth of "
                "the run's own input. Give that."
            )
        picked = np.stack([cut(part[frame], crop) for frame in frames.tolist()])
        if bin_px == 1:
            return picked
        rows, columns = picked.shape[1] // bin_px, picked.shape[2] // bin_px
        whole = picked[:, : rows * bin_px, : columns * bin_px]
        blocks = whole.reshape(len(whole), rows, bin_px, columns, bin_px, *whole.shape[3:])
        if blocks.dtype == np.bool_:
            return np.asarray(blocks.any((2, 4)))
        return np.asarray(blocks.mean((2, 4), dtype=np.float32))

    meshes = tuple(truth.mesh_files[n] for n in frames.tolist() if n < len(truth.mesh_files))
    return replace(
        truth,
        rgb=opened(truth.rgb),
        depth_mm=opened(truth.depth_mm),
        occluded=opened(truth.occluded),
        never_seen=opened(truth.never_seen),
        mesh_files=meshes if len(meshes) == len(frames) else (),
    )


def _figures(
    truth: TissueTruth,
    colour: NDArray[np.float32],
    depth: NDArray[np.float32],
    chosen: NDArray[np.intp],
    metric: bool,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    hidden = np.zeros(depth.shape, np.bool_) if truth.occluded is None else truth.occluded[chosen]
    if truth.rgb is not None:
        rgb = truth.rgb[chosen]
        never = None if truth.never_seen is None else truth.never_seen[chosen]
        found |= hidden_metrics(colour, rgb, hidden, never)
        found["psnr_zero_filled"] = psnr_zero_filled(colour, rgb, hidden)
        found["ssim_zero_filled"] = ssim_zero_filled(colour, rgb, hidden)
        # Frames that are apart differ by motion, which is no flicker.
        if len(chosen) > 1 and (np.diff(chosen) == 1).all():
            found["flicker"] = flicker(colour, hidden)
            found["unsteadiness"] = unsteadiness(colour, rgb, hidden)
    if truth.depth_mm is not None and np.isfinite(depth).any():
        true_mm = truth.depth_mm[chosen]
        if metric:
            found |= depth_metrics(depth, true_mm)
            found["depth_hidden_mae_mm"] = depth_metrics(depth, true_mm, hidden)["depth_mae_mm"]
        else:
            ratio = true_mm / np.where(depth > 0, depth, np.nan)
            figures = depth_metrics(depth * np.float32(np.nanmedian(ratio)), true_mm)
            found["depth_abs_rel_scaled"] = figures["depth_abs_rel"]
            found["depth_missing"] = figures["depth_missing"]
    return found


def _surface_figures(folder: RunFolder, truth: TissueTruth) -> dict[str, Any]:
    """Means over a few frames; only parts of both surfaces that a frame shows are compared."""
    written = [
        (n, folder.path / "meshes" / f"frame_{n:04d}.ply")
        for n in range(len(truth.mesh_files))
        if (folder.path / "meshes" / f"frame_{n:04d}.ply").exists()
    ]
    if not written:
        return {}
    picks = np.unique(np.linspace(0, len(written) - 1, _SURFACES).astype(int))
    rows = []
    for n, path in (written[k] for k in picks.tolist()):
        own, true = _shown_part(read_mesh(path)), _shown_part(read_mesh(truth.mesh_files[n]))
        if len(own.faces) and len(true.faces):
            rows.append(surface_metrics(own, true, count=30_000))
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} if rows else {}


def _shown_part(mesh: Mesh) -> Mesh:
    """The mesh without faces that no frame shows."""
    if mesh.evidence is None:
        return mesh
    return replace(mesh, faces=mesh.faces[(mesh.evidence > 0)[mesh.faces].all(1)])

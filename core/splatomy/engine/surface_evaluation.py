"""A run of a still scene against exact truth of its surface and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.engine.holdout import spread_over, training_frames
from splatomy.engine.loading import load_scene
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.extract.mesh_tools import of_faces
from splatomy.geometry.cameras import Cameras
from splatomy.io.frame_source import cut
from splatomy.io.frames import read_picture
from splatomy.io.mesh import read_mesh
from splatomy.io.run import RunFolder
from splatomy.io.truth_surface import SurfaceTruth, read_surface_truth
from splatomy.io.views import read_views
from splatomy.metrics.endoscopy import depth_metrics
from splatomy.metrics.image import image_metrics, psnr
from splatomy.metrics.surface import surface_metrics
from splatomy.metrics.surface_protocols import (
    dtu_metrics,
    o2recon_metrics,
    part_metrics,
    tnt_metrics,
    without_unit,
)
from splatomy.scene import Mesh

SURFACE_PROTOCOLS = ("dtu", "tnt", "o2recon")
_MOST_VIEWS = 60
_DTU_DILATION = 24 / 1600
"""Width of the rim about an object's mask that culling leaves, over the picture's width."""


def surface_figures(folder: RunFolder, truth_path: Path, protocol: str) -> Task[dict[str, Any]]:
    """All figures of a run that the truth allows: of its surface, and of its held-out (or all) views.

    Points by area are compared, never vertices, and nothing is aligned; what is aligned says so in its name.
    protocol: "default", or one of ``SURFACE_PROTOCOLS``, which adds the figures as its papers print them.

    Raises:
        InputError: the truth does not fit the run, or the protocol lacks what it scores with.
    """
    record = folder.record()
    yield Progress("evaluate", 0, 3)
    truth = yield from beside("evaluate", 0, 3, partial(read_surface_truth, truth_path))
    _check_protocol(protocol, truth, record)
    found: dict[str, Any] = {}
    placed = record.get("world") != "structure from motion"
    if not placed:
        text = (
            "The surface is not compared: the run found its own camera poses, so that its world is not that "
            "of the truth. Reconstruct with poses of the truth's world."
        )
        yield Notice("warning", "surface-skipped", text)
    mesh_file = folder.path / "meshes" / "mesh.ply"
    has_surface = truth.mesh is not None or truth.points_mm is not None
    if has_surface and placed and mesh_file.exists():
        mesh = read_mesh(mesh_file)
        work = partial(_plain_figures, mesh, truth, record.get("metric") is not False)
        found |= yield from beside("evaluate", 0, 3, work)
        yield Progress("evaluate", 1, 3)
        if protocol in SURFACE_PROTOCOLS:
            by = {"dtu": _by_dtu, "tnt": _by_tnt, "o2recon": _by_o2recon}[protocol]
            found |= yield from beside("evaluate", 1, 3, partial(by, folder, mesh, truth))
    elif has_surface and placed:
        text = "The surface is not compared: the run made no mesh."
        yield Notice("warning", "surface-skipped", text)
    yield Progress("evaluate", 2, 3)
    if truth.rgb is not None or truth.depth_mm is not None:
        found |= yield from _view_figures(folder, truth, record)
    yield Progress("evaluate", 3, 3)
    if not found:
        raise InputError(
            f"{truth_path.name} holds nothing to compare this run with: expected a surface or pictures in "
            "the run's own world. Give the truth folder that belongs to the input."
        )
    return found


def _check_protocol(protocol: str, truth: SurfaceTruth, record: Mapping[str, Any]) -> None:
    """Raises InputError when the truth or the run lacks what a protocol scores with."""
    if protocol in ("dtu", "o2recon") and record.get("metric") is False:
        what = {"dtu": "a scan of DTU (scanN with cameras_sphere.npz in mm)", "o2recon": "an RGB-D set"}
        raise InputError(
            f"The protocol {protocol} measures mm, and this run has no scale: expected {what[protocol]}. Use "
            "--protocol default."
        )
    if protocol == "tnt" and truth.tau_mm is None:
        raise InputError(
            "The protocol tnt needs the scene's distance tau: expected a scene of Tanks and Temples by its "
            "name, or tau_mm in truth.json. Add it."
        )


def _reference(truth: SurfaceTruth) -> Mesh | NDArray[np.float64]:
    if truth.mesh is not None:
        return truth.mesh
    if truth.points_mm is None:
        raise ValueError("the truth has no surface")
    return truth.points_mm


def _plain_figures(mesh: Mesh, truth: SurfaceTruth, metric: bool) -> dict[str, float]:
    if not metric:
        return without_unit(mesh, _reference(truth))
    found = surface_metrics(mesh, _reference(truth))
    return found if truth.mesh is None else found | part_metrics(mesh, truth.mesh)


def _by_dtu(folder: RunFolder, mesh: Mesh, truth: SurfaceTruth) -> dict[str, float]:
    """Faces outside of the object's masks are culled first, as the protocol's usual port does."""
    reference = _reference(truth)
    points = reference if isinstance(reference, np.ndarray) else reference.vertices_mm.astype(np.float64)
    space = truth.observed
    culled = _culled(folder, mesh)
    if not len(culled.faces):
        return {"chamfer_mean_dtu_mm": float("nan")}
    if space is None:
        return dtu_metrics(culled, points)
    box = (space.voxels, space.low_mm, space.high_mm, space.spacing_mm, space.plane)
    return dtu_metrics(culled, points, *box)


def _culled(folder: RunFolder, mesh: Mesh) -> Mesh:
    """The faces whose corners lie, in every view, outside of the picture or in the widened object mask."""
    cameras = read_views(folder.path / "scene" / "cameras.json", 1, 1).cameras
    files = sorted((folder.path / "prepared" / "target").glob("*.png"))
    if len(files) != len(cameras):
        return mesh
    vertices = np.asarray(mesh.vertices_mm, np.float64)
    kept = np.ones(len(vertices), np.bool_)
    radius = max(1, round(_DTU_DILATION * cameras.width_px))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    for n, file in enumerate(files):
        mask = np.asarray(read_picture(file)) > 127
        # A view without a mask says nothing of the object.
        if mask.any():
            wide = cv2.dilate(mask.astype(np.uint8), disk) > 0
            kept &= _inside_or_out_of_sight(vertices, cameras[n], wide)
    return of_faces(mesh, np.asarray(kept[mesh.faces].all(1)))


def _inside_or_out_of_sight(
    vertices: NDArray[np.float64], camera: Cameras, mask: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    pixels, depth = camera.project(vertices)
    column, row = np.rint(np.nan_to_num(pixels[0], nan=-1.0)).astype(np.int64).T
    inside = (depth[0] > 0) & (column >= 0) & (row >= 0)
    inside &= (column < camera.width_px) & (row < camera.height_px)
    column, row = column.clip(0, camera.width_px - 1), row.clip(0, camera.height_px - 1)
    return np.asarray(~inside | mask[row, column])


def _by_tnt(folder: RunFolder, mesh: Mesh, truth: SurfaceTruth) -> dict[str, float]:
    if truth.tau_mm is None:
        raise ValueError("the truth has no tau")
    if truth.truth_from_world is not None:
        m = truth.truth_from_world
        moved = mesh.vertices_mm.astype(np.float64) @ m[:3, :3].T + m[:3, 3]
        mesh = Mesh(moved.astype(np.float32), mesh.faces)
    reference = _reference(truth)
    points = reference if isinstance(reference, np.ndarray) else reference.vertices_mm.astype(np.float64)
    if truth.crop is None:
        return tnt_metrics(mesh, points, truth.tau_mm)
    crop = truth.crop
    return tnt_metrics(mesh, points, truth.tau_mm, crop.polygon, crop.axis, crop.low, crop.high)


def _by_o2recon(folder: RunFolder, mesh: Mesh, truth: SurfaceTruth) -> dict[str, float]:
    return o2recon_metrics(mesh, _reference(truth))


def _view_figures(folder: RunFolder, truth: SurfaceTruth, record: Mapping[str, Any]) -> Task[dict[str, Any]]:
    """Pictures and depths of the object alone, on held-out views.

    psnr_masked: over the object's whole outline; psnr_hidden: over the part of it that something hides.
    """
    views = record.get("views") or {}
    numbers = np.asarray(views.get("frames") or [], np.intp)
    cameras = read_views(folder.path / "scene" / "cameras.json", 1, 1).cameras
    size = (len(cameras), cameras.height_px, cameras.width_px)
    crop, by = tuple(views.get("crop") or ()), int(views.get("bin") or 1)
    rgb, depth = (_as_opened(part, numbers, crop, by) for part in (truth.rgb, truth.depth_mm))
    for part in (rgb, depth):
        if part is None or part.shape[:3] != size:
            text = f"The views were not measured: the truth has others than the run's {size[0]}."
            yield Notice("warning", "views-skipped", text)
            return {}
    if rgb is None or depth is None:
        return {}
    train, held = training_frames(len(cameras), record.get("num_views"))
    chosen = spread_over(held if len(held) else train, _MOST_VIEWS)
    scene = load_scene(folder)
    made = np.zeros((len(chosen), *size[1:], 3), np.float32)
    made_depth = np.full((len(chosen), *size[1:]), np.nan, np.float32)
    hidden = np.zeros(made_depth.shape, np.bool_)
    for n, view in enumerate(chosen.tolist()):
        render = scene.render(cameras[view], 0.0)
        made[n] = render.colour[0]
        if render.depth_mm is not None:
            made_depth[n] = render.depth_mm[0]
        file = folder.path / "prepared" / "occluded" / f"{view:06d}.png"
        if file.exists():
            hidden[n] = np.asarray(read_picture(file)) > 127
        yield Progress("truth views", n + 1, len(chosen))
    metric = record.get("metric") is not False
    work = partial(_compared, made, made_depth, rgb[chosen], depth[chosen], hidden, metric)
    found: dict[str, Any] = yield from beside("evaluate", 2, 3, work)
    return found


def _compared(
    made: NDArray[np.float32],
    made_depth: NDArray[np.float32],
    rgb: NDArray[np.float32],
    depth: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    metric: bool,
) -> dict[str, float]:
    outline = np.isfinite(depth)
    found = image_metrics(made, rgb, outline, data_range=1.0)
    found.pop("rmse")
    if (hidden & outline).any():
        found["psnr_hidden"] = psnr(made, rgb, hidden & outline, data_range=1.0)
    if metric and np.isfinite(made_depth).any():
        found |= depth_metrics(made_depth, depth)
        if (hidden & outline).any():
            found["depth_hidden_mae_mm"] = depth_metrics(made_depth, depth, hidden)["depth_mae_mm"]
    return found


def _as_opened(
    part: NDArray[np.float32] | None, numbers: NDArray[np.intp], crop: tuple[int, ...], by: int
) -> NDArray[np.float32] | None:
    """The truth's views (T, H, W, ...) after the frames, crop and bin with which the input was opened."""
    if part is None or not len(numbers) or numbers.max() >= len(part) or len(crop) != 4:
        return None
    x, y, w, h = crop
    picked = np.stack([cut(part[n], (x, y, w, h)) for n in numbers.tolist()])
    rows, columns = picked.shape[1] // by, picked.shape[2] // by
    whole = picked[:, : rows * by, : columns * by]
    blocks = whole.reshape(len(whole), rows, by, columns, by, *whole.shape[3:])
    return np.asarray(blocks.mean((2, 4), dtype=np.float32))

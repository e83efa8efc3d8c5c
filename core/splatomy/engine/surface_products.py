"""What a scene of a still surface becomes: pictures, a mesh with its figures, and the report's content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.engine.holdout import spread_over
from splatomy.engine.still_running import PreparedViews, background_of, recorded_picture
from splatomy.engine.tissue_products import eight_bit
from splatomy.events import Notice, Progress, Task
from splatomy.extract.mesh_tools import MeshFigures, mesh_figures
from splatomy.io.atomic import write_json
from splatomy.io.mesh import write_mesh
from splatomy.io.picture import write_png
from splatomy.io.run import RunFolder
from splatomy.method import MethodSpec
from splatomy.report import MeshSide, ReportData, SurfaceView, mesh_sides
from splatomy.scene import Mesh, Scene

_MAX_PICTURES = 240
_REPORT_VIEWS = 3
_DEPTH_CODES = 60_000


@dataclass(frozen=True)
class SurfaceMade:
    """What the report shows, and the figures that need no truth; what a symmetry told, if any."""

    views: list[SurfaceView]
    sides: list[MeshSide] = field(default_factory=list)
    figures: MeshFigures | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    symmetry: str = ""


def make_surface_products(
    folder: RunFolder, scene: Scene, views: PreparedViews, held: NDArray[np.intp]
) -> Task[SurfaceMade]:
    """Writes renders/ and meshes/ of a run."""
    shown = yield from _render_views(folder, scene, views, held)
    mesh = scene.surface(0.0) if "surface" in scene.abilities else None
    if mesh is None or not len(mesh.faces):
        text = "No surface was found, so no mesh is written: train longer, or check the masks and poses."
        yield Notice("warning", "no-surface", text)
        return SurfaceMade(shown)
    yield from beside("mesh", 0, 3, partial(write_mesh, folder.file("meshes", "mesh.ply"), mesh))
    yield Progress("mesh", 1, 3)
    figures = yield from beside("mesh", 1, 3, partial(mesh_figures, mesh))
    unit = "mm" if views.observed.metric else "relative"
    record = {"contract": 1, "unit": unit, **figures.as_json()}
    write_json(folder.file("meshes", "mesh.json"), record)
    yield Progress("mesh", 2, 3)
    sides = yield from beside("mesh", 2, 3, partial(_sides, mesh, views.observed))
    yield Progress("mesh", 3, 3)
    metrics = {}
    if mesh.evidence is not None:
        metrics["evidence_share"] = figures.seen_area / max(figures.area, 1e-12)
    symmetry = str(scene.state().values.get("symmetry", ""))
    return SurfaceMade(shown, sides, figures, metrics, symmetry)


def _sides(mesh: Mesh, capture: Capture) -> list[MeshSide]:
    if capture.cameras is None:
        raise ValueError("a surface has cameras")
    return mesh_sides(mesh, capture.cameras)


def _render_views(
    folder: RunFolder, scene: Scene, views: PreparedViews, held: NDArray[np.intp]
) -> Task[list[SurfaceView]]:
    """The input's views re-rendered: PNG and 16-bit depth PNG; some for the report, held-out ones first."""
    capture, behind = views.observed, background_of(scene)
    cameras, everything = capture.cameras, np.arange(len(capture))
    if cameras is None:
        raise ValueError("views need cameras")
    kept = spread_over(everything, _MAX_PICTURES)
    shown = spread_over(held, _REPORT_VIEWS).tolist()
    shown += spread_over(views.train, _REPORT_VIEWS).tolist()[: _REPORT_VIEWS - len(shown)]
    out: dict[int, SurfaceView] = {}
    step = _depth_step(scene, capture)
    wanted = sorted({*kept.tolist(), *shown})
    for n, view in enumerate(wanted):
        made = scene.render(cameras[view], 0.0)
        write_png(folder.file("renders", f"frame_{view:04d}.png"), eight_bit(made.colour[0]))
        depth = np.full(capture.images.shape[1:3], np.nan, np.float32)
        if made.depth_mm is not None:
            depth = made.depth_mm[0]
            codes = np.rint(np.nan_to_num(depth.astype(np.float64)) / step).clip(0, 65535)
            write_png(folder.file("renders", f"frame_{view:04d}_depth.png"), codes.astype(np.uint16))
        if view in shown:
            kind = "held out" if view in held else "trained on"
            recorded = recorded_picture(capture, view, behind)
            hidden = np.zeros(recorded.shape[:2], np.bool_)
            if capture.occluded is not None:
                hidden = np.asarray(capture.occluded[view])
            synthetic = _synthetic(views, view)
            caption = f"view {view}, {kind}"
            out[view] = SurfaceView(caption, recorded, made.colour[0], depth, hidden, synthetic)
        yield Progress("renders", n + 1, len(wanted))
    unit = "mm" if capture.metric else "relative"
    write_json(folder.file("renders", "renders.json"), {"contract": 1, "depth_step": step, "unit": unit})
    return [out[view] for view in shown]


def _synthetic(views: PreparedViews, view: int) -> NDArray[np.bool_] | None:
    place = np.flatnonzero(views.train == view)
    if not len(place) or views.training.synthetic is None:
        return None
    return np.asarray(views.training.synthetic[place[0]])


def _depth_step(scene: Scene, capture: Capture) -> float:
    """What one code of the depth pictures stands for: round, and small enough for the farthest corner."""
    if capture.cameras is None:
        raise ValueError("views need cameras")
    low, high = scene.bounds_mm
    corners = np.stack(np.meshgrid(*np.stack([low, high], -1), indexing="ij"), -1).reshape(-1, 3)
    _, depth = capture.cameras.project(corners)
    farthest = float(np.nan_to_num(depth).max())
    return float(10 ** np.ceil(np.log10(max(farthest, 1e-9) / _DEPTH_CODES)))


def surface_report(
    spec: MethodSpec, views: PreparedViews, made: SurfaceMade, extras: Mapping[str, Any]
) -> ReportData:
    """The report's content."""
    capture, record, details = views.observed, extras["record"], views.observed.details
    count, height, width, _ = capture.images.shape
    masked = np.asarray(details.get("has_target", []), np.bool_)
    summary = {
        "views": f"{count} of {width} x {height} px, {len(views.train)} trained on",
        "layout": str(details.get("layout", "")),
        "cameras": str(details.get("geometry_source", "")),
        "object masks": f"{int(masked.sum())} views" if masked.any() else "none: the whole scene is made",
        "masks of what hides it": "given" if capture.occluded is not None else "none",
        "depth maps": "given" if capture.depth_mm is not None else "none",
        "scale": "mm" if capture.metric else "unknown: lengths are relative and have no unit",
    }
    if details.get("object_name"):
        summary["object"] = str(details["object_name"])
    return ReportData(
        title="Surface reconstruction",
        method_title=spec.title,
        citation=spec.citation,
        preset=str(record.get("preset", "")),
        settings=record.get("config", {}),
        input_summary=summary,
        world=capture.world,
        metric=capture.metric,
        provenance=views.training.provenance,
        problems=tuple(dict.fromkeys((*capture.problems, *record.get("notices", ())))),
        synthetic_text=_synthetic_text(views, made),
        metrics=extras["metrics"],
        timings_s=extras["timings_s"],
        peak_memory_mb=record.get("peak_memory_mb"),
        seed=record.get("seed"),
        device=str(record.get("device", "")),
        software_version=splatomy.__version__,
        loss_curve=extras["losses"],
        surface_views=made.views,
        mesh_sides=made.sides,
        mesh_figures={} if made.figures is None else made.figures.rows("mm" if capture.metric else "units"),
        files=("meshes/mesh.ply", "renders/frame_*.png", "scene/gaussians.ply", "prepared/"),
    )


def _synthetic_text(views: PreparedViews, made: SurfaceMade) -> str:
    parts = []
    if views.training.synthetic is not None and views.training.synthetic.any():
        share = float(views.training.synthetic.mean())
        parts.append(f"{share:.1%} of the training pixels lay behind something and were made up (magenta).")
    else:
        parts.append("No pixel was made up.")
    if made.figures is not None and made.figures.seen_area < 0.999 * made.figures.area:
        share = 1 - made.figures.seen_area / made.figures.area
        parts.append(
            f"{share:.0%} of the mesh's area is shown by no view, or by pixels that were made up: the method "
            "closed the surface there, and its shape is a guess (evidence 0 in meshes/mesh.ply)."
        )
    if made.symmetry:
        parts.append(made.symmetry)
    parts.append("The rendered pictures are synthetic views.")
    return " ".join(parts)

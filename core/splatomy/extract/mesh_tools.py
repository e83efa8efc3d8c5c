"""Repairs of a mesh, one after the other; each says what it did, and evidence and colours stay with vertices.

The order is that of ``tidied``: what no view shows goes first, then loose pieces, then small holes are filled
(evidence 0: nobody saw what is put there), then the surface is smoothed and thinned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.extract.mesh import decimated, largest_components, smooth_mesh
from splatomy.extract.mesh_check import (
    MeshFigures,
    face_areas,
    mesh_figures,
    pieces_of,
    rim_diameter,
    rims_of,
)
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.visibility import seen_vertices
from splatomy.scene import Mesh

__all__ = [
    "MeshFigures",
    "MeshTools",
    "ToolStep",
    "fill_holes",
    "keep_largest",
    "mesh_figures",
    "of_faces",
    "smoothed",
    "thinned",
    "tidied",
    "trimmed_to_views",
]


@dataclass(frozen=True)
class ToolStep:
    """What one tool did: its name and figures, lengths in the mesh's unit."""

    tool: str
    figures: dict[str, float]

    def text(self) -> str:
        """The step for people."""
        values = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.figures.items())
        return f"{self.tool}: {values}"


@dataclass(frozen=True)
class MeshTools:
    """Which tools are used; the defaults use none.

    trim_views: faces that fewer views show are dropped. keep_largest: pieces to keep. fill_holes: holes up to
    this diameter, in the mesh's unit, are filled. smooth: iterations. decimate: triangles to leave.
    """

    trim_views: int = 0
    keep_largest: int = 0
    fill_holes: float = 0.0
    smooth: int = 0
    decimate: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be 0 (unused) or more, got {value}: correct it.")
        if 0 < self.decimate < 4:
            raise InputError(f"decimate must leave at least 4 triangles, got {self.decimate}: use more.")


def tidied(
    mesh: Mesh, tools: MeshTools, cameras: Cameras | None = None, hidden: NDArray[np.bool_] | None = None
) -> Task[tuple[Mesh, list[ToolStep]]]:
    """The mesh after the chosen tools, and what each did.

    cameras: of the views, for ``trim_views``. hidden: (T, H, W), pixels of them that show something else.

    Raises:
        InputError: a tool leaves nothing.
    """
    steps: list[ToolStep] = []
    if tools.trim_views:
        if cameras is None:
            raise ValueError("trimming to the views needs their cameras")
        mesh, step = yield from trimmed_to_views(mesh, cameras, tools.trim_views, hidden)
        steps.append(step)
    work = []
    if tools.keep_largest:
        work.append(partial(keep_largest, count=tools.keep_largest))
    if tools.fill_holes:
        work.append(partial(fill_holes, diameter=tools.fill_holes))
    if tools.smooth:
        work.append(partial(smoothed, iterations=tools.smooth))
    if tools.decimate:
        work.append(partial(thinned, num_faces=tools.decimate))
    for number, tool in enumerate(work):
        mesh, step = yield from beside("mesh tools", number, len(work), partial(tool, mesh))
        steps.append(step)
        yield Progress("mesh tools", number + 1, len(work))
    if not len(mesh.faces):
        raise InputError("The mesh tools left no triangle: expected some. Use them with milder values.")
    return mesh, steps


def of_faces(mesh: Mesh, chosen: NDArray[np.bool_]) -> Mesh:
    """The mesh of the chosen faces (F,) alone, without unused vertices."""
    used, number = np.unique(mesh.faces[chosen], return_inverse=True)
    colours = None if mesh.colours is None else mesh.colours[used]
    evidence = None if mesh.evidence is None else mesh.evidence[used]
    return Mesh(mesh.vertices_mm[used], number.reshape(-1, 3).astype(np.int32), colours, evidence)


def trimmed_to_views(
    mesh: Mesh, cameras: Cameras, min_views: int = 1, hidden: NDArray[np.bool_] | None = None
) -> Task[tuple[Mesh, ToolStep]]:
    """The faces of which at least one corner is shown by ``min_views`` views; hidden: see ``tidied``."""
    vertices = np.asarray(mesh.vertices_mm, np.float64)
    area = face_areas(mesh)
    views = np.zeros(len(vertices), np.int32)
    typical = float(np.sqrt(np.median(area))) if len(area) else 0.0
    for t in range(len(cameras)):
        seen = seen_vertices(vertices, mesh.faces, cameras, t, typical)
        if hidden is not None:
            pixels, _ = cameras[t].project(vertices)
            column, row = np.rint(np.nan_to_num(pixels[0])).astype(int).T
            column, row = column.clip(0, cameras.width_px - 1), row.clip(0, cameras.height_px - 1)
            seen &= ~hidden[t][row, column]
        views += seen
        yield Progress("look at mesh", t + 1, len(cameras))
    kept = np.asarray((views[mesh.faces] >= min_views).any(1))
    figures = {"dropped_faces": float((~kept).sum()), "dropped_area": float(area[~kept].sum())}
    return of_faces(mesh, kept), ToolStep("trim to views", figures)


def keep_largest(mesh: Mesh, count: int = 1, min_area_share: float = 0.0) -> tuple[Mesh, ToolStep]:
    """The pieces of largest area; ``min_area_share`` of the largest one drops smaller ones too."""
    before, _ = pieces_of(mesh)
    area = float(face_areas(mesh).sum())
    kept = largest_components(mesh, keep=count, min_area_share=min_area_share)
    after, _ = pieces_of(kept)
    figures = {
        "pieces_before": float(before),
        "pieces_after": float(after),
        "dropped_area": area - float(face_areas(kept).sum()),
    }
    return kept, ToolStep("keep largest", figures)


def fill_holes(mesh: Mesh, diameter: float) -> tuple[Mesh, ToolStep]:
    """The mesh with its holes up to a diameter closed by a fan about their middle, whose evidence is 0.

    What is filled was seen by nobody, so the middle's evidence is 0 and that of its rim stays.
    """
    rims = [rim for rim in rims_of(mesh) if rim_diameter(mesh, rim) <= diameter]
    faces = [mesh.faces]
    middles: list[NDArray[np.float32]] = []
    colours: list[NDArray[np.float32]] = []
    first = len(mesh.vertices_mm)
    for rim in rims:
        # Against the direction of the faces beside the rim, so that both look to the same side.
        a, b = np.roll(rim, -1), rim
        if len(rim) == 3:
            faces.append(rim[::-1][None].astype(np.int32))
            continue
        middle = np.full(len(rim), first + len(middles))
        faces.append(np.stack([a, b, middle], 1).astype(np.int32))
        middles.append(mesh.vertices_mm[rim].mean(0))
        if mesh.colours is not None:
            colours.append(mesh.colours[rim].mean(0))
    new = _with_vertices(mesh, middles, colours)
    filled = Mesh(new.vertices_mm, np.concatenate(faces).astype(np.int32), new.colours, new.evidence)
    added = float(face_areas(filled)[len(mesh.faces) :].sum())
    left = len(rims_of(filled))
    return filled, ToolStep(
        "fill holes", {"filled": float(len(rims)), "left_open": float(left), "added_area": added}
    )


def _with_vertices(
    mesh: Mesh, places: Sequence[NDArray[np.float32]], colours: Sequence[NDArray[np.float32]]
) -> Mesh:
    """The mesh with vertices added that nobody saw."""
    evidence = mesh.evidence
    if not places:
        return mesh
    if evidence is None:
        evidence = np.ones(len(mesh.vertices_mm), np.float32)
    evidence = np.concatenate([evidence, np.zeros(len(places), np.float32)])
    vertices = np.concatenate([mesh.vertices_mm, np.stack(places).astype(np.float32)])
    painted = None if mesh.colours is None else np.concatenate([mesh.colours, np.stack(colours)])
    return Mesh(vertices, mesh.faces, painted, evidence)


def smoothed(mesh: Mesh, iterations: int) -> tuple[Mesh, ToolStep]:
    """The mesh after ``extract.mesh.smooth_mesh`` (Taubin's filter), and how far vertices moved."""
    smooth = smooth_mesh(mesh, iterations)
    moved = np.linalg.norm(smooth.vertices_mm.astype(np.float64) - mesh.vertices_mm, axis=1)
    return smooth, ToolStep(
        "smooth",
        {
            "iterations": float(iterations),
            "mean_move": float(moved.mean()) if len(moved) else 0.0,
            "largest_move": float(moved.max()) if len(moved) else 0.0,
        },
    )


def thinned(mesh: Mesh, num_faces: int) -> tuple[Mesh, ToolStep]:
    """The mesh with about that many triangles, those where it is flat gone first."""
    fewer = decimated(mesh, num_faces)
    figures = {"faces_before": float(len(mesh.faces)), "faces_after": float(len(fewer.faces))}
    return fewer, ToolStep("decimate", figures)

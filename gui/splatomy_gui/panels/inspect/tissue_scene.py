"""The moving tissue in 3D: surface, what was not observed, normals and Gaussians, all at one time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtGui import QPainter

from splatomy.events import Task
from splatomy_gui.measuring import Anchor, Point
from splatomy_gui.measuring_values import surface_area_in
from splatomy_gui.panels.inspect.colouring import Colouring, Scale, greyed, paint_scale
from splatomy_gui.panels.inspect.gaussian_layer import GaussianLayer, read_gaussian_layer
from splatomy_gui.panels.inspect.moving_surface import OBSERVED, MovingSurface, read_moving_surface
from splatomy_gui.panels.inspect.run_pictures import RunPictures, read_run_views
from splatomy_gui.views.scene_view import SceneView

SURFACE, POINTS, ELLIPSES = "surface", "gaussians", "ellipses"
_HATCHING, _NORMALS = "unobserved", "normals"
_MOST_NORMALS = 1500
_SAMPLED = 5000


@dataclass(frozen=True)
class TissueContent:
    """What is shown of a run."""

    surface: MovingSurface
    gaussians: GaussianLayer | None
    pictures: RunPictures


def read_tissue(run: Path) -> Task[TissueContent]:
    """Everything the page shows of a run.

    Raises:
        InputError: it has no moving surface, or a file of it is damaged.
    """
    surface = yield from read_moving_surface(run)
    pictures = RunPictures(run, surface, read_run_views(run))
    return TissueContent(surface, read_gaussian_layer(run, surface), pictures)


class TissueScene(QObject):
    """Keeps a scene view at the time on show. ``vertices``: (V, 3) of the surface as shown, world."""

    coloured = pyqtSignal()
    """Other colours or another scale."""

    def __init__(self, view: SceneView) -> None:
        super().__init__(view)
        self.view = view
        self.content: TissueContent | None = None
        self.vertices: NDArray[np.float32] = np.zeros((0, 3), np.float32)
        self.time_s = 0.0
        self.frame = 0
        self.reference_s = 0.0
        self.metric = True
        self.distances: NDArray[np.float32] | None = None
        """Of the vertices from a reference, (V,), if there is one."""
        self.colouring = Colouring.TEXTURE
        self.hatches = True
        self.scale: Scale | None = None
        self._normals_shown = False
        self._wireframe = False
        self._texture: NDArray[np.uint8] = np.zeros((0, 3), np.uint8)
        self._visible = {SURFACE: True, POINTS: False, ELLIPSES: False}
        self._opacity = {SURFACE: 1.0, POINTS: 1.0, ELLIPSES: 1.0}
        view.overlay.painters.append(self._paint_scale)

    @property
    def unit(self) -> str:
        """Of lengths."""
        return "mm" if self.metric else "relative"

    def show(self, content: TissueContent | None, metric: bool) -> None:
        """Shows another run, or nothing."""
        self.view.remove_all()
        self.content, self.metric, self.scale, self.distances = content, metric, None, None
        if content is None:
            self.vertices = np.zeros((0, 3), np.float32)
            self.view.render()
            return
        surface = content.surface
        colours = surface.mesh.colours
        shape = (len(surface.mesh.vertices_mm), 3)
        grey = np.full(shape, 0.75, np.float32)
        self._texture = np.rint(np.clip(grey if colours is None else colours, 0, 1) * 255).astype(np.uint8)
        self.reference_s = float(surface.times_s[0])
        self.vertices = surface.at(self.time_s)
        self.view.show_thing("tissue", SURFACE, surface.mesh)
        unobserved = surface.unobserved
        if unobserved is not None:
            self.view.show_thing("hatching", _HATCHING, unobserved)
        self.set_colouring(self.colouring)
        for name in (POINTS, ELLIPSES):
            self.set_layer(name, self._visible[name], self._opacity[name])
        self._show_normals()
        self._apply_wireframe()

    # -- time ------------------------------------------------------------------------------------

    def set_time(self, frame: int, time_s: float) -> None:
        """Moves everything to a time; points are changed in place and drawn once."""
        self.frame, self.time_s = frame, time_s
        content = self.content
        if content is None:
            return
        self.vertices = content.surface.at(time_s)
        normals = content.surface.normals(self.vertices)
        self.view.move_thing(SURFACE, self.vertices, colours=self._colours(), Normals=normals)
        self.view.move_thing(_HATCHING, self.vertices)
        self._move_gaussians(content.gaussians)
        if self._normals_shown:
            self.view.move_thing(_NORMALS, self._normal_lines(normals))
        self.view.render()

    def _move_gaussians(self, gaussians: GaussianLayer | None) -> None:
        if gaussians is None or not (self._visible[POINTS] or self._visible[ELLIPSES]):
            return
        means = gaussians.means_with(self.vertices)
        if self._visible[POINTS]:
            self.view.move_thing(POINTS, means)
        if self._visible[ELLIPSES]:
            self.view.move_thing(ELLIPSES, gaussians.corners(means))

    # -- looks -----------------------------------------------------------------------------------

    def set_colouring(self, colouring: Colouring) -> None:
        """Other colours."""
        self.colouring = colouring
        self.scale = self.scale_of(colouring)
        actor = self.view.actor(SURFACE)
        if actor is not None:
            # Shadows would change what colours mean.
            actor.prop.ambient, actor.prop.diffuse = (0.25, 0.8) if self.scale is None else (0.75, 0.3)
        self.set_time(self.frame, self.time_s)
        self.coloured.emit()

    def set_hatches(self, on: bool) -> None:
        """True: what was not observed is hatched; False: it fades to grey."""
        self.hatches = on
        self._show_hatching()
        self.set_time(self.frame, self.time_s)

    def set_distances(self, distances: NDArray[np.float32] | None) -> None:
        """Distances (V,) of the vertices from a reference, None without one."""
        self.distances = distances
        if self.colouring is Colouring.DISTANCE:
            self.set_colouring(Colouring.DISTANCE)

    def set_reference(self, time_s: float) -> None:
        """Deformation is counted from another moment."""
        self.reference_s = time_s
        self.set_colouring(Colouring.DEFORMATION)

    def set_wireframe(self, on: bool) -> None:
        """The surface as a net."""
        self._wireframe = on
        self._apply_wireframe()
        self.set_time(self.frame, self.time_s)

    def set_normals(self, on: bool) -> None:
        """Short lines along the normals."""
        self._normals_shown = on
        self._show_normals()
        self.view.render()

    def set_layer(self, name: str, visible: bool, opacity: float) -> None:
        """Switches the surface or the Gaussians; the latter are made when first shown."""
        self._visible[name], self._opacity[name] = visible, opacity
        content = self.content
        if content is None:
            return
        gaussians = content.gaussians
        if name != SURFACE and visible and gaussians is not None:
            means = gaussians.means_with(self.vertices)
            if self.view.actor(name) is None and name == POINTS:
                colours = gaussians.colours.astype(np.float32) / 255
                self.view.show_thing(
                    "gaussians",
                    POINTS,
                    {"means_mm": means, "colours": colours},
                    pickable=False,
                    lighting=False,
                )
            elif self.view.actor(name) is None:
                ellipses = gaussians.ellipses(means)
                self.view.show_thing("mesh", ELLIPSES, ellipses, pickable=False, lighting=False)
            self._move_gaussians(gaussians)
        self.view.set_layer(name, visible, opacity)
        if name == SURFACE:
            self._show_hatching()

    def _apply_wireframe(self) -> None:
        actor = self.view.actor(SURFACE)
        if actor is not None:
            actor.prop.style = "wireframe" if self._wireframe else "surface"
        self._show_hatching()

    def _show_hatching(self) -> None:
        shown = self._visible[SURFACE] and self.hatches and not self._wireframe
        self.view.set_layer(_HATCHING, shown, self._opacity[SURFACE])

    def _show_normals(self) -> None:
        content = self.content
        if content is None or not self._normals_shown:
            self.view.remove(_NORMALS)
            return
        lines = self._normal_lines(content.surface.normals(self.vertices))
        self.view.show_thing("segments", _NORMALS, lines, color="#7db8f5")

    def _normal_lines(self, normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Ends of short lines, (2 n, 3), on the side of the camera."""
        chosen = np.linspace(0, len(self.vertices) - 1, min(_MOST_NORMALS, len(self.vertices))).astype(int)
        starts, along = self.vertices[chosen], normals[chosen]
        length = 0.025 * float(np.linalg.norm(np.ptp(self.vertices, axis=0)))
        return np.stack([starts, starts + length * along], 1).reshape(-1, 3)

    # -- values ----------------------------------------------------------------------------------

    def values(self, kind: Colouring) -> NDArray[np.floating]:
        """A value of each vertex, (V,)."""
        content = self.content
        if content is None:
            return np.zeros(0, np.float32)
        if kind is Colouring.EVIDENCE:
            return content.surface.evidence
        if kind is Colouring.DISTANCE:
            unknown = np.full(len(self.vertices), np.nan, np.float32)
            return unknown if self.distances is None else self.distances
        if kind is Colouring.DEFORMATION:
            return np.linalg.norm(self.vertices - content.surface.at(self.reference_s), axis=1)
        return self._depth_of(content, self.vertices, self.frame)

    @staticmethod
    def _depth_of(content: TissueContent, vertices: NDArray[np.float32], frame: int) -> NDArray[np.floating]:
        camera = content.pictures.camera(frame)
        pose = np.eye(4) if camera is None else camera[1]
        return vertices @ pose[2, :3].astype(np.float32) + np.float32(pose[2, 3])

    def scale_of(self, kind: Colouring) -> Scale | None:
        """One scale for all times, so that colours do not flicker; None for the tissue's own colours."""
        content = self.content
        if kind is Colouring.TEXTURE or content is None:
            return None
        if kind is Colouring.EVIDENCE:
            return Scale(kind, "Observed", "", 0.0, 1.0)
        if kind is Colouring.DISTANCE:
            if self.distances is None:
                return Scale(kind, "No reference yet", "", 0.0, 1.0)
            return Scale(
                kind, "Distance", self.unit, 0.0, max(float(np.quantile(self.distances, 0.98)), 1e-6)
            )
        surface = content.surface
        step = max(1, surface.vertices.shape[1] // _SAMPLED)
        some = surface.vertices[:, ::step]
        if kind is Colouring.DEFORMATION:
            # What nobody observed may be far off and must not take the colours from the rest.
            seen = surface.evidence[::step] >= OBSERVED
            moved = np.linalg.norm(some - surface.at(self.reference_s)[::step], axis=2)
            moved = moved[:, seen] if seen.any() else moved
            return Scale(kind, "Moved by", self.unit, 0.0, max(float(np.quantile(moved, 0.98)), 1e-6))
        views = content.pictures.views
        times = None if views is None else views.times_s
        frames = [0 if times is None else int(np.argmin(np.abs(times - t))) for t in surface.times_s]
        depths = np.stack([self._depth_of(content, v, f) for v, f in zip(some, frames, strict=True)])
        low, high = np.quantile(depths, (0.01, 0.99))
        return Scale(kind, "Depth", self.unit, float(low), float(max(high, low + 1e-6)))

    def _colours(self) -> NDArray[np.uint8]:
        colours = self._texture if self.scale is None else self.scale.colours(self.values(self.colouring))
        fades = not self.hatches or self._wireframe or self.scale is None
        if self.content is None or not fades or self.colouring is Colouring.EVIDENCE:
            return colours
        return greyed(colours, self.content.surface.evidence)

    def _paint_scale(self, painter: QPainter) -> None:
        if self.scale is not None:
            paint_scale(painter, self.scale, self.view.width(), self.view.height())

    # -- measuring -------------------------------------------------------------------------------

    def anchor_at(self, point: Point) -> Anchor | None:
        """The place of the surface under a point."""
        return None if self.content is None else self.content.surface.anchor(self.vertices, point)

    def place_of(self, anchor: Anchor) -> Point:
        """Where an anchor is now."""
        assert self.content is not None
        return self.content.surface.place(self.vertices, anchor)

    def area_in(self, polygon: NDArray[np.float64]) -> float:
        """Area of the surface inside a polygon."""
        assert self.content is not None
        return surface_area_in(polygon, self.vertices, self.content.surface.mesh.faces)

    def reading_at(self, point: Point) -> tuple[float, str, str] | None:
        """The value that the colours show at a point; its depth while they show the tissue."""
        if self.content is None:
            return None
        kind = Colouring.DEPTH if self.colouring is Colouring.TEXTURE else self.colouring
        unit: Any = "share" if kind is Colouring.EVIDENCE else self.unit
        anchor = self.content.surface.anchor(self.vertices, point)
        return self.content.surface.value(anchor, self.values(kind)), unit, kind.value

    def evidence_at(self, point: Point) -> float | None:
        """Share of real observations at a point."""
        if self.content is None or self.content.surface.mesh.evidence is None:
            return None
        anchor = self.content.surface.anchor(self.vertices, point)
        return self.content.surface.value(anchor, self.content.surface.evidence)

"""Three linked slices and the volume in 3D, with the look that the person chose."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QPointF, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPen, QPolygonF

from splatomy.scene import Mesh, Volume
from splatomy_gui.measuring import Point
from splatomy_gui.panels.angiography.colours import time_colours
from splatomy_gui.panels.angiography.content import Content, read_content
from splatomy_gui.panels.angiography.look_panel import LookPanel
from splatomy_gui.panels.angiography.looks import PRESETS, Look
from splatomy_gui.panels.angiography.stage import Prepared, Stage, surface_of
from splatomy_gui.panels.angiography.time_panel import TimeColours
from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand
from splatomy_gui.views.slice_view import SliceView
from splatomy_gui.views.volume_view import VolumeView
from splatomy_gui.widgets.kept import KeptField

VOLUME, SURFACE, LINE, OTHER = "volume", "surface", "branch", "other"
_FIRST_LOOK = "Vessel red"


class VolumeScene(QObject):
    """The views of a volume and what decides how they draw it; every change by the person can be undone."""

    crosshair_moved = pyqtSignal()
    picked = pyqtSignal(object)
    """World point that was clicked while ``set_picking`` is on."""
    told = pyqtSignal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self.session = session
        self.slices = [SliceView("axial"), SliceView("coronal"), SliceView("sagittal")]
        self.view = VolumeView()
        self.panel = LookPanel()
        self.stage = Stage(session.tasks, self)
        self.content: Content | None = None
        self.volume: Volume | None = None
        self.look: Look | None = None
        self.level = 0.0
        self.cross_mm = np.zeros(3)
        self.time_s: float | None = None
        """The time that is shown, None = over all times."""
        self.tint: TimeColours | None = None
        self._course_mm: NDArray[np.float64] | None = None
        for view in self.slices:
            view.crosshair_moved.connect(self.move_crosshair)
            view.window_changed.connect(self.set_window)
            view.window_set.connect(lambda before, after: self._push("Window", self._window, before, after))
            view.picked.connect(self.picked)
        self.view.point_picked.connect(self.picked)
        panel = self.panel
        panel.look_changing.connect(self._apply_look)
        panel.look_wanted.connect(lambda look: self._push("Look", self._set_look, self.look, look))
        panel.level_changing.connect(self.ask_surface)
        panel.level_wanted.connect(lambda new: self._push("Threshold", self._set_level, self.level, new))
        panel.surface_wanted.connect(self._want_surface)
        panel.slab_changed.connect(self._set_slab)
        KeptField(session, panel.slab, "Slab", lambda: self._set_slab(float(panel.slab.currentData())))
        KeptField(session, panel.surface, "Surface")
        panel.other_wanted.connect(self._choose_other)
        self.stage.volume_ready.connect(self._show_volume)
        self.stage.surface_ready.connect(self._show_surface)
        session.layers.changed.connect(self.show_layer)

    def _push(self, text: str, apply: Any, before: Any, after: Any) -> None:
        if before != after:
            self.session.push(ValueCommand(text, apply, before, after))

    def close(self) -> None:
        """Frees VTK."""
        self.stage.drop()
        self.view.close_view()

    # -- content ---------------------------------------------------------------------------------

    def set_content(self, content: Content | None, metric: bool) -> None:
        """Another volume, or none; in its first look."""
        self.content, self.volume, self.tint = content, None, None
        self.stage.drop()
        self.view.remove_all()
        self.view.remove_volume()
        self.view.set_metric(metric)
        for view in self.slices:
            view.unit = "mm" if metric else "relative"
            view.set_volume(None)
        self.panel.set_content(content)
        if content is None:
            return
        self.level = content.levels.threshold
        self.set_window(*content.window)
        self._set_look(Look.of(_FIRST_LOOK, content.levels))
        self.panel.show_level(self.level)
        top = np.unravel_index(int(np.argmax(content.volume.values)), content.volume.values.shape)
        self.cross_mm = (content.volume.affine_mm @ [*top, 1.0])[:3]
        self.refresh()

    def show_time(self, time_s: float | None) -> None:
        """The volume at a time, or over all times."""
        if time_s != self.time_s:
            self.time_s = time_s
            self.refresh()

    def refresh(self) -> None:
        """Prepares volume and surface anew."""
        if self.content is not None:
            self.stage.ask_volume(self.content, self.time_s)
            self.ask_surface(self.level)

    @property
    def map_key(self) -> str:
        """Key of the time map on show, empty without one."""
        return "" if self.tint is None else self.tint.key

    def set_tint(self, tint: TimeColours | None) -> None:
        """Colours slices and surface by a time map."""
        self.tint = tint
        self._show_overlay()
        if tint is not None and SURFACE in self.session.layers:
            # A map without the surface would colour slices only, which hardly anybody expects.
            self.session.layers.change(SURFACE, visible=True)
        self.ask_surface(self.level)

    def _show_overlay(self) -> None:
        tint = self.tint
        for view in self.slices:
            if tint is None:
                view.set_overlay(None)
            else:
                view.set_overlay(tint.volume, partial(time_colours, low=tint.low_s, high=tint.high_s))

    def _show_volume(self, prepared: Prepared) -> None:
        content = self.content
        if content is None:
            return
        self.volume = prepared.volume
        for view in self.slices:
            view.set_volume(prepared.volume)
        volumes = (prepared.fine, prepared.coarse)
        self.view.set_subject(prepared.bounds_mm)
        self.view.show_volume(prepared.fine_codes, prepared.coarse_codes, volumes, content.range)
        self._apply_look(self.look)
        self._show_overlay()
        self.move_crosshair(tuple(self.cross_mm.tolist()))
        self.show_layer(VOLUME)

    # -- surface ---------------------------------------------------------------------------------

    def ask_surface(self, level: float) -> None:
        """The surface of a level, if surfaces are on show."""
        layers = self.session.layers
        if self.content is not None and SURFACE in layers and layers[SURFACE].visible:
            self.stage.ask_surface(self.content, level, self.time_s, self.tint)

    def _show_surface(self, mesh: Mesh) -> None:
        if self.content is None or not len(mesh.faces):
            self.view.remove(SURFACE)
            return
        style: dict[str, Any] = {} if mesh.colours is not None else {"color": "#d9534f"}
        self.view.show_thing("mesh", SURFACE, mesh, smooth_shading=True, **style)
        self.show_layer(SURFACE)

    def _want_surface(self, on: bool) -> None:
        if SURFACE in self.session.layers and self.session.layers[SURFACE].visible != on:
            self.session.layers.change(SURFACE, visible=on)

    def _set_level(self, level: float) -> None:
        self.level = level
        self.panel.show_level(level)
        self.ask_surface(level)

    def _choose_other(self) -> None:
        from PyQt6.QtWidgets import QFileDialog

        pattern = "Volumes (*.nii *.nii.gz *.nrrd *.mha)"
        name, _ = QFileDialog.getOpenFileName(self.panel, "Compare with volume", "", pattern)
        if name:
            self.show_other(Path(name))

    def show_other(self, path: Path) -> None:
        """Shows the surface of another volume, at its own threshold, in blue."""

        content = self.content

        def work() -> Any:
            other = yield from read_content(path)
            return surface_of(other, other.levels.threshold, None, None)

        def done(mesh: Mesh) -> None:
            # The page may show something else by now, or another page be on show, whose layers these are not.
            if self.content is not content or SURFACE not in self.session.layers:
                return
            self.view.show_thing("mesh", OTHER, mesh, color="#5aa7ff", smooth_shading=True)
            self.show_layer(OTHER)
            self.session.layers.change(SURFACE, visible=True)
            self.told.emit(f"Blue: {path.name}")

        self.session.tasks.start(f"{path.name} cannot be shown", work, done)

    def show_layer(self, key: str) -> None:
        """Follows the case tree's eyes and opacities."""
        layers = self.session.layers
        if key not in layers:
            return
        layer = layers[key]
        if key == VOLUME:
            self.view.set_volume_layer(layer.visible, layer.opacity)
            return
        if key == LINE:
            self.update_annotations()
            return
        self.view.set_layer(key, layer.visible, layer.opacity)
        if key == SURFACE:
            self.panel.surface.setChecked(layer.visible)
            self.panel.show_level(self.level)
            if layer.visible and self.view.actor(SURFACE) is None:
                self.ask_surface(self.level)

    # -- look ------------------------------------------------------------------------------------

    def _set_look(self, look: Look) -> None:
        self.look = look
        self.panel.show_look(look)
        self._apply_look(look)

    def _apply_look(self, look: Look | None) -> None:
        content = self.content
        if content is None or look is None:
            return
        preset, levels = PRESETS[look.preset], content.levels
        span = levels.lumen - levels.background
        self.view.set_colours([(levels.background + share * span, rgb) for share, rgb in preset.colours])
        self.view.set_blending(preset.blending, preset.shaded)
        self.view.set_backdrop(preset.background)
        self.view.set_opacity_curve(look.points, preset.unit_share)
        self.view.render()

    # -- slices ----------------------------------------------------------------------------------

    def move_crosshair(self, point: tuple[float, ...]) -> None:
        """All slices go through a world point."""
        self.cross_mm = np.asarray(point, dtype=np.float64)
        for view in self.slices:
            view.set_crosshair(point)
        self.crosshair_moved.emit()

    def value_at(self, point: Point) -> float | None:
        """The volume's value at a world point."""
        return None if self.volume is None else nearest_value(self.volume, point)

    def set_window(self, low: float, high: float) -> None:
        """The values that are black and white, in all slices."""
        for view in self.slices:
            view.set_window(low, high)

    def _window(self, window: tuple[float, float]) -> None:
        self.set_window(*window)

    def auto_window(self) -> None:
        """The window that shows vessels well."""
        if self.content is not None:
            self._push("Auto window", self._window, self.slices[0].window, self.content.window)

    def _set_slab(self, thickness_mm: float) -> None:
        for view in self.slices:
            view.set_slab(thickness_mm)

    def show_crosshair(self, on: bool) -> None:
        """Shows or hides the crosshair."""
        for view in self.slices:
            view.crosshair_shown = on
            view.update()

    def set_picking(self, on: bool) -> None:
        """Clicks pick points (``picked``)."""
        for view in self.slices:
            view.picking = on
        self.view.enable_picking(on)

    def set_annotator(self, paint: Callable[[QPainter, Any], None]) -> None:
        """paint(painter, view): paints over slices and scene; ``view.places_of`` says where."""
        views: tuple[Any, ...] = (*self.slices, self.view)
        for view in views:
            view.annotator = partial(_painted, paint, view)

    def show_course(self, points_mm: NDArray[np.float64] | None) -> None:
        """The course (N, 3) of a chosen branch, or none."""
        self._course_mm = points_mm
        self.update_annotations()

    def paint_course(self, painter: QPainter) -> None:
        """Paints it over the scene, since it lies within the vessel, where nobody would see it."""
        layers = self.session.layers
        if self._course_mm is None or LINE not in layers or not layers[LINE].visible:
            return
        places = self.view.places_of(self._course_mm)
        colour = QColor("#ffd166")
        colour.setAlphaF(layers[LINE].opacity)
        painter.setPen(QPen(colour, 2.5))
        painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in places if np.isfinite([x, y]).all()]))

    def update_annotations(self) -> None:
        """Paints over slices and scene again."""
        for view in self.slices:
            view.update()
        self.view.update_overlay()


def _painted(paint: Callable[[QPainter, Any], None], view: Any, painter: QPainter) -> None:
    paint(painter, view)


def nearest_value(volume: Volume, point: Point) -> float | None:
    """The value of the voxel at a world point, None outside and where it is not known."""
    index = np.rint(np.linalg.solve(volume.affine_mm, [*point, 1.0])[:3]).astype(int)
    if (index < 0).any() or (index >= volume.values.shape).any():
        return None
    value = float(volume.values[tuple(index)])
    return value if np.isfinite(value) else None

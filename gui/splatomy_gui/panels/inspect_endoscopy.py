"""Inspect a surface, moving or still: recorded, rendered, its depth, in 3D, and from any other view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PyQt6.QtCore import QPointF, Qt
from PyQt6.QtGui import QPainter
from PyQt6.QtWidgets import QTabWidget, QVBoxLayout

from splatomy_gui.inputs import Kind
from splatomy_gui.layers import Layer
from splatomy_gui.measuring_tool import MeasureContext, MeasureDesk
from splatomy_gui.panels.inspect.camera_desk import CameraDesk
from splatomy_gui.panels.inspect.cameras import CameraList
from splatomy_gui.panels.inspect.colouring import Colouring, colouring_titles
from splatomy_gui.panels.inspect.film import make_film
from splatomy_gui.panels.inspect.moment import MomentPictures
from splatomy_gui.panels.inspect.reference import ReferencePanel
from splatomy_gui.panels.inspect.tissue_scene import (
    ELLIPSES,
    POINTS,
    SURFACE,
    TissueContent,
    TissueScene,
    read_tissue,
)
from splatomy_gui.panels.inspect.view_grid import ViewGrid, ViewPane
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.result import Result
from splatomy_gui.undo import ValueCommand
from splatomy_gui.views.compare_view import MODE_TITLES, CompareChooser, CompareMode
from splatomy_gui.views.measure_paint import paint_measurements
from splatomy_gui.views.scene_view import SceneView
from splatomy_gui.widgets.basics import NameLabel, ask_picture, label, row, tool_button
from splatomy_gui.widgets.fields import ChoiceField
from splatomy_gui.widgets.hold import HoldKey
from splatomy_gui.widgets.kept import KeptField
from splatomy_gui.widgets.measure_table import MeasureTable

_LAYOUTS = {"tissue_one": 1, "tissue_two": 2, "tissue_four": 4}
_MODES = (
    CompareMode.RENDERED,
    CompareMode.RECORDED,
    CompareMode.WIPE,
    CompareMode.SIDE,
    CompareMode.DIFFERENCE,
)
_OF_VIEWS = MODE_TITLES | {CompareMode.RENDERED: "Rendered"}
"""Of a still scene nothing is taken out of the picture."""


class InspectEndoscopyPage(Page):
    """Four panes of one moment: pictures, surface, depth, and the engine's view from the 3D camera."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.subject = NameLabel()
        self.units = label("", "caution")
        self.scene_view = SceneView(metric=False)
        self.scene = TissueScene(self.scene_view)
        self.moment = MomentPictures(self.session, self.scene)
        self.picture_view = self.moment.picture_view
        self.desk = MeasureDesk(self.session, self.actions_table, self._context)
        self.cameras = CameraDesk(self.session, shell.workspace.key, self.scene_view)
        self.reference = ReferencePanel(self.session, self.scene)
        self.hold = HoldKey(self.actions_table["compare_hold"], Qt.Key.Key_C, self.picture_view.hold)
        self._shown: tuple[Path, object] | None = None
        self._make_layout()
        self._listen()

    @property
    def content(self) -> TissueContent | None:
        """What is shown of the run, once it is read."""
        return self.scene.content

    # -- construction ----------------------------------------------------------------------------

    def _make_layout(self) -> None:
        table = self.actions_table
        clip = self.shell.workspace.key == Kind.ENDOSCOPY.value
        self._still = None if clip else "Nothing moves in a still scene."
        self.compare_choice = CompareChooser(self.picture_view, None if clip else _OF_VIEWS)
        tip = "What the colours of the surface say"
        self.colour_choice = ChoiceField([*colouring_titles(clip)], tip)
        self.mark_choice = ChoiceField(
            [(True, "Hatch unseen"), (False, "Grey unseen")],
            "How tissue that no frame shows is marked; it is always marked",
        )
        self.gaussian_choice = ChoiceField(
            [(None, "No Gaussians"), (POINTS, "As points"), (ELLIPSES, "As ellipses")],
            "Show the Gaussians that the surface is made of",
        )
        for field, text in (
            (self.colour_choice, "Colours of the surface"),
            (self.mark_choice, "How unseen tissue is marked"),
            (self.gaussian_choice, "Gaussians"),
            (self.compare_choice, "Comparison"),
        ):
            KeptField(self.session, field, text)
        self.novel_state = label("", "muted")
        buttons = [tool_button(table[f"tissue_{n}"]) for n in ("wireframe", "normals", "camera")]
        panes = [
            ViewPane("Picture", self.picture_view, [self.compare_choice, None]),
            ViewPane(
                "",
                self.scene_view,
                [self.colour_choice, self.mark_choice, self.gaussian_choice, None, *buttons],
            ),
            ViewPane("Depth without instruments" if clip else "Depth", self.moment.depth_view, [None]),
            ViewPane("Rendered from the 3D camera", self.moment.novel_view, [None, self.novel_state]),
        ]
        self.grid = ViewGrid(panes, (0, 1), 1)
        self.panel = QTabWidget()
        self.measure_table = MeasureTable(self.desk)
        self.panel.addTab(self.measure_table, "Measurements")
        self.panel.addTab(self.cameras.list, "Cameras")
        self.panel.setTabVisible(self.panel.addTab(self.reference, "Compare with a reference"), not clip)
        self.panel.setMaximumHeight(160)
        self.panel.hide()
        kinds = ("distance", "angle", "polyline", "area", "diameter", "point")
        tools = row(*(tool_button(table[f"measure_{kind}"]) for kind in kinds), spacing=2)
        views = [tool_button(table[name]) for name in ("view_fit", "view_bookmark", "view_screenshot")]
        layouts = [tool_button(table[name]) for name in (*_LAYOUTS, "tissue_panel")]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(5)
        layout.addWidget(
            row(self.subject, self.units, None, tools, *views, row(*layouts, spacing=2), spacing=6)
        )
        layout.addWidget(self.grid, 1)
        layout.addWidget(self.panel)

    def _listen(self) -> None:
        session, scene = self.session, self.scene
        session.clock.changed.connect(lambda *_: self._show_time())
        session.result_changed.connect(self._show_result)
        session.case_changed.connect(self._show_time)
        session.layers.changed.connect(self._show_layer)
        self.colour_choice.currentIndexChanged.connect(
            lambda _: scene.set_colouring(Colouring(str(self.colour_choice.value())))
        )
        self.mark_choice.currentIndexChanged.connect(
            lambda _: scene.set_hatches(self.mark_choice.value() is True)
        )
        self.gaussian_choice.currentIndexChanged.connect(lambda _: self._choose_gaussians())
        scene.coloured.connect(self._scene_coloured)
        self.grid.changed.connect(self._views_changed)
        self.scene_view.camera_settled.connect(self._want_novel)
        self.scene_view.point_picked.connect(self.desk.add_point)
        self.picture_view.clicked.connect(self._picture_clicked)
        self.scene_view.overlay.painters.append(self._paint_on_scene)
        self.picture_view.painters.append(self._paint_on_picture)
        self.desk.changed.connect(self._desk_changed)
        self.desk.active_changed.connect(self._measuring)
        self.desk.told.connect(self.told)
        self.moment.told.connect(self.novel_state.setText)
        self.cameras.list.film_wanted.connect(self._film)
        self.cameras.bookmarks.changed.connect(self._allow)
        self.cameras.kept.connect(lambda: self._show_panel(self.cameras.list))
        self.cameras.told.connect(self.told)

    # -- life ------------------------------------------------------------------------------------

    def activate(self) -> None:
        table = self.actions_table
        table.bind("view_fit", self.scene_view.fit)
        table.bind("view_screenshot", self._screenshot)
        table.bind("view_bookmark", self.cameras.keep)
        table.bind("view_maximise", self.grid.enlarge)
        table.bind("compare_hold", self.hold.press)
        for name, count in _LAYOUTS.items():
            table.bind(name, lambda on, n=count: self._set_layout(n, on))
        table.bind("tissue_compare_next", self._next_comparison)
        table.bind("tissue_camera", self._look_from_recording)
        table.bind("tissue_wireframe", self.scene.set_wireframe)
        table.bind("tissue_normals", self.scene.set_normals)
        table.bind("tissue_reference", self._set_reference)
        table.bind("tissue_panel", self.panel.setVisible)
        table.bind("view_film", self._film)
        self.desk.bind()
        self.session.layers.set(
            [
                Layer(SURFACE, "Surface"),
                Layer(POINTS, "Gaussians, points", visible=False),
                Layer(ELLIPSES, "Gaussians, ellipses", visible=False),
            ]
        )
        self._views_changed()
        self._show_result()

    def deactivate(self) -> None:
        self.hold.let_go()
        self.desk.release()
        self.moment.novel.drop()
        self.session.layers.clear()

    def close_page(self) -> None:
        self.cameras.close()
        self.moment.novel.drop()
        self.scene_view.close_view()

    # -- the result ------------------------------------------------------------------------------

    def _show_result(self) -> None:
        if not self.isVisible():
            return
        result = self.session.result
        self.subject.setText("No result" if result is None else result.path.name)
        metric = result is not None and result.metric
        self.units.setText("" if metric or result is None else "relative lengths, no millimetres")
        self.scene_view.set_metric(metric)
        wanted = None if result is None else result.version
        if wanted != self._shown:
            self._shown = wanted
            self._show_content(None, metric)
            if result is not None:
                self._read_result(result, wanted)
        self._allow()
        self._show_time()

    def _read_result(self, result: Result, wanted: tuple[Path, object] | None) -> None:
        def done(content: TissueContent) -> None:
            if self._shown == wanted:
                self._show_content(content, result.metric)

        self.session.tasks.start(
            f"{result.path.name} cannot be shown", lambda: read_tissue(result.path), done
        )

    def _show_content(self, content: TissueContent | None, metric: bool) -> None:
        self.moment.clear()
        views = None if content is None else content.pictures.views
        if self.session.case is None and views is not None:
            times = np.arange(len(views.cameras)) if views.times_s is None else views.times_s
            self.session.clock.set_times(times, timed=views.times_s is not None)
        clock = self.session.clock
        self.scene.frame, self.scene.time_s = clock.frame, clock.time_s
        self.scene.show(content, metric)
        self.reference.refresh()
        if content is not None:
            self._look_from_recording()
        self._allow()
        self._show_time()

    def _allow(self) -> None:
        if not self.isVisible():
            return
        table = self.actions_table
        reason = None if self.content is not None else "There is no surface on show."
        names = ("compare_next", "camera", "wireframe", "normals")
        for name in ("view_fit", "view_screenshot", "view_bookmark", *(f"tissue_{n}" for n in names)):
            table.allow(name, reason)
        table.allow("tissue_reference", reason or self._still)
        table.allow("view_film", reason or self.cameras.few)
        self.desk.refresh()

    # -- time ------------------------------------------------------------------------------------

    def _show_time(self) -> None:
        if not self.isVisible():
            return
        clock = self.session.clock
        if self.content is not None:
            self.scene.set_time(clock.frame, clock.time_s)
            self.desk.refresh()
            self._want_novel()
        self.moment.want_frame()

    def _want_novel(self) -> None:
        """The engine is not started, and not bothered, while its view is not on show."""
        if self.isVisible() and self.grid.shown(self.grid.panes[3]):
            self.moment.want_novel()

    # -- views -----------------------------------------------------------------------------------

    def _set_layout(self, count: int, on: bool) -> None:
        if on:
            self.grid.set_count(count)
        else:
            self._views_changed()

    def _views_changed(self) -> None:
        table = self.actions_table
        for name, count in _LAYOUTS.items():
            table[name].blockSignals(True)
            table[name].setChecked(self.grid.count == count)
            table[name].blockSignals(False)
        table["view_maximise"].blockSignals(True)
        table["view_maximise"].setChecked(self.grid.enlarged)
        table["view_maximise"].blockSignals(False)
        self._want_novel()

    def _next_comparison(self) -> None:
        place = _MODES.index(self.picture_view.mode)
        self.picture_view.set_mode(_MODES[(place + 1) % len(_MODES)])

    def _choose_gaussians(self) -> None:
        chosen = self.gaussian_choice.value()
        for name in (POINTS, ELLIPSES):
            if name in self.session.layers:
                self.session.layers.change(name, visible=name == chosen)
        # The surface would hide what lies on it.
        if SURFACE in self.session.layers:
            self.session.layers.change(SURFACE, visible=chosen is None)
        self.session.layers.changed.emit("")

    def _show_layer(self, key: str) -> None:
        layers = self.session.layers
        if self.isVisible():
            for name in (key,) if key else (SURFACE, POINTS, ELLIPSES):
                if name in layers:
                    self.scene.set_layer(name, layers[name].visible, layers[name].opacity)

    def _scene_coloured(self) -> None:
        self.colour_choice.set_value(self.scene.colouring)
        self.desk.refresh()

    def _set_reference(self) -> None:
        before, now = self.scene.reference_s, self.session.clock.time_s
        self.session.push(ValueCommand("Deformation from here", self._count_from, before, now))

    def _count_from(self, time_s: float) -> None:
        self.scene.set_reference(time_s)
        self.told.emit(f"Deformation is counted from {time_s:.2f} s.")

    # -- cameras ---------------------------------------------------------------------------------

    def _look_from_recording(self) -> None:
        camera = None if self.content is None else self.content.pictures.camera(self.session.clock.frame)
        if camera is None:
            self.scene_view.fit()
        else:
            self.scene_view.look(camera[0], camera[1], camera[3])

    def _film(self) -> None:
        content, result = self.content, self.session.result
        if content is not None and result is not None:
            times, surface, run = content.surface.times_s, content.surface, result.path
            self.cameras.film_by_engine(
                (float(times[0]), float(times[-1])), lambda film, out: make_film(run, surface, film, out)
            )

    def _screenshot(self) -> None:
        ask_picture(self.session.tasks, self, self.scene_view.grab(), "surface.png")

    # -- measuring -------------------------------------------------------------------------------

    def _context(self) -> MeasureContext | None:
        result, scene = self.session.result, self.scene
        if result is None or scene.content is None:
            return None
        return MeasureContext(
            result.path.name,
            result.metric,
            self.session.clock.time_s,
            scene.anchor_at,
            scene.place_of,
            scene.area_in,
            scene.reading_at,
            None,
            scene.evidence_at,
        )

    def _measuring(self, on: bool) -> None:
        self.scene_view.enable_picking(on)
        viewport = self.picture_view.viewport()
        if viewport is not None:
            viewport.setCursor(Qt.CursorShape.CrossCursor if on else Qt.CursorShape.ArrowCursor)
        if on:
            self._show_panel(self.measure_table)

    def _show_panel(self, tab: MeasureTable | CameraList) -> None:
        self.panel.setCurrentWidget(tab)
        self.actions_table["tissue_panel"].setChecked(True)

    def _desk_changed(self) -> None:
        self.scene_view.overlay.update()
        viewport = self.picture_view.viewport()
        if viewport is not None:
            viewport.update()

    def _picture_clicked(self, point: QPointF) -> None:
        """A point of the picture is the point of the surface that the camera sees there."""
        if self.desk.active:
            place = self.moment.point_at(point)
            if place is None:
                self.told.emit("No depth is known there.")
            else:
                self.desk.add_point(place)

    def _paint_on_scene(self, painter: QPainter) -> None:
        paint_measurements(painter, self.desk.drawn(), self.scene_view.place_of, self.desk.chosen)

    def _paint_on_picture(self, painter: QPainter) -> None:
        if self.moment.pictures is not None:
            paint_measurements(painter, self.desk.drawn(), self.moment.place_of, self.desk.chosen)

"""Inspect vessels: linked slices and volume, frames and C-arm, of a run or of a finished volume."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PyQt6.QtCore import QSignalBlocker, Qt
from PyQt6.QtGui import QPainter
from PyQt6.QtWidgets import QHBoxLayout, QSizePolicy, QStackedWidget, QTabWidget, QVBoxLayout

from splatomy.scene import Volume
from splatomy_gui.layers import Layer
from splatomy_gui.measuring import Point
from splatomy_gui.measuring_tool import MeasureContext, MeasureDesk
from splatomy_gui.panels.angiography.branch_panel import BranchPanel
from splatomy_gui.panels.angiography.branches import diameter_at
from splatomy_gui.panels.angiography.colours import paint_points
from splatomy_gui.panels.angiography.content import MAPS, Content, find_line, find_maps, read_content
from splatomy_gui.panels.angiography.look_panel import NOTHING
from splatomy_gui.panels.angiography.measure_panel import MeasurePanel
from splatomy_gui.panels.angiography.projection_pane import ProjectionPane
from splatomy_gui.panels.angiography.time_panel import MOST_POINTS, TimePanel, time_colours_of
from splatomy_gui.panels.angiography.volume_scene import (
    LINE,
    OTHER,
    SURFACE,
    VOLUME,
    VolumeScene,
    nearest_value,
)
from splatomy_gui.panels.inspect.camera_desk import CameraDesk
from splatomy_gui.panels.inspect.view_grid import ViewGrid, ViewPane
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.undo import ValueCommand
from splatomy_gui.views.measure_paint import paint_measurements
from splatomy_gui.widgets.basics import ask_picture, label, row, tool_button
from splatomy_gui.widgets.hold import HoldKey
from splatomy_gui.widgets.kept import KeptField

if TYPE_CHECKING:
    from splatomy.extract.centreline import Centreline

_PANEL_PX = 348
_LAYERS = [
    Layer(VOLUME, "Volume"),
    Layer(SURFACE, "Surface", visible=False),
    Layer(LINE, "Centreline"),
    Layer(OTHER, "Compared volume", opacity=0.6),
]
_NO_FRAMES = "There are no recorded frames of this volume."


class InspectAngiographyPage(Page):
    """Views at the left, what they show and what is measured in them at the right."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.content: Content | None = None
        self.points: tuple[Point, ...] = ()
        self._shown: tuple[Path, object] | None = None
        self._finding: Volume | None = None
        self.scene = VolumeScene(self.session, self)
        self.scene_view, self.slices, self.look_panel = self.scene.view, self.scene.slices, self.scene.panel
        self.desk = MeasureDesk(self.session, self.actions_table, self._measure_context)
        self.cameras = CameraDesk(self.session, "angiography", self.scene_view)
        self.projections = ProjectionPane(self.session)
        self._hold = HoldKey(self.actions_table["compare_hold"], Qt.Key.Key_C, self.projections.show_recorded)
        self._build()
        self._connect()

    @property
    def volume(self) -> Volume | None:
        """The volume on show."""
        return self.scene.volume

    # -- construction ----------------------------------------------------------------------------

    def _build(self) -> None:
        table = self.actions_table
        self.subject, self.value = label("", "heading"), label("", "muted")
        # The value changes with every move of the crosshair; the window must not.
        self.value.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.grid = ViewGrid([ViewPane("", view) for view in (*self.slices, self.scene_view)], (0, 3), 3)
        self.grid.set_count(4)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.grid)
        self.stack.addWidget(self.projections)
        clear = tool_button(table["angio_curves_clear"])
        self.time_panel = TimePanel(tool_button(table["angio_curve"], text_too=True), clear)
        self.branch_panel = BranchPanel()
        self.tabs = QTabWidget()
        for panel, name in (
            (self.look_panel, "Look"),
            (self.time_panel, "Time"),
            (self.branch_panel, "Vessels"),
            (MeasurePanel(self.desk), "Measure"),
            (self.cameras.list, "Cameras"),
        ):
            self.tabs.addTab(panel, name)
        self.tabs.setFixedWidth(_PANEL_PX)
        modes = [tool_button(table[n], text_too=True) for n in ("angio_volume", "angio_projections")]
        names = ("angio_auto_window", "angio_crosshair", "angio_front", "angio_left", "angio_head")
        more = ("view_fit", "view_bookmark", "view_screenshot")
        self.volume_tools = row(*(tool_button(table[n]) for n in (*names, *more)), spacing=2)
        frame_names = ("angio_subtract", "angio_invert", "compare_hold")
        self.frame_tools = row(*(tool_button(table[n]) for n in frame_names), spacing=2)
        body = QHBoxLayout()
        body.addWidget(self.stack, 1)
        body.addWidget(self.tabs)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(4)
        head = row(*modes, self.subject, self.value, self.volume_tools, self.frame_tools, spacing=6)
        inside = head.layout()
        if isinstance(inside, QHBoxLayout):
            inside.setStretchFactor(self.value, 1)
        layout.addWidget(head)
        layout.addLayout(body, 1)

    def _connect(self) -> None:
        session, scene = self.session, self.scene
        scene.crosshair_moved.connect(self._show_value)
        scene.picked.connect(self._picked)
        scene.told.connect(self.told)
        scene.set_annotator(self._annotate)
        time = self.time_panel
        time.map_wanted.connect(lambda key: self._push("Colour map", self._set_map, scene.map_key, key))
        time.maps_missing.connect(self._find_maps)
        time.time_wanted.connect(session.clock.show_time)
        time.moving_changed.connect(lambda _: self._show_time())
        KeptField(session, time.moving, "Volume follows the time")
        branches = self.branch_panel
        branches.line_wanted.connect(self._find_line)
        branches.place_changed.connect(lambda point: scene.move_crosshair(tuple(point.tolist())))
        branches.branch_changed.connect(self._show_branch)
        branches.ends_wanted.connect(
            lambda before, after: self._push("Healthy end", branches.set_ends, before, after)
        )
        self.tabs.currentChanged.connect(lambda _: self._tab_changed())
        self.desk.changed.connect(scene.update_annotations)
        self.desk.active_changed.connect(lambda _: self._set_picking())
        self.desk.told.connect(self.told)
        self.cameras.list.film_wanted.connect(self.cameras.film_of_view)
        self.cameras.bookmarks.changed.connect(self._allow)
        self.cameras.kept.connect(lambda: self.tabs.setCurrentWidget(self.cameras.list))
        self.cameras.told.connect(self.told)
        session.clock.changed.connect(lambda *_: self._show_time())
        session.result_changed.connect(self._show_result)

    def activate(self) -> None:
        bind = self.actions_table.bind
        bind("view_fit", self.scene_view.fit)
        bind("view_maximise", self.grid.enlarge)
        bind("view_screenshot", self._screenshot)
        bind("view_bookmark", self.cameras.keep)
        bind("view_film", self.cameras.film_of_view)
        bind("compare_hold", self._hold.press)
        bind("angio_volume", lambda on: self._show_mode(0 if on else 1))
        bind("angio_projections", lambda on: self._show_mode(1 if on else 0))
        bind("angio_auto_window", self.scene.auto_window)
        bind("angio_crosshair", self.scene.show_crosshair)
        bind("angio_curve", self._curve_tool)
        bind("angio_curves_clear", lambda: self._push("Clear time curves", self._set_points, self.points, ()))
        bind("angio_subtract", self.projections.set_subtracted)
        bind("angio_invert", self.projections.set_inverted)
        for side in ("front", "left", "head"):
            bind(f"angio_{side}", lambda s=side: self.scene_view.look_from(s))
        self.actions_table["angio_crosshair"].setChecked(True)
        self.session.layers.set(_LAYERS)
        self.desk.bind()
        self._show_result()
        self._show_mode(self.stack.currentIndex())

    def deactivate(self) -> None:
        self._hold.let_go()
        self.desk.release()
        self.actions_table["angio_curve"].setChecked(False)
        self.session.layers.clear()

    def close_page(self) -> None:
        self.cameras.close()
        self.scene.close()

    def _push(self, text: str, apply: Any, before: Any, after: Any) -> None:
        if before != after:
            self.session.push(ValueCommand(text, apply, before, after))

    # -- content ---------------------------------------------------------------------------------

    def _show_result(self) -> None:
        result = self.session.result
        if not self.isVisible():
            return
        if result is None:
            self._shown = None
            self._take_content(None)
            self.subject.setText("No result")
            return
        path, wanted = result.path, result.version
        if wanted == self._shown:
            return
        self._shown = wanted
        self._take_content(None)
        self.subject.setText("Reading...")

        def done(content: Content) -> None:
            if self._shown == wanted:
                self.subject.setText("Volume" if path.is_file() else "Run")
                self._take_content(content)

        self.session.tasks.start(f"{path.name} cannot be shown", lambda: read_content(path), done)

    def _take_content(self, content: Content | None) -> None:
        self.content = content
        result = self.session.result
        metric = result is None or result.metric
        if self.session.case is None and result is not None and content is not None:
            self.session.clock.set_times([] if content.course is None else content.course.times_s)
        self.value.setText("")
        self.branch_panel.set_unit("mm" if metric else "relative")
        self.time_panel.set_content(content)
        self.branch_panel.set_line(None if content is None else content.line)
        self.branch_panel.set_available_line(NOTHING if content is None else None)
        self.scene.set_content(content, metric)
        self.projections.set_content(content)
        self._set_points(())
        self._tab_changed()

    def _allow(self) -> None:
        allow, content, frames = self.actions_table.allow, self.content, self.projections.frames
        nothing = NOTHING if content is None else None
        for name in ("angio_auto_window", "angio_crosshair", "angio_front", "angio_left", "angio_head"):
            allow(name, nothing)
        timed = content is not None and content.course is not None and len(content.course.times_s) > 1
        allow("angio_curve", nothing or (None if timed else "This volume has no course over time."))
        allow("angio_curves_clear", None if self.points else "No point is picked.")
        reason = None if frames is not None else _NO_FRAMES
        allow("angio_invert", reason)
        shown = "Show frames and C-arm first." if self.stack.currentIndex() == 0 else None
        allow("compare_hold", reason or shown)
        hidden = "Show slices and 3D first." if self.stack.currentIndex() else nothing
        allow("view_bookmark", hidden)
        allow("view_film", hidden or self.cameras.few)
        if frames is not None and frames.line_integrals is None:
            reason = "This run has no mask to subtract."
        elif frames is not None and frames.run.already_subtracted:
            reason = "The run came subtracted; there are no frames as recorded."
        allow("angio_subtract", reason)
        if frames is not None:
            self.actions_table["angio_subtract"].setChecked(frames.subtracted)
            self.actions_table["angio_invert"].setChecked(frames.inverted)
        self.desk.refresh()

    def _show_mode(self, number: int) -> None:
        self.stack.setCurrentIndex(number)
        for place, name in enumerate(("angio_volume", "angio_projections")):
            with QSignalBlocker(self.actions_table[name]):
                self.actions_table[name].setChecked(place == number)
        self.tabs.setVisible(number == 0)
        self.volume_tools.setVisible(number == 0)
        self.frame_tools.setVisible(number == 1)
        self.value.setVisible(number == 0)
        self.projections.refresh()
        self._allow()

    def _screenshot(self) -> None:
        view = self.projections if self.stack.currentIndex() else self.scene_view
        ask_picture(self.session.tasks, self, view.grab(), "view.png")

    # -- time ------------------------------------------------------------------------------------

    def _show_time(self) -> None:
        if not self.isVisible() or self.content is None:
            return
        time_s = self.session.clock.time_s
        self.time_panel.plot.set_cursor_at(time_s)
        self.scene.show_time(time_s if self.time_panel.moving.isChecked() else None)

    def _set_map(self, key: str) -> None:
        content = self.content
        tint = time_colours_of(content, key) if content is not None and key in content.maps else None
        self.time_panel.show_map(tint)
        self.scene.set_tint(tint)
        self._show_value()

    def _find_maps(self) -> None:
        content = self.content
        if content is None:
            return

        def done(maps: dict[str, Volume]) -> None:
            # Centrelines may have come in between.
            if self.content is not None and self.content.volume is content.volume:
                self.content = replace(self.content, maps=maps)
                self.time_panel.set_content(self.content)
                self._set_map("arrival_s")

        self.session.tasks.start("The time maps cannot be worked out", lambda: find_maps(content), done)

    def _set_points(self, points: tuple[Point, ...]) -> None:
        self.points = points
        self.time_panel.show_points(tuple(np.array(point) for point in points))
        self.time_panel.plot.set_cursor_at(self.session.clock.time_s)
        self.scene.update_annotations()
        self._allow()

    def _curve_tool(self, on: bool) -> None:
        if on:
            self.desk.stop()
            self.tabs.setCurrentWidget(self.time_panel)
        self._set_picking()

    # -- vessels ---------------------------------------------------------------------------------

    def _tab_changed(self) -> None:
        on_vessels = self.tabs.currentWidget() is self.branch_panel
        if on_vessels and self.content is not None and self.content.line is None:
            self._find_line()
        self._set_picking()

    def _find_line(self) -> None:
        content = self.content
        if content is None or self._finding is content.volume:
            return
        self._finding = content.volume
        self.branch_panel.set_available_line("Centrelines are being found.")

        def done(line: Centreline) -> None:
            # Time maps may have come in between.
            if self.content is not None and self.content.volume is content.volume:
                self.content = replace(self.content, line=line)
                self.branch_panel.set_line(line)

        task = self.session.tasks.start("Centrelines cannot be found", lambda: find_line(content), done)
        task.ended.connect(lambda: self._line_ended(content.volume))

    def _line_ended(self, volume: Volume) -> None:
        if self._finding is volume:
            self._finding = None
            if self.content is not None and self.content.volume is volume:
                self.branch_panel.set_available_line(None)

    def _show_branch(self) -> None:
        branch = self.branch_panel.chosen
        self.scene.show_course(None if branch is None else branch.points_mm)

    # -- picking and measuring -------------------------------------------------------------------

    def _set_picking(self) -> None:
        curve = self.actions_table["angio_curve"]
        if self.desk.active and curve.isChecked():
            curve.setChecked(False)
        on_vessels = self.tabs.currentWidget() is self.branch_panel
        self.scene.set_picking(self.desk.active or curve.isChecked() or on_vessels)

    def _picked(self, place: Any) -> None:
        x, y, z = (float(value) for value in place)
        if self.desk.active:
            self.desk.add_point((x, y, z))
        elif self.actions_table["angio_curve"].isChecked():
            if len(self.points) == MOST_POINTS:
                self.told.emit(f"At most {MOST_POINTS} points: clear them first.")
                return
            self._push("Pick a time curve", self._set_points, self.points, (*self.points, (x, y, z)))
        else:
            self.branch_panel.choose_at(np.array([x, y, z]))

    def _measure_context(self) -> MeasureContext | None:
        content, result = self.content, self.session.result
        if content is None or result is None:
            return None
        branches = self.branch_panel.branches
        diameter = partial(diameter_at, branches) if branches else None
        return MeasureContext(
            content.path.name, result.metric, reading_at=self._reading_at, diameter_at=diameter
        )

    def _reading_at(self, point: Point) -> tuple[float, str, str] | None:
        """Value, unit and name at a world point: the time on the colour map, else the volume's value."""
        tint = self.scene.tint
        if tint is not None and (time := nearest_value(tint.volume, point)) is not None:
            return time, "s", MAPS[tint.key].lower()
        value = self.scene.value_at(point)
        if value is None or self.content is None:
            return None
        return (value, "1/mm", "attenuation") if self.content.unit == "/mm" else (value, "", "value")

    def _show_value(self) -> None:
        x, y, z = (float(v) for v in self.scene.cross_mm)
        read = self._reading_at((x, y, z))
        if read is not None:
            self.value.setText(f"{read[0]:.3g} {read[1]}".rstrip())
            self.value.setToolTip(f"{read[2].capitalize()} at {x:.1f}, {y:.1f}, {z:.1f} (left, back, head)")

    def _annotate(self, painter: QPainter, view: Any) -> None:
        paint_measurements(painter, self.desk.drawn(), view.places_of, self.desk.chosen)
        paint_points(painter, self.points, view.places_of)
        if view is self.scene_view:
            self.scene.paint_course(painter)

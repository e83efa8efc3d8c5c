"""How a page measures: it tells the desk where a person clicked, and draws what the desk says.

    desk = MeasureDesk(session, actions, context)     context() -> MeasureContext, asked at every click
    desk.bind() / desk.release()                      in the page's activate / deactivate
    view.point_picked.connect(desk.add_point)         any view: scene, slice, picture; world points (3,)
    desk.active                                       True while a click means a point (switch picking on)
    desk.changed -> view.update()                     then, in the view's paint event:
        paint_measurements(painter, desk.drawn(), view.place_of, desk.chosen)      views/measure_paint.py
    MeasureTable(desk)                                widgets/measure_table.py: results, units, CSV

The measure_* actions of ``actions/inspect.py`` choose what is measured; Enter ends a polyline or an area,
Backspace takes the last point back, Esc drops it. A diameter takes one click where the page knows
diameters (``MeasureContext.diameter_at``: vessels), else three points on a round rim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtWidgets import QFileDialog

from splatomy.io.atomic import atomic_path
from splatomy_gui.actions import Actions
from splatomy_gui.measuring import (
    Anchor,
    MeasureKind,
    Measurement,
    MeasurementList,
    Point,
    as_csv,
    format_value,
)
from splatomy_gui.measuring_values import angle_deg, circle_diameter, polygon_area, polyline_length
from splatomy_gui.session import Session

_ENOUGH = {MeasureKind.DISTANCE: 2, MeasureKind.ANGLE: 3, MeasureKind.POINT: 1, MeasureKind.DIAMETER: 3}
_LEAST = {MeasureKind.POLYLINE: 2, MeasureKind.AREA: 3}
_NOTHING = "Choose a measurement in the table first."
_IDLE = "Nothing is being measured."


@dataclass(frozen=True)
class MeasureContext:
    """What a page knows of the thing on show; every callable may be left out.

    subject: name of the run or volume. metric: lengths are mm. time_s: None = it does not move.
    anchor_at: the anchor of a world point on a moving surface. place_of: where an anchor is now, world.
    area_in: area of the surface inside a polygon (N, 3); without it the plane polygon's. reading_at: value,
    unit and its name at a point ("depth"). diameter_at: diameter at a point and the two ends to draw it.
    evidence_at: share of real observations at a point, 0 to 1.
    """

    subject: str
    metric: bool
    time_s: float | None = None
    anchor_at: Callable[[Point], Anchor | None] | None = None
    place_of: Callable[[Anchor], Point] | None = None
    area_in: Callable[[NDArray[np.float64]], float] | None = None
    reading_at: Callable[[Point], tuple[float, str, str] | None] | None = None
    diameter_at: Callable[[Point], tuple[float, tuple[Point, Point]] | None] | None = None
    evidence_at: Callable[[Point], float | None] | None = None

    @property
    def unit(self) -> str:
        """Of a length."""
        return "mm" if self.metric else "relative"


@dataclass(frozen=True)
class Drawn:
    """A measurement where it is now, or the one in the making (id 0). text: its value with unit."""

    id: int
    kind: MeasureKind
    points: tuple[Point, ...]
    text: str
    synthetic: bool = False


class MeasureDesk(QObject):
    """Measures on one page; see the top of this file."""

    changed = pyqtSignal()
    """Measurements, the one in the making, or the chosen one: draw again."""
    active_changed = pyqtSignal(bool)
    told = pyqtSignal(str)

    def __init__(
        self, session: Session, actions: Actions, context: Callable[[], MeasureContext | None]
    ) -> None:
        """context: what is on show now, None = nothing that can be measured."""
        super().__init__()
        self.session, self.actions = session, actions
        self.list = MeasurementList(session, self)
        self.list.changed.connect(self._list_changed)
        self._context = context
        self._kind: MeasureKind | None = None
        self._points: list[Point] = []
        self._chosen: int | None = None
        self._is_bound = False

    # -- with the page ---------------------------------------------------------------------------

    def bind(self) -> None:
        """Takes the measure actions over."""
        self._is_bound = True
        for kind in MeasureKind:
            self.actions.bind(f"measure_{kind.value}", lambda on, k=kind: self._choose(k, on))
        self.actions.bind("measure_delete", self.delete_chosen)
        self.actions.bind("measure_export", self.export)
        self.actions.bind("measure_finish", self.finish)
        self.actions.bind("measure_back", self.step_back)
        self.actions.bind("measure_cancel", self.stop)
        self.refresh()

    def release(self) -> None:
        """Another page is on show: nothing is being measured."""
        self.stop()
        self._is_bound = False

    def refresh(self) -> None:
        """To be called when another result or time is on show."""
        self._allow()
        self.changed.emit()

    @property
    def context(self) -> MeasureContext | None:
        """What is on show now."""
        return self._context()

    @property
    def active(self) -> bool:
        """True while a click means a point of a measurement."""
        return self._kind is not None

    @property
    def kind(self) -> MeasureKind | None:
        """What is being measured."""
        return self._kind

    # -- measuring -------------------------------------------------------------------------------

    def add_point(self, place: ArrayLike) -> None:
        """A person clicked at a world point (3,)."""
        context, kind = self._context(), self._kind
        if kind is None or context is None:
            return
        x, y, z = (float(v) for v in np.asarray(place, dtype=np.float64))
        if not np.isfinite([x, y, z]).all():
            return
        point = (x, y, z)
        anchor = None if context.anchor_at is None else context.anchor_at(point)
        if anchor is not None and context.place_of is not None:
            # On the surface itself, so that the value stays the same when the surface does.
            point = context.place_of(anchor)
        self._points.append(point)
        if kind is MeasureKind.DIAMETER and context.diameter_at is not None:
            self._finish_diameter(context, context.diameter_at(point))
        elif len(self._points) == _ENOUGH.get(kind):
            self._finish(context, kind)
        self.refresh()

    def finish(self) -> None:
        """Ends a polyline or an area."""
        context, kind = self._context(), self._kind
        if context is None or kind is None or len(self._points) < _LEAST.get(kind, 99):
            return
        self._finish(context, kind)
        self.refresh()

    def step_back(self) -> None:
        """Takes the last point of the one in the making back."""
        if self._points:
            self._points.pop()
            self.refresh()

    def stop(self) -> None:
        """Drops the one in the making; clicks mean what they did before."""
        self._points = []
        if self._kind is not None:
            self.actions[f"measure_{self._kind.value}"].setChecked(False)
        self.refresh()

    def _choose(self, kind: MeasureKind, on: bool) -> None:
        if not self._is_bound:
            return
        before, self._points = self._kind, []
        if on:
            self._kind = kind
            if before is not None and before is not kind:
                self.actions[f"measure_{before.value}"].setChecked(False)
        elif before is kind:
            self._kind = None
        if self.active != (before is not None):
            self.active_changed.emit(self.active)
        self.refresh()

    def _finish_diameter(
        self, context: MeasureContext, found: tuple[float, tuple[Point, Point]] | None
    ) -> None:
        self._points = []
        if found is None:
            self.told.emit("No diameter is known there.")
            return
        value, ends = found
        self._add(context, MeasureKind.DIAMETER, ends, value, context.unit)

    def _finish(self, context: MeasureContext, kind: MeasureKind) -> None:
        points, self._points = tuple(self._points), []
        reading = ""
        if kind is MeasureKind.POINT:
            found = None if context.reading_at is None else context.reading_at(points[0])
            if found is None:
                self.told.emit("There is no value at that point.")
                return
            value, unit, reading = found
        else:
            value, unit = self._value(context, kind, points)
        self._add(context, kind, points, value, unit, reading)

    def _add(
        self,
        context: MeasureContext,
        kind: MeasureKind,
        points: tuple[Point, ...],
        value: float,
        unit: str,
        reading: str = "",
    ) -> None:
        anchors = None
        if context.anchor_at is not None:
            found = [context.anchor_at(p) for p in points]
            anchors = tuple(a for a in found if a is not None) if None not in found else None
        evidence = None
        if context.evidence_at is not None:
            known = [e for e in map(context.evidence_at, points) if e is not None]
            evidence = min(known, default=None)
        measured = Measurement(
            0, kind, "", context.subject, points, value, unit, context.time_s, anchors, evidence, reading
        )
        self._chosen = self.list.add(measured).id
        self.refresh()

    def _value(
        self, context: MeasureContext, kind: MeasureKind, points: tuple[Point, ...]
    ) -> tuple[float, str]:
        places = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        if kind is MeasureKind.ANGLE:
            return angle_deg(places), "deg"
        if kind is MeasureKind.AREA:
            area = polygon_area(places) if context.area_in is None else context.area_in(places)
            return area, f"{context.unit}\u00b2"
        if kind is MeasureKind.DIAMETER and len(places) == 3:
            return circle_diameter(places), context.unit
        return polyline_length(places), context.unit

    # -- what to draw ----------------------------------------------------------------------------

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Those of the result on show."""
        context = self._context()
        return () if context is None else self.list.of(context.subject)

    def drawn(self) -> list[Drawn]:
        """Every measurement of the result on show where it is now, then the one in the making."""
        context = self._context()
        if context is None:
            return []
        made = []
        for m in self.list.of(context.subject):
            value = self.value_now(m)
            text = f"{m.name}: {format_value(m.value if value is None else value, m.unit)}"
            made.append(Drawn(m.id, m.kind, self._places(context, m), text, is_synthetic(m)))
        if self._points and self._kind is not None:
            made.append(Drawn(0, self._kind, tuple(self._points), self._draft_text(context, self._kind)))
        return made

    def value_now(self, measurement: Measurement) -> float | None:
        """Its value at the time on show, as the surface has moved; None where it cannot follow."""
        context = self._context()
        if context is None or context.place_of is None or measurement.anchors is None:
            return None
        points = self._places(context, measurement)
        if measurement.kind is MeasureKind.POINT:
            found = None if context.reading_at is None else context.reading_at(points[0])
            return None if found is None or found[2] != measurement.reading else found[0]
        if measurement.kind is MeasureKind.AREA and context.area_in is not None:
            # The surface's area takes too long for every frame; it is measured once.
            return None
        return self._value(context, measurement.kind, points)[0]

    def _places(self, context: MeasureContext, measurement: Measurement) -> tuple[Point, ...]:
        if context.place_of is None or measurement.anchors is None:
            return measurement.points
        return tuple(context.place_of(anchor) for anchor in measurement.anchors)

    def _draft_text(self, context: MeasureContext, kind: MeasureKind) -> str:
        missing = _ENOUGH.get(kind, 0) - len(self._points)
        if missing > 0:
            return f"{missing} more point{'s' if missing > 1 else ''}"
        if len(self._points) < _LEAST.get(kind, 0):
            return "next point"
        value, unit = (
            self._value(context, kind, tuple(self._points))
            if kind is MeasureKind.POLYLINE
            else (
                polygon_area(np.asarray(self._points)),
                f"{context.unit}\u00b2",
            )
        )
        return f"{format_value(value, unit)} - Enter ends"

    # -- the list --------------------------------------------------------------------------------

    @property
    def chosen(self) -> int | None:
        """Id of the measurement that is chosen in the table."""
        return self._chosen

    def choose(self, identifier: int | None) -> None:
        """Chooses a measurement."""
        if identifier != self._chosen:
            self._chosen = identifier
            self.refresh()

    def delete_chosen(self) -> None:
        """Deletes the chosen measurement."""
        if self._chosen is not None:
            self.list.delete(self._chosen)

    def export(self) -> None:
        """Asks for a file and writes the table into it."""
        folder = self.session.folder
        start = Path.home() if folder is None else folder
        name, _ = QFileDialog.getSaveFileName(
            None, "Export measurements", str(start / "measurements.csv"), "*.csv"
        )
        if name:
            self.write_csv(Path(name))

    def write_csv(self, path: Path) -> None:
        """Writes the table of this result's measurements, off the GUI thread."""
        text = as_csv(self.measurements)

        def work() -> None:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")

        self.session.tasks.start(
            "The measurements cannot be saved", work, lambda _: self.told.emit(f"Written: {path.name}")
        )

    def _list_changed(self) -> None:
        if self._chosen not in {m.id for m in self.list.all()}:
            self._chosen = None
        self.refresh()

    def _allow(self) -> None:
        if not self._is_bound:
            return
        context = self._context()
        reason = None if context is not None else "There is nothing on show to measure."
        for kind in MeasureKind:
            allowed = reason
            if kind is MeasureKind.POINT and context is not None and context.reading_at is None:
                allowed = "There is no value to read here."
            self.actions.allow(f"measure_{kind.value}", allowed)
        self.actions.allow("measure_delete", None if self._chosen is not None else _NOTHING)
        self.actions.allow("measure_export", None if self.measurements else "There is no measurement yet.")
        in_making = None if self._points else _IDLE
        self.actions.allow("measure_finish", in_making)
        self.actions.allow("measure_back", in_making)
        self.actions.allow("measure_cancel", None if self.active else _IDLE)


def is_synthetic(measurement: Measurement) -> bool:
    """True if one of its points lies where less than half of what is shown was observed."""
    return measurement.evidence is not None and measurement.evidence < 0.5

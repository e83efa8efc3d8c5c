"""Measurements: what they are, their list in the case, and their table as CSV.

How a page measures: see ``measuring_tool.MeasureDesk``. The list is the document ``measurements.json``
of the case, so every page of the case sees the same measurements, and every change of it
is one undo step. Points are world coordinates of the result, in mm where it is metric, else in its own unit;
the unit goes with every value and is never "mm" for a result without scale.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand

DOCUMENT = "measurements.json"
_CONTRACT = 1

Point = tuple[float, float, float]
Anchor = tuple[int, float, float, float]
"""A face of a moving surface and the barycentric coordinates of a point in it."""


class MeasureKind(StrEnum):
    """What can be measured."""

    DISTANCE = "distance"
    ANGLE = "angle"
    POLYLINE = "polyline"
    AREA = "area"
    DIAMETER = "diameter"
    POINT = "point"


@dataclass(frozen=True)
class Measurement:
    """One measurement. id: unique in its case. subject: name of the run or volume it was taken on.

    points: (N, 3) as tuples, world. value: NaN for a point that nothing was read at. time_s: when, None for
    a result that does not move. anchors: of each point where the surface moves, so that it can follow.
    evidence: the least share of real observations at its points, 0 to 1, None = not known. reading: what a
    point's value is ("depth"), else empty.
    """

    id: int
    kind: MeasureKind
    name: str
    subject: str
    points: tuple[Point, ...]
    value: float
    unit: str
    time_s: float | None = None
    anchors: tuple[Anchor, ...] | None = None
    evidence: float | None = None
    reading: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"value": self.value if math.isfinite(self.value) else None}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Measurement:
        """The measurement that ``as_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        anchors = value.get("anchors")
        return Measurement(
            id=int(value["id"]),
            kind=MeasureKind(value["kind"]),
            name=str(value["name"]),
            subject=str(value["subject"]),
            points=tuple((float(x), float(y), float(z)) for x, y, z in value["points"]),
            value=math.nan if value["value"] is None else float(value["value"]),
            unit=str(value["unit"]),
            time_s=None if value.get("time_s") is None else float(value["time_s"]),
            anchors=None
            if anchors is None
            else tuple((int(f), float(a), float(b), float(c)) for f, a, b, c in anchors),
            evidence=None if value.get("evidence") is None else float(value["evidence"]),
            reading=str(value.get("reading", "")),
        )


class MeasurementList(QObject):
    """The case's measurements; keeps nothing itself, so that any number of pages can have one."""

    changed = pyqtSignal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        session.document_changed.connect(self._document_changed)
        session.case_changed.connect(self.changed)

    def all(self) -> tuple[Measurement, ...]:
        """Every measurement of the case; entries of other programs are left out, not lost."""
        return self._read()[0]

    def _read(self) -> tuple[tuple[Measurement, ...], list[Any]]:
        """Our measurements, and the entries that are not ours."""
        document = self._session.document(DOCUMENT)
        entries = document.get("measurements", []) if isinstance(document, dict) else []
        found, others = [], []
        for entry in entries if isinstance(entries, list) else []:
            try:
                found.append(Measurement.from_json(entry))
            except (KeyError, TypeError, ValueError):
                others.append(entry)
        return tuple(found), others

    def of(self, subject: str) -> tuple[Measurement, ...]:
        """Those of one run or volume."""
        return tuple(m for m in self.all() if m.subject == subject)

    def add(self, measurement: Measurement) -> Measurement:
        """Adds one, with an id and a name of its own where it has none; can be undone."""
        before = self.all()
        number = 1 + max((m.id for m in before), default=0)
        same = 1 + sum(m.kind is measurement.kind for m in before)
        name = measurement.name or f"{measurement.kind.value.capitalize()} {same}"
        added = replace(measurement, id=number, name=name)
        self._push(f"Measure {added.kind.value}", before, (*before, added))
        return added

    def delete(self, identifier: int) -> None:
        """Deletes one; can be undone."""
        before = self.all()
        gone = [m for m in before if m.id == identifier]
        if gone:
            self._push(f"Delete {gone[0].name}", before, tuple(m for m in before if m.id != identifier))

    def rename(self, identifier: int, name: str) -> None:
        """Another name; can be undone."""
        before = self.all()
        after = tuple(replace(m, name=name) if m.id == identifier else m for m in before)
        if after != before and name.strip():
            self._push(f"Rename {name}", before, after)

    def _push(self, text: str, before: Iterable[Measurement], after: Iterable[Measurement]) -> None:
        old, new = tuple(before), tuple(after)
        gone, come = (tuple(m for m in a if m not in b) for a, b in ((old, new), (new, old)))
        self._session.push(ValueCommand(text, self._exchange, (come, gone), (gone, come)))

    def _exchange(self, pair: tuple[tuple[Measurement, ...], tuple[Measurement, ...]]) -> None:
        """Takes some away and puts others in; what another program did meanwhile stays."""
        gone, come = ({m.id for m in pair[0]}, {m.id: m for m in pair[1]})
        others = [m for m in self.all() if m.id not in gone and m.id not in come]
        measurements = sorted([*others, *come.values()], key=lambda m: m.id)
        document = self._session.document(DOCUMENT)
        kept = document if isinstance(document, dict) else {}
        entries = [*self._read()[1], *(m.as_json() for m in measurements)]
        self._session.set_document(DOCUMENT, {**kept, "contract": _CONTRACT, "measurements": entries})

    def _document_changed(self, name: str) -> None:
        if name == DOCUMENT:
            self.changed.emit()


def as_csv(measurements: Iterable[Measurement]) -> str:
    """A table with one row for each measurement; points as "x y z; x y z"."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["name", "kind", "value", "unit", "reading", "time_s", "evidence", "points", "result"],
    )
    for m in measurements:
        points = "; ".join(" ".join(f"{x:.6g}" for x in point) for point in m.points)
        time_s = "" if m.time_s is None else f"{m.time_s:.6g}"
        evidence = "" if m.evidence is None else f"{m.evidence:.3g}"
        row = [m.name, m.kind.value, f"{m.value:.6g}", m.unit, m.reading, time_s, evidence, points, m.subject]
        writer.writerow(row)
    return text.getvalue()


def format_value(value: Any, unit: str) -> str:
    """A value as people read it, three digits."""
    if not math.isfinite(value):
        return "-"
    number = f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{number}\u00b0" if unit == "deg" else f"{number} {unit}"

"""Measuring: the numbers, the list that can be undone, its file and its table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, open_by_drop
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QImage, QPainter

from splatomy_gui.measuring import MeasureKind, Measurement, MeasurementList, as_csv, format_value
from splatomy_gui.measuring_tool import MeasureContext, MeasureDesk
from splatomy_gui.measuring_values import (
    angle_deg,
    circle_diameter,
    polygon_area,
    polyline_length,
    surface_area_in,
)


def sphere(radius: float, count: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """The upper half of a sphere as a grid of triangles."""
    x, y = np.meshgrid(np.linspace(-1, 1, count), np.linspace(-1, 1, count))
    keep = x**2 + y**2 < 0.98
    z = np.sqrt(np.where(keep, 1 - x**2 - y**2, 0))
    vertices = radius * np.stack([x, y, z], -1).reshape(-1, 3)
    n = np.arange(count * count).reshape(count, count)
    faces = np.concatenate(
        [
            np.stack([n[:-1, :-1], n[1:, :-1], n[1:, 1:]], -1).reshape(-1, 3),
            np.stack([n[:-1, :-1], n[1:, 1:], n[:-1, 1:]], -1).reshape(-1, 3),
        ]
    )
    return vertices, faces[keep.reshape(-1)[faces].all(1)]


def test_lengths_angles_and_circles_are_exact() -> None:
    square = np.array([[0, 0, 5], [4, 0, 5], [4, 4, 5], [0, 4, 5]], float)
    assert polyline_length(square) == pytest.approx(12)
    assert polygon_area(square) == pytest.approx(16)
    assert angle_deg(square[:3]) == pytest.approx(90)
    assert angle_deg(np.array([[1, 0, 0], [0, 0, 0], [1, 1e-7, 0]])) == pytest.approx(np.degrees(1e-7))
    around = np.radians([10, 140, 260])
    rim = np.stack([3 * np.cos(around), np.full(3, 2.0), 3 * np.sin(around)], -1)
    assert circle_diameter(rim) == pytest.approx(6)
    assert circle_diameter(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], float)) == np.inf


def test_area_follows_the_surface_not_the_plane() -> None:
    """A cap of a sphere has the area 2 pi r h, more than its flat outline; 2 % for its corners."""
    vertices, faces = sphere(20.0)
    around = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    opening = np.radians(40)
    outline = 20 * np.stack(
        [np.sin(opening) * np.cos(around), np.sin(opening) * np.sin(around), np.full(60, np.cos(opening))], -1
    )
    cap = 2 * np.pi * 20**2 * (1 - np.cos(opening))
    assert surface_area_in(outline, vertices, faces) == pytest.approx(cap, rel=0.02)
    assert polygon_area(outline) < 0.9 * cap


def test_units_are_never_millimetres_without_a_scale() -> None:
    assert MeasureContext("run", metric=False).unit == "relative"
    assert format_value(12.345, "relative") == "12.3 relative" and format_value(31.6, "deg") == "31.6\u00b0"


def test_list_is_undone_kept_and_exported(window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    made = MeasurementList(session)
    other = {"kind": "curve", "name": "C", "points": [[0, 0, 0]], "value": 1.0, "unit": "mm"}
    session.set_document("measurements.json", {"world": "LPS", "measurements": [other]})
    context = MeasureContext("some-run", metric=False, time_s=0.5, evidence_at=lambda point: point[0])
    desk = MeasureDesk(session, window.actions_table, lambda: context)
    window.actions_table.activate_scopes(("window", "inspect"))
    desk.bind()
    window.actions_table["measure_distance"].trigger()
    assert desk.active
    desk.add_point([0.0, 0.0, 0.0])
    desk.add_point([0.3, 0.4, 0.0])
    window.actions_table["measure_polyline"].trigger()
    assert desk.kind is MeasureKind.POLYLINE and not window.actions_table["measure_distance"].isChecked()
    for point in ([0, 0, 0], [1, 0, 0], [9, 9, 9]):
        desk.add_point(point)
    desk.step_back()
    desk.add_point([1, 2, 0])
    desk.finish()
    found = made.of("some-run")
    assert [m.kind for m in found] == [MeasureKind.DISTANCE, MeasureKind.POLYLINE]
    assert [m.value for m in found] == pytest.approx([0.5, 3.0]) and {m.unit for m in found} == {"relative"}
    assert found[0].evidence == 0.0 and found[0].time_s == 0.5
    # One undo step each, bit-exact.
    qtbot.keyClick(window, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert made.of("some-run") == found[:1]
    qtbot.keyClick(window, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert made.of("some-run") == found
    desk.choose(found[0].id)
    desk.delete_chosen()
    made.rename(found[1].id, "Duct")
    assert [m.name for m in made.all()] == ["Duct"]
    session.undo.undo()
    session.undo.undo()
    assert made.all() == found
    qtbot.waitUntil(lambda: not session.tasks.running, timeout=LONG_MS)
    kept = (session.folder / "measurements.json").read_text(encoding="utf-8")
    document = json.loads(kept)
    # What 3D Slicer measured stays in the file.
    assert document["world"] == "LPS" and document["measurements"][0] == other
    assert {entry["unit"] for entry in document["measurements"][1:]} == {"relative"}
    path = tmp_path / "table.csv"
    desk.write_csv(path)
    qtbot.waitUntil(path.is_file, timeout=LONG_MS)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [row["unit"] for row in rows] == ["relative", "relative"] and float(rows[0]["value"]) == 0.5
    desk.release()


def test_a_damaged_file_of_measurements_is_not_lost_with_the_rest(qapp: Any) -> None:
    good = Measurement(3, MeasureKind.ANGLE, "Angle 1", "run", ((0, 0, 0), (1, 0, 0), (1, 1, 0)), 90.0, "deg")
    assert Measurement.from_json(good.as_json()) == good
    with pytest.raises((KeyError, TypeError, ValueError)):
        Measurement.from_json({**good.as_json(), "kind": "colour"})
    assert "Angle 1,angle,90,deg" in as_csv([good])


def test_measurements_are_painted_where_they_lie(qapp: Any) -> None:
    from splatomy_gui.measuring_tool import Drawn
    from splatomy_gui.views.measure_paint import paint_measurements

    image = QImage(200, 120, QImage.Format.Format_RGB32)
    image.fill(0)
    painter = QPainter(image)
    item = Drawn(1, MeasureKind.DISTANCE, ((10, 60, 0), (150, 60, 0)), "Distance 1: 140 mm")
    gone = Drawn(2, MeasureKind.DISTANCE, ((10, 20, 0), (150, 20, np.nan)), "behind")
    paint_measurements(painter, [item, gone], lambda points: points[:, :2] + points[:, 2:])
    painter.end()
    assert image.pixelColor(80, 60).lightness() > 100 and image.pixelColor(80, 20).lightness() == 0

"""Measurements as markups, with honest units, both ways; their file is the one of the desktop app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import vtk

from SplatomyLib.bridge_nodes import ROLE, add_node, nodes_with, unit_of
from SplatomyLib.casefile import is_case, write_json
from SplatomyLib.files import UnusableFile, read_json
from SplatomyLib.geometry import RELATIVE, World, applied

KINDS = {
    "points": "vtkMRMLMarkupsFiducialNode",
    "line": "vtkMRMLMarkupsLineNode",
    "angle": "vtkMRMLMarkupsAngleNode",
    "curve": "vtkMRMLMarkupsCurveNode",
    "closed curve": "vtkMRMLMarkupsClosedCurveNode",
}
_WORDS = {"points": "point", "line": "distance", "angle": "angle", "curve": "polyline"}
_KIND_OF = {word: kind for kind, word in _WORDS.items()} | {"area": "closed curve", "diameter": "points"}
_SHOWN_ONLY = ("area", "diameter")
_LEAST_POINTS = {"points": 1, "line": 2, "angle": 3, "curve": 2}
_ROLE, _ID, _SUBJECT = "measurement", "Splatomy.MeasurementId", "Splatomy.MeasurementSubject"
_DERIVED = "Splatomy.MeasuredElsewhere"


def add_measurement(
    scene: Any, kind: str, points: np.ndarray, name: str, transform: Any = None, unit: str = "mm"
) -> Any:
    """A markup of a kind of ``KINDS`` through points (N, 3) in node coordinates.

    In a scene without scale Slicer's own label, which always says mm, is off, and the name says "no unit".
    """
    title = f"{name} (no unit)" if unit == RELATIVE else name
    node = add_node(scene, KINDS[kind], title, {ROLE: _ROLE, "Splatomy.Unit": unit})
    for point in np.asarray(points, dtype=np.float64):
        node.AddControlPoint(vtk.vtkVector3d(*point))
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPropertiesLabelVisibility(unit != RELATIVE)
    return node


def value_of(markup: Any) -> tuple[float, str] | None:
    """The length or angle of a markup and its unit: "mm", "no unit" or "deg"; None for points.

    None too for one that was not placed to its end, of which Slicer gives lengths that nobody measured.
    """
    if not is_whole(markup):
        return None
    length_unit = "no unit" if unit_of(markup) == RELATIVE else "mm"
    if markup.IsA("vtkMRMLMarkupsAngleNode"):
        return float(markup.GetAngleDegrees()), "deg"
    if markup.IsA("vtkMRMLMarkupsLineNode"):
        return float(markup.GetLineLengthWorld()), length_unit
    if markup.IsA("vtkMRMLMarkupsCurveNode"):
        return float(markup.GetCurveLengthWorld()), length_unit
    return None


def is_whole(markup: Any) -> bool:
    """True if a markup has all of its points and is of a kind that is measured here."""
    kind = next((kind for kind, name in KINDS.items() if markup.GetClassName() == name), "")
    return markup.GetNumberOfDefinedControlPoints() >= _LEAST_POINTS.get(kind, 1 << 30)


def text_of(markup: Any) -> str:
    """The value in words, such as "12.3 mm" or "0.8 (no unit)"."""
    found = value_of(markup)
    if found is None:
        return ""
    value, unit = found
    return f"{value:.3g} ({unit})" if unit == "no unit" else f"{value:.4g} {unit}"


def world_points(markup: Any) -> np.ndarray:
    """Control points (N, 3) in scene coordinates (RAS)."""
    count = markup.GetNumberOfControlPoints()
    points = np.zeros((count, 3))
    for number in range(count):
        markup.GetNthControlPointPositionWorld(number, points[number])
    return points


def curve_of_branch(scene: Any, points: np.ndarray, name: str, transform: Any, unit: str) -> Any:
    """A branch of a centreline as a curve, whose length can be read and which VMTK's modules take."""
    step = max(1, len(points) // 40)
    chosen = points[::step] if (len(points) - 1) % step == 0 else np.vstack([points[::step], points[-1:]])
    node = add_measurement(scene, "curve", chosen, name, transform, unit)
    node.SetAttribute(ROLE, "centreline curve")
    return node


def measurements_file(run: Path) -> Path:
    """Where a run's measurements are kept: in its case, as the desktop app does, else in the run itself."""
    case = run.parent.parent
    return (case if run.parent.name == "runs" and is_case(case) else run) / "measurements.json"


def save_measurements(scene: Any, path: Path, world: World, subject: str) -> int:
    """Writes the scene's measurements of a run in the coordinates of its files; how many there are now.

    Measurements of other runs, of kinds that Slicer cannot change, and those that are not in the scene stay
    in the file as they are; what was not placed to its end is none. subject: the run's name.

    Raises:
        UnusableFile: the file that is there is damaged.
    """
    record = read_json(path) if path.is_file() else {}
    kept = record.get("measurements", [])
    if not isinstance(kept, list):
        raise _damaged(path)
    entries = [entry for entry in kept if isinstance(entry, dict)]
    taken = max((entry["id"] for entry in entries if isinstance(entry.get("id"), int)), default=0)
    count = 0
    for node in nodes_with(scene, "vtkMRMLMarkupsNode", ROLE, _ROLE):
        elsewhere = node.GetLocked() or node.GetAttribute(_DERIVED) is not None
        if node.GetAttribute(_SUBJECT) not in (None, subject) or elsewhere or not is_whole(node):
            continue
        made = _entries_of(node, world, subject)
        count += len(made)
        known = int(node.GetAttribute(_ID) or 0)
        before = next((entry for entry in entries if entry.get("id") == known), None)
        if before is not None and len(made) == 1:
            _update(before, made[0])
            continue
        for entry in made:
            taken += 1
            entries.append({"id": taken, **entry})
            node.SetAttribute(_ID, str(taken))
        node.SetAttribute(_SUBJECT, subject)
    write_json(path, {**record, "contract": 1, "measurements": entries})
    return count


def load_measurements(scene: Any, path: Path, world: World, subject: str, transform: Any = None) -> list[Any]:
    """Markups of a run's measurements, except those that are in the scene already.

    Areas and diameters are shown, but locked: their values come from the surface or the vessel, which
    Slicer does not measure.

    Raises:
        UnusableFile: damaged.
    """
    record = read_json(path)
    there = {
        (node.GetAttribute(_SUBJECT), node.GetAttribute(_ID))
        for node in nodes_with(scene, "vtkMRMLMarkupsNode", ROLE, _ROLE)
    }
    nodes = []
    try:
        for entry in record["measurements"]:
            known = str(entry.get("id", ""))
            if entry.get("subject") != subject or (subject, known) in there:
                continue
            points = np.asarray(entry["points"], dtype=np.float64).reshape(-1, 3)
            moved = applied(world.nodes_from_file(), points)
            kind, name = str(entry["kind"]), str(entry["name"])
            if kind not in _KIND_OF:
                continue
            node = add_measurement(scene, _KIND_OF[kind], moved, name, transform, world.unit)
            if kind == "polyline":
                node.SetCurveTypeToLinear()
            node.SetAttribute(_ID, known)
            node.SetAttribute(_SUBJECT, subject)
            if kind in _SHOWN_ONLY:
                node.SetName(f"{name}: {float(entry['value']):.3g} {entry['unit']}")
                node.SetLocked(True)
                # A person may unlock it; its value is none of Slicer's still.
                node.SetAttribute(_DERIVED, kind)
            nodes.append(node)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _damaged(path) from None
    return nodes


def _entries_of(markup: Any, world: World, subject: str) -> list[dict[str, Any]]:
    """The measurement of a markup without its id; of a list of points one for each."""
    points = _to_file(markup, world)
    found = value_of(markup)
    kind = next(kind for kind, name in KINDS.items() if markup.GetClassName() == name)
    name = markup.GetName().removesuffix(" (no unit)")
    common = {"subject": subject, "time_s": None, "anchors": None, "evidence": None, "reading": ""}
    if found is None:
        return [
            {"kind": "point", "name": name if len(points) == 1 else f"{name} {n + 1}"}
            | {"points": [point.tolist()], "value": None, "unit": "", **common}
            for n, point in enumerate(points)
        ]
    value, unit = found
    unit = RELATIVE if unit == "no unit" else unit
    return [
        {
            "kind": _WORDS[kind],
            "name": name,
            "points": points.tolist(),
            "value": value,
            "unit": unit,
            **common,
        }
    ]


def _update(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Takes over what was changed; a measurement that was only looked at keeps its time and its anchors."""
    before["name"] = now["name"]
    places = np.asarray(before["points"], dtype=np.float64)
    if places.shape != np.shape(now["points"]) or not np.allclose(places, now["points"], atol=1e-4):
        before.update(now)


def _damaged(path: Path) -> UnusableFile:
    return UnusableFile(f"{path.name} is damaged: expected kind, name and points. Put a copy back.")


def _to_file(markup: Any, world: World) -> np.ndarray:
    """Control points in the coordinates of the world's files."""
    count = markup.GetNumberOfControlPoints()
    points = np.zeros((count, 3))
    for number in range(count):
        markup.GetNthControlPointPosition(number, points[number])
    return applied(np.linalg.inv(world.nodes_from_file()), points)

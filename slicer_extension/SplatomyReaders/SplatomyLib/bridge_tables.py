"""Metrics and curves as tables and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from SplatomyLib.bridge_nodes import ROLE, add_node
from SplatomyLib.geometry import RELATIVE

_UNITS = {"_mm": "mm", "_s": "s", "_rad": "rad", "_px": "px"}
_DECIBELS = "psnr"


def unit_of_metric(name: str, unit: str) -> str:
    """The unit that a metric's name ends in; lengths of a scene without scale have none."""
    if name.startswith(_DECIBELS):
        return "dB"
    found = next((text for end, text in _UNITS.items() if name.endswith(end)), "")
    return "no unit" if found == "mm" and unit == RELATIVE else found


def load_metrics(scene: Any, figures: Mapping[str, Any], name: str, unit: str) -> Any:
    """The table of a run's figures: metric, value, unit. Figures that were not measured say why."""
    node = add_node(scene, "vtkMRMLTableNode", name, {ROLE: "metrics"})
    metric, value, units = (_text_column(title) for title in ("metric", "value", "unit"))
    for key, figure in figures.items():
        if key == "contract" or key.endswith("_reason"):
            continue
        metric.InsertNextValue(key)
        if figure is None:
            value.InsertNextValue(str(figures.get(f"{key}_reason", "not measured")))
        else:
            value.InsertNextValue(f"{figure:.6g}" if isinstance(figure, float) else str(figure))
        units.InsertNextValue(unit_of_metric(key, unit))
    for column in (metric, value, units):
        node.AddColumn(column)
    return node


def read_metrics(node: Any) -> dict[str, str]:
    """Metric -> value, as written in the table."""
    rows = range(node.GetNumberOfRows())
    return {node.GetCellText(row, 0): node.GetCellText(row, 1) for row in rows}


def load_curve(
    scene: Any, x: np.ndarray, y: np.ndarray, titles: tuple[str, str], name: str
) -> tuple[Any, Any]:
    """The table and the chart of one curve; titles: of both axes, with their units."""
    table = add_node(scene, "vtkMRMLTableNode", f"{name} table", {ROLE: "curve"})
    for title, values in zip(titles, (x, y)):
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        for number in np.asarray(values, dtype=np.float64):
            column.InsertNextValue(float(number))
        table.AddColumn(column)
    series = add_node(scene, "vtkMRMLPlotSeriesNode", f"{name} series")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(titles[0])
    series.SetYColumnName(titles[1])
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
    series.SetColor(0.1, 0.4, 0.8)
    chart = add_node(scene, "vtkMRMLPlotChartNode", name, {ROLE: "curve"})
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle(name)
    chart.SetXAxisTitle(titles[0])
    chart.SetYAxisTitle(titles[1])
    chart.SetLegendVisibility(False)
    return table, chart


def read_curve(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both columns of a curve's table."""
    data = table.GetTable()
    columns = (data.GetColumn(0), data.GetColumn(1))
    first, second = (np.array([c.GetValue(i) for i in range(c.GetNumberOfTuples())]) for c in columns)
    return first, second


def training_curve(events: Path) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Steps, values and name of the first figure that training reported in events.jsonl, or None."""
    steps, values, name = [], [], ""
    with events.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
                figures = event["metrics"] if event["stage"] == "train" else {}
                name = name or next((key for key, number in figures.items() if number is not None), "")
                if name and figures.get(name) is not None:
                    steps.append(int(event["step"]))
                    values.append(float(figures[name]))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                # A run that was killed may end in half a line.
                continue
    return (np.array(steps), np.array(values), name) if len(steps) > 1 else None


def _text_column(title: str) -> Any:
    column = vtk.vtkStringArray()
    column.SetName(title)
    return column

"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from splatomy.io.atomic import write_text
from splatomy.report.data import (
    RESEARCH_USE,
    Curve,
    DeformationView,
    MeshSide,
    ReportData,
    SurfaceView,
    TissueView,
    View,
)
from splatomy.report.mesh_sides import mesh_sides
from splatomy.report.page import build_page

__all__ = [
    "RESEARCH_USE",
    "Curve",
    "DeformationView",
    "MeshSide",
    "ReportData",
    "SurfaceView",
    "TissueView",
    "View",
    "mesh_sides",
    "write_report",
]


def write_report(path: Path, data: ReportData) -> None:
    """Writes the report as one self-contained HTML file, whole or not at all."""
    write_text(path, build_page(data))

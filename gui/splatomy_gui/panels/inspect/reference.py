"""How far a still surface lies from a reference mesh that the user opens: as colours, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from splatomy.events import Progress, Task
from splatomy.scene import Mesh
from splatomy_gui.panels.inspect.colouring import Colouring
from splatomy_gui.panels.inspect.tissue_scene import TissueScene
from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand
from splatomy_gui.widgets.basics import label, row
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.fields import DecimalBox, PathField

_POINTS = 50_000
"""Points by area on either surface, for the figures."""
_COLOUR_POINTS = 200_000
"""Points of the reference for the colours: a vertex on it is off by the gap between them at most."""
_ICP_POINTS = 4_000
_PATTERN = "Meshes (*.ply *.obj *.stl *.glb *.vtp)"
_TIP = "Reference mesh in the coordinates of the result, such as a scan or the truth of a phantom"
_NO_SURFACE = "There is no surface on show."
_NO_REFERENCE = "Open a reference mesh first."


@dataclass(frozen=True)
class Asked:
    """What is compared. tolerance: distance that still counts as right. aligned: laid on it rigidly first."""

    path: Path | None = None
    tolerance: float = 1.0
    aligned: bool = False


@dataclass(frozen=True)
class Comparison:
    """Distance of each vertex (V,) from the reference, and the figures of ``splatomy evaluate`` by name."""

    asked: Asked
    distances: NDArray[np.float32]
    figures: Mapping[str, float]

    def text(self, unit: str) -> str:
        """The figures in words; ``unit``: of lengths."""
        found, limit = self.figures, f"{self.asked.tolerance:g}"
        precision, recall, f_score = (
            found[f"{name}_{limit}mm"] for name in ("precision", "recall", "fscore")
        )
        laid = "After a rigid move onto the reference" if self.asked.aligned else "As the coordinates are"
        return (
            f"{laid}, for points spread evenly over both surfaces.\n"
            f"Accuracy {found['accuracy_mm']:.3g} {unit}: mean distance from the result to the reference.   "
            f"Completeness {found['completeness_mm']:.3g} {unit}: mean distance from the reference to the "
            f"result.   95 % lie within {found['hd95_mm']:.3g} {unit}, both ways.\n"
            f"F-score {f_score:.1%} at {limit} {unit}: {precision:.1%} of the result lies that near the "
            f"reference, and {recall:.1%} of the reference is reached."
        )


def compared(surface: Mesh, asked: Asked) -> Task[Comparison]:
    """The distances between a surface and the mesh of a file.

    Raises:
        InputError: the file is no mesh.
    """
    from splatomy.io.mesh import read_mesh
    from splatomy.metrics.surface import icp, sample_surface, surface_metrics

    assert asked.path is not None
    yield Progress("compare", 0, 3)
    reference = read_mesh(asked.path)
    yield Progress("compare", 1, 3)
    points = np.concatenate([sample_surface(reference, _COLOUR_POINTS, 1), reference.vertices_mm])
    if asked.aligned:
        motion = icp(sample_surface(surface, _ICP_POINTS), sample_surface(reference, _POINTS, 1))
        moved = surface.vertices_mm.astype(np.float64) @ motion[:3, :3].T + motion[:3, 3]
        surface = replace(surface, vertices_mm=moved.astype(np.float32))
    yield Progress("compare", 2, 3)
    figures = surface_metrics(surface, reference, (asked.tolerance,), count=_POINTS)
    return Comparison(asked, _nearest(surface.vertices_mm, points), figures)


def _nearest(places: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
    from scipy.spatial import cKDTree

    distances, _ = cKDTree(points).query(places)
    return np.asarray(distances, dtype=np.float32)


class ReferencePanel(QWidget):
    """Which mesh, how near is right, and what came out. Each choice can be taken back."""

    def __init__(self, session: Session, scene: TissueScene) -> None:
        super().__init__()
        self._session, self._scene = session, scene
        self.asked = Asked()
        self.comparison: Comparison | None = None
        self.path = PathField(_TIP, pattern=_PATTERN)
        self.path.edit.setPlaceholderText("Mesh file: ply, obj, stl, glb, vtp")
        self.path.changed.connect(lambda: self._ask(path=self.path.path()))
        self.tolerance = DecimalBox()
        self.tolerance.setDecimals(3)
        self.tolerance.setRange(0.001, 1e6)
        self.tolerance.setKeyboardTracking(False)
        self.tolerance.setToolTip("Distance that still counts as right, for the F-score")
        self.tolerance.valueChanged.connect(lambda value: self._ask(tolerance=value))
        self.aligned = QCheckBox("Lay on the reference first")
        self.aligned.setToolTip("Move the result rigidly, without scaling, until it fits the reference best")
        self.aligned.toggled.connect(lambda on: self._ask(aligned=on))
        self.text = label("", wrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addWidget(
            row(label("Reference"), self.path, label("Right within"), self.tolerance, self.aligned)
        )
        layout.addWidget(self.text, 1)
        self._write()
        self.refresh()

    def refresh(self) -> None:
        """Another surface is on show, or none."""
        shown = self._scene.content is not None
        set_available(self.path, None if shown else _NO_SURFACE)
        reason = _NO_SURFACE if not shown else None if self.asked.path is not None else _NO_REFERENCE
        for field in (self.tolerance, self.aligned):
            set_available(field, reason)
        self.tolerance.setSuffix(f" {self._scene.unit}")
        self._take(None)
        self._compare()

    def _ask(self, **changes: object) -> None:
        after = replace(self.asked, **changes)  # type: ignore[arg-type]
        if after != self.asked:
            self._session.push(ValueCommand("compare with a reference", self._put, self.asked, after))

    def _put(self, asked: Asked) -> None:
        """Compares something else; for undo commands, which are pushed."""
        self.asked = asked
        self._write()
        self.refresh()

    def _write(self) -> None:
        asked = self.asked
        self.path.set_path(asked.path)
        for field in (self.tolerance, self.aligned):
            field.blockSignals(True)
        self.tolerance.setValue(asked.tolerance)
        self.aligned.setChecked(asked.aligned)
        for field in (self.tolerance, self.aligned):
            field.blockSignals(False)

    def _compare(self) -> None:
        content, asked = self._scene.content, self.asked
        if content is None or asked.path is None:
            self.text.setText("Open a mesh of the same object to see how far the result lies from it.")
            return
        self.text.setText(f"Comparing with {asked.path.name}...")

        def done(found: Comparison) -> None:
            if self._scene.content is content and self.asked == asked:
                self._take(found)

        def ended() -> None:
            if task.problem is not None:
                self.text.setText(f"{asked.path.name if asked.path else ''} could not be compared.")

        surface = content.surface.mesh
        task = self._session.tasks.start(
            "The reference cannot be compared", partial(compared, surface, asked), done
        )
        task.ended.connect(ended)

    def _take(self, found: Comparison | None) -> None:
        self.comparison = found
        self._scene.set_distances(None if found is None else found.distances)
        if found is not None:
            self.text.setText(found.text(self._scene.unit))
            self._scene.set_colouring(Colouring.DISTANCE)

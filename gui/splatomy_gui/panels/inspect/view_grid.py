"""One, two or four views with a header each; any of them can be enlarged."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtGui import QCursor
from PyQt6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from splatomy_gui.widgets.basics import label


class ViewPane(QWidget):
    """A view with its title and its controls above."""

    def __init__(self, title: str, view: QWidget, controls: Sequence[QWidget | None] = ()) -> None:
        super().__init__()
        self.view = view
        self.title = label(title, "muted")
        header = QHBoxLayout()
        header.setContentsMargins(2, 0, 2, 0)
        header.setSpacing(4)
        if title:
            header.addWidget(self.title)
        for control in controls:
            if control is None:
                header.addStretch(1)
            else:
                header.addWidget(control)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(header)
        layout.addWidget(view, 1)


class ViewGrid(QWidget):
    """Panes in a layout of 1, 2 or 4.

    The panes are never built anew: VTK must not lose its window. With one view the last enlarged one, or
    ``main``, is shown.
    """

    changed = pyqtSignal()
    """Other panes are on show."""

    def __init__(self, panes: Sequence[ViewPane], pairs: tuple[int, int], main: int) -> None:
        """panes: four, row by row. pairs: the two of the layout with two. main: the one alone."""
        super().__init__()
        self.panes = tuple(panes)
        self._pairs, self._single = pairs, main
        self._count, self._enlarged = 2, False
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for number, pane in enumerate(self.panes):
            layout.addWidget(pane, number // 2, number % 2)
        self._grid = layout
        self._arrange()

    @property
    def count(self) -> int:
        """Number of views of the layout."""
        return self._count

    @property
    def enlarged(self) -> bool:
        """True while one view fills the place of all."""
        return self._enlarged

    def shown(self, pane: ViewPane) -> bool:
        """True if a pane is on show."""
        return pane in self._shown()

    def set_count(self, count: int) -> None:
        """1, 2 or 4 views."""
        self._count, self._enlarged = count, False
        self._arrange()

    def enlarge(self, on: bool) -> None:
        """Enlarges the view under the pointer, or shows all of the layout again."""
        if on:
            under = [n for n, pane in enumerate(self.panes) if pane.isVisible() and self._is_under(pane)]
            self._single = under[0] if under else self._single
        self._enlarged = on
        self._arrange()

    @staticmethod
    def _is_under(pane: ViewPane) -> bool:
        return pane.rect().contains(pane.mapFromGlobal(QCursor.pos()))

    def _shown(self) -> list[ViewPane]:
        if self._enlarged or self._count == 1:
            return [self.panes[self._single]]
        return [self.panes[n] for n in self._pairs] if self._count == 2 else list(self.panes)

    def _arrange(self) -> None:
        shown = self._shown()
        places: dict[ViewPane, tuple[int, int]] = {}
        for number, pane in enumerate(shown):
            places[pane] = (number // 2, number % 2)
        for pane in self.panes:
            pane.setVisible(pane in places)
            if pane in places:
                self._grid.addWidget(pane, *places[pane])
        for axis in (0, 1):
            self._grid.setRowStretch(axis, 1 if any(p[0] == axis for p in places.values()) else 0)
            self._grid.setColumnStretch(axis, 1 if any(p[1] == axis for p in places.values()) else 0)
        self.changed.emit()

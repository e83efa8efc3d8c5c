"""What lies around the pages: the case, the jobs and the log, the undo history, and the menus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QDockWidget, QMenu, QTabWidget, QUndoView, QWidget

from splatomy_gui.actions import TABLE
from splatomy_gui.panels.case_tree import CaseTree
from splatomy_gui.panels.jobs_panel import JobsPanel
from splatomy_gui.panels.log_panel import LogPanel

if TYPE_CHECKING:
    from splatomy_gui.main_window import MainWindow

_MENUS = ("File", "Edit", "Go", "View", "Play", "Mask", "Inspect", "Measure", "Live", "Help")
_CASE_PX, _BOTTOM_PX = 210, 190


class Docks:
    """Docks of the window: case beside the workspace bar, jobs and log below, undo history at the right."""

    def __init__(self, window: MainWindow, bar_dock: QDockWidget) -> None:
        self._window = window
        session = window.session
        self.case_tree = CaseTree(session)
        self.case_tree.run_wanted.connect(window.inspect_run)
        self.case = self._dock("Case", self.case_tree, Qt.DockWidgetArea.LeftDockWidgetArea)
        window.splitDockWidget(bar_dock, self.case, Qt.Orientation.Horizontal)
        self.tabs = QTabWidget()
        self.jobs_panel = JobsPanel(session)
        self.jobs_panel.inspect_wanted.connect(window.inspect_run)
        self.log_panel = LogPanel(window.log, session.settings, session.tasks, window.watchdog, session.names)
        self.tabs.addTab(self.jobs_panel, "Jobs")
        self.tabs.addTab(self.log_panel, "Log")
        self.bottom = self._dock("Jobs and log", self.tabs, Qt.DockWidgetArea.BottomDockWidgetArea)
        changes = QUndoView(session.undo)
        changes.setEmptyLabel("As opened")
        changes.setToolTip("Click a change to go back or forward to it")
        self.history = self._dock("Undo history", changes, Qt.DockWidgetArea.RightDockWidgetArea)
        self.bottom.hide()
        self.history.hide()
        window.resizeDocks([self.case], [_CASE_PX], Qt.Orientation.Horizontal)
        window.resizeDocks([self.bottom], [_BOTTOM_PX], Qt.Orientation.Vertical)

    def _dock(self, title: str, widget: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self._window)
        dock.setObjectName(f"{title} dock")
        dock.setWidget(widget)
        self._window.addDockWidget(area, dock)
        return dock


def make_menus(window: MainWindow) -> dict[str, QMenu]:
    """The menus of the window by name, filled from the table of actions."""
    bar = window.menuBar()
    menus: dict[str, QMenu] = {}
    for name in _MENUS if bar is not None else ():
        menu = bar.addMenu(name)  # type: ignore[union-attr]
        assert menu is not None
        menu.setToolTipsVisible(True)
        menus[name] = menu
    for spec in TABLE:
        if spec.menu in menus:
            menus[spec.menu].addAction(window.actions_table[spec.name])
    return menus

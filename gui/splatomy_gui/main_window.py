"""The window: workspace bar, stepper, pages, docks, timeline, and what its actions do."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QEvent, QObject, Qt
from PyQt6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QIcon, QKeyEvent
from PyQt6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDockWidget,
    QMainWindow,
    QStackedWidget,
    QStatusBar,
    QVBoxLayout,
    QWidget,
)

from splatomy_gui import dialogs, steps
from splatomy_gui.actions import DEFAULT_SCOPES, SCOPES_OF_PAGE, TABLE, Actions
from splatomy_gui.assets import asset, icon
from splatomy_gui.docks import Docks, make_menus
from splatomy_gui.inputs import Inspection, Kind
from splatomy_gui.panels.jobs_panel import JobsPanel
from splatomy_gui.panels.log_panel import LogStore
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.panels.preferences import PreferencesPage
from splatomy_gui.panels.start_page import StartPage
from splatomy_gui.problem import Problem
from splatomy_gui.session import Session
from splatomy_gui.theme import THEMES, apply_theme, current_theme
from splatomy_gui.undo import ValueCommand
from splatomy_gui.watchdog import Watchdog
from splatomy_gui.widgets.basics import dropped_path, scrolled
from splatomy_gui.widgets.error_dialog import show_problem
from splatomy_gui.widgets.stepper import Stepper
from splatomy_gui.widgets.timeline import Timeline
from splatomy_gui.widgets.toast import Toast
from splatomy_gui.widgets.workspace_bar import WorkspaceBar
from splatomy_gui.window_state import show_review, show_state, show_undo
from splatomy_gui.worker import Job, JobState
from splatomy_gui.workspaces import Step, workspace

_LOG = logging.getLogger(__name__)


class MainWindow(QMainWindow):
    """One window for everything."""

    def __init__(self, session: Session, log: LogStore, watchdog: Watchdog) -> None:
        super().__init__()
        self.session, self.log, self.watchdog = session, log, watchdog
        self.setWindowTitle("Splatomy")
        self.setWindowIcon(QIcon(str(asset("icons", "splatomy.svg"))))
        self.setAcceptDrops(True)
        self.resize(1280, 800)
        self.actions_table = Actions(TABLE, self)
        self.actions_table.record = lambda text, switch, on: session.push(
            ValueCommand(f"{text} {'on' if on else 'off'}", switch, not on, on)
        )
        self.workspace_key = ""
        self.step_key = ""
        self.pages: dict[str, Page] = {}
        self._page: Page | None = None
        self._wanted_step = ""
        self._ready_to_close = self._closed = False
        self.dialogs: list[Any] = []
        self._make_centre()
        self.docks = Docks(self, self._bar_dock)
        self.menus = make_menus(self)
        self.toast = Toast(self)
        self.setStatusBar(QStatusBar())
        dialogs.bind_shell(self)
        self._listen()
        app = QApplication.instance()
        if app is not None:
            app.installEventFilter(self)
        self.show_start()

    # -- construction ----------------------------------------------------------------------------

    def _make_centre(self) -> None:
        self.bar = WorkspaceBar()
        self.bar.chosen.connect(self.go)
        self.bar_buttons = self.bar.buttons
        self.stepper = Stepper()
        self.stepper.chosen.connect(self.show_step)
        self.stack = QStackedWidget()
        self.start_page = StartPage(self.session)
        self.start_page.workspace_wanted.connect(self.go)
        self.preferences_page = PreferencesPage(self.session.settings)
        self.jobs_page = JobsPanel(self.session)
        self.jobs_page.inspect_wanted.connect(self.inspect_run)
        for page in (self.start_page, self.preferences_page, self.jobs_page):
            self.stack.addWidget(page)
        self.timeline = Timeline(self.session.clock, self.actions_table)
        self.timeline.marks_wanted.connect(self._set_marks)
        centre = QWidget()
        layout = QVBoxLayout(centre)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.stepper)
        layout.addWidget(self.stack, 1)
        layout.addWidget(self.timeline)
        # Small screens, and large text, have less room than the pages want.
        self.setCentralWidget(scrolled(centre))
        bar_dock = QDockWidget(self)
        bar_dock.setObjectName("bar_dock")
        bar_dock.setTitleBarWidget(QWidget())
        bar_dock.setFeatures(QDockWidget.DockWidgetFeature.NoDockWidgetFeatures)
        bar_dock.setWidget(self.bar)
        self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, bar_dock)
        self._bar_dock = bar_dock

    def _listen(self) -> None:
        session = self.session
        session.inspected.connect(self._inspected)
        session.case_changed.connect(self._case_changed)
        session.review_changed.connect(lambda _: show_review(self))
        session.problems_changed.connect(self.timeline.strip.set_problems)
        session.result_changed.connect(self._show_state)
        session.clock.range_changed.connect(self._show_timeline)
        session.dirty_changed.connect(lambda _: self._show_state())
        session.saved.connect(self._saved)
        session.tasks.failed.connect(self.show_problem)
        session.recovery_found.connect(lambda folder: dialogs.ask_recovery(self, folder))
        session.source_missing.connect(lambda folder, path: dialogs.ask_source(self, folder, path))
        session.queue.job_ended.connect(self._job_ended)
        session.queue.jobs_changed.connect(self._jobs_changed)
        session.undo.indexChanged.connect(lambda _: show_undo(self))
        session.settings.changed.connect(self._setting_changed)
        show_undo(self)

    # -- places ----------------------------------------------------------------------------------

    def go(self, key: str) -> None:
        """Goes to a place of the workspace bar."""
        if key == "start":
            self.show_start()
        elif key == "jobs":
            self._show_plain(self.jobs_page, key)
        elif key == "preferences":
            self._show_plain(self.preferences_page, key)
        else:
            self.show_workspace(key)

    def show_start(self) -> None:
        """The start page, with the recent cases as they are now."""
        self._show_plain(self.start_page, "start")
        self.start_page.refresh()

    def show_workspace(self, key: str, step: str = "") -> None:
        """A workspace, at the step that makes sense now."""
        if key != self.workspace_key:
            self.workspace_key = key
            self.stepper.set_steps(workspace(key).steps)
            self.stepper.title.setText(workspace(key).title)
            self.step_key = ""
        self.show_step(step or self.step_key or "load")

    def show_step(self, key: str) -> None:
        """A step of the workspace, unless it is locked."""
        reason = self.locked_steps().get(key)
        if reason is not None:
            self.tell(reason)
            key = "load"
        space = workspace(self.workspace_key)
        step = next(s for s in space.steps if s.key == key)
        page = self._page_of(step)
        self._leave_page()
        self.step_key = key
        self._page = page
        self.stack.setCurrentWidget(page)
        self.stepper.show()
        self.docks.case.setVisible(self.actions_table["toggle_case_tree"].isChecked())
        self._show_timeline()
        module = step.page.partition(":")[0].rpartition(".")[2]
        self.actions_table.activate_scopes(SCOPES_OF_PAGE.get(module, DEFAULT_SCOPES))
        self.bar_buttons[self.workspace_key].setChecked(True)
        page.activate()
        self._show_state()

    def _show_timeline(self) -> None:
        """The timeline is there where a page has time and there are frames."""
        if self._page is not None and self.step_key:
            step = next(s for s in workspace(self.workspace_key).steps if s.key == self.step_key)
            self.timeline.setVisible(step.timeline and self.session.clock.count > 0)

    def _show_plain(self, page: QWidget, key: str) -> None:
        self._leave_page()
        self.stack.setCurrentWidget(page)
        self.stepper.hide()
        self.timeline.hide()
        self.docks.case.hide()
        self.actions_table.activate_scopes(("window",))
        self.bar_buttons[key].setChecked(True)
        self._show_state()

    def _set_marks(self, first: int, last: int) -> None:
        clock = self.session.clock
        command = ValueCommand("Marks", lambda m: clock.set_marks(*m), clock.marks, (first, last))
        self.session.push(command)

    def _leave_page(self) -> None:
        if self._page is not None:
            self._page.deactivate()
            self._page = None

    def _page_of(self, step: Step) -> Page:
        """The page of a step; built when it is first wanted."""
        key = f"{self.workspace_key}.{step.key}"
        if key not in self.pages:
            module, _, name = step.page.partition(":")
            shell = Shell(self.session, self.actions_table, workspace(self.workspace_key))
            page: Page = getattr(importlib.import_module(module), name)(shell)
            page.step_wanted.connect(self.show_step)
            page.run_wanted.connect(self.inspect_run)
            page.told.connect(self.tell)
            self.pages[key] = page
            self.stack.addWidget(page)
        return self.pages[key]

    @property
    def page(self) -> Page | None:
        """The page of a step that is on show."""
        return self._page

    def locked_steps(self) -> dict[str, str]:
        """Why a step of this workspace cannot be entered, by step."""
        return steps.locked(self.session, self.workspace_key)

    # -- session ---------------------------------------------------------------------------------

    def open_path(self, path: Path) -> None:
        """Opens whatever a path is."""
        self.tell(f"Looking at {path.name}...")
        self.session.inspect(path)

    def inspect_run(self, path: Path) -> None:
        """Shows a run in the workspace it belongs to."""
        self._wanted_step = "inspect"
        self.session.open_run(path)

    def _inspected(self, inspection: Inspection) -> None:
        if inspection.kind is Kind.CASE:
            self.session.open_case(inspection.path)
        elif inspection.kind is Kind.RUN:
            case = inspection.path.parent.parent
            if case != self.session.folder:
                self.session.close_case()
            self.inspect_run(inspection.path)
        elif inspection.kind is Kind.VOLUME and not inspection.ambiguous:
            self._wanted_step = "inspect"
            self.session.open_volume(inspection.path)
            self.show_workspace("angiography", "inspect")
        else:
            first = f"{inspection.workspace}.load" not in self.pages
            self.show_workspace(inspection.workspace, "load")
            if first:
                # The page was built by this very report and has not seen it.
                self.session.inspected.emit(inspection)

    def _case_changed(self) -> None:
        session = self.session
        if session.kind is not None:
            self.show_workspace(session.kind.value, "masks")
        elif self.workspace_key and self._page is not None and session.result is None:
            self.show_step("load")
        show_review(self)
        self._show_state()

    def _show_state(self) -> None:
        show_state(self)
        if self._wanted_step and self.session.result is not None:
            wanted, self._wanted_step = self._wanted_step, ""
            self.show_workspace(steps.workspace_of(self.session), wanted)

    def _saved(self) -> None:
        self.tell("Saved.")
        self._show_state()

    def close_anyway(self) -> None:
        """Closes without another question: what there was to save is saved, or given up."""
        self._ready_to_close = True
        self.close()

    def _job_ended(self, job: Job) -> None:
        if job.problem is not None and job.state is JobState.FAILED:
            self.show_problem(job.problem)
        elif job.state is JobState.DONE:
            self.tell(f"{job.plan.title} is done.")
            if self.session.folder is not None and self.session.folder in job.run.parents:
                self.session.open_run(job.run)

    def _jobs_changed(self) -> None:
        if (
            self.session.queue.active
            and self._page is None
            and self.stack.currentWidget() is not self.jobs_page
        ):
            return
        self._show_state()

    def _setting_changed(self, name: str) -> None:
        if name in ("theme", "text_scale"):
            self.use_theme()

    def use_theme(self) -> None:
        """Puts the preferred theme in force everywhere."""
        app = QApplication.instance()
        if not isinstance(app, QApplication):
            return
        settings = self.session.settings
        apply_theme(app, settings.get("theme"), settings.get("text_scale"))
        for spec in TABLE:
            if spec.icon:
                self.actions_table[spec.name].setIcon(icon(spec.icon))
        self.bar.refresh_icons()
        self.timeline.refresh_icons()
        self.start_page.refresh_icons()
        self.docks.case_tree.refresh()
        self._show_state()

    def switch_theme(self) -> None:
        """The other theme."""
        other = THEMES[1 - THEMES.index(current_theme().name)]
        self.session.settings.set("theme", other)

    # -- telling ---------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """A minor note."""
        self.toast.say(text)
        _LOG.info("%s", text)

    def show_problem(self, problem: Problem) -> None:
        """A problem in a dialog; the app goes on."""
        _LOG.error("%s: %s", problem.what, problem.why)
        self.keep_dialog(show_problem(problem, self))

    def show_bottom(self, index: int) -> None:
        """The jobs (0) or the log (1) at the bottom."""
        self.actions_table["toggle_jobs"].setChecked(True)
        self.docks.tabs.setCurrentIndex(index)

    def keep_dialog(self, dialog: Any) -> None:
        """Keeps a dialog that is not modal until it is closed."""
        self.dialogs.append(dialog)
        dialog.finished.connect(lambda _: self.dialogs.remove(dialog) if dialog in self.dialogs else None)

    # -- Qt --------------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """A button that has the focus gets the space bar, whatever the shortcuts say."""
        if (
            isinstance(event, QKeyEvent)
            and event.type() is QEvent.Type.ShortcutOverride
            and isinstance(watched, QAbstractButton)
            and event.key() == Qt.Key.Key_Space
        ):
            event.accept()
            return True
        return super().eventFilter(watched, event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Takes what has a path, anywhere."""
        if event is not None and dropped_path(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Opens it."""
        path = None if event is None else dropped_path(event)
        if event is not None and path is not None:
            event.acceptProposedAction()
            self.open_path(path)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Asks what becomes of running jobs, saves, then ends everything once."""
        if event is None or self._closed:
            return
        asks = bool(self.session.queue.active) and not self._ready_to_close
        if asks and not dialogs.ask_running(self):
            event.ignore()
            return
        if self.session.dirty and not self._ready_to_close:
            self.session.save(self.close_anyway, lambda problem: dialogs.ask_unsaved(self, problem))
            event.ignore()
            return
        self._closed = True
        app = QApplication.instance()
        if app is not None:
            app.removeEventFilter(self)
        self.session.settings.keep_layout("window", self.saveGeometry())
        for page in self.pages.values():
            page.close_page()
        self.session.close()
        event.accept()

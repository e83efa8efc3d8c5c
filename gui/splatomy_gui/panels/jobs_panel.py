"""All reconstructions: state, progress, time, and what can be done about them."""

from __future__ import annotations

import json
from functools import partial

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import (
    QHeaderView,
    QInputDialog,
    QMessageBox,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from splatomy_gui.case_files import run_info
from splatomy_gui.panels.reconstruct import clock_text
from splatomy_gui.plans import plan_resume
from splatomy_gui.session import Session
from splatomy_gui.widgets.basics import button, row
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.error_dialog import show_problem
from splatomy_gui.widgets.plot import LinePlot
from splatomy_gui.worker import Job, JobState

_COLUMNS = ("Reconstruction", "State", "Stage", "Step", "Elapsed", "Left", "GPU memory")
_WIDEST_PX = 360
"""Of a column: the names of cases may be long."""


class JobsPanel(QWidget):
    """A row for each job; buttons for the chosen one."""

    inspect_wanted = pyqtSignal(object)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._before: Job | None = None
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setToolTip("All reconstructions of this session")
        header, rows = self.table.horizontalHeader(), self.table.verticalHeader()
        if header is not None and rows is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setMaximumSectionSize(_WIDEST_PX)
            header.setStretchLastSection(True)
            rows.hide()
        self.table.itemSelectionChanged.connect(self._show_chosen)
        self.plot = LinePlot("Loss", logarithmic=True)
        self.pause_button = button("Pause", self._pause, "Hold the job, or let it go on")
        self.stop_button = button("Stop and keep", self._stop, "Stop the job; the result so far is kept")
        self.continue_button = button(
            "Continue...", self._continue, "Train for more steps, or resume a stopped run"
        )
        self.discard_button = button("Discard", self._discard, "Stop the job and delete its run folder")
        self.problem_button = button("What happened", self._problem, "Show why the job stopped")
        self.inspect_button = button("Inspect", self._inspect, "Look at the result")
        parts = QSplitter()
        parts.addWidget(self.table)
        parts.addWidget(self.plot)
        parts.setSizes([700, 300])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(parts, 1)
        layout.addWidget(
            row(
                self.pause_button,
                self.stop_button,
                self.continue_button,
                self.discard_button,
                self.problem_button,
                None,
                self.inspect_button,
            )
        )
        session.queue.jobs_changed.connect(self._show_all)
        session.queue.job_changed.connect(self._show_one)
        self._show_all()

    @property
    def chosen(self) -> Job | None:
        """The job of the chosen row."""
        index = self.table.currentRow()
        jobs = self.session.queue.jobs
        return jobs[index] if 0 <= index < len(jobs) else None

    def _show_all(self) -> None:
        jobs, before = self.session.queue.jobs, self._before
        self.table.setRowCount(len(jobs))
        for number, job in enumerate(jobs):
            self._fill(number, job)
        if jobs:
            self.table.selectRow(jobs.index(before) if before in jobs else len(jobs) - 1)
        self._show_chosen()

    def _show_one(self, job: Job) -> None:
        if job in self.session.queue.jobs:
            self._fill(self.session.queue.jobs.index(job), job)
            if job is self.chosen:
                self._show_chosen()

    def _fill(self, number: int, job: Job) -> None:
        running = job.state is JobState.RUNNING
        cells = (
            job.plan.title,
            job.state.value,
            job.stage,
            f"{job.step} of {job.total} ({job.share:.0%})" if job.total else "",
            clock_text(job.elapsed_s) if job.elapsed_s else "",
            clock_text(job.eta_s) if running and job.eta_s else "",
            f"{job.gpu_mem_mb / 1024:.1f} GiB" if job.gpu_mem_mb else "",
        )
        for column, text in enumerate(cells):
            item = self.table.item(number, column)
            if item is None:
                item = QTableWidgetItem()
                self.table.setItem(number, column, item)
            if item.text() != text:
                item.setText(text)
                item.setToolTip(text)

    def _show_chosen(self) -> None:
        job = self._before = self.chosen
        none = "No job is chosen."
        stopping = job is not None and job.state is JobState.STOPPING
        over = "It is being stopped." if stopping else "It has ended."
        live = job is not None and job.state in (JobState.RUNNING, JobState.PAUSED)
        waiting = job is not None and job.state is JobState.QUEUED
        set_available(
            self.pause_button,
            None if live else none if job is None else over if stopping else "It does not run.",
        )
        self.pause_button.setText("Resume" if job is not None and job.state is JobState.PAUSED else "Pause")
        set_available(self.stop_button, None if live or waiting else none if job is None else over)
        further = over if stopping else "It waits." if waiting else None
        if job is not None and "live" in job.plan.fields:
            further = "A live session cannot go on: refine it offline, or start another one."
        set_available(self.continue_button, none if job is None else further)
        set_available(self.discard_button, none if job is None else over if job.discarding else None)
        has_problem = job is not None and job.problem is not None
        set_available(
            self.problem_button, None if has_problem else none if job is None else "Nothing went wrong."
        )
        done = job is not None and job.state in (JobState.DONE, JobState.STOPPED)
        set_available(self.inspect_button, None if done else none if job is None else "It has no result yet.")
        losses = {} if job is None else {n: p for n, p in job.history.items() if "loss" in n}
        self.plot.set_series(losses)

    def _pause(self) -> None:
        job = self.chosen
        if job is not None:
            job.resume() if job.state is JobState.PAUSED else job.pause()

    def _stop(self) -> None:
        if self.chosen is not None:
            self.chosen.stop()

    def _continue(self) -> None:
        job = self.chosen
        if job is None:
            return
        if job.state in (JobState.FAILED, JobState.STOPPED):
            self._resume(job, 0)
            return
        steps, agreed = QInputDialog.getInt(self, "Continue training", "More steps", 500, 1, 1_000_000, 100)
        if agreed and job.state.ended:
            self._resume(job, steps)
        elif agreed:
            job.continue_for(steps)

    def _resume(self, job: Job, more_steps: int) -> None:
        """Reads the run's own job file on another thread and puts it in the queue again."""
        file = job.run.with_name(f"{job.run.name}.job.json")
        session = self.session

        def work() -> object:
            record = json.loads(file.read_text(encoding="utf-8"))
            return plan_resume(session, run_info(job.run), record, more_steps)

        def done(plan: object) -> None:
            # A second click asks for the same; the first answer has taken the job off the list.
            if plan is not None and job in session.queue.jobs:
                session.queue.forget(job)
                session.queue.add(plan)  # type: ignore[arg-type]

        session.tasks.start("The run cannot be resumed", work, done)

    def _discard(self) -> None:
        job = self.chosen
        if job is None:
            return
        box = QMessageBox(self)
        box.setWindowTitle("Discard")
        box.setText(f"Delete the run folder of {job.plan.title}?")
        box.setInformativeText("Its result and checkpoints are lost. Masks stay.")
        yes = box.addButton("Delete", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.finished.connect(partial(self._discarded, box, yes, job))
        box.open()

    def _discarded(self, box: QMessageBox, yes: object, job: Job, _: int) -> None:
        if box.clickedButton() is yes:
            self.session.queue.discard(job)
        box.deleteLater()

    def _problem(self) -> None:
        job = self.chosen
        if job is not None and job.problem is not None:
            show_problem(job.problem, self.window())

    def _inspect(self) -> None:
        if self.chosen is not None:
            self.inspect_wanted.emit(self.chosen.run)

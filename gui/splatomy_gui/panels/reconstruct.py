"""Reconstruct: method, preset and settings, what they will cost, and the run while it is made."""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QPixmap
from PyQt6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from splatomy.errors import InputError
from splatomy.estimate import estimate
from splatomy.method import MethodSpec, list_methods, make_config
from splatomy_gui.forms import ConfigForm
from splatomy_gui.panels.gpu_field import GpuField
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.plans import plan_run
from splatomy_gui.problem import Problem
from splatomy_gui.widgets.basics import NameLabel, button, label, row
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.kept import KeptField
from splatomy_gui.widgets.plot import LinePlot
from splatomy_gui.worker import Job, JobState

_PRESETS = {
    "draft": "Draft: a first look",
    "standard": "Standard",
    "best": "Best: slow",
    "paper": "As published",
}
_QUALITIES = ("psnr", "psnr_masked", "ssim", "dice_own")


class ReconstructPage(Page):
    """Left: what to do. Right: the run in progress, or the one before."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        space = shell.workspace
        self.methods: list[MethodSpec] = [
            m
            for m in list_methods().values()
            if m.modality.value == space.modality and (not space.methods or m.name in space.methods)
        ]
        # The method that trains comes first; plain back-projection is for comparison.
        order = {name: place for place, name in enumerate(space.methods)}
        self.methods.sort(key=lambda m: (order.get(m.name, 0), not m.name.startswith("dynamic"), m.name))
        self.job: Job | None = None
        self._saving = False
        self._form: ConfigForm | None = None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 12)
        layout.setSpacing(16)
        layout.addWidget(self._make_choices(), 2)
        layout.addWidget(self._make_progress(), 3)
        session = self.session
        session.case_changed.connect(self._case_changed)
        session.settings.changed.connect(lambda _: self._show_estimate())
        session.queue.job_changed.connect(self._job_changed)
        session.queue.job_ended.connect(self._job_ended)
        session.queue.jobs_changed.connect(self._find_job)
        self._method_chosen()
        self._find_job()

    # -- choices ---------------------------------------------------------------------------------

    def _make_choices(self) -> QWidget:
        self.method = QComboBox()
        self.method.addItems([m.title for m in self.methods])
        self.method.currentIndexChanged.connect(lambda _: self._method_chosen())
        self.preset = QComboBox()
        self.preset.setToolTip("How much time is spent")
        self.preset.currentIndexChanged.connect(lambda _: self._preset_chosen())
        self.views = QSpinBox()
        self.views.setRange(0, 9999)
        self.views.setSpecialValueText("all")
        self.used = f"{self.shell.workspace.picture.capitalize()}s used"
        self.views.setToolTip("Train on this many, spread evenly; the others check the result")
        self.views.valueChanged.connect(lambda _: self._show_estimate())
        self.estimate = label("", "muted", wrap=True)
        self.memory = label("", "caution", wrap=True)
        self.memory.hide()
        self.citation = label("", "muted", wrap=True)
        self.advanced = button("Advanced settings", self._toggle_advanced, "Show every setting of the method")
        self.advanced.setCheckable(True)
        for field, text in ((self.method, "Method"), (self.preset, "Preset"), (self.views, self.used)):
            KeptField(self.session, field, text)
        self.start_button = button("Start", self._start, "Start the reconstruction", primary=True)
        form = QFormLayout()
        form.addRow("Method", self.method)
        form.addRow("Preset", self.preset)
        form.addRow(self.used, self.views)
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(label("What to do", "heading"))
        column.addLayout(form)
        column.addWidget(self.citation)
        column.addWidget(self.advanced)
        column.addWidget(self._make_expert(), 1)
        column.addStretch(0)
        column.addWidget(self.estimate)
        column.addWidget(self.memory)
        column.addWidget(row(None, self.start_button))
        return box

    def _make_expert(self) -> QWidget:
        self.gpus = GpuField(self.session, self.spec)
        self.gpus.changed.connect(self._show_estimate)
        self.settings_area = QScrollArea()
        self.settings_area.setWidgetResizable(True)
        self.settings_area.setFrameShape(QFrame.Shape.NoFrame)
        form = QFormLayout()
        form.addRow("GPUs", self.gpus)
        self.expert = QWidget()
        column = QVBoxLayout(self.expert)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addWidget(self.settings_area, 1)
        self.expert.hide()
        return self.expert

    @property
    def spec(self) -> MethodSpec:
        """The chosen method."""
        return self.methods[self.method.currentIndex()]

    @property
    def preset_name(self) -> str:
        """The chosen preset."""
        return str(self.preset.currentData() or next(iter(self.spec.presets)))

    def _method_chosen(self) -> None:
        spec = self.spec
        self.method.setToolTip(spec.citation)
        self.citation.setText(spec.citation)
        self._form = ConfigForm(spec)
        self._form.changed.connect(self._show_estimate)
        self.gpus.set_method(spec)
        self.settings_area.setWidget(self._form)
        for title, field in self._form.fields():
            KeptField(self.session, field, title)
        self.preset.blockSignals(True)
        self.preset.clear()
        for name in spec.presets:
            self.preset.addItem(_PRESETS.get(name, name), name)
        wanted = self.preset.findData("standard")
        self.preset.setCurrentIndex(max(0, wanted))
        self.preset.blockSignals(False)
        self._preset_chosen()

    def _preset_chosen(self) -> None:
        if self._form is not None:
            self._form.set_preset(self.preset_name)

    def _toggle_advanced(self) -> None:
        self.expert.setVisible(self.advanced.isChecked())

    def _changes(self) -> dict[str, Any]:
        """What differs from the preset, also what several GPUs ask for.

        Raises:
            InputError: a value is not allowed.
        """
        assert self._form is not None
        changes = self._form.changes()
        return self.gpus.with_shares(make_config(self.spec, self.preset_name, changes), changes)

    def _show_estimate(self) -> None:
        reason = self._reason()
        set_available(self.start_button, reason)
        self.memory.hide()
        frames = self.session.frames
        if frames is None or self._form is None or reason is not None:
            self.estimate.setText("" if reason is None else reason)
            return
        config = vars(make_config(self.spec, self.preset_name, self._changes()))
        used = self.views.value() or frames.count
        on_gpu = str(self.session.settings.get("device")).startswith("cuda")
        cost = estimate(self.spec.name, config, min(used, frames.count), *frames.size_px, on_gpu)
        self.estimate.setText(f"This takes {cost.text()}.")
        limit_gib = self.session.settings.get("memory_gib")
        if 0 < limit_gib < cost.gib:
            self.memory.setText(
                f"That is more memory than the {limit_gib} GiB of the preferences: use fewer frames, a crop "
                "or binning."
            )
            self.memory.show()

    def _reason(self) -> str | None:
        if self.session.case is None:
            return "Open an input first."
        if self._saving:
            return "The run begins once the case is saved."
        if self._form is not None and (wrong := self._form.problem()) is not None:
            return wrong
        count = self.session.case.times_s.size
        if 0 < self.views.value() < 2 or self.views.value() > count:
            return f"{self.used}: expected 2 to {count}, or all."
        return None

    def _start(self) -> None:
        try:
            changes = self._changes()
        except InputError as error:
            self.told.emit(str(error))
            return
        session = self.session
        views, replicas = self.views.value() or None, self.gpus.replicas
        plan = plan_run(session, self.spec.name, self.preset_name, changes, views, replicas)
        if not session.dirty:
            session.queue.add(plan)
            return

        def saved() -> None:
            self._saving = False
            session.queue.add(plan)
            self._show_estimate()

        def failed(problem: Problem) -> None:
            self._saving = False
            session.tasks.failed.emit(problem)
            self._show_estimate()

        # The engine reads the masks from the case's files. A second click meanwhile would begin a second run.
        self._saving = True
        session.save(saved, failed)
        self._show_estimate()

    # -- progress --------------------------------------------------------------------------------

    def _make_progress(self) -> QWidget:
        self.heading = NameLabel("No run in progress")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.status = label("", "muted", wrap=True)
        self.preview = QLabel()
        self.preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.preview.setMinimumHeight(150)
        self.preview.setToolTip("The newest preview")
        self.loss = LinePlot("Loss", logarithmic=True)
        self.quality = LinePlot(f"Quality on held-out {self.shell.workspace.picture}s")
        self.quality.empty = f"Only with some held out: use some of them, not all ({self.used})."
        self.pause_button = button("Pause", self._pause, "Hold the run, or let it go on")
        self.stop_button = button("Stop and keep", self._stop, "Stop the run; the result so far is kept")
        self.inspect_button = button("Inspect", self._inspect, "Look at the result", primary=True)
        box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.heading)
        column.addWidget(self.bar)
        column.addWidget(self.status)
        column.addWidget(self.preview, 2)
        column.addWidget(self.loss, 1)
        column.addWidget(self.quality, 1)
        column.addWidget(row(self.pause_button, self.stop_button, None, self.inspect_button))
        return box

    def activate(self) -> None:
        self._find_job()
        self._show_estimate()

    def _case_changed(self) -> None:
        frames = self.session.frames
        self.views.setMaximum(frames.count if frames is not None else 9999)
        self.views.setValue(0)
        self._find_job()
        self._show_estimate()

    def _find_job(self) -> None:
        """The newest job of the open case."""
        folder = self.session.folder
        jobs = [j for j in self.session.queue.jobs if folder is not None and folder in j.run.parents]
        new = jobs[-1] if jobs else None
        if new is not self.job:
            self.job = new
            self.preview.clear()
        self._show_job()

    def _job_changed(self, job: Job) -> None:
        if job is self.job and self.isVisible():
            self._show_job()

    def _job_ended(self, job: Job) -> None:
        if job is self.job:
            self._show_job()

    def _show_job(self) -> None:
        job = self.job
        running = job is not None and job.state in (JobState.RUNNING, JobState.PAUSED)
        no_run = "No run is in progress."
        set_available(self.pause_button, None if running else no_run)
        set_available(self.stop_button, None if running else no_run)
        finished = job is not None and job.state in (JobState.DONE, JobState.STOPPED)
        set_available(self.inspect_button, None if finished else "There is no finished run here.")
        if job is None:
            self.heading.setText("No run in progress")
            self.bar.setValue(0)
            self.status.setText("Choose a preset and press Start. Draft gives a first look.")
            self.loss.set_series({})
            self.quality.set_series({})
            return
        self.heading.setText(job.plan.title)
        self.bar.setValue(round(1000 * job.share))
        self.bar.setFormat(
            f"{job.stage or job.state.value} {job.step} of {job.total}" if job.total else job.state.value
        )
        self.status.setText(status_line(job))
        self.pause_button.setText("Resume" if job.state is JobState.PAUSED else "Pause")
        self.loss.set_series(_chosen(job, lambda name: "loss" in name))
        self.quality.set_series(_chosen(job, lambda name: name in _QUALITIES))
        self._show_preview(job)

    def _show_preview(self, job: Job) -> None:
        file = job.files.get("preview")
        if file:
            pixmap = QPixmap(file)
            if not pixmap.isNull():
                kept = Qt.AspectRatioMode.KeepAspectRatio
                smooth = Qt.TransformationMode.SmoothTransformation
                self.preview.setPixmap(pixmap.scaled(self.preview.size(), kept, smooth))

    def _pause(self) -> None:
        if self.job is not None:
            self.job.resume() if self.job.state is JobState.PAUSED else self.job.pause()

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()

    def _inspect(self) -> None:
        if self.job is not None:
            self.run_wanted.emit(self.job.run)


def status_line(job: Job) -> str:
    """State, time and memory of a job in one line."""
    parts = [job.state.value]
    if job.elapsed_s:
        parts.append(f"{clock_text(job.elapsed_s)} so far")
    if job.state is JobState.RUNNING and job.eta_s:
        parts.append(f"{clock_text(job.eta_s)} left in this stage")
    if job.gpu_mem_mb:
        parts.append(f"{job.gpu_mem_mb / 1024:.1f} GiB on the GPU")
    if job.silent_s > 60:
        parts.append(f"nothing heard for {clock_text(job.silent_s)}")
    if job.problem is not None:
        parts.append(job.problem.why)
    return ", ".join(parts)


def clock_text(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _chosen(job: Job, wanted: Any) -> dict[str, Any]:
    return {name: points for name, points in job.history.items() if wanted(name)}

"""The live page: source, video, growing surface, state and delay, and the surgeon's commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PyQt6.QtCore import Qt, QTimer
from PyQt6.QtGui import QImage, QPixmap
from PyQt6.QtWidgets import QLabel, QSizePolicy, QSpinBox, QSplitter, QVBoxLayout

from splatomy.errors import InputError
from splatomy_gui.frames import Picture
from splatomy_gui.panels.live.commands import Asked, CommandDesk, CommandList
from splatomy_gui.panels.live.keeping import keep_snapshot
from splatomy_gui.panels.live.source_box import SourceBox, SourceChoice
from splatomy_gui.panels.live.status import StatusStrip
from splatomy_gui.panels.live.surface import LiveSurface
from splatomy_gui.panels.live.tools import TOOLS, LiveTools
from splatomy_gui.panels.live.video import LiveVideo
from splatomy_gui.panels.page import Page, Shell
from splatomy_gui.plans import plan_live
from splatomy_gui.views.frame_view import FrameView, image_of
from splatomy_gui.views.scene_view import SceneView
from splatomy_gui.widgets.basics import button, column, row, tool_button
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.fields import DecimalBox
from splatomy_gui.worker import Job, JobState

_INSET_PX = 150
_AGE_EVERY_MS = 200
_NO_SESSION = "Start a session first."


class LivePage(Page):
    """Above: the source. Middle: the video as it comes, and the surface. Below: state and commands."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.job: Job | None = None
        self.choice: SourceChoice | None = None
        self.files: dict[str, str] = {}
        self._held_frame: int | None = None
        self._held = False
        self._shown_frame: int | None = None
        self._told = 0
        self.desk = CommandDesk(self.session)
        self.video = LiveVideo(self)
        self._make_source()
        self._make_views()
        self._make_commands()
        self.status = StatusStrip()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 10, 14, 10)
        layout.setSpacing(8)
        layout.addWidget(self._top)
        layout.addWidget(self._views, 1)
        layout.addWidget(self.status)
        layout.addWidget(self._bottom)
        self._ages = QTimer(self)
        self._ages.setInterval(_AGE_EVERY_MS)
        self._ages.timeout.connect(self._show_age)
        self.video.shown.connect(self._show_picture)
        self.surface.changed.connect(self._show_age)
        self.desk.applied.connect(self._applied)
        self.desk.rejected.connect(self._rejected)
        self.desk.too_late.connect(lambda: self.told.emit("The session has ended: what was done stays."))
        self.session.case_changed.connect(self._offer_case)
        self._show_age()
        self._show_running()

    # -- construction ----------------------------------------------------------------------------

    def _make_source(self) -> None:
        self.source = SourceBox()
        self.source.changed.connect(self._show_running)
        self.start_button = button("Start", self.start, "Begin a live session", primary=True)
        self.pause_button = button("Pause", self._pause, "Hold the reconstruction; the video goes on")
        self.stop_button = button("Stop", self._stop, "End the session; the result and its report are kept")
        self.refine_button = button(
            "Refine offline",
            self._refine,
            "Reconstruct what was recorded once more, with more time: opens it as a clip",
        )
        buttons = column(
            row(self.start_button, self.pause_button, self.stop_button), row(None, self.refine_button)
        )
        self._top = row(self.source, buttons, spacing=16)

    def _make_views(self) -> None:
        self.frame_view = FrameView()
        self.frame_view.setToolTip("The live video; tools draw on it")
        self.inset = QLabel(self.frame_view)
        self.inset.setToolTip("The video goes on while you draw")
        self.inset.setStyleSheet("border: 1px solid white;")
        self.inset.hide()
        self.scene_view = SceneView(metric=False)
        self.scene_view.setToolTip("The newest surface; grey is unsure, or was not seen for a minute")
        self.age = QLabel(self.scene_view)
        self.age.setStyleSheet("color: white; background: rgba(0, 0, 0, 150); padding: 3px 6px;")
        self.age.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.age.move(8, 8)
        self.surface = LiveSurface(self.session, self.scene_view)
        views = QSplitter(Qt.Orientation.Horizontal)
        views.addWidget(self.frame_view)
        views.addWidget(self.scene_view)
        views.setSizes([500, 500])
        views.setChildrenCollapsible(False)
        self._views = views

    def _make_commands(self) -> None:
        table = self.actions_table
        self.distance = DecimalBox()
        self.distance.setRange(0.5, 300.0)
        self.distance.setValue(10.0)
        self.distance.setSuffix(" mm")
        self.distance.setToolTip("The true distance of the two places to click, such as a tool's width")
        self.back = QSpinBox()
        self.back.setRange(10, 120)
        self.back.setSingleStep(10)
        self.back.setSuffix(" s")
        self.back.setToolTip("How far back Rewind goes; the last two minutes are kept")
        first = [tool_button(table[name], text_too=True) for name in TOOLS]
        second = [tool_button(table[n], True) for n in ("live_freeze", "live_rewind")]
        third = [tool_button(table[n], True) for n in ("live_snapshot", "live_follow")]
        self.undo_button = tool_button(table["undo"], text_too=True)
        tools = column(
            row(*first, self.distance, spacing=2),
            row(*second, self.back, *third, self.undo_button, None, spacing=2),
            spacing=4,
        )
        self.list = CommandList(self.desk)
        self.list.setMaximumHeight(96)
        self._bottom = row(tools, self.list, spacing=12)
        tools.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self.tools = LiveTools(self.frame_view, self.distance.value)
        self.tools.held.connect(self._hold)
        self.tools.drawn.connect(self._drawn)
        self._generations: list[tuple[float, int]] = []

    # -- page ------------------------------------------------------------------------------------

    def activate(self) -> None:
        table = self.actions_table
        for name in TOOLS:
            table.bind(name, partial(self._take_tool, name))
        for name, slot in (
            ("live_freeze", self._freeze),
            ("live_rewind", self._rewind),
            ("live_snapshot", self._snapshot),
            ("live_follow", self._follow),
            ("live_cancel", self._put_away),
        ):
            table.bind(name, slot)
        table["live_follow"].setChecked(self.surface.follow)
        self._offer_case()
        self._show_running()

    def deactivate(self) -> None:
        self._put_away()

    def close_page(self) -> None:
        self.video.stop()
        self._ages.stop()
        self.surface.close()
        self.scene_view.close_view()

    @property
    def running(self) -> bool:
        """True while a session goes on."""
        return self.job is not None and not self.job.state.ended

    def _offer_case(self) -> None:
        """An opened clip is a recording that could be played."""
        case = self.session.case
        is_clip = self.session.kind is not None and self.session.kind.value == self.shell.workspace.key
        if case is not None and is_clip and self.source.recording.path() is None:
            self.source.set_recording(Path(case.source))

    # -- session ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins a session with what was chosen."""
        try:
            choice = self.source.choice()
        except InputError as error:
            self.told.emit(str(error))
            return
        plan = plan_live(self.session, choice.name, choice.text, choice.rate, choice.options)
        self.choice, self.files, self._generations = choice, {}, []
        self._shown_frame, self._told = None, 0
        self.surface.clear()
        self.list.clear_all()
        self.frame_view.set_picture(None)
        self.actions_table["live_freeze"].setChecked(False)
        job = self.session.queue.start_now(plan)
        self.job = job
        job.lived.connect(self._lived)
        job.answered.connect(self.desk.hear)
        job.snapshot.connect(self._snapped)
        job.changed.connect(self._heard)
        job.ended.connect(self._ended)
        self.desk.set_job(job)
        self.video.start(choice.text, choice.options, job.run, choice.is_recording and choice.rate == "real")
        self._ages.start()
        self.status.show_state("starting")
        self._show_running()
        # The keys are for the tools now, not for a field.
        self.frame_view.setFocus()

    def _pause(self) -> None:
        if self.job is not None:
            self.job.resume() if self.job.state is JobState.PAUSED else self.job.pause()

    def _stop(self) -> None:
        if self.job is not None:
            self.job.stop()

    def _ended(self, job: Job) -> None:
        if job is not self.job:
            return
        self.video.stop()
        self._ages.stop()
        self.desk.set_job(None)
        self.status.show_state("ended")
        self._show_age()
        self._put_away()
        self._show_running()

    def _refine(self) -> None:
        if self.job is not None:
            self.session.inspect(self.job.run / "session")
            self.step_wanted.emit("load")

    def _show_running(self) -> None:
        job, table = self.job, self.actions_table
        stopping = job is not None and job.state is JobState.STOPPING
        try:
            self.source.choice()
            missing = None
        except InputError as error:
            missing = str(error)
        reason = "A session is in progress: stop it first." if self.running else missing
        set_available(self.start_button, reason)
        set_available(self.source, "A session is in progress: stop it first." if self.running else None)
        idle = None if self.running and not stopping else _NO_SESSION
        set_available(self.pause_button, idle)
        set_available(self.stop_button, idle)
        is_paused = job is not None and job.state is JobState.PAUSED
        self.pause_button.setText("Resume" if is_paused else "Pause")
        recorded = job is not None and job.state.ended and (job.run / "session").is_dir()
        set_available(self.refine_button, None if recorded else "There is no finished session here.")
        for name in (*TOOLS, "live_freeze", "live_rewind", "live_snapshot"):
            table.allow(name, idle)

    # -- what the engine tells -------------------------------------------------------------------

    def _heard(self) -> None:
        """Warnings, such as of a source that was interrupted, are told at once."""
        if self.job is not None:
            for level, text in self.job.notices[self._told :]:
                if level == "warning":
                    self.told.emit(text)
            self._told = len(self.job.notices)
        self._show_running()

    def _lived(self, event: Mapping[str, Any]) -> None:
        self.status.show_live(event, self.actions_table["live_freeze"].isChecked())
        numbers = event.get("metrics") or {}
        self.video.keep_step(float(event["time_s"]), float(numbers.get("latency_p50_s") or 0.0))

    def _snapped(self, files: Mapping[str, str]) -> None:
        self.files.update(files)
        if "points" in files:
            self.surface.take(Path(files["points"]))

    def _show_picture(self, picture: Picture, frame: int | None) -> None:
        if self._held:
            image = QPixmap.fromImage(image_of(picture))
            self.inset.setPixmap(image.scaledToWidth(_INSET_PX))
            self.inset.adjustSize()
            self.inset.move(self.frame_view.width() - self.inset.width() - 8, 8)
            self.inset.show()
            return
        self._shown_frame = frame
        number = "" if frame is None else f"  frame {frame}"
        self.frame_view.set_picture(picture, f"Live{number}")

    def _show_age(self) -> None:
        record = self.surface.record
        if not record:
            self.age.setText("No surface yet" if self.running else "No session")
        else:
            # While nothing new comes, the surface grows older.
            late = float(record["received_to_published_s"]) + time.monotonic() - self.surface.shown_at_s
            unit = "mm" if record.get("metric") else "no scale: relative"
            behind = f"{late:.1f} s behind the video" if self.running else "last surface"
            self.age.setText(f"{self.surface.num_points:,} points, {behind}, {unit}")
            seen = (float(record["time_s"]), int(record["generation"]))
            if not self._generations or self._generations[-1] != seen:
                self._generations.append(seen)
                del self._generations[:-4000]
        self.age.adjustSize()

    # -- the surgeon -----------------------------------------------------------------------------

    def _take_tool(self, name: str, on: bool) -> None:
        if not on:
            if self.tools.name == name:
                self.tools.take("")
            return
        for other in TOOLS:
            if other != name:
                self.actions_table[other].setChecked(False)
        self.tools.take(name)

    def _put_away(self) -> None:
        if self.tools.cancel():
            return
        for name in TOOLS:
            self.actions_table[name].setChecked(False)

    def _hold(self, on: bool) -> None:
        """The picture stands still while a line is drawn on it; the video goes on in the corner."""
        if on and not self._held:
            self._held_frame = self._shown_frame
        self._held = on
        if not on:
            self.inset.hide()

    def _drawn(self, text: str, fields: Mapping[str, Any]) -> None:
        """A drawing is a command about the frame that it was drawn on."""
        self.desk.send(text, {**fields, "frame": self._held_frame})

    def _freeze(self, on: bool) -> None:
        if self.running and on != self.surface.frozen:
            self.surface.frozen = on
            self.desk.send("Freeze" if on else "Let it grow", {"command": "freeze", "on": on})

    def _applied(self, asked: Asked) -> None:
        """The freeze button shows what the engine does, also after an undo."""
        if asked.fields.get("command") == "freeze":
            self._show_frozen(bool(asked.fields["on"]))
        elif asked.undoes is not None and asked.undoes.fields.get("command") == "freeze":
            self._show_frozen(not asked.undoes.fields["on"])

    def _rejected(self, asked: Asked) -> None:
        self.told.emit(f"{asked.text}: {asked.reason}")
        if asked.fields.get("command") == "freeze":
            self._show_frozen(not asked.fields["on"])

    def _show_frozen(self, on: bool) -> None:
        self.surface.frozen = on
        self.actions_table["live_freeze"].setChecked(on)

    def _rewind(self) -> None:
        if not self._generations:
            self.told.emit("There is no surface yet to go back from.")
            return
        wanted_s = self._generations[-1][0] - self.back.value()
        generation = next((g for t, g in reversed(self._generations) if t <= wanted_s), None)
        if generation is None:
            self.told.emit(f"The session is not yet {self.back.value()} s old.")
            return
        self.desk.send(f"Rewind {self.back.value()} s", {"command": "rewind", "generation": generation})

    def _follow(self, on: bool) -> None:
        self.surface.follow = on
        if on:
            self.surface.look_from_scope()

    def _snapshot(self) -> None:
        """Keeps what is on show; the engine is not asked, so that nothing waits."""
        if self.job is None:
            return
        video: QImage = self.frame_view.pixmap_item.pixmap().toImage()
        surface = self.scene_view.grab().toImage()
        record = {k: v for k, v in self.surface.record.items() if k not in ("blocks", "contract")}
        work: Callable[[], Path] = partial(
            keep_snapshot, self.job.run, video, surface, dict(self.files), record
        )
        self.session.tasks.start(
            "The snapshot cannot be kept",
            work,
            lambda folder: self.told.emit(f"Snapshot {folder.name} is kept."),
        )

"""The start page: kinds of work, sample cases, recent cases, and what this machine can do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QSize, Qt, pyqtSignal
from PyQt6.QtGui import QIcon, QPixmap
from PyQt6.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from splatomy.events import Task
from splatomy_gui.assets import asset, icon
from splatomy_gui.case_files import THUMBNAIL, CaseInfo, case_info
from splatomy_gui.command import machine, run_command
from splatomy_gui.session import Session
from splatomy_gui.tasks import BackgroundTask
from splatomy_gui.widgets.basics import ClickableCard, NameLabel, button, label, row, scrolled
from splatomy_gui.workspaces import WORKSPACES, Sample, Workspace

NOTICE = "Research use only. Not a medical device. Nothing leaves this machine."
_THUMBNAIL = QSize(112, 84)


class StartPage(QWidget):
    """Cards, samples, recent cases."""

    workspace_wanted = pyqtSignal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._sampling: BackgroundTask | None = None
        content = QWidget()
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(28, 20, 28, 16)
        self.column.setSpacing(14)
        self.column.addWidget(self._make_head())
        self.column.addWidget(self._make_cards())
        self.sample_bar = QProgressBar()
        self.sample_bar.setRange(0, 0)
        self.stop_sample = button("Stop", self._stop_sample, "Stop making or opening the case")
        self.doing = label("Making the sample case...", "muted")
        self.sample_row = row(self.doing, self.sample_bar, self.stop_sample)
        self.sample_row.hide()
        self.column.addWidget(self.sample_row)
        self.column.addWidget(label("Recent cases", "heading"))
        self.recent = QVBoxLayout()
        self.column.addLayout(self.recent)
        self.column.addStretch(1)
        notice = label(NOTICE, "caution")
        self.column.addWidget(notice)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scrolled(content))
        self.resume_buttons: dict[Path, Any] = {}
        self.show_cases([])
        session.opening_changed.connect(self._show_doing)

    def _make_head(self) -> QWidget:
        logo = QLabel()
        logo.setPixmap(QIcon(str(asset("icons", "splatomy.svg"))).pixmap(52, 52))
        self.badge = label("Looking at this machine...", "muted")
        titles = QWidget()
        layout = QVBoxLayout(titles)
        layout.setContentsMargins(8, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(label("Splatomy", "title"))
        layout.addWidget(label("Surgical video and DSA runs become measurable 3D and 4D anatomy", "muted"))
        return row(logo, titles, None, self.badge)

    def _make_cards(self) -> QWidget:
        box = QWidget()
        layout = QHBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(16)
        self.cards: dict[str, ClickableCard] = {}
        self.sample_buttons: dict[str, Any] = {}
        self.pictures: dict[str, QLabel] = {}
        for space in WORKSPACES:
            made = self._make_card(space)
            self.cards[space.key] = made
            layout.addWidget(made, 1)
        self.refresh_icons()
        return box

    def refresh_icons(self) -> None:
        """The pictures of the workspaces in the colour of the theme in force."""
        for name, picture in self.pictures.items():
            picture.setPixmap(icon(name).pixmap(40, 40))

    def _make_card(self, space: Workspace) -> ClickableCard:
        made = ClickableCard(f"Start with {space.title}")
        made.clicked.connect(lambda: self.workspace_wanted.emit(space.key))
        layout = QVBoxLayout(made)
        layout.setContentsMargins(18, 16, 18, 14)
        picture = QLabel()
        self.pictures[space.icon] = picture
        layout.addWidget(row(picture, label(space.title, "heading"), None))
        layout.addWidget(label(space.about, wrap=True))
        buttons: list[QWidget | None] = []
        for sample in space.samples:
            tip = "Make a small simulated case on this machine and open it; takes under a minute"
            each = button(f"Open {sample.title.lower()}", partial(self.make_sample, sample), tip)
            self.sample_buttons[space.key] = each
            buttons.append(each)
        layout.addWidget(row(*buttons, None))
        return made

    # -- samples ---------------------------------------------------------------------------------

    def make_sample(self, sample: Sample) -> None:
        """Makes a simulated input, unless an earlier one is there, and opens it as a new case."""
        if self._sampling is not None:
            return
        folder = (
            self.session.settings.cases_folder() / "samples" / "-".join((sample.words[0], sample.words[-1]))
        )

        def work() -> Task[Path]:
            if not (folder / "truth").is_dir():
                shutil.rmtree(folder, ignore_errors=True)
                half = folder.with_name(f"{folder.name}.part")
                shutil.rmtree(half, ignore_errors=True)
                half.parent.mkdir(parents=True, exist_ok=True)
                yield from run_command("phantom", *sample.words, "--out", str(half))
                half.rename(folder)
            return folder

        task = self.session.tasks.start("The sample case cannot be made", work, self._made)
        task.ended.connect(self._sampled)
        self._sampling = task
        self._show_doing()

    def _made(self, folder: Path) -> None:
        from splatomy.io.options import InputOptions

        self.session.open_input(folder, InputOptions())

    def _sampled(self) -> None:
        self._sampling = None
        self._show_doing()

    def _show_doing(self) -> None:
        """What one waits for: a sample that is made, or a case that is read."""
        doing = self._sampling or self.session.opening
        self.sample_row.setVisible(doing is not None)
        self.doing.setText("Making the sample case..." if self._sampling else "Opening the case...")

    def _stop_sample(self) -> None:
        doing = self._sampling or self.session.opening
        if doing is not None:
            doing.cancel()

    # -- recent cases ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Looks at the recent cases again, on another thread."""
        folders = self.session.settings.recent_cases()

        def work() -> list[CaseInfo]:
            return [info for info in map(case_info, folders) if info is not None]

        title = "The recent cases cannot be listed"
        self.session.tasks.start(title, work, self.show_cases, topic="recent cases")

    def show_cases(self, cases: list[CaseInfo]) -> None:
        """Shows cases, newest first."""
        while self.recent.count():
            item = self.recent.takeAt(0)
            widget = None if item is None else item.widget()
            if widget is not None:
                widget.deleteLater()
        self.resume_buttons = {}
        if not cases:
            self.recent.addWidget(
                label("None yet. Open a sample case, or drop a file or folder anywhere.", "muted")
            )
        grid_box = QWidget()
        grid = QGridLayout(grid_box)
        grid.setContentsMargins(0, 0, 0, 0)
        for number, info in enumerate(cases[:6]):
            grid.addWidget(self._case_card(info), number // 2, number % 2)
        self.recent.addWidget(grid_box)
        for info in cases:
            self.session.queue.attach_running(info.folder, list(info.runs))

    def _case_card(self, info: CaseInfo) -> QWidget:
        made = ClickableCard(f"Open {info.folder.stem}")
        made.clicked.connect(lambda: self.session.open_case(info.folder))
        picture = QLabel()
        picture.setFixedSize(_THUMBNAIL)
        picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        pixmap = QPixmap(str(info.folder / THUMBNAIL))
        if not pixmap.isNull():
            kept, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            picture.setPixmap(pixmap.scaled(_THUMBNAIL, kept, smooth))

        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.saved_s))
        words = QWidget()
        column = QVBoxLayout(words)
        column.setContentsMargins(4, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(NameLabel(info.folder.stem))
        column.addWidget(label(f"{when}   {info.frames} frames", "muted"))
        column.addWidget(label(info.state, "caution" if info.recoverable else ""))
        interrupted = info.runs and info.runs[-1].state not in ("done", "running")
        resume = button(
            "Resume" if interrupted or info.recoverable else "Open",
            lambda: self.session.open_case(info.folder),
            "Open the case where it was left",
        )
        self.resume_buttons[info.folder] = resume
        forget = button("Forget", lambda: self._forget(info.folder), "Take it off this list; its files stay")
        column.addWidget(row(resume, forget, None))
        layout = QHBoxLayout(made)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.addWidget(picture)
        layout.addWidget(words, 1)
        return made

    def _forget(self, folder: Path) -> None:
        self.session.settings.forget_case(folder)
        self.refresh()

    # -- this machine ----------------------------------------------------------------------------

    def look_at_machine(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Asks the engine what it can run on, and passes the facts on."""

        def done(facts: dict[str, Any]) -> None:
            tell(facts)
            self.session.machine.take(facts)
            devices, memory = facts["cuda_devices"], facts["memory_gib"]
            if devices:
                first = devices[0]
                self.badge.setText(f"{first['name']}, {first['memory_gib']} GiB")
            else:
                threads = facts["cpu_threads"]
                count = f"{threads} thread{'' if threads == 1 else 's'}"
                self.badge.setText(f"CPU only: {count}, {memory} GiB. Draft takes minutes.")

        failed = "The engine does not start. See the log."
        self.session.tasks.start(
            "The engine does not start", machine, done, lambda problem: self.badge.setText(failed)
        )

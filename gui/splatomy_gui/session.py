"""The one observable state of the app: the case, its frames, masks and runs, and the time on show."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PyQt6.QtCore import QObject, QTimer, pyqtSignal
from PyQt6.QtGui import QUndoCommand, QUndoStack

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy.review import FrameReview, MaskReview
from splatomy_gui import case_files, inputs
from splatomy_gui.clock import Clock
from splatomy_gui.documents import Documents
from splatomy_gui.engine_process import LaunchedEngine
from splatomy_gui.frames import Frames
from splatomy_gui.inputs import Kind, OpenedInput
from splatomy_gui.layers import LayerList
from splatomy_gui.machine import Machine
from splatomy_gui.problem import Problem
from splatomy_gui.result import Result, read_result
from splatomy_gui.settings import Settings
from splatomy_gui.tasks import BackgroundTask, Tasks
from splatomy_gui.undo import LIMIT
from splatomy_gui.viewer import Viewer
from splatomy_gui.worker import JobQueue

if TYPE_CHECKING:
    from splatomy.io.case import Case

_LOG = logging.getLogger(__name__)
_RESULT = "result"


@dataclass(frozen=True)
class _Missing:
    """A case whose input is not where it was."""

    folder: Path
    source: Path


class Session(QObject):
    """Everything the pages look at; they change it by its verbs and follow its signals.

    All reading and writing happens on other threads; the verbs return at once.
    """

    inspected = pyqtSignal(object)
    """An Inspection: something was dropped or chosen."""
    case_changed = pyqtSignal()
    """Another case is open, or none."""
    review_changed = pyqtSignal(int)
    """The mask or state of a frame changed; -1 = of all."""
    problems_changed = pyqtSignal(object)
    """Frames with a warning, a frozenset."""
    dirty_changed = pyqtSignal(bool)
    runs_changed = pyqtSignal()
    result_changed = pyqtSignal()
    document_changed = pyqtSignal(str)
    saved = pyqtSignal()
    opening_changed = pyqtSignal()
    recovery_found = pyqtSignal(object)
    """Folder of a case with changes that were never saved; answer with ``open_case(folder, recover)``."""
    source_missing = pyqtSignal(object, object)
    """Folder of a case and the path where its input was; answer with ``open_case(..., source=...)``."""

    def __init__(self, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.settings = settings
        self.tasks = Tasks(self)
        self.machine = Machine(self)
        self.clock = Clock(self)
        self.layers = LayerList(self)
        self.queue = JobQueue(self)
        self.undo = QUndoStack(self)
        self.undo.setUndoLimit(LIMIT)
        self.folder: Path | None = None
        self.opened: OpenedInput | None = None
        self.result: Result | None = None
        self.runs: list[case_files.RunInfo] = []
        self.names: set[str] = set()
        """Of everything that was opened; they may be those of patients."""
        self._case: Case | None = None
        self._saved: Case | None = None
        self._autosaved: Case | None = None
        self._writer: case_files.CaseWriter | None = None
        self._closing: dict[Path, BackgroundTask] = {}
        self._documents = Documents(self.tasks, self)
        self._documents.changed.connect(self.document_changed)
        self._opening: BackgroundTask | None = None
        self._opening_folder: Path | None = None
        self._viewer: Viewer | None = None
        self._viewer_run: Path | None = None
        self._autosaver = QTimer(self)
        self._autosaver.timeout.connect(self.autosave)
        self._set_interval("autosave_s")
        settings.changed.connect(self._set_interval)
        self.queue.job_ended.connect(lambda _: self.refresh_runs())
        self.queue.discarded.connect(self._run_discarded)

    # -- what is open ----------------------------------------------------------------------------

    @property
    def case(self) -> Case | None:
        """The open case."""
        return self._case

    @property
    def frames(self) -> Frames | None:
        """Its frames."""
        return None if self.opened is None else self.opened.frames

    @property
    def review(self) -> MaskReview:
        """Its masks.

        Raises:
            ValueError: no case is open.
        """
        if self._case is None:
            raise ValueError("no case is open")
        return self._case.review

    @property
    def kind(self) -> Kind | None:
        """Endoscopy or angiography."""
        return None if self.opened is None else self.opened.kind

    @property
    def dirty(self) -> bool:
        """True if something is not saved."""
        return self._case is not self._saved

    # -- opening ---------------------------------------------------------------------------------

    def inspect(self, path: Path, options: InputOptions | None = None, kind: Kind | None = None) -> None:
        """Looks at something that was dropped or chosen; ``inspected`` brings the report."""
        self.names.add(path.name)
        work = partial(inputs.inspect, path, options or InputOptions(), kind)
        self.tasks.start(f"{path.name} cannot be opened", work, self.inspected.emit, topic="inspect")

    def open_input(self, source: Path, options: InputOptions, folder: Path | None = None) -> None:
        """Opens an input as a new case; the case before is saved and closed."""
        place = self.settings.cases_folder() if folder is None else folder.parent

        def work() -> Any:
            opened = yield from inputs.open_frames(source, options)
            return case_files.make_case(folder or case_files.new_folder(place, opened.kind), opened)

        self._open(f"{source.name} cannot be opened", work)

    def open_case(self, folder: Path, recover: bool | None = None, source: Path | None = None) -> None:
        """Opens a case; recover: None asks by ``recovery_found`` where there is something to recover."""
        if folder == self.folder:
            self.case_changed.emit()
            self.refresh_runs()
            return
        if self._opening is not None and self._opening_folder == folder:
            return  # a second click while it is being read: it is locked already, by ourselves
        if (closing := self._closing.get(folder)) is not None:
            # What was changed last is still being saved.
            closing.ended.connect(lambda: self.open_case(folder, recover, source))
            return
        if recover is None and (folder / case_files.AUTOSAVE).is_file():
            self.recovery_found.emit(folder)
            return

        def work() -> Any:
            place = source or case_files.source_of(folder)
            if not place.exists():
                return _Missing(folder, place)
            return (yield from case_files.load_case(folder, bool(recover), source))

        self._open(f"The case {folder.name} cannot be opened", work, folder)

    def open_run(self, path: Path) -> None:
        """Shows a run of this case, or of no case."""
        self.tasks.start(
            f"The run {path.name} cannot be opened",
            partial(read_result, path),
            self.set_result,
            topic=_RESULT,
        )

    def open_volume(self, path: Path) -> None:
        """Shows a finished vessel volume, without a case."""
        self.close_case()
        self.set_result(Result(path, False, {}))

    def set_result(self, result: Result | None) -> None:
        """What the inspection and export pages show."""
        # One that is still being read was wanted earlier.
        self.tasks.drop(_RESULT)
        if result is None or result.path != self._viewer_run:
            self._end_viewer()
        self.result = result
        if self.folder is None:
            self._documents.set_folder(result.path if result is not None and result.is_run else None)
        self.result_changed.emit()

    def close_case(self) -> None:
        """Closes the case; what is not saved is saved first, on another thread."""
        if self._case is None and self.result is None:
            return
        case, writer = self._case, self._writer
        if writer is not None and case is not None:
            if case is not self._saved:
                self._save_and_close(writer, case)
            else:
                writer.close()
        self._writer = None
        self.folder = self.opened = self._case = self._saved = self._autosaved = None
        self.runs = []
        self._documents.set_folder(None)
        self.undo.clear()
        self.clock.set_times([])
        self.layers.clear()
        self.set_result(None)
        self.case_changed.emit()
        self.dirty_changed.emit(False)

    def _save_and_close(self, writer: case_files.CaseWriter, case: Case) -> None:
        folder, work = writer.folder, partial(writer.save_and_close, writer.turn(), case)
        task = self._closing[folder] = self.tasks.start("The case cannot be saved", work)
        task.ended.connect(lambda: self._closing.pop(folder, None))

    def _open(self, title: str, work: Any, folder: Path | None = None) -> None:
        if self._opening is not None:
            self._opening.cancel()
        self._opening_folder = folder
        task = self._opening = self.tasks.start(title, work, self._opened)
        task.ended.connect(lambda: self._opening_ended(task))
        self.opening_changed.emit()

    def _opening_ended(self, task: BackgroundTask) -> None:
        if self._opening is task:
            self._opening = None
            self.opening_changed.emit()

    @property
    def opening(self) -> BackgroundTask | None:
        """What is being opened now."""
        return self._opening

    def _opened(self, product: Any) -> None:
        if isinstance(product, _Missing):
            self.source_missing.emit(product.folder, product.source)
            return
        self.close_case()
        self.folder, self._case, self.opened = product.folder, product.case, product.opened
        self._saved = self._autosaved = product.case
        self._writer = case_files.CaseWriter(product.folder, product.case, product.lock)
        self._documents.set_folder(product.folder)
        self.settings.keep_recent_case(product.folder)
        self.names |= {product.folder.name, product.opened.source.name}
        case, timed = product.case, product.opened.kind is not Kind.SURFACE
        self.clock.set_times(case.times_s, case.frames, timed)
        self.case_changed.emit()
        self.review_changed.emit(-1)
        self.refresh_runs()

    def viewer(self) -> Viewer | None:
        """Who renders novel views of the result: the running job, else a viewer of the finished run.

        None without a run. A finished run's viewer is started by the first call and kept.
        """
        if self.result is None or not self.result.is_run:
            return None
        job = self.queue.job_of(self.result.path)
        if job is not None and not job.state.ended:
            return job.pictures
        if self._viewer is None or self._viewer_run != self.result.path or not self._viewer.alive:
            self._end_viewer()
            self._viewer_run = self.result.path
            log = self.result.path.with_name(f"{self.result.path.name}.view.log")
            self._viewer = Viewer(LaunchedEngine(("job", "view", str(self.result.path)), log), self)
            self._viewer.start()
        return self._viewer

    def _end_viewer(self) -> None:
        if self._viewer is not None:
            self._viewer.close()
        self._viewer = None

    # -- changing --------------------------------------------------------------------------------

    def push(self, command: QUndoCommand) -> None:
        """Does a change that can be taken back."""
        self.undo.push(command)

    def replace_frame(self, frame: int, review: FrameReview) -> None:
        """Another mask or state of a frame; for undo commands, which are pushed."""
        self._change(self.review.replaced(frame, review), frame)

    def replace_review(self, review: MaskReview) -> None:
        """Other masks of all frames; for undo commands, which are pushed."""
        self._change(review, -1)

    def show_problems(self, frames: frozenset[int]) -> None:
        """Which frames have a warning, for the timeline."""
        self.problems_changed.emit(frames)

    def change_case(self, **fields: Any) -> None:
        """Other fields of the case, such as its scale; for undo commands, which are pushed."""
        if self._case is not None:
            self._case = replace(self._case, **fields)
            self.dirty_changed.emit(self.dirty)

    def _change(self, review: MaskReview, frame: int) -> None:
        self.change_case(review=review)
        self.review_changed.emit(frame)

    # -- documents: further JSON files of the case ------------------------------------------------

    def document(self, name: str) -> Any:
        """The value of a JSON file of the case, such as measurements.json; None without one.

        Without a case, those of the run that is on show.
        """
        return self._documents.get(name)

    def set_document(self, name: str, value: Any) -> None:
        """Another value, written at once."""
        self._documents.set(name, value)

    # -- saving ----------------------------------------------------------------------------------

    def save(
        self,
        then: Callable[[], object] | None = None,
        failed: Callable[[Problem], None] | None = None,
    ) -> None:
        """Saves the case. then: called on the GUI thread once it is saved; failed: takes the problem."""
        case, writer = self._case, self._writer
        if case is None or writer is None:
            return

        def done(_: Any) -> None:
            if self._writer is writer and writer.saved is case:
                self._saved = self._autosaved = case
                self.undo.setClean()
                self.dirty_changed.emit(self.dirty)
                self.saved.emit()
            if then is not None:
                then()

        work = partial(writer.save, writer.turn(), case)
        self.tasks.start("The case cannot be saved", work, done, failed)

    def autosave(self) -> None:
        """Keeps what is not saved in the case's autosave file."""
        case, writer = self._case, self._writer
        if case is None or writer is None or case is self._autosaved:
            return
        self._autosaved = case
        if case is not self._saved:
            work = partial(writer.autosave, writer.turn(), case)
            self.tasks.start("The case cannot be saved by itself", work)

    def refresh_runs(self) -> None:
        """Reads again which runs the case has."""
        folder = self.folder
        if folder is None:
            return

        def done(found: list[case_files.RunInfo]) -> None:
            if self.folder == folder:
                self.runs = found
                self.queue.attach_running(folder, found)
                self.runs_changed.emit()

        work = partial(case_files.list_runs, folder)
        self.tasks.start("The runs cannot be listed", work, done, topic="runs")

    def _run_discarded(self, run: Path) -> None:
        if self.result is not None and self.result.path == run:
            self.set_result(None)
        self.refresh_runs()

    def close(self) -> None:
        """Ends everything when the app closes; waits for what is being saved."""
        self._autosaver.stop()
        self.clock.pause()
        self.undo.blockSignals(True)
        self._end_viewer()
        case, writer = self._case, self._writer
        self.tasks.close()
        self._documents.close()
        if case is not None and writer is not None:
            try:
                if case is not self._saved:
                    writer.save(writer.turn(), case)
            except (OSError, InputError):
                _LOG.exception("the case could not be saved when the app closed")
            writer.close()
        self.queue.close()

    def _set_interval(self, name: str) -> None:
        if name == "autosave_s":
            self._autosaver.start(1000 * max(5, self.settings.get("autosave_s")))

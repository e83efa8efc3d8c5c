"""Work beside the window: a callable or a Task of the engine runs on a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable
from functools import partial
from typing import Any

from PyQt6 import sip
from PyQt6.QtCore import QObject, QThread, pyqtSignal, pyqtSlot

from splatomy.events import Notice, Progress
from splatomy_gui.problem import Problem, problem_of

_LOG = logging.getLogger(__name__)
_PATIENCE_MS = 2000


class BackgroundTask(QThread):
    """One piece of work; its signals arrive on the GUI thread.

    work: returns the product, or a Task (generator of events) that does.

    What it came to and that it ended are told in one turn of the GUI thread, after the thread is over. Told
    one by one, a person (or a test) could see the product while the work still counts as going on, and what
    they press next would be refused. It also reaches those who connect after the work is over.
    """

    done = pyqtSignal(object)
    failed = pyqtSignal(object)
    stopped = pyqtSignal()
    ended = pyqtSignal()
    """It is over, whatever became of it; after ``done``, ``failed`` or ``stopped``."""
    progressed = pyqtSignal(str, int, int)

    def __init__(self, title: str, work: Callable[[], Any], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.title = title
        self.topic: Hashable | None = None
        self.problem: Problem | None = None
        """What it failed of, once it has ended."""
        self._work = work
        self._cancelled = False
        self._tell: Callable[[], None] = self.stopped.emit

    def cancel(self) -> None:
        """Asks the work to stop: a Task at its next event; a plain call runs on, its product is dropped.

        Whoever has called this hears of no product, nor of a failure, also if the work is over already: Qt
        forgets a request to a thread that has just ended, so it is kept here.
        """
        self._cancelled = True

    def run(self) -> None:
        """Runs on the thread; called by Qt."""
        try:
            product = self._product()
        except Exception as error:  # noqa: BLE001 - whatever it is, the person is told
            if not self._cancelled:
                _LOG.warning("%s: %s", self.title, error, exc_info=error)
                self.problem = problem_of(self.title, error)
                self._tell = partial(self.failed.emit, self.problem)
            return
        if not self._cancelled:
            self._tell = partial(self.done.emit, product)

    def tell(self) -> None:
        """Tells what became of it, and that it ended; called once, on the GUI thread, after the thread."""
        tell, self._tell = self._tell, self.stopped.emit
        if self._cancelled:
            self.problem = None
            tell = self.stopped.emit
        tell()
        self.ended.emit()

    def _product(self) -> Any:
        made = self._work()
        if not isinstance(made, Generator):
            return made
        while True:
            if self._cancelled:
                made.close()
                return None
            try:
                event = next(made)
            except StopIteration as stop:
                return stop.value
            if isinstance(event, Progress):
                self.progressed.emit(event.stage, event.step, event.total)
            elif isinstance(event, Notice):
                level = logging.WARNING if event.level == "warning" else logging.INFO
                _LOG.log(level, "%s", event.text)


class Tasks(QObject):
    """All work in progress, so that the window can show it and wait for it when it closes."""

    started = pyqtSignal(object)
    ended = pyqtSignal(object)
    failed = pyqtSignal(object)
    """A Problem that nobody else took care of."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: list[BackgroundTask] = []
        self._closed = False

    @property
    def running(self) -> tuple[BackgroundTask, ...]:
        """The tasks that have not ended."""
        return tuple(self._running)

    def start(
        self,
        title: str,
        work: Callable[[], Any],
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Problem], None] | None = None,
        stopped: Callable[[], None] | None = None,
        topic: Hashable | None = None,
    ) -> BackgroundTask:
        """Starts the work; the callbacks run on the GUI thread.

        title: what failed, in words, should it fail ("The case cannot be saved").
        failed: takes the problem; without it the window shows it.
        topic: of work on the same topic only the newest matters; what goes on is cancelled, since threads may
        end in another order than they began.

        After ``close`` nothing begins any more, and nobody hears of what ends: the task that comes back never
        runs.
        """
        task = BackgroundTask(title, work, self)
        if done is not None:
            task.done.connect(self._while_open(done))
        task.failed.connect(self._while_open(failed if failed is not None else self.failed.emit))
        if stopped is not None:
            task.stopped.connect(self._while_open(stopped))
        task.finished.connect(self._forget)
        if self._closed:
            # What ended just before still calls back and timers still run; their threads would outlive us.
            _LOG.info("not begun, the app closes: %s", title)
            return task
        task.topic = topic
        self.drop(topic)
        self._running.append(task)
        self.started.emit(task)
        task.start()
        return task

    def drop(self, topic: Hashable | None) -> None:
        """Cancels the work on a topic, if there is any."""
        for task in self._running:
            if topic is not None and task.topic == topic:
                task.cancel()

    def _while_open(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, silent after ``close``: its window is gone, and a dialog would keep the app alive."""

        def call(*values: Any) -> None:
            if not self._closed:
                callback(*values)

        return call

    def close(self) -> None:
        """Stops everything and waits for it, at most two seconds for each task.

        A plain call that does not end is left to the end of the process: Qt ends the whole process at once if
        a thread's object goes before its thread.
        """
        self._closed = True
        for task in self.running:
            task.cancel()
        for task in self.running:
            if not task.wait(_PATIENCE_MS):
                _LOG.warning("A task did not end in time: %s", task.title)
                task.setParent(None)
                sip.transferto(task, None)  # type: ignore[arg-type]

    # A slot of Qt's own, not a callable that PyQt wraps: the wrapper goes with the thread that it listens to.
    @pyqtSlot()
    def _forget(self) -> None:
        task = self.sender()
        if isinstance(task, BackgroundTask) and task in self._running:
            self._running.remove(task)
            task.tell()
            self.ended.emit(task)
            task.deleteLater()

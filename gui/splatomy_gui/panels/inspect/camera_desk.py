"""Keeping cameras of a 3D view, looking from them, and a film through them; one for each inspection page."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.io.movie import open_movie
from splatomy_gui.panels.inspect.cameras import Bookmark, Bookmarks, CameraList, between
from splatomy_gui.panels.inspect.film import Film, FilmDialog
from splatomy_gui.session import Session
from splatomy_gui.views.scene_view import CameraPose, SceneView

Make = Callable[[Film, Path], Task[Path]]
_BREATH_MS, _MOST_WAITING, _PATIENCE_S = 1, 8, 0.2


class CameraDesk(QObject):
    """The kept cameras of one 3D view."""

    kept = pyqtSignal()
    """A camera was kept: the list is worth being shown."""
    told = pyqtSignal(str)

    def __init__(self, session: Session, space: str, view: SceneView) -> None:
        super().__init__()
        self._session, self._view = session, view
        self.bookmarks = Bookmarks(session, space)
        self.list = CameraList(self.bookmarks)
        self.list.wanted.connect(self._look_from)
        self.dialog: FilmDialog | None = None
        self._recorder: Recorder | None = None

    @property
    def few(self) -> str | None:
        """Why there can be no film, None if there can."""
        return None if len(self.bookmarks.all()) >= 2 else "Keep two cameras first (Ctrl+B)."

    def keep(self) -> None:
        """Keeps the camera of the view."""
        made = self.bookmarks.keep(self._view.pose, self._session.clock.time_s)
        self.told.emit(f"{made.name} is kept.")
        self.kept.emit()

    def _look_from(self, bookmark: Bookmark) -> None:
        self._view.set_pose(bookmark.pose)

    def film_by_engine(self, range_s: tuple[float, float], make: Make) -> None:
        """Asks how the film shall be, and has it rendered in the background."""

        def wanted(film: Film) -> None:
            out = self._out()
            self._session.tasks.start("The film cannot be rendered", lambda: make(film, out), self._wrote)
            self.told.emit("The film is being rendered in the background.")

        self._ask(range_s, wanted)

    def film_of_view(self) -> None:
        """Asks how the film shall be, and records the view itself while its camera flies."""
        self._ask(None, self._record)

    def _ask(self, range_s: tuple[float, float] | None, wanted: Callable[[Film], None]) -> None:
        poses = [bookmark.pose for bookmark in self.bookmarks.all()]
        if len(poses) >= 2 and self._session.result is not None:
            now_s = self._session.clock.time_s
            self.dialog = FilmDialog(poses, range_s, now_s, wanted, self._view.window() or self._view)
            self.dialog.open()

    def _record(self, film: Film) -> None:
        out = self._out()
        self.close()
        recorder = self._recorder = Recorder(self._view, film, self)
        work = partial(_written, out, recorder.pictures, film)
        task = self._session.tasks.start("The film cannot be written", work, self._wrote)
        # Nobody takes pictures any more that nobody writes.
        task.ended.connect(recorder.stop)
        self.told.emit("The view is being recorded.")

    def close(self) -> None:
        """The view is about to be freed: what is being recorded of it is dropped."""
        if self._recorder is not None:
            self._recorder.stop()
            self._recorder = None

    def _out(self) -> Path:
        result, case = self._session.result, self._session.folder
        if result is None:
            raise ValueError("there is no result to film")
        folder = result.path.parent if case is None else case
        return folder / "exports" / f"{result.path.name.split('.')[0]}-film-{time.strftime('%H%M%S')}.mp4"

    def _wrote(self, path: Path) -> None:
        self.told.emit(f"Written: {path.name} (folder exports)")


class Recorder(QObject):
    """Takes pictures of a view while its camera flies, one each time that the app is idle.

    ``pictures``: they in their order, for the thread that writes them; None = the view was left before the
    end. A few wait at most, since a long film does not fit into memory.
    """

    def __init__(self, view: SceneView, film: Film, parent: QObject) -> None:
        super().__init__(parent)
        self._view, self._film = view, film
        self.pictures: SimpleQueue[NDArray[np.uint8] | None] = SimpleQueue()
        self._taken = 0
        self._before: CameraPose = view.pose
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._step)
        self._timer.start(_BREATH_MS)

    def stop(self) -> None:
        """Records no further; the view looks as before."""
        if self._timer.isActive():
            self._timer.stop()
            self.pictures.put(None)
            self._view.set_pose(self._before)

    def _step(self) -> None:
        view, film = self._view, self._film
        if self._taken < film.whole and not view.isVisible():
            self.stop()
        elif self._taken < film.whole:
            if self.pictures.qsize() < _MOST_WAITING:
                view.set_pose(between(list(film.poses), self._taken / (film.whole - 1)))
                self.pictures.put(view.picture())
                self._taken += 1
            return
        self._timer.stop()
        view.set_pose(self._before)


def _written(out: Path, pictures: SimpleQueue[NDArray[np.uint8] | None], film: Film) -> Task[Path]:
    """Writes pictures as they come.

    Raises:
        InputError: the view was left before the last one.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    first = yield from _next(pictures)
    height, width = first.shape[:2]
    with open_movie(out, width, height, float(film.frames_per_s)) as movie:
        movie.add(first)
        for number in range(1, film.whole):
            picture = yield from _next(pictures)
            # The view may have been resized meanwhile.
            if picture.shape == first.shape:
                movie.add(picture)
            yield Progress("film", number + 1, film.whole)
    return out


def _next(pictures: SimpleQueue[NDArray[np.uint8] | None]) -> Task[NDArray[np.uint8]]:
    """The next picture, once it is there."""
    while True:
        try:
            picture = pictures.get(timeout=_PATIENCE_S)
        except Empty:
            yield Progress("film", 0, 1)
            continue
        if picture is None:
            raise InputError(
                "The view was left while it was recorded; expected it to stay on show: film it again."
            )
        return picture

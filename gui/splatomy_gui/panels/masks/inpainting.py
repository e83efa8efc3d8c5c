"""The inpainting of a finished run over the frames: what is made up stays marked."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtGui import QColor

from splatomy_gui.session import Session
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import FrameView
from splatomy_gui.views.inpaint_item import InpaintedFrame, InpaintItem, WipeTool, inpainted_frame

NO_RUN = "Reconstruct this clip with its masks first: a run keeps what it rebuilt behind the instruments."
_MADE_UP, _OBSERVED = 0, 1


class InpaintPreview(QObject):
    """Finds a run that inpainted this case, and shows its frames beside the recorded ones."""

    found = pyqtSignal()
    """There is such a run now, or none any more."""
    told = pyqtSignal(str)
    """What is on show, in words; empty when nothing is."""

    def __init__(self, session: Session, view: FrameView, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session, self._view = session, view
        self.item = InpaintItem()
        scene = view.scene()
        if scene is not None:
            scene.addItem(self.item)
        self.tool = WipeTool(view, self.item, lambda _: None)
        self.folder: Path | None = None
        self.on = False
        self._wanted: tuple[Path, int] | None = None
        session.runs_changed.connect(self.look)
        session.result_changed.connect(self.look)
        session.case_changed.connect(self.look)

    def look(self) -> None:
        """Looks for the newest run of the case that inpainted, the one on show first."""
        session, case = self._session, self._session.folder
        paths = [info.path for info in reversed(session.runs)]
        if session.result is not None and session.result.path in paths:
            paths.insert(0, session.result.path)

        def done(folder: Path | None) -> None:
            if session.folder == case and folder != self.folder:
                self.folder = folder
                self.found.emit()

        title = "The runs cannot be looked at"
        session.tasks.start(title, partial(_prepared_of, paths), done, topic=("inpainted", id(self)))

    def switch(self, on: bool) -> None:
        """Shows it, or no longer."""
        self.on = on
        self._wanted = None
        if on:
            self.show_frame()
        else:
            self.item.show_frame(None)
            self.told.emit("")

    def show_frame(self) -> None:
        """The frame on show; an answer that comes too late is dropped."""
        if not self.on or self.folder is None:
            return
        wanted = self._wanted = (self.folder, self._session.clock.frame)
        theme = current_theme()
        colours = (theme.colour("bad"), theme.colour("proposal"))

        def done(shown: InpaintedFrame | None) -> None:
            if self._wanted == wanted and self.on:
                self._show(shown)

        title = "The inpainting cannot be shown"
        self._session.tasks.start(
            title, partial(_read, *wanted, colours), done, topic=("inpainted frame", id(self))
        )

    def _show(self, shown: InpaintedFrame | None) -> None:
        box = self._view.frame_box
        fits = shown is not None and shown.picture.width() == box.width()
        if shown is None or not fits or shown.picture.height() != box.height():
            self.item.show_frame(None)
            self.told.emit("This run did not inpaint this frame: it was kept back to measure the result.")
            return
        self.item.show_frame(shown)
        self.told.emit(
            f"Right of the line: instruments taken out. Striped: made up ({shown.share_synthetic:.1%} of the "
            f"picture). Dotted: seen in other frames ({shown.share_borrowed:.1%})."
        )


def _prepared_of(runs: list[Path]) -> Path | None:
    """The folder of the first run with inpainted frames."""
    for run in runs:
        folder = run / "prepared"
        if (folder / "prepared.json").is_file() and (folder / "inpainted").is_dir():
            return folder
    return None


def _read(folder: Path, frame: int, colours: tuple[QColor, QColor]) -> InpaintedFrame | None:
    from splatomy.io.frames import read_picture, read_rgb

    name = f"{frame:06d}.png"
    if not (folder / "inpainted" / name).is_file():
        return None
    picture = read_rgb(folder / "inpainted" / name)
    if picture.dtype != np.uint8:
        picture = np.rint(picture / 257).astype(np.uint8)
    source = read_picture(folder / "provenance" / name)
    return inpainted_frame(np.asarray(picture), source == _MADE_UP, source > _OBSERVED, colours)

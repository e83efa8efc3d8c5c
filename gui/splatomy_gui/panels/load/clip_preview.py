"""A clip before it is opened: its frames, the part in time and the part of the picture that are used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPainterPath, QPen, QTabletEvent
from PyQt6.QtWidgets import QVBoxLayout, QWidget

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy_gui.frames import Picture
from splatomy_gui.panels.load.trim_slider import TrimSlider
from splatomy_gui.session import Session
from splatomy_gui.theme import current_theme
from splatomy_gui.views.frame_view import FrameView
from splatomy_gui.widgets.basics import button, label, row

Crop = tuple[int, int, int, int]
_GRAB_PX = 10
_LEAST_PX = 16


class CropTool:
    """Draws a box, and moves its edges or all of it; a stroke outside of it begins a new one."""

    def __init__(self, preview: ClipPreview) -> None:
        self._preview = preview
        self._held: set[str] = set()
        self._start: tuple[QPointF, QRectF] | None = None

    def _edges(self, point: QPointF) -> set[str]:
        box, near = self._preview.box, _GRAB_PX / max(self._preview.view.zoom, 1e-6)
        found = set()
        if box.top() - near <= point.y() <= box.bottom() + near:
            ends = {"left": abs(point.x() - box.left()), "right": abs(point.x() - box.right())}
            found |= {name for name, away in ends.items() if away <= near}
        if box.left() - near <= point.x() <= box.right() + near:
            ends = {"top": abs(point.y() - box.top()), "bottom": abs(point.y() - box.bottom())}
            found |= {name for name, away in ends.items() if away <= near}
        return found

    def press(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> bool:
        box = self._preview.box
        self._held = self._edges(point)
        if not self._held and box.contains(point) and box != self._preview.view.frame_box:
            self._held = {"left", "right", "top", "bottom"}
        if not self._held:
            box = QRectF(point, point)
            self._held = {"right", "bottom"}
        self._start = (point, box)
        return True

    def move(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        if self._start is None:
            return
        start, box = self._start
        shift = point - start
        if len(self._held) == 4:
            frame = self._preview.view.frame_box
            x = min(max(box.left() + shift.x(), 0), frame.width() - box.width())
            y = min(max(box.top() + shift.y(), 0), frame.height() - box.height())
            self._preview.set_box(QRectF(x, y, box.width(), box.height()))
            return
        moved = QRectF(box)
        for name, setter, value in (
            ("left", moved.setLeft, box.left() + shift.x()),
            ("right", moved.setRight, box.right() + shift.x()),
            ("top", moved.setTop, box.top() + shift.y()),
            ("bottom", moved.setBottom, box.bottom() + shift.y()),
        ):
            if name in self._held:
                setter(value)
        self._preview.set_box(moved.normalized())

    def release(self, point: QPointF, event: QMouseEvent | QTabletEvent, pressure: float) -> None:
        self._start = None
        self._preview.end_stroke()

    def hover(self, point: QPointF) -> None:
        edges = self._edges(point)
        shape = Qt.CursorShape.CrossCursor
        if edges & {"left", "right"} and not edges & {"top", "bottom"}:
            shape = Qt.CursorShape.SizeHorCursor
        elif edges & {"top", "bottom"} and not edges & {"left", "right"}:
            shape = Qt.CursorShape.SizeVerCursor
        elif edges:
            falls = edges in ({"left", "top"}, {"right", "bottom"})
            shape = Qt.CursorShape.SizeFDiagCursor if falls else Qt.CursorShape.SizeBDiagCursor
        elif self._preview.box.contains(point) and self._preview.box != self._preview.view.frame_box:
            shape = Qt.CursorShape.SizeAllCursor
        viewport = self._preview.view.viewport()
        if viewport is not None:
            viewport.setCursor(shape)

    def paint(self, painter: QPainter) -> None:
        outside = QPainterPath()
        outside.addRect(self._preview.view.frame_box)
        inside = QPainterPath()
        inside.addRect(self._preview.box)
        painter.fillPath(outside.subtracted(inside), QColor(0, 0, 0, 150))
        pen = QPen(current_theme().colour("accent"), 2)
        pen.setCosmetic(True)
        painter.setPen(pen)
        painter.drawRect(self._preview.box)


class ClipPreview(QWidget):
    """A frame with the crop on it, and the trim slider below."""

    cropped = pyqtSignal(object)
    """x, y, width, height in pixels of the picture of one eye; None = the whole picture."""
    trimmed = pyqtSignal(int, int)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._clip: tuple[Path, InputOptions] | None = None
        self._source: Any = None
        self._reading = False
        self._auto: Crop | None = None
        self.box = QRectF(0, 0, 1, 1)
        self.view = FrameView()
        self.view.setMinimumSize(200, 130)
        self.view.setToolTip("Drag a box around the part of the picture that is used")
        self.view.set_tool(CropTool(self))
        self.slider = TrimSlider()
        self.size_text = label("", "muted")
        self.auto_button = button("Cut black border", self._cut_border, "Use the part that shows something")
        self.whole_button = button("Whole picture", lambda: self._choose(None), "Use the whole picture")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.slider)
        layout.addWidget(row(self.size_text, None, self.auto_button, self.whole_button, spacing=4))
        self.slider.shown.connect(lambda _: self._read())
        self.slider.trimmed.connect(self.trimmed)
        self.view.scrolled.connect(lambda steps: self.slider.show_frame(self.slider.frame + steps))

    def show_clip(self, path: Path, options: InputOptions, report: dict[str, Any]) -> None:
        """Shows a clip that was inspected."""
        wanted = (path, replace(options, crop=None, frames=None))
        x, y, width, height = report["crop"]
        if options.crop is None or wanted != self._clip:
            self._auto = (x, y, width, height)
        if wanted != self._clip:
            self._clip, self._source = wanted, None
            self.slider.set_clip(report["frames_in_clip"], report.get("quality") or {})
            self.view.set_picture(None)
            self.box = QRectF(x, y, width, height)
            self.slider.frame = report["frames_in_clip"] // 2
            self._read()
        self._show_box()

    def set_crop(self, crop: Crop | None) -> None:
        """Shows a crop, without telling; None = the one that was found."""
        shown = crop or self._auto
        if shown is not None:
            self.box = QRectF(*shown)
            self._show_box()

    def set_box(self, box: QRectF) -> None:
        """Another box while it is being drawn."""
        frame = self.view.frame_box
        self.box = box.intersected(frame) if box.intersects(frame) else QRectF(self.box)
        self._show_box()

    def end_stroke(self) -> None:
        """The box is drawn; one that is too small was a slip."""
        x, y = round(self.box.left()), round(self.box.top())
        right, bottom = round(self.box.right()), round(self.box.bottom())
        if right - x < _LEAST_PX or bottom - y < _LEAST_PX:
            self._choose(None)
        else:
            self._choose((x, y, right - x, bottom - y))

    def _cut_border(self) -> None:
        self._choose(self._auto)

    def _choose(self, crop: Crop | None) -> None:
        frame = self.view.frame_box
        whole = (0, 0, round(frame.width()), round(frame.height()))
        chosen = whole if crop is None else crop
        self.box = QRectF(*chosen)
        self._show_box()
        self.cropped.emit(chosen)

    def _show_box(self) -> None:
        frame = self.view.frame_box
        part, whole = (f"{box.width():.0f} x {box.height():.0f}" for box in (self.box, frame))
        self.size_text.setText(f"{part} of {whole} px" if frame.width() > 1 else "")
        self.view.update_tool()

    def _read(self) -> None:
        """Reads the frame on show; one read at a time, the newest wins."""
        clip, known, frame = self._clip, self._source, self.slider.frame
        if clip is None or self._reading:
            return
        self._reading = True

        def ended(product: tuple[Any, Picture | None] | None) -> None:
            self._reading = False
            if clip is not self._clip or frame != self.slider.frame:
                self._read()
            elif product is not None:
                self._source, picture = product
                flaws = ", ".join(self.slider.flaws_at(frame))
                self.view.set_picture(picture, f"frame {frame}" + (f"   {flaws}" if flaws else ""))
                self._show_box()

        # What is wrong with the clip was told by its report.
        self._session.tasks.start(
            "The clip cannot be shown", lambda: _read_frame(*clip, known, frame), ended, lambda _: ended(None)
        )


def _read_frame(path: Path, options: InputOptions, source: Any, frame: int) -> tuple[Any, Picture | None]:
    """The source of a clip, and the picture (H, W, 3) of one eye at a frame."""
    from splatomy.io.endoscopy_detect import endoscopy_source
    from splatomy.io.frame_source import cut

    found = source or endoscopy_source(path, options)
    try:
        _, picture = next(iter(found.left.read(np.array([frame], np.int64))))
    except (StopIteration, InputError):
        return found, None
    whole = cut(picture, found.left_box)
    return found, np.asarray(whole >> 8 if whole.dtype == np.uint16 else whole, np.uint8)

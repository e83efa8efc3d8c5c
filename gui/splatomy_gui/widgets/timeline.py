"""Playing and scrubbing, with the state of every frame's mask in a strip."""

from __future__ import annotations

from PyQt6.QtCore import QPoint, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygon
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from splatomy.review import ReviewState
from splatomy_gui.actions import Actions
from splatomy_gui.assets import icon
from splatomy_gui.clock import Clock
from splatomy_gui.theme import current_theme
from splatomy_gui.widgets.basics import label
from splatomy_gui.widgets.fields import DecimalBox

_COLOURS = {
    ReviewState.UNTOUCHED: "none",
    ReviewState.PROPOSED: "caution",
    ReviewState.PROPAGATED: "caution",
    ReviewState.EDITED: "link",
    ReviewState.CONFIRMED: "good",
}
_STRIP_PX = 8


class FrameStrip(QWidget):
    """Frames from left to right; a click or a drag shows one.

    Low, half, three-quarter or full height tells the states apart without colour; a triangle marks a
    problem.
    """

    scrubbed = pyqtSignal(int)

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._states: tuple[ReviewState, ...] = ()
        self._problems: frozenset[int] = frozenset()
        self._keys: tuple[int, ...] = ()
        self.setMinimumHeight(34)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        clock.changed.connect(lambda *_: self.update())
        clock.range_changed.connect(self.update)

    def sizeHint(self) -> QSize:
        """Wide and low."""
        return QSize(400, 34)

    def set_states(self, states: tuple[ReviewState, ...]) -> None:
        """The states of the frames' masks; empty without masks."""
        self._states = states
        self.update()

    def set_problems(self, frames: frozenset[int]) -> None:
        """Frames with a warning."""
        self._problems = frames
        self.update()

    def set_keys(self, frames: tuple[int, ...]) -> None:
        """Frames with a key pose of a camera path."""
        self._keys = frames
        self.update()

    def frame_at(self, x: float) -> int:
        """The frame at a place."""
        return int(min(max(x / max(1, self.width()), 0.0), 0.999999) * max(1, self.clock.count))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Shows the frame under the pointer."""
        self._scrub(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Goes on while the button is down; else tells what is under the pointer."""
        if event is None or not self.clock.count:
            return
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._scrub(event)
        frame = self.frame_at(event.position().x())
        text = self.clock.moment(frame).replace("   ", ", ")
        if frame < len(self._states):
            text += f", mask {self._states[frame].value}"
        self.setToolTip(text + (", with a warning" if frame in self._problems else ""))

    def _scrub(self, event: QMouseEvent | None) -> None:
        if event is not None and self.clock.count and event.buttons() & Qt.MouseButton.LeftButton:
            self.scrubbed.emit(self.frame_at(event.position().x()))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints runs of frames of one state together, so that long clips are quick."""
        painter = QPainter(self)
        theme, count = current_theme(), self.clock.count
        full = QRectF(0, 6, self.width(), self.height() - 12)
        painter.fillRect(full, theme.colour("base"))
        if count == 0:
            painter.end()
            return
        width = self.width() / count
        self._paint_marks(painter, full, width)
        bottom = full.bottom()
        start = 0
        for end in range(1, len(self._states) + 1):
            if end == len(self._states) or self._states[end] is not self._states[start]:
                state = self._states[start]
                height = _STRIP_PX * (
                    2 if state is ReviewState.CONFIRMED else 1.5 if state.by_a_person else 1
                )
                if state is ReviewState.UNTOUCHED:
                    height = _STRIP_PX / 2
                box = QRectF(start * width, bottom - height, max(1.0, (end - start) * width), height)
                painter.fillRect(box, theme.colour(_COLOURS[state]))
                start = end
        self._paint_signs(painter, width)
        x = (self.clock.frame + 0.5) * width
        painter.setPen(QPen(theme.colour("text"), 2))
        painter.drawLine(int(x), 2, int(x), self.height() - 2)
        painter.end()

    def _paint_marks(self, painter: QPainter, full: QRectF, width: float) -> None:
        first, last = self.clock.marks
        shade = QColor(current_theme().colour("muted"))
        shade.setAlpha(60)
        painter.fillRect(QRectF(0, full.top(), first * width, full.height()), shade)
        painter.fillRect(
            QRectF((last + 1) * width, full.top(), full.width() - (last + 1) * width, full.height()), shade
        )

    def _paint_signs(self, painter: QPainter, width: float) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(current_theme().colour("bad"))
        for frame in self._problems:
            x = int((frame + 0.5) * width)
            painter.drawPolygon(QPolygon([QPoint(x - 4, 0), QPoint(x + 4, 0), QPoint(x, 7)]))
        painter.setBrush(current_theme().colour("link"))
        for frame in self._keys:
            painter.drawEllipse(QRectF((frame + 0.5) * width - 3, self.height() - 6, 6, 6))


class Timeline(QFrame):
    """The bar under the pages that have a time."""

    marks_wanted = pyqtSignal(int, int)
    """First and last frame to be played."""

    def __init__(self, clock: Clock, actions: Actions) -> None:
        super().__init__()
        self.setObjectName("timeline")
        self.clock = clock
        layout = QHBoxLayout(self)
        layout.setContentsMargins(10, 2, 10, 2)
        layout.setSpacing(4)
        self.play_button = QToolButton()
        self.play_button.setToolTip("Play or pause (Space)")
        self.play_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.play_button.setIcon(icon("play"))
        self.play_button.clicked.connect(lambda _=False: clock.toggle())
        self.back = self._step_button("previous", "Show the frame before (Left)", -1)
        self.on = self._step_button("next", "Show the next frame (Right)", 1)
        self.loop = QToolButton()
        self.loop.setIcon(icon("loop"))
        self.loop.setCheckable(True)
        self.loop.setChecked(clock.loop)
        self.loop.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.loop.setToolTip("Play again and again")
        self.loop.toggled.connect(self._set_loop)
        self.fps = DecimalBox()
        self.fps.setRange(0.5, 120)
        self.fps.setDecimals(1)
        self.fps.setSuffix(" /s")
        self.fps.setToolTip("Frames per second while playing")
        self.fps.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.fps.valueChanged.connect(clock.set_fps)
        self.strip = FrameStrip(clock)
        self.strip.scrubbed.connect(clock.show)
        self.position = label("")
        self.position.setMinimumWidth(150)
        for widget in (self.back, self.play_button, self.on, self.loop, self.fps):
            layout.addWidget(widget)
        layout.addWidget(self.strip, 1)
        layout.addWidget(self.position)
        clock.changed.connect(self._show_position)
        clock.range_changed.connect(self._show_range)
        clock.playing_changed.connect(self._show_playing)
        self._bind(actions)
        self._show_range()

    def _step_button(self, name: str, tip: str, frames: int) -> QToolButton:
        made = QToolButton()
        made.setIcon(icon(name))
        made.setToolTip(tip)
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.clicked.connect(lambda _=False: self.clock.step(frames))
        return made

    def _bind(self, actions: Actions) -> None:
        clock = self.clock
        actions.bind("play", clock.toggle)
        actions.bind("play_stop", clock.pause)
        actions.bind("play_forward", clock.play)
        actions.bind("play_back", lambda: clock.play(-1))
        actions.bind("frame_next", lambda: clock.step(1))
        actions.bind("frame_previous", lambda: clock.step(-1))
        actions.bind("frames_next", lambda: clock.step(10))
        actions.bind("frames_previous", lambda: clock.step(-10))
        actions.bind("frame_first", lambda: clock.show(0))
        actions.bind("frame_last", lambda: clock.show(clock.count - 1))
        wanted = self.marks_wanted.emit
        actions.bind("mark_in", lambda: wanted(clock.frame, max(clock.frame, clock.marks[1])))
        actions.bind("mark_out", lambda: wanted(min(clock.frame, clock.marks[0]), clock.frame))

    def _set_loop(self, on: bool) -> None:
        self.clock.loop = on

    def refresh_icons(self) -> None:
        """The icons in the colour of the theme in force."""
        for button, name in ((self.back, "previous"), (self.on, "next"), (self.loop, "loop")):
            button.setIcon(icon(name))
        self._show_playing(self.clock.playing)

    def _show_playing(self, playing: bool) -> None:
        self.play_button.setIcon(icon("pause" if playing else "play"))

    def _show_range(self) -> None:
        self.fps.blockSignals(True)
        self.fps.setValue(self.clock.fps)
        self.fps.blockSignals(False)
        self._show_position(self.clock.frame, self.clock.time_s)

    def _show_position(self, frame: int, time_s: float) -> None:
        clock = self.clock
        if not clock.count:
            self.position.setText("no frames")
            return
        last = clock.number(clock.count - 1)
        noun, number = clock.noun, f"{clock.number(frame)} / {last}"
        self.position.setText(f"{noun} {number}   {time_s:.2f} s" if clock.timed else f"{noun} {number}")
        self.position.setToolTip(
            f"{noun.capitalize()} on show and last {noun}; {clock.count} {noun}s, numbered as in the "
            "recording, from 0"
        )

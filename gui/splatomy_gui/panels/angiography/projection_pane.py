"""Recorded frames beside synthetic DSA: cine, virtual C-arm, and their comparison by wipe or difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import pyqtSignal
from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from splatomy.scene import Volume
from splatomy_gui.frames import RunFrames
from splatomy_gui.panels.angiography.content import Content, coarse
from splatomy_gui.panels.angiography.newest import Newest
from splatomy_gui.panels.angiography.picture_views import CArmView, ProjectionView
from splatomy_gui.panels.angiography.projecting import (
    difference_picture,
    engine_camera_of,
    gantry_of,
    matched,
    ray_sums,
    resized,
)
from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand
from splatomy_gui.viewer import Viewer
from splatomy_gui.widgets.basics import button, label, row
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.kept import KeptField

_FREE, _FRAME = "free", "frame"
_BESIDE, _WIPE, _DIFFERENCE = "beside", "wipe", "difference"
_TURNING_PX, _RESTING_PX, _MOST_PX = 224, 448, 512
_RAY_VOXELS, _RAY_SHARE = 112, 7 / 12
_NO_FRAMES = "There are no recorded frames of this volume."
_NO_GEOMETRY = "The geometry of the recorded frames is not known."


class ProjectionPane(QWidget):
    """Left the frame of the time on show, right the synthetic picture; or one over the other."""

    failed = pyqtSignal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._content: Content | None = None
        self._viewer: Viewer | None = None
        self._synthetic: NDArray[np.uint8] | None = None
        self._wanted: tuple[Any, ...] | None = None
        self._shown: tuple[Any, ...] | None = None
        self._tickets: dict[int, tuple[Any, ...]] = {}
        self._held = False
        self._rays = Newest(session.tasks, "The synthetic picture cannot be made", self._take_rays, self)
        self._window_before: tuple[float, float] = (0.0, 1.0)
        self.angle = QComboBox()
        self.angle.addItem("Free C-arm", _FREE)
        self.angle.addItem("As the frame", _FRAME)
        self.angle.setToolTip("Angle of the synthetic picture: turned by dragging, or that of the frame")
        self.angle.activated.connect(lambda _: self.refresh())
        self.compare = QComboBox()
        for key, text in ((_BESIDE, "Side by side"), (_WIPE, "Wipe"), (_DIFFERENCE, "Difference")):
            self.compare.addItem(text, key)
        self.compare.setToolTip("How the frame and its rendering are compared")
        self.compare.activated.connect(lambda _: self._choose_compare())
        KeptField(session, self.angle, "Angle of the picture", self.refresh)
        KeptField(session, self.compare, "Comparison", self._choose_compare)
        self.front = button("AP", lambda: self._go_to((0.0, 0.0)), "Turn the C-arm to the front view")
        self.lateral = button("LAT", lambda: self._go_to((90.0, 0.0)), "Turn the C-arm to the left lateral")
        self.legend = label("", "muted")
        self.frame_view = ProjectionView(
            "Recorded frame: wheel goes through the frames, right drag changes brightness and contrast"
        )
        self.carm_view = CArmView(lambda: self.angle.currentData() == _FREE)
        for view in (self.frame_view, self.carm_view):
            view.scrolled.connect(session.clock.step)
        self.frame_view.window_begun.connect(self._begin_window)
        self.frame_view.window_dragged.connect(self._drag_window)
        self.frame_view.window_ended.connect(self._end_window)
        self.carm_view.turning.connect(lambda *_: self._ask(_TURNING_PX))
        self.carm_view.turned.connect(self._turned)
        self.views = QHBoxLayout()
        self.views.setSpacing(4)
        self.views.addWidget(self.frame_view, 1)
        self.views.addWidget(self.carm_view, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            row(label("Angle"), self.angle, self.front, self.lateral, label("Compare"), self.compare, None)
        )
        layout.addLayout(self.views, 1)
        layout.addWidget(self.legend)
        session.clock.changed.connect(lambda *_: self.refresh())

    # -- what is shown ---------------------------------------------------------------------------

    @property
    def frames(self) -> RunFrames | None:
        """The recorded run."""
        frames = self.session.frames
        return frames if isinstance(frames, RunFrames) else None

    @property
    def _mirrored(self) -> bool:
        """True if pictures are turned over to be seen from the detector's side, as readers know them."""
        return self.frames is None or self.frames.mirrored

    @property
    def _has_engine(self) -> bool:
        result = self.session.result
        return result is not None and result.is_run

    def set_content(self, content: Content | None) -> None:
        """Another volume, or none."""
        self._content = content
        self._synthetic = self._wanted = self._shown = None
        self._follow(None)
        self._rays.drop()
        frames = self.frames
        has_frames = frames is not None
        cameras = has_frames and self._camera(0) is not None and self._has_engine
        reason = None if cameras else (_NO_GEOMETRY if has_frames else _NO_FRAMES)
        set_available(self.angle, reason)
        set_available(self.compare, reason)
        self.angle.setCurrentIndex(1 if cameras else 0)
        if not cameras:
            self.compare.setCurrentIndex(0)
        self.frame_view.setVisible(has_frames)
        self.frame_view.show_pictures([])
        self.carm_view.show_pictures([])
        self.refresh()

    def _choose_compare(self) -> None:
        if self.compare.currentData() != _BESIDE:
            self.angle.setCurrentIndex(1)
        self.refresh()

    def refresh(self) -> None:
        """Shows the time on show: the frame at once, the rendering when it has come."""
        if not self.isVisible():
            return
        free = self.angle.currentData() == _FREE
        for control in (self.front, self.lateral):
            set_available(control, None if free else "The angle is that of the frame.")
        beside = self.compare.currentData() == _BESIDE or self.frames is None
        self.carm_view.setVisible(beside)
        self._show()
        self._ask(_TURNING_PX if self.session.clock.playing else _RESTING_PX)

    def _show(self) -> None:
        frames, number = self.frames, self.session.clock.frame
        mode = self.compare.currentData()
        turned = self._turn_over
        if frames is not None:
            picture, words = turned(frames.picture(number)), self._frame_words(frames, number)
            rendering = self._as_frame(frames, number)
            if mode == _BESIDE or rendering is None or self._held:
                self.frame_view.show_pictures([picture], (words,))
            elif mode == _WIPE:
                low, high = frames.window
                shown = 255 - np.clip((rendering - low) * (255 / (high - low)), 0, 255)
                shown = 255 - shown if frames.inverted else shown
                both = [picture, turned(shown.astype(np.uint8))]
                self.frame_view.show_pictures(both, (words, "rendered"))
            else:
                image = np.nan_to_num(frames.shown[number])
                shown = difference_picture(image, rendering, 0.6 * frames.window[1])
                self.frame_view.show_pictures([turned(shown)], (words,))
            self.frame_view.say("" if mode == _BESIDE or rendering is not None else self._waiting())
        self.legend.setText(
            "red: more contrast in the frame   blue: more in the rendering   white: equal"
            if mode == _DIFFERENCE
            else ""
        )
        if self._held and frames is not None:
            self.carm_view.show_pictures([picture], (words,))
        elif self._synthetic is not None:
            self.carm_view.show_pictures([turned(self._synthetic)], (self._carm_words(),))
        self.carm_view.say("" if self._synthetic is not None else self._waiting())

    def _frame_words(self, frames: RunFrames, number: int) -> str:
        words = frames.caption(number, self.session.clock.number(number))
        return words if frames.subtracted else f"{words}   not subtracted"

    def _carm_words(self) -> str:
        time = f"   {self.session.clock.time_s:.2f} s" if self.session.clock.count else ""
        if self.angle.currentData() == _FRAME:
            return f"synthetic, as the frame{time}"
        return f"synthetic   {self.carm_view.words}{time}"

    def _waiting(self) -> str:
        if self._content is None:
            return "Nothing is open."
        return "The engine is getting ready for synthetic pictures..."

    def _turn_over(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return picture[:, ::-1] if self._mirrored else picture

    def _as_frame(self, frames: RunFrames, number: int) -> NDArray[np.float32] | None:
        """The rendering on the scale of the frame, None while there is none for this frame."""
        shown = self._shown
        if self._synthetic is None or shown is None or shown[0] != _FRAME or shown[1] != number:
            return None
        image = frames.shown[number]
        if not frames.subtracted:
            return None
        height, width = image.shape
        rendered = resized(self._synthetic.astype(np.float32), height, width)
        return matched(np.rint(rendered).astype(np.uint8), image)

    # -- asking for pictures ---------------------------------------------------------------------

    def _camera(self, frame: int, factor: float = 1.0) -> dict[str, Any] | None:
        opened = self.session.opened
        return None if opened is None else engine_camera_of(opened.geometry, frame, factor)

    def _ask(self, size_px: int) -> None:
        """Asks for the picture of the angle and time on show; what is asked for later wins."""
        if self._content is None or not self.isVisible():
            return
        clock, frames = self.session.clock, self.frames
        viewer = self.session.viewer()
        time_s = clock.time_s if clock.count else None
        if viewer is None:
            self._wanted = (_FREE, clock.frame, size_px, *self.carm_view.angles)
            self._cast_rays()
            return
        self._follow(viewer)
        if self.angle.currentData() == _FRAME and frames is not None:
            width, height = frames.size_px
            factor = min(1.0, (_MOST_PX if size_px == _RESTING_PX else size_px) / max(width, height))
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            camera = self._camera(clock.frame, size[0] / width)
            wanted: tuple[Any, ...] = (_FRAME, clock.frame)
        else:
            primary, secondary = gantry_of(*self.carm_view.angles)
            camera, size = {"primary_deg": primary, "secondary_deg": secondary}, (size_px, size_px)
            wanted = (_FREE, clock.frame, size_px, *self.carm_view.angles)
        if camera is not None and wanted != self._wanted:
            ticket = viewer.render(camera, size, time_s)
            self._wanted = wanted
            self._tickets = {**dict(list(self._tickets.items())[-20:]), ticket: wanted}

    def _follow(self, viewer: Viewer | None) -> None:
        if viewer is self._viewer:
            return
        if self._viewer is not None:
            try:
                self._viewer.rendered.disconnect(self._take)
                self._viewer.failed.disconnect(self._viewer_failed)
                self._viewer.left.disconnect(self.refresh)
            except (RuntimeError, TypeError):
                # The session has let this viewer go already.
                pass
        # What the one before was asked for never comes.
        self._viewer, self._tickets, self._wanted = viewer, {}, None
        if viewer is not None:
            viewer.rendered.connect(self._take)
            viewer.failed.connect(self._viewer_failed)
            viewer.left.connect(self.refresh)

    def _take(self, ticket: int, file: str) -> None:
        wanted = self._tickets.get(ticket)
        image = QImage(file).convertToFormat(QImage.Format.Format_Grayscale8)
        if wanted is None or image.isNull():
            return
        pixels = image.constBits()
        if pixels is None:
            return
        pixels.setsize(image.sizeInBytes())
        rows = np.frombuffer(pixels, np.uint8).reshape(image.height(), image.bytesPerLine())  # type: ignore[call-overload]
        self._synthetic, self._shown = rows[:, : image.width()].copy(), wanted
        self._show()

    def _viewer_failed(self, text: str) -> None:
        self._wanted = None
        self.carm_view.say(text)
        self.failed.emit(text)

    def _cast_rays(self) -> None:
        """Without an engine the volume itself is summed along the rays."""
        content, wanted = self._content, self._wanted
        if content is None or wanted is None or wanted == self._shown:
            return
        time_s, course = self.session.clock.time_s, content.course
        _, _, size, lao, cranial = wanted

        def work() -> tuple[tuple[Any, ...], NDArray[np.uint8]]:
            volume = content.volume if course is None else course.at(time_s)
            small = coarse(volume, _RAY_VOXELS)
            excess = np.maximum(np.nan_to_num(small.values) - content.levels.floor, 0)
            sums = ray_sums(Volume(excess, small.affine_mm), lao, cranial, int(size * _RAY_SHARE))
            top = max(float(np.quantile(sums, 0.9985)), 1e-9)
            return wanted, np.asarray(255 - np.clip(sums / top, 0, 1) * 255).astype(np.uint8)

        self._rays.ask(work)

    def _take_rays(self, product: tuple[tuple[Any, ...], NDArray[np.uint8]]) -> None:
        self._shown, self._synthetic = product
        self._show()

    # -- what the person changes -----------------------------------------------------------------

    def _turned(self, before: object, after: object) -> None:
        self.session.push(ValueCommand("Turn the C-arm", self._set_angles, before, after))

    def _go_to(self, angles: tuple[float, float]) -> None:
        if angles != self.carm_view.angles:
            self._turned(self.carm_view.angles, angles)

    def _set_angles(self, angles: tuple[float, float]) -> None:
        self.carm_view.set_angles(angles)
        self._ask(_RESTING_PX)

    def _begin_window(self) -> None:
        if self.frames is not None:
            self._window_before = self.frames.window

    def _drag_window(self, right: float, down: float) -> None:
        frames = self.frames
        if frames is None:
            return
        low, high = self._window_before
        width = (high - low) * float(np.exp(right / 200))
        centre = (low + high) / 2 + (high - low) * down / 200
        frames.set_window(centre - width / 2, centre + width / 2)
        self._show()

    def _end_window(self) -> None:
        frames = self.frames
        if frames is not None and frames.window != self._window_before:
            command = ValueCommand(
                "Window of the frames", self._set_window, self._window_before, frames.window
            )
            self.session.push(command)

    def _set_window(self, window: tuple[float, float]) -> None:
        if self.frames is not None:
            self.frames.set_window(*window)
            self._show()

    def show_recorded(self, on: bool) -> None:
        """Shows the frame in place of its rendering."""
        self._held = on
        self._show()

    def set_subtracted(self, on: bool) -> None:
        """Shows subtracted frames, or as recorded."""
        if self.frames is not None:
            self.frames.subtracted = on
            self._show()

    def set_inverted(self, on: bool) -> None:
        """Exchanges black and white in the frames."""
        if self.frames is not None:
            self.frames.inverted = on
            self._show()

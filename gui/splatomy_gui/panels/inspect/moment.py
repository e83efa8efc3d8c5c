"""The pictures of the moment on show: recorded, rendered, depth, and the engine's view of the 3D camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QPointF, pyqtSignal
from PyQt6.QtGui import QPainter

from splatomy.review import Mask
from splatomy_gui.frames import Picture
from splatomy_gui.panels.inspect.colouring import Colouring, paint_scale
from splatomy_gui.panels.inspect.novel_views import NovelRequest, NovelViews
from splatomy_gui.panels.inspect.run_pictures import FramePictures, read_picture_file, unobserved_mask
from splatomy_gui.panels.inspect.tissue_scene import TissueContent, TissueScene
from splatomy_gui.session import Session
from splatomy_gui.views.compare_view import CompareView

_NOVEL, _FRAME = "novel", "frame"
_LARGEST_PX = 960


class MomentPictures(QObject):
    """Fills three views; whatever belongs to another moment than the clock's is dropped when it arrives."""

    told = pyqtSignal(str)
    """What the engine does, for the header of its view; empty when it rests."""

    def __init__(self, session: Session, scene: TissueScene) -> None:
        super().__init__()
        self._session, self._scene = session, scene
        self.picture_view = CompareView()
        self.depth_view = CompareView()
        self.novel_view = CompareView()
        self.novel = NovelViews(session, self)
        self.pictures: FramePictures | None = None
        self._reading: tuple[Path, int] | None = None
        self.depth_view.painters.append(self._paint_on_depth)
        self.novel.arrived.connect(self._arrived)
        self.novel.busy_changed.connect(lambda on: self.told.emit("rendering..." if on else ""))
        self.novel.failed.connect(self.told)
        for view in (self.picture_view, self.depth_view, self.novel_view):
            view.scrolled.connect(session.clock.step)

    def clear(self) -> None:
        """Another result, or none."""
        self._reading = None
        self.novel.drop()
        self._show_none()
        self.novel_view.set_pictures(None, None)
        self.novel_view.set_hatch(None)

    # -- the frame on show -----------------------------------------------------------------------

    def want_frame(self) -> None:
        """Reads the pictures of the frame on show; one read at a time, and the newest wins."""
        content, frames, clock = self._scene.content, self._session.frames, self._session.clock
        if self._reading is not None or content is None:
            return
        frame, time_s = clock.frame, clock.time_s
        asked = self._reading = (content.pictures.run, frame)

        def ended(pictures: FramePictures | None) -> None:
            if self._reading != asked:
                return
            self._reading = None
            if self._scene.content is not content or clock.frame != frame:
                self.want_frame()
            elif pictures is not None:
                self._show(content, pictures)
            else:
                # Those of another moment would be taken for this one's.
                self._show_none()

        task = self._session.tasks.start(
            "The pictures of a frame cannot be read",
            lambda: content.pictures.read(frame, time_s, frames),
            ended,
        )
        # The window tells; the next frame may be readable.
        task.ended.connect(lambda: ended(None) if task.problem is not None else None)

    def _show_none(self) -> None:
        self.pictures = None
        for view in (self.picture_view, self.depth_view):
            view.set_pictures(None, None)
            view.set_hatch(None)

    def _show(self, content: TissueContent, pictures: FramePictures) -> None:
        self.pictures = pictures
        clock, frames = self._session.clock, self._session.frames
        text = clock.moment(clock.frame) if clock.count else ""
        if frames is not None:
            text = frames.caption(pictures.frame, clock.number(pictures.frame))
        self.picture_view.set_hatch(pictures.unobserved)
        self.picture_view.set_pictures(pictures.recorded, pictures.rendered, text)
        scale = self._scene.scale_of(Colouring.DEPTH)
        depth = None if pictures.depth is None or scale is None else scale.colours(pictures.depth)
        self.depth_view.set_hatch(None if depth is None else pictures.unobserved)
        self.depth_view.set_pictures(None, depth, text if depth is not None else "no depth was kept here")
        camera = content.pictures.camera(pictures.frame)
        if pictures.rendered is None and camera is not None:
            # Of a long clip only some frames are kept; the engine makes the others.
            matrices = {"intrinsics": camera[0].tolist(), "camera_from_world": camera[1].tolist()}
            self.novel.want(_FRAME, NovelRequest(matrices, camera[2:], clock.time_s))

    # -- the engine ------------------------------------------------------------------------------

    def want_novel(self) -> None:
        """Asks for what the 3D camera sees, unless the clock runs."""
        clock, view = self._session.clock, self._scene.view
        if self._scene.content is None or clock.playing:
            return
        ratio = min(1.0, _LARGEST_PX / max(view.width(), view.height(), 1))
        size = (max(16, round(view.width() * ratio)), max(16, round(view.height() * ratio)))
        self.novel.want(_NOVEL, NovelRequest(view.engine_camera(size), size, clock.time_s))

    def _arrived(self, purpose: str, request: NovelRequest, path: Path) -> None:
        content, clock = self._scene.content, self._session.clock
        if content is None or request.time_s != clock.time_s:
            return
        matrices = (np.array(request.camera["intrinsics"]), np.array(request.camera["camera_from_world"]))

        def read() -> tuple[Picture | None, Mask | None]:
            mask = unobserved_mask(content.surface, request.time_s, *matrices, request.size_px)
            return read_picture_file(path), mask

        def done(product: tuple[Picture | None, Mask | None]) -> None:
            picture, mask = product
            if picture is None or self._scene.content is not content or request.time_s != clock.time_s:
                return
            view = self.novel_view if purpose == _NOVEL else self.picture_view
            recorded = self.pictures.recorded if purpose == _FRAME and self.pictures is not None else None
            view.set_hatch(mask)
            view.set_pictures(recorded, picture, clock.moment(clock.frame) if clock.count else "")

        self._session.tasks.start("A rendered picture cannot be read", read, done)

    # -- places ----------------------------------------------------------------------------------

    def point_at(self, point: QPointF) -> NDArray[np.float64] | None:
        """The world point (3,) that the frame's camera sees at a point of the picture; None = unknown."""
        pictures, content = self.pictures, self._scene.content
        if pictures is None or content is None or pictures.depth is None:
            return None
        camera = content.pictures.camera(pictures.frame)
        if camera is None:
            return None
        pixel, (width, height) = self.picture_view.pixel_of(point), self.picture_view.picture_size_px
        # Pixel centres lie at integers, so that the corner of a picture is at -1/2.
        x = (pixel.x() + 0.5) * camera[2] / width - 0.5
        y = (pixel.y() + 0.5) * camera[3] / height - 0.5
        line, column = round(y), round(x)
        if not (0 <= line < pictures.depth.shape[0] and 0 <= column < pictures.depth.shape[1]):
            return None
        depth = float(pictures.depth[line, column])
        ray = np.linalg.inv(camera[0]) @ [x, y, 1.0]
        place = camera[1][:3, :3].T @ (ray * depth - camera[1][:3, 3])
        return np.asarray(place) if np.isfinite(place).all() else None

    def place_of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where world points (N, 3) lie in the picture view, (N, 2) px; NaN = not in sight."""
        content = self._scene.content
        camera = None if content is None else content.pictures.camera(self._session.clock.frame)
        if camera is None:
            return np.full((len(points), 2), np.nan)
        projected = (points @ camera[1][:3, :3].T + camera[1][:3, 3]) @ camera[0].T
        depth = np.where(projected[:, 2:] > 0, projected[:, 2:], np.nan)
        width, height = self.picture_view.picture_size_px
        pixels = (projected[:, :2] / depth + 0.5) * [width / camera[2], height / camera[3]] - 0.5
        places = self.picture_view.place_of(pixels)
        places[np.isnan(pixels).any(1)] = np.nan
        return places

    def _paint_on_depth(self, painter: QPainter) -> None:
        scale = None if self.pictures is None else self._scene.scale_of(Colouring.DEPTH)
        if scale is not None and self.pictures is not None and self.pictures.depth is not None:
            paint_scale(painter, scale, self.depth_view.width(), self.depth_view.height())

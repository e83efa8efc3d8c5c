"""A 3D view: VTK in a window of ours, opened once and closed exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QEvent, QObject, QPoint, QRect, Qt, QThread, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QImage, QMouseEvent, QPainter, QPen
from PyQt6.QtWidgets import QApplication, QVBoxLayout, QWidget
from pyvistaqt import QtInteractor
from vtkmodules.vtkRenderingCore import vtkCellPicker

from splatomy_gui.actors import ACTORS, add_live_points, renew_live_points
from splatomy_gui.theme import current_theme

_SETTLED_MS = 180
_WIDGET_PX = 110
_CLICK_PX = 4
_PICK_TOLERANCE = 0.002


@dataclass(frozen=True)
class CameraPose:
    """Where the view looks from: position, focal point, up vector, (3,) each; view_angle_deg vertical."""

    position: tuple[float, ...]
    focal_point: tuple[float, ...]
    view_up: tuple[float, ...]
    view_angle_deg: float

    def as_json(self) -> dict[str, Any]:
        """JSON values, to be kept with the case."""
        return {
            "position": list(self.position),
            "focal_point": list(self.focal_point),
            "view_up": list(self.view_up),
            "view_angle_deg": self.view_angle_deg,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> CameraPose:
        """The pose that ``as_json`` wrote."""
        return CameraPose(
            tuple(value["position"]),
            tuple(value["focal_point"]),
            tuple(value["view_up"]),
            float(value["view_angle_deg"]),
        )

    def matrices(self, size_px: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Intrinsics (3, 3) px and camera from world (4, 4), OpenCV axes, for a picture of that size."""
        position, target = np.array(self.position), np.array(self.focal_point)
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, np.array(self.view_up))
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ position
        width, height = size_px
        focal = height / (2 * np.tan(np.radians(self.view_angle_deg) / 2))
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]), matrix


class ScaleBar(QWidget):
    """A round length in millimetres at the lower left of a scene view."""

    def __init__(self, view: SceneView) -> None:
        super().__init__(view)
        self._view = view
        self.setFixedSize(220, 34)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def place(self) -> None:
        """Goes to its corner."""
        self.move(12, self._view.height() - self.height() - 8)
        self.raise_()

    def paintEvent(self, event: Any) -> None:
        """Paints the longest of 1, 2, 5, 10, ... mm that fits."""
        scale = self._view.mm_per_px()
        if not np.isfinite(scale) or scale <= 0:
            return
        longest = 150 * scale
        power = 10.0 ** np.floor(np.log10(longest))
        length = max(n * power for n in (1, 2, 5) if n * power <= longest)
        width = round(length / scale)
        painter = QPainter(self)
        # Scenes are dark, bright or hatched in white.
        painter.fillRect(QRect(0, 0, width + 16, self.height()), QColor(0, 0, 0, 130))
        painter.setPen(QPen(Qt.GlobalColor.white, 2))
        painter.drawLine(8, 26, 8 + width, 26)
        for x in (8, 8 + width):
            painter.drawLine(x, 21, x, 30)
        painter.drawText(QRect(8, 2, 200, 18), Qt.AlignmentFlag.AlignLeft, f"{length:g} mm")
        painter.end()


class Overlay(QWidget):
    """Plain Qt over the whole scene: whatever painters draw on it is in screenshots too."""

    def __init__(self, view: SceneView) -> None:
        super().__init__(view)
        self.painters: list[Callable[[QPainter], None]] = []
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def paintEvent(self, event: Any) -> None:
        """Lets every painter draw."""
        painter = QPainter(self)
        for paint in self.painters:
            paint(painter)
        painter.end()


class SceneView(QWidget):
    """Actors by name, one camera. Every verb must be called on the GUI thread."""

    camera_settled = pyqtSignal()
    """The camera or the view's size was changed and now rests: the moment to ask for a real picture."""
    point_picked = pyqtSignal(object)
    """World position (3,) of a picked point of a surface."""

    def __init__(self, parent: QWidget | None = None, metric: bool = True) -> None:
        super().__init__(parent)
        # Until the plotter is there, nothing can be done to it.
        self._closed = True
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        # Multi-sampling makes software rendering four to seven times slower.
        plotter: Any = QtInteractor(self, multi_samples=0, auto_update=False)
        self.plotter = plotter
        self.plotter.render_window.SetMultiSamples(0)
        layout.addWidget(self.plotter)
        self._backdrop: tuple[float, float, float] | None = None
        self._settle = QTimer(self)
        # The plotter's own table is made anew, by searching, each time it is asked for.
        self._actors: dict[str, Any] = {}
        self.overlay = Overlay(self)
        """Its ``painters`` draw over the scene; ``overlay.update()`` when they have something new."""
        self._scale_bar = ScaleBar(self)
        self._shown = False
        self.set_theme()
        self.plotter.add_camera_orientation_widget()
        # VTK counts device pixels.
        side = round(_WIDGET_PX * self.devicePixelRatioF())
        for widget in self.plotter.widgets.camera_widgets:
            widget.GetRepresentation().SetSize(side, side)
        self.set_metric(metric)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLED_MS)
        self._settle.timeout.connect(self.camera_settled)
        self._observer = self.plotter.camera.AddObserver("ModifiedEvent", lambda *_: self._moved())
        self._picking = False
        self._pressed_at: QPoint | None = None
        self.plotter.installEventFilter(self)
        self._closed = False

    # -- content ---------------------------------------------------------------------------------

    def show_thing(self, kind: str, name: str, thing: Any, **style: Any) -> Any:
        """Shows a thing of a kind of ``actors.ACTORS`` in place of the one of that name; its actor."""
        self._on_gui_thread()
        first = not self._actors
        actor = ACTORS[kind](self.plotter, name, thing, **style)
        self._actors[name] = actor
        if first:
            self.fit()
        self.render()
        return actor

    def show_points(self, name: str, points: Mapping[str, NDArray[Any]]) -> None:
        """Live points in place of those of that name; ``render`` draws them."""
        self._on_gui_thread()
        if name in self._actors:
            renew_live_points(self._actors[name], points)
        else:
            self._actors[name] = add_live_points(self.plotter, name, points)

    def move_thing(self, name: str, points: NDArray[np.floating], **point_data: NDArray[Any]) -> None:
        """Other points (V, 3) and point arrays, in place; the topology stays. ``render`` draws it."""
        actor = self.actor(name)
        if actor is None:
            return
        data = actor.mapper.dataset
        data.points[:] = points
        for key, values in point_data.items():
            data.point_data[key][:] = values
        data.GetPoints().Modified()
        data.GetPointData().Modified()
        data.Modified()

    def remove(self, name: str) -> None:
        """Takes a thing away; the lights stay."""
        self._on_gui_thread()
        if name in self._actors:
            self.plotter.remove_actor(self._actors.pop(name), render=False)
            self.render()

    def remove_all(self) -> None:
        """Takes everything away."""
        for name in tuple(self._actors):
            self.remove(name)

    def actor(self, name: str) -> Any:
        """The actor of that name, None without one."""
        return self._actors.get(name)

    def set_layer(self, name: str, visible: bool, opacity: float) -> None:
        """Switches an actor on or off and makes it more or less opaque."""
        actor = self.actor(name)
        if actor is not None:
            actor.SetVisibility(visible)
            if hasattr(actor, "prop") and hasattr(actor.prop, "opacity"):
                actor.prop.opacity = opacity
            self.render()

    def render(self) -> None:  # type: ignore[override]
        """Draws when the window is painted next, however often this is called before."""
        if not self._closed:
            self._on_gui_thread()
            # The interactor renders when it is painted; its own render() would draw everything twice.
            self.plotter.update()
            self.overlay.update()

    def set_metric(self, metric: bool) -> None:
        """The scale bar exists only where lengths are millimetres."""
        self._on_gui_thread()
        self._scale_bar.setVisible(metric)
        self._scale_bar.update()

    def set_theme(self) -> None:
        """The background of the theme in force, unless the view has one of its own."""
        self.plotter.set_background(self._backdrop or current_theme().colours["canvas"])

    def set_backdrop(self, colour: tuple[float, float, float] | None) -> None:
        """A background of its own, RGB from 0 to 1; None = the theme's."""
        self._backdrop = colour
        self.set_theme()

    def changeEvent(self, event: QEvent | None) -> None:
        """Follows another theme."""
        super().changeEvent(event)
        if event is not None and event.type() is QEvent.Type.PaletteChange and not self._closed:
            self.set_theme()
            self.render()

    def enable_picking(self, on: bool) -> None:
        """Left click picks a point of a surface (``point_picked``); dragging still turns the camera."""
        self._picking = on
        self.plotter.setCursor(Qt.CursorShape.CrossCursor if on else Qt.CursorShape.ArrowCursor)

    def pick(self, place: QPoint) -> NDArray[np.float64] | None:
        """The world point (3,) of the foremost pickable surface under a place of the view."""
        self._on_gui_thread()
        picker = vtkCellPicker()
        picker.SetTolerance(_PICK_TOLERANCE)
        ratio = self.plotter.devicePixelRatioF()
        x, y = place.x() * ratio, (self.plotter.height() - 1 - place.y()) * ratio
        if not picker.Pick(x, y, 0, self.plotter.renderer):
            return None
        return np.array(picker.GetPickPosition())

    def place_of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where world points (N, 3) lie in the view, (N, 2) px from its upper left; NaN behind the camera."""
        renderer = self.plotter.renderer
        transform = self.plotter.camera.GetCompositeProjectionTransformMatrix(
            renderer.GetTiledAspectRatio(), -1, 1
        )
        matrix = np.array([[transform.GetElement(r, c) for c in range(4)] for r in range(4)])
        places = np.c_[points, np.ones(len(points))] @ matrix.T
        depth = np.where(places[:, 3] > 0, places[:, 3], np.nan)
        x, y = places[:, 0] / depth, places[:, 1] / depth
        return np.stack([(x + 1) / 2 * self.plotter.width(), (1 - y) / 2 * self.plotter.height()], -1)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Tells a click from a drag of the camera."""
        if self._picking and isinstance(event, QMouseEvent) and event.button() is Qt.MouseButton.LeftButton:
            place = event.position().toPoint()
            if event.type() is QEvent.Type.MouseButtonPress:
                self._pressed_at = place
            elif event.type() is QEvent.Type.MouseButtonRelease and self._pressed_at is not None:
                moved = (place - self._pressed_at).manhattanLength()
                self._pressed_at = None
                point = self.pick(place) if moved < _CLICK_PX else None
                if point is not None:
                    self.point_picked.emit(point)
        return super().eventFilter(watched, event)

    # -- camera ----------------------------------------------------------------------------------

    @property
    def pose(self) -> CameraPose:
        """Where it looks from."""
        camera = self.plotter.camera
        return CameraPose(
            tuple(camera.position), tuple(camera.focal_point), tuple(camera.up), float(camera.view_angle)
        )

    def set_pose(self, pose: CameraPose) -> None:
        """Looks from somewhere else."""
        camera = self.plotter.camera
        camera.position, camera.focal_point, camera.up = pose.position, pose.focal_point, pose.view_up
        camera.view_angle = pose.view_angle_deg
        self.plotter.renderer.ResetCameraClippingRange()
        self.render()

    def fit(self) -> None:
        """Shows everything."""
        self.plotter.reset_camera()
        self.render()

    def look(
        self, intrinsics: NDArray[np.float64], camera_from_world: NDArray[np.float64], height_px: int
    ) -> None:
        """Looks from a recorded camera (OpenCV axes: x right, y down, z forward)."""
        rotation, shift = camera_from_world[:3, :3], camera_from_world[:3, 3]
        centre = -rotation.T @ shift
        distance = max(1.0, float(np.linalg.norm(np.asarray(self.plotter.renderer.center) - centre)))
        angle = float(np.degrees(2 * np.arctan(height_px / (2 * intrinsics[1, 1]))))
        self.set_pose(
            CameraPose(tuple(centre), tuple(centre + distance * rotation[2]), tuple(-rotation[1]), angle)
        )

    def engine_camera(self, size_px: tuple[int, int]) -> dict[str, Any]:
        """The view's camera as the job protocol wants it, for a picture of that size."""
        intrinsics, camera_from_world = self.pose.matrices(size_px)
        return {"intrinsics": intrinsics.tolist(), "camera_from_world": camera_from_world.tolist()}

    def screenshot(self, path: Path) -> None:
        """Saves a picture of the view as PNG, with scale bar and measurements."""
        self._on_gui_thread()
        self.grab().save(str(path), "PNG")

    def picture(self) -> NDArray[np.uint8]:
        """The view as it looks now, (H, W, 3) RGB."""
        self._on_gui_thread()
        image = self.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
        bits: Any = image.constBits()
        bits.setsize(image.sizeInBytes())
        rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine())
        return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()

    # -- life ------------------------------------------------------------------------------------

    def close_view(self) -> None:
        """Frees VTK; safe to be called again."""
        if self._closed:
            return
        self._closed = True
        self._settle.stop()
        self.plotter.removeEventFilter(self)
        self.plotter.camera.RemoveObserver(self._observer)
        self.plotter.close()

    def closeEvent(self, event: Any) -> None:
        """Closes VTK with the widget."""
        self.close_view()
        super().closeEvent(event)

    def resizeEvent(self, event: Any) -> None:
        """Keeps the scale bar in its corner."""
        super().resizeEvent(event)
        self.overlay.setGeometry(self.rect())
        self._scale_bar.place()
        if not self._closed:
            self._settle.start()

    def mm_per_px(self) -> float:
        """Millimetres that a pixel of the screen shows, at the camera's focal point."""
        camera = self.plotter.camera
        if camera.parallel_projection:
            height_mm = 2 * camera.parallel_scale
        else:
            height_mm = 2 * camera.distance * np.tan(np.radians(camera.view_angle) / 2)
        return float(height_mm) / max(1, self.height())

    def _moved(self) -> None:
        if not self._closed:
            self._settle.start()
            self._scale_bar.update()
            self.overlay.update()

    @staticmethod
    def _on_gui_thread() -> None:
        app = QApplication.instance()
        if app is not None and QThread.currentThread() is not app.thread():
            raise RuntimeError("VTK must be used on the GUI thread")

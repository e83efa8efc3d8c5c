"""A scene view with a volume rendering: fine at rest, coarse while the camera moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import Qt, QTimer
from PyQt6.QtGui import QPainter, QPaintEvent, QResizeEvent
from PyQt6.QtWidgets import QWidget
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkVolume, vtkVolumeProperty
from vtkmodules.vtkRenderingVolume import vtkGPUVolumeRayCastMapper

from splatomy.scene import Volume
from splatomy_gui.views.scene_view import CameraPose, SceneView

_TOP = 65535
_REST_MS = 250
_DIRECTIONS = {
    "front": ((0, -1, 0), (0, 0, 1)),
    "back": ((0, 1, 0), (0, 0, 1)),
    "left": ((1, 0, 0), (0, 0, 1)),
    "right": ((-1, 0, 0), (0, 0, 1)),
    "head": ((0, 0, 1), (0, -1, 0)),
    "feet": ((0, 0, -1), (0, -1, 0)),
}
"""Where the viewer stands, and what is up, in LPS."""


def codes_of(volume: Volume, low: float, high: float) -> NDArray[np.uint16]:
    """Values as 16-bit codes of a range, first axis fastest; half the memory of floats and drawn faster."""
    scaled = (volume.values - np.float32(low)) * np.float32(_TOP / max(high - low, 1e-12))
    return np.clip(np.nan_to_num(scaled), 0, _TOP).astype(np.uint16).ravel(order="F")


class _Overlay(QWidget):
    """What is painted over the scene; the pointer goes through it."""

    def __init__(self, view: VolumeView) -> None:
        super().__init__(view)
        self._view = view
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Lets the annotator paint."""
        if self._view.annotator is not None:
            painter = QPainter(self)
            self._view.annotator(painter)
            painter.end()


class VolumeView(SceneView):
    """Surfaces and one volume. All verbs on the GUI thread; ``codes_of`` may be called on any."""

    def __init__(self, parent: QWidget | None = None, metric: bool = True) -> None:
        super().__init__(parent, metric)
        self.annotator: Callable[[QPainter], None] | None = None
        """Paints over the scene, such as measurements; ``places_of`` says where."""
        self._overlay = _Overlay(self)
        self._range = (0.0, 1.0)
        self._subject_mm: tuple[float, ...] | None = None
        self._levels: dict[str, vtkVolume] = {}
        self._images: dict[str, vtkImageData] = {}
        self._wanted = (True, 1.0)
        self._resting = True
        self._longest_mm = 100.0
        self._blending = "composite"
        self._opacity: tuple[Sequence[tuple[float, float]], float] = ((), 1.0)
        self._property = vtkVolumeProperty()
        self._property.SetInterpolationTypeToLinear()
        self._property.SetAmbient(0.25)
        self._property.SetDiffuse(0.75)
        self._property.SetSpecular(0.25)
        self._property.SetSpecularPower(20)
        self._name_sides()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._come_to_rest)
        self._pressed = self.plotter.iren.add_observer(
            "LeftButtonPressEvent", lambda *_: self._set_resting(False)
        )
        self._released = self.plotter.iren.add_observer(
            "LeftButtonReleaseEvent", lambda *_: self._rest.start()
        )
        self._camera_watch = self.plotter.camera.AddObserver("ModifiedEvent", lambda *_: self._moving())

    def _name_sides(self) -> None:
        """Sides of the patient in place of x, y and z."""
        for widget in self.plotter.widgets.camera_widgets:
            shown = widget.GetRepresentation()
            for axis, plus, minus in (("X", "L", "R"), ("Y", "P", "A"), ("Z", "H", "F")):
                getattr(shown, f"Set{axis}PlusLabelText")(plus)
                getattr(shown, f"Set{axis}MinusLabelText")(minus)
            # VTK counts device pixels.
            side = round(88 * self.devicePixelRatioF())
            shown.SetSize(side, side)

    # -- the volume ------------------------------------------------------------------------------

    def show_volume(
        self, fine: NDArray[np.uint16], coarse: NDArray[np.uint16], volumes: tuple[Volume, Volume], top: Any
    ) -> None:
        """Shows a volume in two resolutions in place of the one before.

        fine, coarse: codes of the volumes by ``codes_of``. top: (low, high) values of the codes' ends.
        """
        self._on_gui_thread()
        first = not self._levels
        self._range = top
        shape = np.array(volumes[0].values.shape)
        self._longest_mm = float((shape * volumes[0].grid.spacing_mm).max())
        for name, codes, volume in (("fine", fine, volumes[0]), ("coarse", coarse, volumes[1])):
            self._set_level(name, codes, volume)
        self._apply_opacity()
        self._show_level()
        if first:
            self.look_from("front")
        self.render()

    def remove_volume(self) -> None:
        """Takes the volume away."""
        self._on_gui_thread()
        for actor in self._levels.values():
            self.plotter.renderer.RemoveVolume(actor)
        self._levels.clear()
        self._images.clear()
        self.render()

    def set_colours(self, points: Sequence[tuple[float, tuple[float, float, float]]]) -> None:
        """Colours at values, in the volume's unit."""
        function = vtkColorTransferFunction()
        for value, (red, green, blue) in points:
            function.AddRGBPoint(self._code(value), red, green, blue)
        self._property.SetColor(function)

    def set_opacity_curve(self, points: Sequence[tuple[float, float]], unit_share: float) -> None:
        """Opacities at values. unit_share: the depth they are for, as a share of the longest edge."""
        self._opacity = (points, unit_share)
        self._apply_opacity()

    def set_blending(self, blending: str, shaded: bool) -> None:
        """blending: "composite" or "maximum"."""
        self._property.SetShade(shaded)
        for actor in self._levels.values():
            self._blend(actor.GetMapper(), blending)
        self._blending = blending

    def set_volume_layer(self, visible: bool, opacity: float) -> None:
        """Switches the volume on or off, and makes it more or less opaque."""
        self._wanted = (visible, opacity)
        self._apply_opacity()
        self._show_level()
        self.render()

    def _code(self, value: float) -> float:
        low, high = self._range
        return (value - low) / max(high - low, 1e-12) * _TOP

    def _apply_opacity(self) -> None:
        points, share = self._opacity
        function = vtkPiecewiseFunction()
        for value, opacity in points:
            function.AddPoint(self._code(value), opacity * self._wanted[1])
        self._property.SetScalarOpacity(function)
        self._property.SetScalarOpacityUnitDistance(share * self._longest_mm)

    def _set_level(self, name: str, codes: NDArray[np.uint16], volume: Volume) -> None:
        image = self._images.get(name)
        if image is None or image.GetDimensions() != volume.values.shape:
            image = vtkImageData()
            image.SetDimensions(*volume.values.shape)
            self._images[name] = image
        # The placement goes by the matrix, since not every mapper follows an image's direction.
        spacing = volume.grid.spacing_mm
        image.SetSpacing(*spacing.tolist())
        image.GetPointData().SetScalars(numpy_to_vtk(codes, deep=True))
        image.Modified()
        actor = self._levels.get(name)
        if actor is None:
            mapper: Any = vtkGPUVolumeRayCastMapper()
            mapper.SetAutoAdjustSampleDistances(False)
            mapper.SetUseJittering(True)
            actor = vtkVolume()
            actor.SetMapper(mapper)
            actor.SetProperty(self._property)
            self._blend(mapper, self._blending)
            self._levels[name] = actor
            self.plotter.renderer.AddVolume(actor)
        mapper = actor.GetMapper()
        mapper.SetInputData(image)
        step = float(spacing.min()) * (0.7 if name == "fine" else 0.9)
        mapper.SetSampleDistance(step)
        mapper.SetImageSampleDistance(1.0 if name == "fine" else 2.0)
        matrix = vtkMatrix4x4()
        for row, column in np.ndindex(4, 4):
            scale = spacing[column] if column < 3 else 1.0
            matrix.SetElement(row, column, float(volume.affine_mm[row, column] / scale))
        actor.SetUserMatrix(matrix)

    @staticmethod
    def _blend(mapper: Any, blending: str) -> None:
        mapper.SetBlendModeToMaximumIntensity() if blending == "maximum" else mapper.SetBlendModeToComposite()

    # -- fine at rest ----------------------------------------------------------------------------

    def _show_level(self) -> None:
        for name, actor in self._levels.items():
            actor.SetVisibility(self._wanted[0] and (name == "fine") == self._resting)

    def _set_resting(self, resting: bool) -> None:
        if resting != self._resting:
            self._resting = resting
            self._show_level()

    def _moving(self) -> None:
        self._overlay.update()
        if not self._resting:
            self._rest.start()

    def _come_to_rest(self) -> None:
        self._set_resting(True)
        self.render()

    # -- camera ----------------------------------------------------------------------------------

    def set_subject(self, bounds_mm: tuple[float, ...]) -> None:
        """What ``fit`` fills the view with: (x0, x1, y0, y1, z0, z1) world."""
        self._subject_mm = bounds_mm

    def fit(self) -> None:
        """Shows the whole subject."""
        renderer = self.plotter.renderer
        renderer.ResetCamera(self._subject_mm or renderer.ComputeVisiblePropBounds())
        if self._subject_mm is not None:
            # VTK leaves room for the sphere about the box, of which vessels fill little.
            self.plotter.camera.zoom(1.1)
        self.render()

    def look_from(self, side: str) -> None:
        """Shows everything from a side of the patient: front, back, left, right, head or feet."""
        place, up = _DIRECTIONS[side]
        self.set_pose(CameraPose(tuple(map(float, place)), (0.0, 0.0, 0.0), tuple(map(float, up)), 30.0))
        self.fit()

    # -- over the scene --------------------------------------------------------------------------

    def places_of(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places (N, 2) px of world points (N, 3); NaN behind the camera."""
        renderer = self.plotter.renderer
        made = np.full((len(points_mm), 2), np.nan)
        width, height = self.plotter.render_window.GetSize()
        for number, point in enumerate(points_mm):
            renderer.SetWorldPoint(*point, 1.0)
            renderer.WorldToDisplay()
            x, y, depth = renderer.GetDisplayPoint()
            if 0 <= depth <= 1:
                made[number] = x / max(1, width) * self.width(), (1 - y / max(1, height)) * self.height()
        return made

    def update_overlay(self) -> None:
        """Paints over the scene again."""
        self._overlay.update()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keeps the overlay over the scene."""
        super().resizeEvent(event)
        self._overlay.resize(self.size())
        self._overlay.raise_()

    def close_view(self) -> None:
        """Frees VTK; safe to be called again."""
        if not self._closed:
            self._rest.stop()
            for observer in (self._pressed, self._released):
                self.plotter.iren.remove_observer(observer)
            self.plotter.camera.RemoveObserver(self._camera_watch)
            for actor in self._levels.values():
                self.plotter.renderer.RemoveVolume(actor)
            self._levels.clear()
            self._images.clear()
        super().close_view()

"""What the views draw, prepared on other threads: the volume of a time, and the surface of a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, pyqtSignal

from splatomy.scene import Mesh, Volume
from splatomy_gui.panels.angiography.colours import time_colours
from splatomy_gui.panels.angiography.content import Content, coarse
from splatomy_gui.panels.angiography.newest import Newest
from splatomy_gui.panels.angiography.time_panel import TimeColours
from splatomy_gui.tasks import Tasks
from splatomy_gui.views.volume_view import codes_of

_FINE, _COARSE, _SURFACE = 256, 96, 256
_UNKNOWN = (0.62, 0.62, 0.65)


@dataclass(frozen=True)
class Prepared:
    """A volume ready to be drawn: as it is, and in two resolutions with their codes.

    bounds_mm: where its vessels are, (x0, x1, y0, y1, z0, z1) world.
    """

    volume: Volume
    fine: Volume
    coarse: Volume
    fine_codes: NDArray[np.uint16]
    coarse_codes: NDArray[np.uint16]
    bounds_mm: tuple[float, ...]


class Stage(QObject):
    """Prepares; what is asked for later wins."""

    volume_ready = pyqtSignal(object)
    """Prepared."""
    surface_ready = pyqtSignal(object)
    """Mesh."""

    def __init__(self, tasks: Tasks, parent: QObject) -> None:
        super().__init__(parent)
        self._volumes = Newest(tasks, "The volume cannot be drawn", self.volume_ready.emit, self)
        self._surfaces = Newest(tasks, "The surface cannot be found", self.surface_ready.emit, self)

    def drop(self) -> None:
        """Another content is on show."""
        self._volumes.drop()
        self._surfaces.drop()

    def ask_volume(self, content: Content, time_s: float | None) -> None:
        """The volume at a time, or over all times."""
        self._volumes.ask(lambda: prepared(content, time_s))

    def ask_surface(
        self, content: Content, level: float, time_s: float | None, tint: TimeColours | None
    ) -> None:
        """The surface where the volume crosses a level. tint: its colours."""
        self._surfaces.ask(lambda: surface_of(content, level, time_s, tint))

    @property
    def busy(self) -> bool:
        """True while something is being prepared."""
        return self._volumes.busy or self._surfaces.busy


def prepared(content: Content, time_s: float | None) -> Prepared:
    """The volume at a time (None = over all times), ready to be drawn."""
    volume = _volume_at(content, time_s)
    fine, small = coarse(volume, _FINE), coarse(volume, _COARSE)
    low, high = content.range
    codes = codes_of(fine, low, high), codes_of(small, low, high)
    # Over all times, so that the camera stays where it is while time goes on.
    return Prepared(volume, fine, small, *codes, _bounds_mm(coarse(content.volume, _COARSE), content))


def _bounds_mm(small: Volume, content: Content) -> tuple[float, ...]:
    index = np.argwhere(small.values > content.levels.threshold)
    if not len(index):
        index = np.array([[0, 0, 0], small.values.shape])
    world = index @ small.affine_mm[:3, :3].T + small.affine_mm[:3, 3]
    # A few bright voxels far away must not make the vessels small.
    low, high = np.percentile(world, (0.2, 99.8), axis=0)
    return tuple(float(v) for pair in zip(low, high, strict=True) for v in pair)


def surface_of(content: Content, level: float, time_s: float | None, tint: TimeColours | None) -> Mesh:
    """The surface of a level, in the colours of a time map where that is known within three voxels."""
    from scipy.spatial import cKDTree

    from splatomy.extract.mesh import iso_surface

    mesh = iso_surface(coarse(_volume_at(content, time_s), _SURFACE), level)
    if tint is None or not len(mesh.vertices_mm):
        return mesh
    known = np.argwhere(np.isfinite(tint.volume.values))
    colours = np.tile(np.array(_UNKNOWN, np.float32), (len(mesh.vertices_mm), 1))
    if len(known):
        affine = tint.volume.affine_mm
        world = known @ affine[:3, :3].T + affine[:3, 3]
        reach = 3 * float(tint.volume.grid.spacing_mm.max())
        distance, nearest = cKDTree(world).query(mesh.vertices_mm, distance_upper_bound=reach)
        near = np.isfinite(distance)
        times = tint.volume.values[tuple(known[nearest[near]].T)]
        colours[near] = time_colours(times, tint.low_s, tint.high_s)[:, :3] / np.float32(255)
    return Mesh(mesh.vertices_mm, mesh.faces, colours)


def _volume_at(content: Content, time_s: float | None) -> Volume:
    if time_s is None or content.course is None:
        return content.volume
    volume = content.course.at(time_s)
    return Volume(np.nan_to_num(volume.values), volume.affine_mm)

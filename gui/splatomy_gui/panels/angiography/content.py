"""What is inspected: a volume, its course over time, and what a run took from it; read on other threads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.extract.threshold import Levels, measure_levels
from splatomy.io.volume import is_volume_4d, read_volume, read_volume_4d
from splatomy.scene import Volume

if TYPE_CHECKING:
    # Slow to load, and loaded on other threads where it is used.
    from splatomy.extract.centreline import Centreline

MAPS = {"arrival_s": "Arrival", "peak_s": "Time to peak", "transit_s": "Mean transit"}
_BINS = 160


@dataclass(frozen=True)
class Course:
    """A volume per time. values: (T, I, J, K). times_s: (T,). grid: of each volume."""

    values: NDArray[np.float32]
    times_s: NDArray[np.float64]
    grid: Grid

    def at(self, time_s: float) -> Volume:
        """The volume at a time, linear between its neighbours, held at the ends."""
        after = int(np.clip(np.searchsorted(self.times_s, time_s), 1, max(1, len(self.times_s) - 1)))
        if len(self.times_s) < 2:
            return Volume(self.values[0], self.grid.affine_mm)
        before = after - 1
        gap = self.times_s[after] - self.times_s[before]
        share = np.float32(np.clip((time_s - self.times_s[before]) / max(gap, 1e-9), 0, 1))
        values = (1 - share) * self.values[before] + share * self.values[after]
        return Volume(values, self.grid.affine_mm)

    def curve(self, point_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value (T,) over time at a world point (3,), trilinear; NaN outside the grid."""
        index = np.linalg.solve(self.grid.affine_mm, [*point_mm, 1.0])[:3]
        top = np.array(self.grid.shape) - 1
        if (index < -0.5).any() or (index > top + 0.5).any():
            return np.full(len(self.times_s), np.nan)
        index = np.clip(index, 0, top)
        low = np.minimum(np.floor(index).astype(int), np.maximum(top - 1, 0))
        share = index - low
        total = np.zeros(len(self.times_s))
        for corner in np.ndindex(2, 2, 2):
            weight = float(np.prod(np.where(corner, share, 1 - share)))
            i, j, k = np.minimum(low + corner, top)
            total += weight * self.values[:, i, j, k]
        return total


@dataclass(frozen=True)
class Content:
    """Everything that the page shows. unit: of the values, such as "/mm", or empty when unknown.

    range: the values at the ends of the opacity curve. histogram: (counts, edges) in that range.
    maps: time maps by key of ``MAPS``, NaN outside vessels. line: centrelines, or None until wanted.
    """

    path: Path
    volume: Volume
    levels: Levels
    range: tuple[float, float]
    histogram: tuple[NDArray[np.float64], NDArray[np.float64]]
    unit: str = ""
    course: Course | None = None
    maps: dict[str, Volume] = field(default_factory=dict)
    line: Centreline | None = None

    @property
    def window(self) -> tuple[float, float]:
        """The grey scale that shows vessels well."""
        return self.levels.background, self.levels.lumen + 0.6 * (self.levels.lumen - self.levels.background)


def read_content(path: Path) -> Task[Content]:
    """The content of a run folder, or of a finished 3D or 4D volume.

    Raises:
        InputError: it cannot be read, or holds one value only.
    """
    yield Progress("read", 0, 2)
    if path.is_dir():
        volumes = path / "volumes"
        volume = canonical(read_volume(volumes / "volume.nii.gz"))
        content = _made(path, volume, "/mm")
        sequence = volumes / "volume_4d.seq.nrrd"
        if sequence.is_file():
            yield Progress("read", 1, 2)
            content = replace(content, course=_read_course(sequence))
        files = {key: volumes / f"{key}.nii.gz" for key in MAPS}
        maps = {key: canonical(read_volume(file)) for key, file in files.items() if file.is_file()}
        return replace(content, maps=maps)
    if is_volume_4d(path):
        course = _read_course(path)
        yield Progress("read", 1, 2)
        # The largest value over time shows every vessel, early ones and late ones.
        top = Volume(np.nan_to_num(course.values).max(0), course.grid.affine_mm)
        return replace(_made(path, top, ""), course=course)
    return _made(path, canonical(read_volume(path)), "")


def find_line(content: Content) -> Task[Centreline]:
    """Centrelines of the volume's vessels.

    Raises:
        InputError: there is no vessel.
    """
    from splatomy.extract.centreline import centrelines
    from splatomy.extract.vessels import vessel_label

    yield Progress("vessels", 0, 2)
    label = vessel_label(content.volume)
    yield Progress("vessels", 1, 2)
    return centrelines(label)


def find_maps(content: Content) -> Task[dict[str, Volume]]:
    """Time maps of a 4D volume that came without.

    Raises:
        InputError: there is no vessel, or no course over time.
    """
    from splatomy.extract.timemaps import vessel_time_maps
    from splatomy.extract.vessels import vessel_label

    course = content.course
    if course is None or len(course.times_s) < 2:
        raise InputError("This volume has one time only: expected a 4D volume: open one for time maps.")
    yield Progress("time maps", 0, 2)
    label = vessel_label(Volume(np.nan_to_num(course.values).max(0), course.grid.affine_mm))
    yield Progress("time maps", 1, 2)
    frames = ((float(t), np.nan_to_num(v)) for t, v in zip(course.times_s, course.values, strict=True))
    made = vessel_time_maps(frames, label)
    return {key: Volume(getattr(made, key), made.affine_mm) for key in MAPS}


def canonical(volume: Volume) -> Volume:
    """The same voxels with axes turned and flipped to run left, back and up, as nearly as they can."""
    order, flips = _turns(volume.affine_mm)
    values = volume.values.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    return Volume(np.ascontiguousarray(values), _turned(volume.affine_mm, values.shape, order, flips))


def coarse(volume: Volume, most: int) -> Volume:
    """The volume with at most ``most`` voxels along an edge, keeping the brightest of each block."""
    factor = max(1, -(-max(volume.values.shape) // most))
    if factor == 1:
        return volume
    pad = [(0, -n % factor) for n in volume.values.shape]
    padded = np.pad(volume.values, pad, mode="edge")
    i, j, k = (n // factor for n in padded.shape)
    blocks = padded.reshape(i, factor, j, factor, k, factor).max((1, 3, 5))
    return Volume(blocks, volume.grid.binned(factor).affine_mm)


def _read_course(path: Path) -> Course:
    values, times_s, grid = read_volume_4d(path)
    order, flips = _turns(grid.affine_mm)
    turned = values.transpose(0, *(axis + 1 for axis in order))
    turned = turned[(slice(None), *(slice(None, None, -1 if f else 1) for f in flips))]
    affine = _turned(grid.affine_mm, turned.shape[1:], order, flips)
    shape = (turned.shape[1], turned.shape[2], turned.shape[3])
    rising = np.argsort(times_s, kind="stable")
    return Course(np.ascontiguousarray(turned[rising]), times_s[rising], Grid(shape, affine))


def _turns(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which voxel axis runs along each world axis, and whether it runs against it."""
    left = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    order = [-1, -1, -1]
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(left)), left.shape)
        order[int(world)] = int(axis)
        left[world], left[:, axis] = -1, -1
    return tuple(order), tuple(bool(affine[world, axis] < 0) for world, axis in enumerate(order))


def _turned(
    affine: NDArray[np.float64], shape: tuple[int, ...], order: tuple[int, ...], flips: tuple[bool, ...]
) -> NDArray[np.float64]:
    made = affine.copy()
    made[:3, :3] = affine[:3, list(order)]
    for axis, flip in enumerate(flips):
        if flip:
            made[:3, 3] += made[:3, axis] * (shape[axis] - 1)
            made[:3, axis] *= -1
    return made


def _made(path: Path, volume: Volume, unit: str) -> Content:
    volume = Volume(np.nan_to_num(volume.values), volume.affine_mm)
    levels = measure_levels(volume)
    sample = volume.values.reshape(-1)[:: max(1, volume.values.size // 400_000)]
    low = min(float(np.percentile(sample, 0.5)), levels.background)
    high = max(float(np.percentile(sample, 99.995)), 1.5 * levels.lumen - 0.5 * levels.background)
    counts, edges = np.histogram(np.clip(sample, low, high), _BINS, (low, high))
    return Content(path, volume, levels, (low, high), (counts.astype(np.float64), edges), unit)

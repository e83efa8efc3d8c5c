"""A run's volume against a true one, which may lie on a grid of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.engine.measuring import mask_classes
from splatomy.errors import InputError
from splatomy.events import Notice
from splatomy.io.dsa import ISOCENTRE_WORLD
from splatomy.io.run import RunFolder
from splatomy.io.truth import Truth, read_truth
from splatomy.io.volume import has_volume_suffix, read_volume, resampled
from splatomy.metrics.volume import recall_by_radius, time_error_s, volume_metrics, volume_rmse
from splatomy.scene import Volume

_SAME_PLACE = 0.01
"""Voxels; formats keep origins and directions in single precision."""
_LARGEST_PER_MM = 20.0
"""More than any metal at the energies of X-ray tubes; every volume in Hounsfield units exceeds it."""


@dataclass(frozen=True)
class _Meeting:
    """Where the run's volume and one of the truth's are compared: on the truth's grid, near the run's box.

    part: those voxels of the truth's grid. grid: theirs. same: the two volumes have one grid.
    """

    part: tuple[slice, ...]
    grid: Grid
    same: bool

    def of_run(self, volume: Volume, *, nearest: bool = False) -> NDArray[np.float32]:
        """The run's values there, NaN where it has none."""
        return volume.values if self.same else resampled(volume, self.grid, nearest=nearest)

    def of_truth(self, volume: Volume) -> NDArray[np.float32]:
        """The truth's values there."""
        return volume.values[self.part]

    def points_within(self, points_mm: NDArray[np.float64], run: Grid) -> NDArray[np.bool_]:
        """The true points that the figures of the truth's grid count: on another one, those in the run's."""
        if self.same:
            return np.ones(len(points_mm), dtype=bool)
        index = _index(run, points_mm)
        return np.asarray(((index >= -0.5) & (index <= np.array(run.shape) - 0.5)).all(1))


def read_any_truth(path: Path) -> Truth:
    """The truth of a folder, or of one volume: a vessel mask if it looks like one, else attenuation.

    Raises:
        InputError: it does not exist or a file in it cannot be read.
    """
    if not (path.is_file() and has_volume_suffix(path)):
        return read_truth(path)
    volume = read_volume(path)
    return Truth(volume) if mask_classes(volume.values) is None else Truth(label=volume)


def volume_figures(folder: RunFolder, truth: Truth) -> tuple[dict[str, Any], list[Notice]]:
    """The figures of the run's volumes, and what is to be told about them.

    On one grid they are compared as they are. A truth on another is compared on its own grid, where both
    have values: attenuation and label of the run are interpolated linearly there (a voxel is vessel from one
    half on), arrival times are those of the nearest voxel. Nothing is registered.

    Raises:
        InputError: the two do not overlap, or a true volume cannot be attenuation in 1/mm.
    """
    volume = read_volume(folder.path / "volumes" / "volume.nii.gz")
    found: dict[str, Any] = {}
    notices: list[Notice] = []
    if truth.label is not None:
        found |= _label_figures(folder, volume, truth.label, truth, notices)
    if truth.volume is not None:
        low, high = float(np.nanmin(truth.volume.values)), float(np.nanmax(truth.volume.values))
        if max(-low, high) <= _LARGEST_PER_MM:
            found = _density_figures(folder, volume, truth.volume, notices) | found
        else:
            text = (
                f"The truth's volume holds values from {low:.4g} to {high:.4g}, which are no attenuation in "
                "1/mm, so it is not compared with the run's. "
            )
            if truth.label is None:
                raise InputError(text + "Give its vessels as a mask: vessels.nii.gz, 1 = vessel.")
            notices.append(Notice("warning", "truth-unit", text + "Its vessels are."))
    arrival_file = folder.path / "volumes" / "arrival_s.nii.gz"
    if truth.arrival is not None and truth.label is not None and arrival_file.exists():
        arrival = read_volume(arrival_file)
        meeting = _meet(arrival.grid, truth.arrival.grid)
        mine, theirs = meeting.of_run(arrival, nearest=True), meeting.of_truth(truth.arrival)
        found["arrival_error_s"] = time_error_s(mine, theirs, label_on(meeting.grid, truth.label) > 0)
    return found, notices


def label_on(grid: Grid, label: Volume) -> NDArray[np.uint8]:
    """A true label on the grid of a run, (I, J, K), 1 = vessel; 0 where the truth has no voxel."""
    return (_meet(label.grid, grid, cut=False).of_run(label, nearest=True) > 0).astype(np.uint8)


def _label_figures(
    folder: RunFolder, volume: Volume, label: Volume, truth: Truth, notices: list[Notice]
) -> dict[str, Any]:
    meeting = _meet(volume.grid, label.grid)
    values, classes = meeting.of_run(volume), meeting.of_truth(label)
    both = _both(volume.grid, label.grid, values, classes)
    true = both & (classes > 0)
    file = folder.path / "volumes" / "vessels.nii.gz"
    own = read_volume(file) if file.exists() else Volume(np.zeros_like(volume.values), volume.affine_mm)
    mine = both & (meeting.of_run(Volume((own.values > 0).astype(np.float32), own.affine_mm)) >= 0.5)
    found: dict[str, Any] = volume_metrics(np.where(both, values, 0), mine, true)
    if truth.points_mm is not None and truth.radius_mm is not None:
        within = meeting.points_within(truth.points_mm, volume.grid)
        line = (truth.points_mm[within], truth.radius_mm[within])
        found["recall_thin"] = recall_by_radius(own.values, own.affine_mm, *line, below_mm=0.5)
        found["recall_all"] = recall_by_radius(own.values, own.affine_mm, *line, below_mm=np.inf)
    if not meeting.same:
        all_true = int((label.values > 0).sum())
        share = int(true.sum()) / all_true if all_true else 0.0
        found |= _overlap(folder, volume.grid, label.grid, both, share, notices)
    return found


def _density_figures(
    folder: RunFolder, volume: Volume, true: Volume, notices: list[Notice]
) -> dict[str, Any]:
    meeting = _meet(volume.grid, true.grid)
    values, theirs = meeting.of_run(volume), meeting.of_truth(true)
    both = _both(volume.grid, true.grid, values, theirs)
    found: dict[str, Any] = {"volume_rmse_per_mm": volume_rmse(values[both], theirs[both])}
    if not (meeting.same or notices):
        found |= _overlap(folder, volume.grid, true.grid, both, None, notices)
    return found


def _overlap(
    folder: RunFolder,
    run: Grid,
    truth: Grid,
    both: NDArray[np.bool_],
    vessel_share: float | None,
    notices: list[Notice],
) -> dict[str, float]:
    """What was compared where the grids differ, as figures, and told."""
    count = int(both.sum())
    edges = [float(np.prod(grid.spacing_mm)) for grid in (run, truth)]
    found = {
        "compared_voxels": float(count),
        "truth_voxel_mm": float(truth.spacing_mm.max()),
        "overlap_truth_share": count / float(np.prod(truth.shape)),
        "overlap_run_share": min(1.0, count * edges[1] / (float(np.prod(run.shape)) * edges[0])),
    }
    shares = (
        f"{found['overlap_truth_share']:.1%} of the truth and {found['overlap_run_share']:.1%} of the run"
    )
    if vessel_share is not None:
        found["overlap_vessel_share"] = vessel_share
        shares += f", with {vessel_share:.1%} of the true vessels"
    text = (
        f"The truth has a grid of its own ({_words(truth)}; the run: {_words(run)}), so the run was "
        f"interpolated on it and compared where both have values: {shares}. Both were taken where their "
        "files say that they are; nothing was registered."
    )
    unregistered = folder.record().get("world") == ISOCENTRE_WORLD
    if unregistered:
        text += " The run lies in the axes of its C-arm, not of the patient: another device's truth does not."
    level: Any = "warning" if unregistered or vessel_share == 0 else "info"
    notices.append(Notice(level, "truth-grid", text))
    return found


def _words(grid: Grid) -> str:
    counts, edges = (" x ".join(f"{n:.4g}" for n in row) for row in (grid.shape, grid.spacing_mm))
    return f"{counts} voxels of {edges} mm"


def _both(
    run: Grid, truth: Grid, values: NDArray[np.float32], true: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Where run and truth have values.

    Raises:
        InputError: nowhere.
    """
    both = np.isfinite(values) & np.isfinite(true)
    if not both.any():
        boxes = [f"{_row(low)} to {_row(high)}" for low, high in (truth.bounds_mm, run.bounds_mm)]
        raise InputError(
            f"The truth does not overlap with the run's volume: expected it about {boxes[1]}, got {boxes[0]} "
            "(LPS, mm). Register it to the run, or give the truth of this run's input."
        )
    return both


def _row(point_mm: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{x:.0f}" for x in point_mm) + ")"


def _index(grid: Grid, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel indices (M, 3) of world points (M, 3) mm."""
    back = np.linalg.inv(grid.affine_mm)
    return np.asarray(points_mm @ back[:3, :3].T + back[:3, 3])


def _corners(grid: Grid) -> NDArray[np.float64]:
    """The outer corners of a grid's voxels in the world, (8, 3) mm."""
    ends = np.array([[-0.5, n - 0.5] for n in grid.shape])
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    return np.asarray(corners @ grid.affine_mm[:3, :3].T + grid.affine_mm[:3, 3])


def _meet(run: Grid, truth: Grid, *, cut: bool = True) -> _Meeting:
    """cut: only the truth's voxels near the run's box, which is what can be compared; else all."""
    index = _index(truth, _corners(run))
    if run.shape == truth.shape and np.abs(index - _index(truth, _corners(truth))).max() < _SAME_PLACE:
        return _Meeting((slice(None),) * 3, truth, True)
    if not cut:
        return _Meeting((slice(None),) * 3, truth, False)
    # At least one voxel of each axis stays, so that a truth elsewhere ends as one without common voxels.
    last = np.array(truth.shape) - 1
    first = np.clip(np.floor(index.min(0)), 0, last).astype(int)
    stop = np.clip(np.ceil(index.max(0)), first, last).astype(int) + 1
    affine = truth.affine_mm.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    i, j, k = (stop - first).tolist()
    part = tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    return _Meeting(part, Grid((i, j, k), affine), False)

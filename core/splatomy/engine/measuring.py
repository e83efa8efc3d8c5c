"""Vessels of a volume that anybody made: label, mesh, centrelines, time maps and a report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.background import beside
from splatomy.engine.own_input import file_hashes
from splatomy.engine.products import Vessels, vessels_of, write_vessels
from splatomy.errors import InputError
from splatomy.events import Event, Notice, Progress, Task
from splatomy.extract.centreline import Centreline
from splatomy.io.run import RunFolder, check_run_path, prepare_run
from splatomy.io.volume import has_time_unit, is_volume_4d, read_volume, read_volume_4d
from splatomy.report import Curve, ReportData, write_report
from splatomy.scene import Volume

Meaning = Literal["auto", "mask", "values"]
_MAX_CLASSES = 32


@dataclass(frozen=True)
class VolumeRequest:
    """What a user asked for.

    meaning: a label mask, values that are high in vessels, or decided from the voxels.
    frame_time_s: seconds between the volumes of a 4D file that does not say it.
    threshold: one vessel level in the volume's unit; None = chosen locally.
    """

    source: Path
    out: Path
    meaning: Meaning = "auto"
    frame_time_s: float | None = None
    threshold: float | None = None
    force: bool = False


def measure_volume(request: VolumeRequest) -> Task[tuple[RunFolder, Vessels]]:
    """The folder with everything that can be taken from the volume, and its products.

    Raises:
        InputError: the file or an option cannot be used; the folder is left as it was.
    """
    started = time.perf_counter()
    _check_options(request)
    check_run_path(request.out, force=request.force, resume=False)
    if (request.out / "run.json").exists() and RunFolder(request.out).record().get("kind") != "vessels":
        raise InputError(
            f"{request.out} holds a reconstruction, which is not replaced. Choose another --out."
        )
    yield Progress("open", 0, 1)
    notices: list[Notice] = []
    volume, frames, times_s = yield from beside("open", 0, 1, partial(_read, request, notices))
    mask = _mask_of(request, volume, frames is not None, notices)
    yield Progress("open", 1, 1)
    yield from notices
    pairs = None if frames is None else zip(times_s.tolist(), frames)
    events: list[Event] = []
    task = vessels_of(volume, pairs, len(times_s), request.threshold, mask)
    product = yield from _heard(task, events)
    folder = prepare_run(request.out, force=request.force, resume=False)
    yield from beside("files", 0, 1, partial(write_vessels, folder, product))
    texts = [e.text for e in (*notices, *events) if isinstance(e, Notice)]
    record: dict[str, Any] = {
        "state": "done",
        "kind": "vessels",
        "software": splatomy.__version__,
        "input": file_hashes(request.source),
        "meaning": "mask" if mask is not None else "values",
        "times_s": times_s.tolist(),
        "threshold": request.threshold,
        "world": _world(request.source),
        "notices": texts,
        "timings_s": {"total": round(time.perf_counter() - started, 3)},
    }
    curves = [] if frames is None or product.line is None else _curves(product.line, volume, frames, times_s)
    page = _report(product, curves, record)
    yield from beside("report", 0, 1, partial(write_report, folder.file("report.html"), page))
    yield Progress("report", 1, 1)
    folder.write_record(record)
    return folder, product


def _heard(task: Task[Vessels], events: list[Event]) -> Task[Vessels]:
    """The task's product; its events are passed on and kept."""
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            product: Vessels = stop.value
            return product
        events.append(event)
        yield event


def _check_options(request: VolumeRequest) -> None:
    if request.threshold is not None and not np.isfinite(request.threshold):
        raise InputError(f"--threshold must be a finite number, got {request.threshold}. Give a level.")
    if request.frame_time_s is not None and not 0 < request.frame_time_s < 1e4:
        raise InputError(
            f"--frame-time-s must be positive seconds, got {request.frame_time_s:g}. Give the time between "
            "two volumes."
        )


def _read(
    request: VolumeRequest, notices: list[Notice]
) -> tuple[Volume, NDArray[np.float32] | None, NDArray[np.float64]]:
    """The volume (a 4D file's mean over time), the volumes (T, I, J, K) or None, and their times in s."""
    if not is_volume_4d(request.source):
        return read_volume(request.source), None, np.zeros(0)
    frames, times_s, grid = read_volume_4d(request.source)
    if request.frame_time_s is not None:
        times_s = np.arange(len(frames), dtype=np.float64) * request.frame_time_s
    elif not has_time_unit(request.source):
        step = float(times_s[1] - times_s[0]) if len(times_s) > 1 else 0.0
        notices.append(
            Notice(
                "warning",
                "time-unit",
                f"The file gives no unit of time: {step:g} s between volumes was assumed; say otherwise with "
                "--frame-time-s.",
            )
        )
    if len(times_s) > 1 and not (np.diff(times_s) > 0).all():
        raise InputError(
            f"The times of {request.source.name} do not increase: expected each volume later than the one "
            "before. Give --frame-time-s."
        )
    mean = Volume(frames.mean(0, dtype=np.float64).astype(np.float32), grid.affine_mm)
    if len(frames) == 1:
        return mean, None, np.zeros(0)
    notices.append(
        Notice(
            "info",
            "four-d",
            f"{len(frames)} volumes from {times_s[0]:g} to {times_s[-1]:g} s; vessels are taken "
            "from their mean.",
        )
    )
    return mean, frames, times_s


def _mask_of(request: VolumeRequest, volume: Volume, has_times: bool, notices: list[Notice]) -> Volume | None:
    """The volume as a mask when it is one, and a word about what was assumed."""
    if request.meaning == "values":
        return None
    if request.meaning == "auto" and (has_times or request.threshold is not None):
        return None
    classes = mask_classes(volume.values)
    if request.meaning == "mask":
        if not (volume.values > 0).any():
            raise InputError(
                f"{request.source.name} holds no voxel above 0: the mask is empty. Check the file."
            )
        return volume
    if classes is None:
        return None
    what = "a mask" if classes == 1 else f"a mask of {classes} classes"
    notices.append(
        Notice(
            "info",
            "taken-as-mask",
            f"The volume was taken as {what}: every voxel above 0 is vessel. Say --as values for an image.",
        )
    )
    return volume


def mask_classes(values: NDArray[np.float32]) -> int | None:
    """The number of classes above 0 of what looks like a label mask, else None.

    A mask holds few whole numbers from 0 upwards, and mostly 0.
    """
    if not np.isfinite(values).all() or values.min() != 0 or (values > 0).mean() > 0.5:
        return None
    found = np.unique(values)
    if not 2 <= len(found) <= _MAX_CLASSES + 1:
        return None
    # One value of any height is a mask too; several must be counted as classes are.
    whole = len(found) == 2 or bool((found == np.rint(found)).all())
    return len(found) - 1 if whole else None


def _world(source: Path) -> str:
    """The frame's name: that of the run when the volume lies in one, else the patient's."""
    run = source.resolve().parent.parent
    if (run / "run.json").exists():
        return str(RunFolder(run).record().get("world", "LPS"))
    return "LPS"


def _curves(
    line: Centreline, volume: Volume, frames: NDArray[np.float32], times_s: NDArray[np.float64]
) -> list[Curve]:
    """Time courses at the thickest point and at points of early and late arrival."""
    if len(line) == 0:
        return []
    picks = {"thickest": int(np.argmax(line.radius_mm))}
    if line.arrival_s is not None and np.isfinite(line.arrival_s).any():
        order = np.argsort(np.where(np.isfinite(line.arrival_s), line.arrival_s, np.inf))
        known = int(np.isfinite(line.arrival_s).sum())
        picks |= {"early": int(order[known // 20]), "late": int(order[known - 1 - known // 20])}
    index_from_world = np.linalg.inv(volume.affine_mm)
    last = np.array(volume.values.shape) - 1
    curves: list[Curve] = []
    for name, number in picks.items():
        point = line.points_mm[number]
        index = np.rint(index_from_world[:3, :3] @ point + index_from_world[:3, 3]).astype(int)
        i, j, k = np.clip(index, 0, last)
        where = ", ".join(f"{x:.0f}" for x in point)
        title = f"{name} ({where}) mm, radius {line.radius_mm[number]:.1f} mm"
        curves.append((title, times_s, frames[:, i, j, k]))
    return curves


def _report(product: Vessels, curves: list[Curve], record: dict[str, Any]) -> ReportData:
    label, line, maps = product.label, product.line, product.maps
    settings = {"voxels are": "a mask: above 0 is vessel"}
    if record["meaning"] == "values":
        level = "none" if label is None else f"local, {label.level_per_mm:.4g} for wide vessels"
        settings = {
            "voxels are": "values that are high in vessels",
            "threshold": level if record["threshold"] is None else f"{record['threshold']:g}",
        }
    times = record["times_s"]
    volumes = f"{len(times)} over {times[-1] - times[0]:.2f} s" if times else "1, no time course"
    return ReportData(
        title="Vessels of a volume",
        method_title="Label, surface and centrelines of a given volume",
        citation="Made by somebody else; only measured here.",
        preset="none",
        settings=settings,
        input_summary={"volumes": volumes},
        world=record["world"],
        provenance=("read the volume", "vessel label", "surface", "centrelines"),
        problems=tuple(record["notices"]),
        timings_s=record["timings_s"],
        software_version=splatomy.__version__,
        volume=product.volume,
        label=None if label is None else label.label,
        points_mm=None if line is None else line.points_mm,
        radius_mm=None if line is None else line.radius_mm,
        arrival_s=None if maps is None else maps.arrival_s,
        peak_s=None if maps is None else maps.peak_s,
        transit_s=None if maps is None else maps.transit_s,
        curves=curves,
    )

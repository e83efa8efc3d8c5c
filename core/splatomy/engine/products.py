"""What a finished scene is turned into: volumes, vessels, maps, pictures and the report's content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.background import beside
from splatomy.capture import Capture, Grid
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.extract.centreline import Centreline, centrelines, with_arrival
from splatomy.extract.mesh import vessel_surface
from splatomy.extract.timemaps import TimeMaps, vessel_time_maps
from splatomy.extract.vessels import VesselLabel, label_of_mask, vessel_label
from splatomy.io.atomic import atomic_path
from splatomy.io.mesh import write_centreline_vtp, write_mesh
from splatomy.io.run import RunFolder
from splatomy.io.volume import sequence_file, write_volume
from splatomy.method import MethodSpec
from splatomy.report import Curve, ReportData, View, write_report
from splatomy.scene import Mesh, Scene, Volume

_SEQUENCE_BYTES = 128 << 20
_MAX_VIEWS = 24
_REPORT_VIEWS = 4


@dataclass(frozen=True)
class ProductOptions:
    """What to make besides the scene.

    map_times: volumes that the time maps are read from. sequence_times: volumes of the 4D file.
    threshold_per_mm: one level for the vessel label; None = chosen locally without truth.
    """

    map_times: int = 46
    sequence_times: int = 20
    threshold_per_mm: float | None = None
    report: bool = True


@dataclass(frozen=True)
class Vessels:
    """Products of one volume; the time maps are None for a static one, the rest when there is no vessel."""

    volume: Volume
    label: VesselLabel | None
    mesh: Mesh | None
    line: Centreline | None
    maps: TimeMaps | None


def vessels_of(
    volume: Volume,
    frames: Iterator[tuple[float, NDArray[np.float32]]] | None,
    num_times: int,
    threshold: float | None = None,
    mask: Volume | None = None,
) -> Task[Vessels]:
    """Label, mesh, centreline and time maps of a volume, and of its course over time when given.

    mask: somebody's label of the vessels (> 0), taken instead of one found in the volume.
    """
    yield Progress("vessels", 0, 3)
    try:
        if mask is not None:
            work = partial(label_of_mask, mask)
        else:
            work = partial(vessel_label, volume, threshold, local=threshold is None)
        label = yield from beside("vessels", 0, 3, work)
    except InputError as error:
        yield Notice("warning", "no-vessels", str(error))
        return Vessels(volume, None, None, None, None)
    yield Progress("vessels", 1, 3)
    mesh = yield from beside("vessels", 1, 3, partial(vessel_surface, label))
    line: Centreline | None = None
    try:
        line = yield from beside("vessels", 1, 3, partial(centrelines, label))
    except InputError as error:
        yield Notice("warning", "no-centreline", str(error))
    yield Progress("vessels", 2, 3)
    maps: TimeMaps | None = None
    if frames is not None:
        held: list[tuple[float, NDArray[np.float32]]] = []
        inside = label.label > 0
        # Only the lumen's values are kept, so a long run needs no more memory than a short one.
        for n, (time_s, values) in enumerate(frames):
            held.append((time_s, values[inside]))
            yield Progress("time maps", n + 1, num_times)

        def rebuilt() -> Iterator[tuple[float, NDArray[np.float32]]]:
            blank = np.zeros(label.label.shape, np.float32)
            for time_s, lumen in held:
                blank[inside] = lumen
                yield time_s, blank

        maps = yield from beside("vessels", 2, 3, lambda: vessel_time_maps(rebuilt(), label))
        if line is not None:
            line = with_arrival(line, Volume(maps.arrival_s, maps.affine_mm))
    yield Progress("vessels", 3, 3)
    return Vessels(volume, label, mesh, line, maps)


def write_vessels(folder: RunFolder, product: Vessels) -> None:
    """Writes the volume and everything taken from it."""
    affine = product.volume.affine_mm
    write_volume(folder.file("volumes", "volume.nii.gz"), product.volume)
    if product.label is not None:
        label = Volume(product.label.label.astype(np.float32), affine)
        write_volume(folder.file("volumes", "vessels.nii.gz"), label)
    if product.mesh is not None and len(product.mesh.faces):
        write_mesh(folder.file("meshes", "mesh.ply"), product.mesh)
    if product.line is not None and len(product.line):
        write_centreline_vtp(folder.file("volumes", "centreline.vtp"), product.line)
    if product.maps is not None:
        maps = product.maps
        for name, values in (("arrival", maps.arrival_s), ("peak", maps.peak_s), ("transit", maps.transit_s)):
            write_volume(folder.file("volumes", f"{name}_s.nii.gz"), Volume(values, affine))


def sequence_grid(grid: Grid, num_times: int) -> Grid:
    """The grid of the 4D file: the run's own, binned until all times fit a bearable size."""
    factor = 1
    while np.prod(grid.binned(factor).shape) * 4.0 * num_times > _SEQUENCE_BYTES:
        factor += 1
    return grid.binned(factor)


def save_png(folder: RunFolder, name: str, image: NDArray[np.float32], top: float) -> None:
    """An 8-bit picture in renders/, dark vessels on white as on an angiogram; ``top`` becomes black."""
    grey = 255 - np.clip(image / max(top, 1e-9), 0, 1) * 255
    with atomic_path(folder.file("renders", name)) as temporary:
        done, data = cv2.imencode(".png", grey.astype(np.uint8))
        if not done:
            raise ValueError(f"the picture {name} cannot be encoded")
        temporary.write_bytes(data.tobytes())


@dataclass(frozen=True)
class Made:
    """What the report shows of the products."""

    vessels: Vessels
    views: list[View]
    curves: list[Curve]


def make_products(
    folder: RunFolder,
    spec: MethodSpec,
    scene: Scene,
    capture: Capture,
    held: NDArray[np.intp],
    options: ProductOptions,
) -> Task[Made]:
    """Writes volumes/, meshes/ and renders/ of a run."""
    if capture.grid is None or capture.cameras is None:
        raise ValueError("products need cameras and grid")
    start, end = scene.time_range_s
    moving = end > start and spec.name != "fdk"
    times = np.linspace(start, end, options.map_times)
    yield Progress("volume", 0, 1)
    volume = scene.volume(capture.grid, None)
    yield Progress("volume", 1, 1)
    grid = capture.grid
    frames = ((float(t), scene.volume(grid, float(t)).values) for t in times) if moving else None
    product = yield from vessels_of(volume, frames, len(times), options.threshold_per_mm)
    yield Progress("files", 0, 1)
    yield from beside("files", 0, 1, partial(write_vessels, folder, product))
    yield Progress("files", 1, 1)
    if moving:
        few = np.linspace(start, end, options.sequence_times)
        small = sequence_grid(capture.grid, len(few))
        frames_4d = (scene.volume(small, float(t)).values for t in few)
        yield from sequence_file(folder.file("volumes", "volume_4d.seq.nrrd"), frames_4d, few, small)
    views = yield from _render_views(folder, scene, capture, held)
    curves: list[Curve] = []
    if moving:
        curves = yield from _curves(scene, product, times)
    return Made(product, views, curves)


def _curves(scene: Scene, product: Vessels, times: NDArray[np.float64]) -> Task[list[Curve]]:
    """Time-attenuation curves at the thickest point and at points of early and late arrival."""
    line = product.line
    if line is None or len(line) == 0:
        return []
    picks = {"thickest": int(np.argmax(line.radius_mm))}
    if line.arrival_s is not None and np.isfinite(line.arrival_s).any():
        order = np.argsort(np.where(np.isfinite(line.arrival_s), line.arrival_s, np.inf))
        known = int(np.isfinite(line.arrival_s).sum())
        picks |= {"early": int(order[known // 20]), "late": int(order[known - 1 - known // 20])}
    spacing = product.volume.grid.spacing_mm
    out: list[Curve] = []
    for name, index in picks.items():
        point = line.points_mm[index]
        affine = product.volume.affine_mm.copy()
        affine[:3, 3] = point - affine[:3, :3] @ np.ones(3)
        small = Grid((3, 3, 3), affine)
        values = np.empty(len(times))
        for n, time_s in enumerate(times):
            values[n] = scene.volume(small, float(time_s)).values[1, 1, 1]
            yield Progress("curves", len(out) * len(times) + n + 1, len(picks) * len(times))
        where = ", ".join(f"{x:.0f}" for x in point)
        out.append(
            (
                f"{name} ({where}) mm, radius {max(line.radius_mm[index], spacing.min() / 2):.1f} mm",
                times,
                values,
            )
        )
    return out


def _render_views(
    folder: RunFolder, scene: Scene, capture: Capture, held: NDArray[np.intp]
) -> Task[list[View]]:
    """Input views re-rendered into renders/; those for the report are returned, held-out ones first."""
    if capture.cameras is None:
        raise ValueError("views need cameras")
    chosen = np.unique(np.linspace(0, len(capture) - 1, min(_MAX_VIEWS, len(capture))).astype(int))
    pool = held if len(held) >= _REPORT_VIEWS else np.arange(len(capture))
    shown = pool[np.linspace(len(pool) * 0.15, len(pool) - 1, _REPORT_VIEWS).astype(int)]
    top = float(np.quantile(capture.images[chosen], 0.9995))
    out: list[View] = []
    for n, frame in enumerate(sorted({*chosen.tolist(), *shown.tolist()})):
        time_s = float(capture.times_s[frame])
        image = scene.render(capture.cameras[frame], time_s).colour[0, ..., 0]
        save_png(folder, f"frame_{frame:04d}.png", image, top)
        if frame in shown:
            kind = "held out" if frame in held else "trained on"
            out.append((f"frame {frame}, {time_s:.2f} s, {kind}", capture.images[frame, ..., 0], image))
        yield Progress("renders", n + 1, len(chosen))
    return out


def report_data(
    spec: MethodSpec,
    product: Vessels,
    capture: Capture,
    views: list[View],
    curves: list[Curve],
    extras: Mapping[str, Any],
) -> ReportData:
    """The report's content."""
    record = extras["record"]
    frames, height, width, _ = capture.images.shape
    summary = {
        "frames": f"{frames} of {width} x {height} px",
        "duration": f"{np.ptp(capture.times_s):.2f} s",
        "layout": str(capture.details.get("layout", "")),
        "geometry": str(capture.details.get("geometry_source", "")),
    }
    label, line, maps = product.label, product.line, product.maps
    return ReportData(
        title="Vessel reconstruction",
        method_title=spec.title,
        citation=spec.citation,
        preset=str(record.get("preset", "")),
        settings=record.get("config", {}),
        input_summary=summary,
        world=capture.world,
        metric=capture.metric,
        provenance=capture.provenance,
        problems=tuple(dict.fromkeys((*capture.problems, *record.get("notices", ())))),
        metrics=extras["metrics"],
        peer_metrics=extras.get("peer_metrics", {}),
        timings_s=extras["timings_s"],
        peak_memory_mb=record.get("peak_memory_mb"),
        seed=record.get("seed"),
        device=str(record.get("device", "")),
        software_version=splatomy.__version__,
        loss_curve=extras["losses"],
        volume=product.volume,
        threshold_per_mm=None if label is None else label.level_per_mm,
        label=None if label is None else label.label,
        truth_label=extras.get("truth_label"),
        points_mm=None if line is None else line.points_mm,
        radius_mm=None if line is None else line.radius_mm,
        arrival_s=None if maps is None else maps.arrival_s,
        peak_s=None if maps is None else maps.peak_s,
        transit_s=None if maps is None else maps.transit_s,
        curves=curves,
        image_curves=[
            (name, np.array(times), np.array(values))
            for name, times, values in capture.details.get("image_curves", ())
        ],
        views=views,
    )


def write_report_of(folder: RunFolder, data: ReportData) -> Task[None]:
    """Makes report.html of a run."""
    yield Progress("report", 0, 1)
    yield from beside("report", 0, 1, partial(write_report, folder.file("report.html"), data))
    yield Progress("report", 1, 1)

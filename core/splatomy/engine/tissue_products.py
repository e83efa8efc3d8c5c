"""What a scene of deforming tissue becomes: pictures, a film, moving meshes and the report's content."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.capture import Capture
from splatomy.engine.holdout import spread_over, steadiness
from splatomy.engine.preparing import PreparedClip
from splatomy.events import Notice, Progress, Task
from splatomy.extract.tissue import deformation_map
from splatomy.io.atomic import write_json
from splatomy.io.frame_source import storage
from splatomy.io.mesh import write_mesh
from splatomy.io.movie import captioned, open_movie
from splatomy.io.picture import write_array, write_png
from splatomy.io.run import RunFolder
from splatomy.method import MethodSpec
from splatomy.prepare.inpaint import SYNTHESISED
from splatomy.report import DeformationView, ReportData, TissueView
from splatomy.scene import Mesh, Render, Scene

DEPTH_STEP = 0.01
"""Of the 16-bit depth pictures, in the scene's unit."""
_MAX_PICTURES = 240
_MAX_MESHES = 24
_REPORT_VIEWS = 3
_USUAL_RATE = 25.0


@dataclass(frozen=True)
class TissueMade:
    """What the report shows, and the figures that need no truth."""

    views: list[TissueView]
    deformation: DeformationView | None
    metrics: dict[str, float]


def make_tissue_products(
    folder: RunFolder, scene: Scene, clip: PreparedClip, held: NDArray[np.intp]
) -> Task[TissueMade]:
    """Writes renders/ and meshes/ of a run."""
    views, metrics = yield from _render_views(folder, scene, clip, held)
    forecast = inpainting_forecast(clip)
    if forecast is not None:
        metrics["inpainting_forecast_psnr"] = forecast
    deformation = yield from _meshes(folder, scene, clip.observed)
    return TissueMade(views, deformation, metrics)


def eight_bit(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values in [0, 1] as 0 to 255."""
    return np.asarray(np.rint(np.nan_to_num(image).clip(0, 1) * 255), np.uint8)


def _render_views(
    folder: RunFolder, scene: Scene, clip: PreparedClip, held: NDArray[np.intp]
) -> Task[tuple[list[TissueView], dict[str, float]]]:
    """The input's views without instruments: PNG, depth PNG and one film; some of them for the report."""
    capture = clip.observed
    cameras, frames = capture.cameras, np.arange(len(capture))
    if cameras is None:
        raise ValueError("views need cameras")
    kept = set(spread_over(frames, _MAX_PICTURES).tolist())
    # Flicker is a matter of neighbours: of a long clip, its middle part.
    first = max(0, (len(frames) - _MAX_PICTURES) // 2)
    measured = storage((min(len(frames), _MAX_PICTURES), *capture.images.shape[1:]), np.float32)
    pool = held if len(held) >= _REPORT_VIEWS else frames
    shown = set(pool[np.linspace(len(pool) * 0.15, len(pool) - 1, _REPORT_VIEWS).astype(int)].tolist())
    out: list[TissueView] = []
    with ExitStack() as stack:
        film = folder.file("renders", "without_instruments.mp4")
        rate = _frames_per_s(capture.times_s)
        movie = stack.enter_context(open_movie(film, cameras.width_px, cameras.height_px, rate))
        if not movie.is_h264:
            text = "There is no H.264 encoder here: the film is written as MPEG-4 part 2."
            yield Notice("warning", "no-h264", text)
        for frame in frames.tolist():
            made = scene.render(cameras[frame], float(capture.times_s[frame]))
            movie.add(captioned(eight_bit(made.colour[0]), f"t = {capture.times_s[frame]:.2f} s"))
            if frame in kept:
                _write_pictures(folder, frame, made)
            if first <= frame < first + len(measured):
                measured[frame - first] = made.colour[0]
            if frame in shown:
                out.append(_view(clip, frame, made, frame in held))
            yield Progress("renders", frame + 1, len(frames))
    metrics = yield from steadiness(measured, capture, first)
    return out, metrics


def _frames_per_s(times_s: NDArray[np.float64]) -> float:
    """The film's rate: that of the input where it is plausible."""
    span = float(np.ptp(times_s))
    rate = (len(times_s) - 1) / span if span > 0 else _USUAL_RATE
    return rate if 1.0 <= rate <= 120.0 else _USUAL_RATE


def _write_pictures(folder: RunFolder, frame: int, made: Render) -> None:
    write_png(folder.file("renders", f"frame_{frame:04d}.png"), eight_bit(made.colour[0]))
    if made.depth_mm is not None:
        steps = np.rint(np.nan_to_num(made.depth_mm[0].astype(np.float64)) / DEPTH_STEP)
        codes = steps.clip(0, 65535).astype(np.uint16)
        write_png(folder.file("renders", f"frame_{frame:04d}_depth.png"), codes)


def _view(clip: PreparedClip, frame: int, made: Render, is_held: bool) -> TissueView:
    capture = clip.observed
    hidden = np.zeros(capture.images.shape[1:3], np.bool_)
    if capture.occluded is not None:
        hidden = np.array(capture.occluded[frame])
    if capture.outside is not None:
        hidden &= ~capture.outside
    depth = np.full(hidden.shape, np.nan, np.float32) if made.depth_mm is None else made.depth_mm[0]
    synthetic = None
    place = np.flatnonzero(clip.train == frame)
    if len(place) and clip.training.synthetic is not None:
        synthetic = np.asarray(clip.training.synthetic[place[0]])
    return TissueView(
        f"frame {frame}, {capture.times_s[frame]:.2f} s, {'held out' if is_held else 'trained on'}",
        np.asarray(capture.images[frame]),
        made.colour[0],
        hidden,
        depth,
        None if made.evidence is None else made.evidence[0],
        synthetic,
    )


def _meshes(folder: RunFolder, scene: Scene, capture: Capture) -> Task[DeformationView | None]:
    """Meshes of one topology at chosen frames, and how far each vertex is from its place in the first one."""
    chosen = spread_over(np.arange(len(capture)), _MAX_MESHES)
    start, end = scene.time_range_s
    # Held-out frames at the ends lie outside of what was trained on.
    chosen = chosen[(capture.times_s[chosen] >= start) & (capture.times_s[chosen] <= end)]
    reference: Mesh | None = None
    distances: list[NDArray[np.float32]] = []
    farthest: tuple[float, int, Mesh] | None = None
    for n, frame in enumerate(chosen.tolist()):
        mesh = scene.surface(float(capture.times_s[frame]))
        reference = reference or mesh
        if not len(mesh.faces):
            yield Notice("warning", "no-surface", "No surface was found, so no meshes are written.")
            return None
        write_mesh(folder.file("meshes", f"frame_{frame:04d}.ply"), mesh)
        distance = deformation_map(reference, mesh).distance_mm
        distances.append(distance)
        typical = float(np.quantile(distance, 0.9))
        if farthest is None or typical > farthest[0]:
            farthest = typical, frame, mesh
        yield Progress("meshes", n + 1, len(chosen))
    if farthest is None or capture.cameras is None:
        return None
    write_array(folder.file("meshes", "deformation.npy"), np.stack(distances))
    unit = "mm" if capture.metric else "relative"
    write_json(
        folder.file("meshes", "meshes.json"),
        {
            "contract": 1,
            "frames": chosen.tolist(),
            "times_s": capture.times_s[chosen].tolist(),
            "unit": unit,
            "reference_frame": int(chosen[0]),
            "deformation": "deformation.npy: (frames, vertices), distance from the reference frame",
        },
    )
    _, frame, mesh = farthest
    pixels, _ = capture.cameras[frame].project(mesh.vertices_mm)
    caption = (
        f"Distance of the surface at {capture.times_s[frame]:.2f} s from its place at "
        f"{capture.times_s[chosen[0]]:.2f} s, seen by the camera."
    )
    size = capture.cameras.width_px, capture.cameras.height_px
    return DeformationView(caption, pixels[0], distances[chosen.tolist().index(frame)], *size)


def tissue_report(
    spec: MethodSpec, clip: PreparedClip, made: TissueMade, extras: Mapping[str, Any]
) -> ReportData:
    """The report's content."""
    capture, record = clip.observed, extras["record"]
    frames, height, width, _ = capture.images.shape
    details = capture.details
    return ReportData(
        title="Tissue reconstruction",
        method_title=spec.title,
        citation=spec.citation,
        preset=str(record.get("preset", "")),
        settings=record.get("config", {}),
        input_summary={
            "frames": f"{frames} of {width} x {height} px, {len(clip.train)} trained on",
            "duration": f"{np.ptp(capture.times_s):.2f} s",
            "layout": str(details.get("layout", "")),
            "lens": str(details.get("geometry_source", "")),
            "depth": str(details.get("depth_source", "given")),
            "camera": str(details.get("pose_source", "given poses")),
            "scale": "mm" if capture.metric else "unknown: lengths have no unit",
        },
        world=capture.world,
        metric=capture.metric,
        provenance=capture.provenance,
        problems=tuple(dict.fromkeys((*capture.problems, *record.get("notices", ())))),
        synthetic_text=_synthetic_text(clip),
        metrics=extras["metrics"],
        timings_s=extras["timings_s"],
        peak_memory_mb=record.get("peak_memory_mb"),
        seed=record.get("seed"),
        device=str(record.get("device", "")),
        software_version=splatomy.__version__,
        loss_curve=extras["losses"],
        tissue_views=made.views,
        deformation=made.deformation,
        files=("renders/without_instruments.mp4", "renders/frame_*.png", "meshes/frame_*.ply", "prepared/"),
    )


def inpainting_forecast(clip: PreparedClip) -> float | None:
    """PSNR in dB to expect of filled pixels, from holes cut into tissue that was seen; None = not tried."""
    found = clip.inpainting
    diffused = found.get("by", "propagation") != "propagation"
    value = found.get("transplants_diffusion_db" if diffused else "transplants_db")
    return None if value is None else float(value)


def _synthetic_text(clip: PreparedClip) -> str:
    if clip.provenance is None:
        return "No pixel of the training frames was hidden, so nothing was made up."
    size = clip.provenance.size
    if clip.observed.outside is not None:
        size = len(clip.provenance) * int(np.count_nonzero(~clip.observed.outside))
    carried = np.count_nonzero(clip.provenance > 0) / size
    made_up = np.count_nonzero(clip.provenance == SYNTHESISED) / size
    forecast = inpainting_forecast(clip)
    trial = ""
    if forecast is not None:
        # The root mean square error of colours in [0, 1] that this PSNR stands for.
        off = 10 ** (-forecast / 20)
        trial = (
            f"On tissue that was seen, hidden the same way for a trial, the filling was off by {off:.1%} of "
            f"full brightness ({forecast:.1f} dB). That is a cautious figure: the trial's holes and the real "
            "ones together leave less to fill them from, and on phantoms, whose truth is known, the real "
            "holes came out 3 to 4 dB better than forecast. "
        )
    return (
        f"{carried + made_up:.1%} of the pixels lay behind instruments: {carried:.1%} were carried over from "
        f"frames that show the tissue, {made_up:.1%} are shown by no frame and were made up (magenta). "
        f"{trial}The rendered pictures, the film and the meshes are synthetic views; evidence says how much "
        "of each place was really observed."
    )

"""What a finished session leaves: scene, mesh, pictures, figures, report, and an input for an offline run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import splatomy
from splatomy.background import beside
from splatomy.engine.live.continuing import checkpoint_of
from splatomy.engine.live.request import METHOD
from splatomy.engine.live.session import LiveSession
from splatomy.engine.tissue_products import eight_bit
from splatomy.events import Notice, Progress, Snapshot, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.atomic import write_json
from splatomy.io.mesh import write_mesh
from splatomy.io.picture import write_png
from splatomy.io.run import RunFolder
from splatomy.io.views import Views, write_views
from splatomy.method import find_method
from splatomy.methods.live_scene.model import LiveScene
from splatomy.methods.live_scene.publishing import scene_of
from splatomy.report import ReportData, TissueView, write_report

_SHOWN = 3
_PICTURES = 24


def finished(folder: RunFolder, session: LiveSession, record: dict[str, Any]) -> Task[None]:
    """Writes everything that a session leaves.

    The scene is the one of the last frame, made causally: to refine it is the offline run's part.

    Raises:
        InputError: there is no map.
    """
    yield Progress("finish", 0, 4)
    online = session.online
    scene = scene_of(online, session.desk.generation)
    record["metric"] = online.metric
    folder.save_scene(scene.state())
    write_views(folder.file("scene", "cameras.json"), Views(scene.views, scene.view_times_s, None, False))
    session.path.write(folder, online.depth_scale)
    write_json(folder.file("marks.json"), {"contract": 1, "metric": online.metric, "marks": _marks(session)})
    yield Snapshot("live", session.desk.generation, scene, checkpoint_of(session))
    folder.save_checkpoint(checkpoint_of(session))
    yield Progress("finish", 1, 4)
    kept = yield from beside("finish", 1, 4, session.close_recording)
    if kept:
        text = (
            f"{kept} frames were kept with masks, depth and poses. To refine the session offline: splatomy "
            f"reconstruct {folder.path.name}/session --out NEW_RUN --method dynamic_tissue"
        )
        yield Notice("info", "offline", text)
    if session.recorder.left_out:
        text = f"{session.recorder.left_out} frames were not kept because the disk was too slow."
        yield Notice("warning", "frames-left-out", text)
    mesh = scene.surface(scene.time_s)
    if len(mesh.faces):
        write_mesh(folder.file("meshes", "mesh.ply"), mesh)
    yield Progress("finish", 2, 4)
    views = yield from _pictures(folder, session, scene)
    metrics = metrics_of(session)
    write_json(folder.file("metrics.json"), {"contract": 1, **metrics})
    yield Progress("finish", 3, 4)
    data = _report(session, scene, views, metrics, record, kept)
    yield from beside("finish", 3, 4, lambda: write_report(folder.file("report.html"), data))
    yield Progress("finish", 4, 4)


def metrics_of(session: LiveSession) -> dict[str, float]:
    """The figures of a session: scores of frames before they were learnt, rates, latencies and counters."""
    counts, online = session.counts, session.online
    frames = max(counts["frames"], 1)
    figures = session.figures()
    kept = ("fps", "latency_p50_s", "latency_p95_s", "latency_p99_s", "dropped", "memory_mb")
    return {
        **session.monitor.means(),
        **{name: figures[name] for name in (*kept, "breath_period_s") if name in figures},
        "frames": float(counts["frames"]),
        "tracked_share": counts["tracked"] / frames,
        "paused_share": counts["paused"] / frames,
        "relocalisations": float(counts["relocalised"]),
        "keyframes": float(len(online.part.keyframes)),
        "maps": float(1 + len(online.resting)),
        "surfels": float(len(online.part.surfels)),
    }


def _marks(session: LiveSession) -> list[dict[str, Any]]:
    online = session.online
    return [
        {"id": m.identifier, "name": m.name, "frame": m.frame, "position": online.place_of(m).tolist()}
        for m in online.marks
    ]


def _pictures(folder: RunFolder, session: LiveSession, scene: LiveScene) -> Task[list[TissueView]]:
    """Renders keyframes, and shows some of them beside what was recorded."""
    frames = session.online.part.keyframes.kept
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(_PICTURES, len(frames))).astype(int)).tolist()
    shown = set(np.unique(np.linspace(0, len(chosen) - 1, _SHOWN + 2).astype(int))[1:-1].tolist())
    views = []
    for n, number in enumerate(chosen):
        frame = frames[number]
        # At the keyframe's own size: where memory ended, later ones are smaller.
        camera = Cameras(frame.intrinsics[None], scene.views[number].camera_from_world, *frame.size)
        made = scene.render(camera, frame.time_s)
        write_png(folder.file("renders", f"frame_{frame.index:06d}.png"), eight_bit(made.colour[0]))
        if n in shown and made.depth_mm is not None:
            observed: NDArray[np.float32] = frame.codes.astype(np.float32) / 255
            views.append(
                TissueView(
                    f"Frame {frame.index}, {frame.time_s:.2f} s: recorded, and the map at the end",
                    observed,
                    made.colour[0],
                    ~frame.usable,
                    made.depth_mm[0],
                    None if made.evidence is None else made.evidence[0],
                )
            )
        yield Progress("finish", 2, 4)
    return views


def _breath(session: LiveSession) -> tuple[str, ...]:
    """What a reader must know of a path that was moved."""
    period_s = session.breath.period_s
    if period_s is None:
        return ()
    return (
        "motion that all tissue in view shared and that came back with each breath "
        f"({period_s:.1f} s at last) was told to be the tissue's, which moved the camera path and the map",
    )


def _report(
    session: LiveSession,
    scene: LiveScene,
    views: list[TissueView],
    metrics: Mapping[str, float],
    record: Mapping[str, Any],
    kept: int,
) -> ReportData:
    info, spec = session.info, find_method(METHOD)
    path = [t for t, _ in session.path.rows]
    return ReportData(
        title="Live session",
        method_title=spec.title,
        citation=spec.citation,
        preset=str(record.get("preset", "")),
        settings=record.get("config", {}),
        input_summary={
            "source": f"{info.name}, {info.width_px} x {info.height_px} px, {info.fps:g} frames/s",
            "duration": f"{(path[-1] - path[0]) if path else 0:.1f} s",
            "rate": "every frame, by the stream's own clock" if session.simulated else "as the frames came",
            "depth": session.preparer.depth_source if record.get("depth") else "",
            "scale": "mm" if scene.metric else "unknown: lengths have no unit",
        },
        world="first camera",
        metric=scene.metric,
        provenance=(f"{kept} frames kept in session/ for an offline run", *_breath(session)),
        problems=tuple(record.get("notices", ())),
        synthetic_text="Nothing was invented: every surfel comes from observed pixels of known depth.",
        metrics=dict(metrics),
        seed=record.get("seed"),
        device=str(record.get("device", "")),
        software_version=splatomy.__version__,
        loss_curve=session.losses,
        tissue_views=views,
        files=("meshes/mesh.ply", "scene/gaussians.ply", "trajectory.txt", "renders/", "session/"),
    )

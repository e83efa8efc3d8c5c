"""One run: validate, seed, drive the task, checkpoint, measure, and record."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import splatomy
from splatomy.background import beside
from splatomy.capture import Capture, Grid
from splatomy.engine.evaluation import evaluate
from splatomy.engine.foreseeing import foreseen
from splatomy.engine.holdout import holdout_metrics, training_frames
from splatomy.engine.memory_bound import HALVED, halvings_of, within_memory
from splatomy.engine.noting import clock, heard, peak_memory_mb
from splatomy.engine.opening import open_source
from splatomy.engine.overlap import view_overlap
from splatomy.engine.own_input import input_record
from splatomy.engine.preparing import PreparedClip, prepare_clip
from splatomy.engine.products import make_products, report_data, write_report_of
from splatomy.engine.repeatable import repeatable
from splatomy.engine.request import RunRequest, check_requirements, kernel_backends, pick_device
from splatomy.engine.resuming import check_same_input, check_same_settings, losses_until, stored_checkpoint
from splatomy.engine.still_running import PreparedViews, prepare_views, still_metrics
from splatomy.engine.surface_products import make_surface_products, surface_report
from splatomy.engine.tissue_products import make_tissue_products, tissue_report
from splatomy.engine.volume_evaluation import label_on, read_any_truth
from splatomy.errors import InputError
from splatomy.events import Checkpoint, Event, Notice, Progress, Snapshot, Task, event_json
from splatomy.io.atomic import write_json
from splatomy.io.endoscopy import EndoscopyInput
from splatomy.io.run import RunFolder, check_run_path, prepare_run
from splatomy.io.views import Views, write_views
from splatomy.io.volume import write_volume
from splatomy.method import MethodSpec, find_method, make_config
from splatomy.replicas.leading import check_replicas, replicated
from splatomy.scene import Scene, drawn_by

_CHECKPOINT_PAUSE_S = (1.0, 14.0)
_CHECKPOINT_SHARE = 1 / 20
"""Writing checkpoints may cost this share of the time, so small scenes are kept more often than large ones.

The first one is written as soon as a method offers it, which may be before its first step.
"""
_VOLUME = ("volumes", "volume.nii.gz")
_MAX_UNFINISHED_VOXELS = 4_000_000
"""Larger volumes of stopped runs are binned: stopping may take 2 s. The scene is kept in full."""


def run(request: RunRequest) -> Task[RunFolder]:
    """The finished run folder.

    Closing the task keeps the newest scene and checkpoint and marks the run as cancelled.

    Raises:
        InputError: the input, an option or a setting cannot be used; the folder is left as it was.
    """
    spec = find_method(request.method)
    config = make_config(spec, request.preset, request.settings)
    device = pick_device(request.device)
    check_replicas(spec, config, device, request.replicas)
    # The input is opened before the folder is touched: a wrong input leaves no trace.
    check_run_path(request.out, force=request.force, resume=request.resume)
    folder = RunFolder(request.out)
    before: dict[str, Any] = folder.record() if _is_begun(request) else {}
    if before:
        asked = {"method": request.method, "seed": request.seed, "num_views": request.num_views}
        check_same_settings(before, asked, dataclasses.asdict(config))
    opening: list[Event] = []
    started = time.perf_counter()
    capture, clip = yield from heard(open_source(request.source, request.options, spec.still), opening)
    check_requirements(spec, capture, clip)
    for warning in foreseen(spec.name, config, capture, device, request.replicas):
        opening.append(warning)
        yield warning
    train, held = training_frames(len(capture), request.num_views)
    work = partial(input_record, folder, request.source, request.options)
    own = yield from beside("open", 1, 1, work)
    if before:
        check_same_input(before, own)
    opened_s = time.perf_counter() - started
    with folder.lock(), repeatable(device, request.deterministic):
        job = _Job(request, spec, config, device, folder)
        if before:
            job.take_over(before)
        prepare_run(request.out, force=request.force, resume=request.resume)
        job.timings["open"] = job.timings.get("open", 0.0) + opened_s
        if request.on_held is not None:
            request.on_held(folder)
        for event in opening:
            job.note(event)
        yield from job.drive(capture, train, held, own, clip)
    return folder


def _is_begun(request: RunRequest) -> bool:
    return request.resume and (request.out / "run.json").exists()


class _Job:
    """The state of one run while it is driven."""

    def __init__(
        self, request: RunRequest, spec: MethodSpec, config: Any, device: torch.device, folder: RunFolder
    ) -> None:
        self.request, self.spec, self.config = request, spec, config
        self.device, self.folder = device, folder
        self.started = time.time()
        self.volume_before = folder.stamp(*_VOLUME)
        self.timings: dict[str, float] = {}
        self.losses: list[tuple[int, float]] = []
        self.notices: list[str] = []
        self.newest: Snapshot | None = None
        self.saved_step = -1
        self.record: dict[str, Any] = {}
        self.checkpoint: Checkpoint | None = None
        self.greeting: Notice | None = None

    def take_over(self, before: Mapping[str, Any]) -> None:
        """Goes on with the run whose record is ``before``: its state, its losses, its times.

        Raises:
            InputError: its checkpoints cannot be used.
        """
        stored = stored_checkpoint(self.folder)
        self.record["resumed"] = [*before.get("resumed", []), {"time": clock(), "from_step": 0}]
        self.record["start"] = before.get("start", clock())
        self.record["halvings"] = halvings_of(before)
        self.timings |= dict(before.get("timings_s", {}))
        self.notices += list(before.get("notices", []))
        if stored is None:
            self.greeting = Notice(
                "info", "no-checkpoint", "There is no checkpoint yet; the run starts anew."
            )
            return
        self.checkpoint = stored.checkpoint
        step = int(stored.checkpoint.values.get("step", 0))
        self.record["resumed"][-1]["from_step"] = step
        self.losses = losses_until(self.folder, step)
        self.greeting = Notice("info", "resumed", f"The run goes on from step {step}.")
        if stored.is_older:
            text = f"The newest checkpoint is damaged; the run goes on from the one before it, step {step}."
            self.greeting = Notice("warning", "older-checkpoint", text)

    def _write_record(self, state: str, **extra: Any) -> None:
        self.record |= {
            "software": splatomy.__version__,
            "method": self.spec.name,
            "preset": self.request.preset,
            "config": dataclasses.asdict(self.config),
            "seed": self.request.seed,
            "num_views": self.request.num_views,
            "device": str(self.device),
            "replicas": self.request.replicas,
            **kernel_backends(self.spec.modality, self.device),
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "start": self.record.get("start", clock(self.started)),
            "state": state,
            "timings_s": {k: round(v, 3) for k, v in self.timings.items()},
            "peak_memory_mb": peak_memory_mb(),
            "notices": list(dict.fromkeys(self.notices)),
            **extra,
        }
        self.folder.write_record(self.record)

    def _watch(self, task: Task[Any]) -> Task[Any]:
        """The task's product; every event is recorded, timed by stage and passed on."""
        last = time.perf_counter()
        stage = "open"
        while True:
            try:
                event = next(task)
            except StopIteration as stop:
                self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - last
                return stop.value
            now = time.perf_counter()
            if isinstance(event, Progress | Snapshot):
                stage = event.stage
            self.timings[stage] = self.timings.get(stage, 0.0) + now - last
            last = now
            self.note(event)
            yield event
            last = time.perf_counter()

    def note(self, event: Event) -> None:
        """Records one event."""
        if isinstance(event, Snapshot):
            self.newest = event
        if isinstance(event, Notice) and event.level == "warning":
            self.notices.append(event.text)
            if event.code == HALVED:
                self.record["halvings"] = self.record.get("halvings", 0) + 1
        if isinstance(event, Progress) and event.stage == "train" and "loss" in event.metrics:
            self.losses.append((event.step, float(event.metrics["loss"])))
        if self.request.on_held is None:
            self.folder.append_event({"time": round(time.time(), 3), **event_json(event)})

    def _save_newest(self) -> None:
        snapshot = self.newest
        if snapshot is None or snapshot.step == self.saved_step:
            return
        if snapshot.checkpoint is not None:
            self.folder.save_checkpoint(snapshot.checkpoint)
        self.saved_step = snapshot.step

    def drive(
        self,
        capture: Capture,
        train: NDArray[np.intp],
        held: NDArray[np.intp],
        own: Mapping[str, Any],
        clip: EndoscopyInput | None,
    ) -> Task[None]:
        """Trains, measures and writes everything; ``own`` is the input's part of the record."""
        torch.manual_seed(self.request.seed)
        np.random.seed(self.request.seed)  # noqa: NPY002 - third-party code may draw from it
        try:
            self._write_record("running", **own, world=capture.world)
            if clip is None and not self.spec.still:
                self._write_views(capture)
                scene = yield from self._train(capture.frames(train))
                yield from self._finish(scene, capture, held)
            else:
                prepared = yield from self._prepared(capture, clip, train, own)
                self._write_views(prepared.observed)
                scene = yield from self._train(prepared.training)
                if isinstance(prepared, PreparedClip):
                    yield from self._finish_clip(scene, prepared, held)
                else:
                    yield from self._finish_views(scene, prepared, held)
        except GeneratorExit:
            self._keep_unfinished("cancelled", capture.grid)
            raise
        except BaseException as error:
            self.record["error"] = str(error) if isinstance(error, InputError) else type(error).__name__
            # The first error is the one to tell, even when the disk refuses the record as well.
            with contextlib.suppress(OSError):
                self._keep_unfinished("failed", capture.grid)
            raise
        self._write_record("done", end=clock())

    def _prepared(
        self, capture: Capture, clip: EndoscopyInput | None, train: NDArray[np.intp], own: Mapping[str, Any]
    ) -> Task[PreparedClip | PreparedViews]:
        """Pictures in colour, ready to be trained on; the record says how they were opened."""
        where, device = self.folder.path / "prepared", str(self.device)
        learn = self.request.preset != "draft"
        task: Task[PreparedClip | PreparedViews]
        if clip is not None:
            task = prepare_clip(where, clip, capture, train, own, device, learn)
            opened = {"clip": {"frames": clip.frames.tolist(), "crop": list(clip.crop), "bin": clip.bin}}
        else:
            task = prepare_views(where, self.spec, self.config, capture, train, own, device, learn)
            names = ("frames", "crop", "bin", "layout")
            opened = {"views": {name: capture.details.get(name) for name in names}}
        prepared: PreparedClip | PreparedViews = yield from self._watch(task)
        observed = prepared.observed
        self._write_record(
            "running",
            world=observed.world,
            metric=observed.metric,
            inpainting=dict(prepared.inpainting),
            **opened,
        )
        return prepared

    def _finish(self, scene: Scene, capture: Capture, held: NDArray[np.intp]) -> Task[None]:
        """Everything after training: metrics, products, evaluation and report."""
        self.folder.save_scene(scene.state())
        metrics = yield from self._watch(holdout_metrics(scene, capture, held))
        metrics |= yield from self._watch(view_overlap(scene, capture))
        write_json(self.folder.file("metrics.json"), {"contract": 1, **metrics})
        self.record["timings_s"] = self.timings
        task = make_products(self.folder, self.spec, scene, capture, held, self.request.products)
        made = yield from self._watch(task)
        found = yield from self._evaluated(capture, "4drgs")
        truth_label = None
        if self.request.truth is not None:
            truth = read_any_truth(self.request.truth).label
            truth_label = None if truth is None else label_on(made.vessels.volume.grid, truth)
        if self.request.products.report:
            extras = {
                **self._told({**metrics, **found}),
                "peer_metrics": self.request.peer_metrics,
                "truth_label": truth_label,
            }
            data = report_data(self.spec, made.vessels, capture, made.views, made.curves, extras)
            yield from self._watch(write_report_of(self.folder, data))

    def _finish_clip(self, scene: Scene, clip: PreparedClip, held: NDArray[np.intp]) -> Task[None]:
        """The same for an endoscopic clip."""
        self.folder.save_scene(scene.state())
        metrics = yield from self._watch(holdout_metrics(scene, clip.observed, held))
        made = yield from self._watch(make_tissue_products(self.folder, scene, clip, held))
        metrics |= made.metrics
        write_json(self.folder.file("metrics.json"), {"contract": 1, **metrics})
        self.record["timings_s"] = self.timings
        found = yield from self._evaluated(clip.observed, "default")
        if self.request.products.report:
            data = tissue_report(self.spec, clip, made, self._told({**metrics, **found}))
            yield from self._watch(write_report_of(self.folder, data))

    def _finish_views(self, scene: Scene, views: PreparedViews, held: NDArray[np.intp]) -> Task[None]:
        """The same for views of a still scene."""
        self.folder.save_scene(scene.state())
        metrics = yield from self._watch(still_metrics(scene, views.observed, held))
        made = yield from self._watch(make_surface_products(self.folder, scene, views, held))
        metrics |= made.metrics
        write_json(self.folder.file("metrics.json"), {"contract": 1, **metrics})
        self.record["timings_s"] = self.timings
        found = yield from self._evaluated(views.observed, "default")
        if self.request.products.report:
            data = surface_report(self.spec, views, made, self._told({**metrics, **found}))
            yield from self._watch(write_report_of(self.folder, data))

    def _told(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What a report tells of the run itself."""
        return {
            "metrics": metrics,
            "losses": self.losses,
            "timings_s": self.timings,
            "record": self.record,
        }

    def _evaluated(self, capture: Capture, protocol: str) -> Task[dict[str, Any]]:
        """The figures against the request's truth, kept in evaluation.json; empty without any."""
        if self.request.truth is None:
            return {}
        self._write_record("running")
        found = yield from self._watch(evaluate(self.folder, self.request.truth, capture, protocol))
        write_json(self.folder.file("evaluation.json"), {"contract": 1, **found})
        figures: dict[str, Any] = found
        return figures

    def _write_views(self, capture: Capture) -> None:
        """Keeps the input's cameras, times and grid beside the scene, for `render` and `export` later."""
        if capture.cameras is not None:
            positioner = bool(capture.details.get("positioner_angles"))
            views = Views(capture.cameras, capture.times_s, capture.grid, positioner)
            write_views(self.folder.file("scene", "cameras.json"), views)

    def _keep_unfinished(self, state: str, grid: Grid | None) -> None:
        """Writes the newest state and what can be seen of it, then the record, whatever the disk takes."""
        try:
            if self.newest is not None:
                self._keep_newest(self.newest, grid)
        finally:
            self._write_record(state, end=clock())

    def _keep_newest(self, newest: Snapshot, grid: Grid | None) -> None:
        self.saved_step = -1
        self._save_newest()
        self.folder.save_scene(newest.scene.state())
        volume_file = self.folder.file(*_VOLUME)
        is_new = self.folder.stamp(*_VOLUME) not in (None, self.volume_before)
        if grid is not None and not is_new:
            factor = 1
            while np.prod(grid.binned(factor).shape) > _MAX_UNFINISHED_VOXELS:
                factor += 1
            write_volume(volume_file, newest.scene.volume(grid.binned(factor), None))
            self.record["unfinished_volume"] = {"step": newest.step, "bin": factor}

    def _train(self, capture: Capture) -> Task[Scene]:
        if self.greeting is not None:
            self.note(self.greeting)
            yield self.greeting
        seed = {"seed": self.request.seed} if hasattr(self.config, "seed") else {}
        config = dataclasses.replace(self.config, **seed)

        def start(config: Any, checkpoint: Checkpoint | None) -> Task[Scene]:
            return replicated(self.spec, capture, config, self.device, self.request.replicas, checkpoint)

        halvings = self.record.get("halvings", 0)
        task = self._watch(within_memory(self.spec, config, self.device, start, self.checkpoint, halvings))
        due = time.monotonic()
        try:
            while True:
                event = next(task)
                begun = time.monotonic()
                if isinstance(event, Snapshot) and begun >= due:
                    self._save_newest()
                    ended = time.monotonic()
                    shortest_s, longest_s = _CHECKPOINT_PAUSE_S
                    due = ended + min(max((ended - begun) / _CHECKPOINT_SHARE, shortest_s), longest_s)
                yield event
        except StopIteration as stop:
            self._save_newest()
            return drawn_by(self.device, stop.value)
        finally:
            task.close()

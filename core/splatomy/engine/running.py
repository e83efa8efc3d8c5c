"""One run: validate, seed, drive the task, checkpoint, measure, and record."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import splatomy
from splatomy.capture import Capture
from splatomy.engine.evaluation import evaluate
from splatomy.engine.holdout import holdout_metrics, training_frames
from splatomy.engine.opening import open_capture
from splatomy.engine.products import ProductOptions, make_products, report_data
from splatomy.errors import InputError
from splatomy.events import Event, Notice, Progress, Snapshot, Task, event_json
from splatomy.io.atomic import write_json
from splatomy.io.dsa import InputOptions
from splatomy.io.run import RunFolder, check_run_path, prepare_run
from splatomy.io.truth import read_truth
from splatomy.method import MethodSpec, find_method, load_symbol, make_config
from splatomy.report import write_report
from splatomy.scene import Scene

FIRST_CHECKPOINT_S = 8.0
CHECKPOINT_EVERY_S = 25.0
_HASH_LIMIT_BYTES = 1 << 33


@dataclass(frozen=True)
class RunRequest:
    """What a user asked for."""

    source: Path
    out: Path
    method: str = "dynamic_vessels"
    preset: str = "standard"
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: InputOptions = field(default_factory=InputOptions)
    num_views: int | None = None
    device: str = "auto"
    seed: int = 0
    resume: bool = False
    force: bool = False
    products: ProductOptions = field(default_factory=ProductOptions)
    truth: Path | None = None
    """A truth folder: the run is evaluated and its report shows the figures."""
    peer_metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Figures of other methods on the same input, for the report."""


def pick_device(name: str) -> torch.device:
    """The torch device of "auto", "cpu", "cuda" or "cuda:K".

    Raises:
        InputError: it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index == "" or index.isdigit()):
        raise InputError(f"Device {name!r} is unknown: expected auto, cpu, cuda or cuda:K.")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"Device {name} is not on this machine (CUDA devices: {torch.cuda.device_count()}). "
            "Use --device cpu."
        )
    return torch.device(name)


def _sha256(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > _HASH_LIMIT_BYTES:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _input_record(path: Path) -> list[dict[str, Any]]:
    """Hashes of the input's files; names only, since folders may carry a person's name."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())[:500]
    return [{"file": p.name, "sha256": _sha256(p)} for p in files]


def _check_requirements(spec: MethodSpec, capture: Capture) -> None:
    """Raises InputError when the capture lacks what the method needs."""
    for name in spec.requires:
        if getattr(capture, name) is None:
            raise InputError(
                f"Method {spec.name} needs {name}, which the input does not have. "
                "Give the geometry with --geometry FILE (3x4 matrices as CSV, RTK XML or JSON)."
            )
    if spec.modality is not capture.modality:
        raise InputError(
            f"Method {spec.name} works on {spec.modality} images: expected those, got {capture.modality}."
        )
    if len(capture) < 2:
        raise InputError(f"Method {spec.name} needs at least 2 frames, got {len(capture)}. Give a whole run.")


def run(request: RunRequest) -> Task[RunFolder]:
    """The finished run folder.

    Closing the task keeps the newest scene and checkpoint and marks the run as cancelled.

    Raises:
        InputError: the input, an option or a setting cannot be used; the folder is left as it was.
    """
    spec = find_method(request.method)
    config = make_config(spec, request.preset, request.settings)
    device = pick_device(request.device)
    # The input is opened before the folder is touched: a wrong input leaves no trace.
    check_run_path(request.out, force=request.force, resume=request.resume)
    opening: list[Event] = []
    started = time.perf_counter()
    capture = yield from _heard(open_capture(request.source, request.options), opening)
    _check_requirements(spec, capture)
    train, held = training_frames(len(capture), request.num_views)
    opened_s = time.perf_counter() - started
    folder = prepare_run(request.out, force=request.force, resume=request.resume)
    if request.resume and (folder.path / "run.json").exists():
        _check_same_run(folder, request, config)
    with folder.lock():
        job = _Job(request, spec, config, device, folder)
        job.timings["open"] = opened_s
        for event in opening:
            job.note(event)
        yield from job.drive(capture, train, held)
    return folder


def _heard(task: Task[Capture], events: list[Event]) -> Task[Capture]:
    """The task's product; its events are passed on and kept."""
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            product: Capture = stop.value
            return product
        events.append(event)
        yield event


def _check_same_run(folder: RunFolder, request: RunRequest, config: Any) -> None:
    record = folder.record()
    for name, now in (("method", request.method), ("seed", request.seed), ("num_views", request.num_views)):
        if record.get(name) != now:
            raise InputError(
                f"The run to resume was started with {name} {record.get(name)}, not {now}. "
                "Resume with the same settings, or start a new run."
            )
    if record.get("config") != dataclasses.asdict(config):
        raise InputError(
            "The run to resume was started with other settings. Resume with the same preset and "
            "settings, or start a new run."
        )


class _Job:
    """The state of one run while it is driven."""

    def __init__(
        self, request: RunRequest, spec: MethodSpec, config: Any, device: torch.device, folder: RunFolder
    ) -> None:
        self.request, self.spec, self.config = request, spec, config
        self.device, self.folder = device, folder
        self.started = time.time()
        self.timings: dict[str, float] = {}
        self.losses: list[tuple[int, float]] = []
        self.notices: list[str] = []
        self.newest: Snapshot | None = None
        self.saved_step = -1
        self.record: dict[str, Any] = {}

    def _write_record(self, state: str, **extra: Any) -> None:
        self.record |= {
            "software": splatomy.__version__,
            "method": self.spec.name,
            "preset": self.request.preset,
            "config": dataclasses.asdict(self.config),
            "seed": self.request.seed,
            "num_views": self.request.num_views,
            "device": str(self.device),
            "backend": "torch" if self.device.type == "cuda" else "numba",
            "threads": torch.get_num_threads(),
            "start": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.started)),
            "state": state,
            "timings_s": {k: round(v, 3) for k, v in self.timings.items()},
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "notices": self.notices,
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
        if isinstance(event, Progress) and "loss" in event.metrics:
            self.losses.append((event.step, float(event.metrics["loss"])))
        self.folder.append_event({"time": round(time.time(), 3), **event_json(event)})

    def _save_newest(self) -> None:
        snapshot = self.newest
        if snapshot is None or snapshot.step == self.saved_step:
            return
        if snapshot.checkpoint is not None:
            self.folder.save_checkpoint(snapshot.checkpoint)
        self.saved_step = snapshot.step

    def drive(self, capture: Capture, train: NDArray[np.intp], held: NDArray[np.intp]) -> Task[None]:
        """Trains, measures and writes everything."""
        torch.manual_seed(self.request.seed)
        np.random.seed(self.request.seed)  # noqa: NPY002 - third-party code may draw from it
        self._write_record("running", input=_input_record(self.request.source), world=capture.world)
        try:
            scene = yield from self._train(capture.frames(train))
        except GeneratorExit:
            self._keep_unfinished("cancelled")
            raise
        except BaseException:
            self._keep_unfinished("failed")
            raise
        self.folder.save_scene(scene.state())
        metrics = yield from self._watch(holdout_metrics(scene, capture, held))
        write_json(self.folder.file("metrics.json"), {"contract": 1, **metrics})
        self.record["timings_s"] = self.timings
        task = make_products(self.folder, self.spec, scene, capture, held, self.request.products)
        made = yield from self._watch(task)
        truth_label = None
        if self.request.truth is not None:
            self._write_record("running")
            found = yield from self._watch(evaluate(self.folder, self.request.truth, capture, "4drgs"))
            write_json(self.folder.file("evaluation.json"), {"contract": 1, **found})
            metrics = {**metrics, **found}
            truth = read_truth(self.request.truth).label
            truth_label = None if truth is None else (truth.values > 0).astype(np.uint8)
        if self.request.products.report:
            extras = {
                "metrics": metrics,
                "losses": self.losses,
                "timings_s": self.timings,
                "record": self.record,
                "peer_metrics": self.request.peer_metrics,
                "truth_label": truth_label,
            }
            data = report_data(self.spec, made.vessels, capture, made.views, made.curves, extras)
            write_report(self.folder.file("report.html"), data)
            yield Progress("report", 1, 1)
        self._write_record("done", end=time.strftime("%Y-%m-%dT%H:%M:%S"))

    def _keep_unfinished(self, state: str) -> None:
        if self.newest is not None:
            self.saved_step = -1
            self._save_newest()
            self.folder.save_scene(self.newest.scene.state())
        self._write_record(state, end=time.strftime("%Y-%m-%dT%H:%M:%S"))

    def _train(self, capture: Capture) -> Task[Scene]:
        checkpoint = self.folder.load_checkpoint() if self.request.resume else None
        if self.request.resume and checkpoint is None:
            yield Notice("info", "no-checkpoint", "There is no checkpoint yet; the run starts anew.")
        reconstruct = load_symbol(self.spec.reconstruct)
        seed = {"seed": self.request.seed} if hasattr(self.config, "seed") else {}
        config = dataclasses.replace(self.config, **seed)
        task = self._watch(reconstruct([capture], config, self.device, resume=checkpoint))
        due = time.monotonic() + FIRST_CHECKPOINT_S
        try:
            while True:
                event = next(task)
                if isinstance(event, Snapshot) and time.monotonic() >= due:
                    self._save_newest()
                    due = time.monotonic() + CHECKPOINT_EVERY_S
                yield event
        except StopIteration as stop:
            self._save_newest()
            scene: Scene = stop.value
            return scene
        finally:
            task.close()

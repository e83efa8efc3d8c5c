"""One live session: frames in, snapshots out, commands between two frames."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from splatomy.engine.live.commands import Desk, Replay, SurgeonCommand, surgeon_command
from splatomy.engine.live.continuing import checkpoint_of
from splatomy.engine.live.frame_preparing import Prepared, Preparer
from splatomy.engine.live.front import Front
from splatomy.engine.live.keeping import CameraPath, Recorder
from splatomy.engine.live.memory_bound import within_memory
from splatomy.engine.live.monitor import Monitor
from splatomy.engine.live.publishing import Publisher
from splatomy.engine.live.request import LiveRequest
from splatomy.engine.live.saving import Saver
from splatomy.engine.live.shedding import RUNGS, Ladder
from splatomy.engine.live.showing import picture_of
from splatomy.engine.memory import resident_mb
from splatomy.errors import InputError, is_out_of_memory
from splatomy.events import Answer, Event, LiveStatus, Notice, Progress, Snapshot, Task
from splatomy.io.live_sources import LiveSource, SourceInfo
from splatomy.io.run import RunFolder
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Observation
from splatomy.methods.live_scene.health import State
from splatomy.methods.live_scene.keyframes import centre_of
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.outcome import Outcome
from splatomy.methods.live_scene.publishing import scene_of
from splatomy.methods.live_scene.telling import BreathTeller
from splatomy.prepare.stream_depth import ScaleKeeper

_WAIT_S = 0.05
_STATUS_EVERY_S = 0.5
_PAIR_ERROR, _SHAPE_ERROR = 0.02, 0.06
"""Of depths from two eyes, and of a shape by a network or the light, as shares of the depth."""
_KNOWN = (State.OK, State.RELOCALISED)
_TOLD = {
    State.LOST: "The camera's place is lost: nothing is learnt until it is found. Look at mapped tissue.",
    State.RELOCALISED: "The camera's place was found again.",
    State.PAUSED: "The picture shows no tissue (dark, smoke, or outside the body): nothing is learnt.",
}


class LiveSession:
    """The state of a session while it runs; all but the front's and the writers' work is one thread."""

    def __init__(
        self,
        request: LiveRequest,
        config: Config,
        online: Online,
        source: LiveSource,
        front: Front,
        preparer: Preparer,
        folder: RunFolder,
    ) -> None:
        self.request, self.config, self.online = request, config, online
        self.source, self.front, self.preparer, self.folder = source, front, preparer, folder
        self.info: SourceInfo = source.describe()
        self.simulated = request.rate == "max"
        self.desk = Desk(online, preparer, folder)
        self.ladder = Ladder(config.late_after_s)
        self.monitor = Monitor()
        self.breath = BreathTeller()
        self.publisher, self.saver = Publisher(folder), Saver(folder)
        self.recorder = Recorder(folder, config.keep_every_s)
        self.path = CameraPath()
        self.scale = ScaleKeeper(config.working_distance)
        self.replay = None if request.replay is None else Replay(request.replay)
        self.counts = {"frames": 0, "tracked": 0, "relocalised": 0, "paused": 0, "lost": 0, "filled": 0}
        self.losses: list[tuple[int, float]] = []
        self.skip_until = -1
        self.offset_index, self.offset_s = 0, 0.0
        self.paused = self.finished = False
        self._state = State.OK
        self._due = {"publish": 0.0, "mesh": 0.0, "checkpoint": 0.0, "status": 0.0}
        self._last: Prepared | None = None
        self.last_index = -1
        self._seen_problems = self._seen_notices = 0
        self._told_disk = False
        self._started_s = time.monotonic()

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> Task[None]:
        """Takes frames until the stream ends or is finished."""
        while not self.finished:
            yield from within_memory(self.online, self._commands())
            prepared = self.front.next(_WAIT_S)
            if prepared is None and self.front.ended:
                break
            yield from within_memory(self.online, self._turn(prepared))
        yield from within_memory(self.online, self._published())

    def _turn(self, prepared: Prepared | None) -> Iterator[Event]:
        """What is done between two looks at the front."""
        if prepared is None:
            if not self.simulated and not self.paused:
                # Nobody waits: the map may as well get better.
                self.online.learn(1, bend=False)
        elif not self.paused and prepared.frame.index > self.skip_until:
            yield from self._frame(prepared)
        yield from self._news()

    def clock_s(self) -> float:
        """The session's time: that of the frames when it is simulated, else since the start."""
        if self.simulated:
            return 0.0 if self._last is None else self._last.frame.time_s
        return time.monotonic() - self._started_s

    def _frame(self, prepared: Prepared) -> Iterator[Event]:
        frame, online, began_s = prepared.frame, self.online, time.monotonic()
        if self.ladder.frame_stride > 1 and frame.index % self.ladder.frame_stride:
            return
        before, before_pose = self.last_index, online.pose
        self._last, self.last_index = prepared, frame.index
        self.monitor.took("wait", began_s - prepared.received_s)
        with self.monitor.timed("track"):
            observation = self._observation(prepared)
            outcome = online.observe(observation)
        self._count(outcome)
        if outcome.state is not self._state:
            self._state = outcome.state
            if outcome.state in _TOLD:
                level = "info" if outcome.state is State.RELOCALISED else "warning"
                yield Notice(level, f"camera-{outcome.state}", _TOLD[outcome.state])  # type: ignore[arg-type]
        if self.monitor.is_due(self.clock_s()):
            with self.monitor.timed("score"):
                scores = online.score()
            yield from self.monitor.scored(scores, self.clock_s())
        bend = self.ladder.bends_every_frame or outcome.is_keyframe
        # A clock of the machine's would make two runs of one recording differ.
        until_s = math.inf if self.simulated else began_s + self.config.budget_s
        with self.monitor.timed("learn"):
            loss = online.learn(self.ladder.steps(self.config.steps_per_frame), bend, until_s)
        yield from self.breath.news(online.breath_period_s, observation.time_s)
        if loss:
            self.losses = [*self.losses, (self.counts["frames"], loss)][-4000:]
        if outcome.state in _KNOWN:
            # Where the tissue bends, learning finds the camera better than tracking did.
            self.path.add(observation.time_s, online.pose, online.part, online.depth_scale)
            with self.monitor.timed("keep"):
                self._keep(observation, outcome)
            if time.monotonic() < until_s and not self.ladder.rung:
                self._fill(before, before_pose, outcome)
        self.desk.frame = outcome.index
        self.desk.remember(self.clock_s())
        if self.replay is not None:
            answers: list[Answer] = []
            self.replay.due(outcome.index, lambda command: answers.append(self.desk.obey(command)))
            yield from answers
        age_s = time.monotonic() - prepared.received_s
        if outcome.state in _KNOWN:
            self.monitor.processed(time.monotonic())
        if not self.simulated and self.ladder.took(age_s, self.clock_s()):
            self._shed()
            text = f"Shedding load, step {self.ladder.rung}: {RUNGS[self.ladder.rung]}."
            yield Notice("info", "load", text)
        with self.monitor.timed("publish"):
            self._publish(outcome, prepared)
            self._checkpoint()

    def _observation(self, prepared: Prepared) -> Observation:
        """The prepared frame with depth; a shape is laid over the map as the camera last saw it."""
        frame, depth = prepared.frame, prepared.depth_mm
        if frame.depth_mm is None:
            self.online.expect_depth_error(_SHAPE_ERROR if prepared.shape is not None else _PAIR_ERROR)
        if depth is None and prepared.shape is not None:
            depth = self.scale.depth_mm(prepared.shape, self._reference(), prepared.occluded)
        return Observation(
            frame.index + self.offset_index,
            frame.time_s + self.offset_s,
            frame.image,
            depth,
            prepared.occluded,
            # A path of one unit and a depth of another contradict each other in every frame.
            frame.camera_from_world if prepared.shape is None else None,
            good=prepared.good,
        )

    def _reference(self) -> Any:
        """The map's depths (H, W) as the camera last saw them, NaN = none; None before there is a map."""
        online = self.online
        if not len(online.part.surfels) or online.current is None:
            return None
        level = online.current.level
        view = online.part.surfels.view(online.pose, level, online.part.motion)
        depth = np.where(view.alpha.cpu().numpy() > 0.9, view.depth.cpu().numpy(), np.nan)
        full = np.full((online.height_px, online.width_px), np.nan, np.float32)
        large = np.repeat(np.repeat(depth, level.factor, 0), level.factor, 1)
        full[: large.shape[0], : large.shape[1]] = large
        return full / online.depth_scale

    def _count(self, outcome: Outcome) -> None:
        self.counts["frames"] += 1
        self.counts["tracked"] += outcome.state in _KNOWN
        for name in ("relocalised", "paused", "lost"):
            self.counts[name] += outcome.state == name

    def _keep(self, observation: Observation, outcome: Outcome) -> None:
        if not self.recorder.wants(observation.time_s, outcome.is_keyframe):
            return
        scale = self.online.depth_scale
        pose = self.online.place().copy()
        pose[:3, 3] /= scale
        with self._disk():
            self.recorder.keep(
                outcome.index,
                observation.time_s,
                observation.image,
                observation.depth_mm,
                observation.occluded,
                pose,
                self.online.part.number,
                self.online.typical_mm / scale,
            )

    def _fill(self, before: int, before_pose: Any, outcome: Outcome) -> None:
        """Takes a frame from a gap that the camera crossed in one wide step."""
        online = self.online
        if self.simulated or before < 0 or self.last_index - before < 3 or outcome.state is not State.OK:
            return
        way = float(np.linalg.norm(centre_of(online.pose) - centre_of(before_pose)))
        if way < self.config.keyframe_distance * online.typical_mm:
            return
        missed = self.front.between(before, self.last_index)
        if missed is None or missed.depth_mm is None:
            return
        self.counts["filled"] += online.back_fill(self._observation(missed), online.pose)

    def _shed(self) -> None:
        self.preparer.stride = self.ladder.model_stride
        self.online.tracks_fine = self.ladder.tracks_fine

    # -- commands ----------------------------------------------------------------------------------

    def _commands(self) -> Iterator[Event]:
        """Takes what came in; every command is answered at once and obeyed before the next frame."""
        while True:
            try:
                fields = self.request.inbox.get_nowait()
            except queue.Empty:
                return
            name = fields.get("command")
            if name in ("pause", "resume", "finish"):
                self.paused = name == "pause" or (self.paused and name == "finish")
                self.finished = self.finished or name == "finish"
                if name == "pause":
                    yield Notice("info", "paused", "Frames are passed over until the session is resumed.")
                elif name == "resume":
                    yield Notice("info", "resumed", "The session goes on.")
                continue
            try:
                command: SurgeonCommand = surgeon_command(fields)
            except InputError as error:
                yield Answer(fields.get("id"), "rejected", self.desk.generation, str(error))
                continue
            yield Answer(command.identifier, "received", self.desk.generation)
            try:
                answer = self.desk.obey(command)
            except Exception as error:
                if is_out_of_memory(error):
                    yield Answer(command.identifier, "rejected", self.desk.generation, _NO_ROOM)
                raise
            yield answer
            if answer.state == "applied":
                self._due["publish"] = 0.0

    # -- telling -----------------------------------------------------------------------------------

    def _news(self) -> Iterator[Event]:
        """What there is to tell: the source's problems, written snapshots, and the state twice a second."""
        problems = self.source.problems
        for text in problems[self._seen_problems :]:
            yield Notice("warning", "source", text)
        self._seen_problems = len(problems)
        yield from self.preparer.notices[self._seen_notices :]
        self._seen_notices = len(self.preparer.notices)
        yield from self._published()
        now_s = time.monotonic()
        if now_s < self._due["status"]:
            return
        self._due["status"] = now_s + _STATUS_EVERY_S
        frames = self.counts["frames"]
        yield Progress("live", frames, max(frames, self.info.frames or frames, 1), self._shown())
        time_s = 0.0 if self._last is None else self._last.frame.time_s
        yield LiveStatus(
            self.last_index,
            time_s,
            str(self._state),
            self.desk.generation,
            self.ladder.rung,
            self.figures(),
        )

    def _shown(self) -> dict[str, float]:
        loss = self.losses[-1][1] if self.losses else float("nan")
        return {"surfels": float(len(self.online.part.surfels)), "loss": loss}

    def figures(self) -> dict[str, float]:
        """Rates, latencies, scores and counters as they stand."""
        part = self.online.part
        elapsed = max(time.monotonic() - self._started_s, 1e-3)
        return {
            **self.monitor.rates(),
            **self.monitor.trend(),
            **self.monitor.stages(),
            **self.breath.figures(),
            "dropped": float(self.front.dropped),
            "dropped_per_s": self.front.dropped / elapsed,
            "frames": float(self.counts["frames"]),
            "keyframes": float(len(part.keyframes)),
            "surfels": float(len(part.surfels)),
            "memory_mb": resident_mb(),
        }

    def _published(self) -> Iterator[Event]:
        with self._disk():
            for done in self.publisher.finished():
                self.monitor.published(done.latency_s)
                self.monitor.took("write", done.written_s)
                yield Snapshot("live", done.scene.generation, done.scene, files=done.files)
        if self._told_disk:
            self._told_disk = False
            yield Notice("warning", "disk", _DISK)

    def _disk(self) -> _Tolerant:
        return _Tolerant(self._disk_refused)

    def _disk_refused(self) -> None:
        self._told_disk = True

    def _publish(self, outcome: Outcome, prepared: Prepared) -> None:
        online, now_s = self.online, self.clock_s()
        if not len(online.part.surfels) or now_s < self._due["publish"]:
            return
        if outcome.state not in _KNOWN and self._due["publish"] > 0:
            # Nothing has changed but for a command, which is shown at once.
            return
        self._due["publish"] = now_s + self.ladder.snapshot_interval_s(self.config.publish_every_s)
        self.desk.generation += 1
        slow = now_s >= self._due["mesh"]
        if slow:
            self._due["mesh"] = now_s + self.config.mesh_every_s
        self.publisher.submit(
            picture_of(online, self.desk.generation, outcome, prepared, slow, slow and self.ladder.has_mesh)
        )

    # -- keeping -----------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        now_s = self.clock_s()
        if now_s < self._due["checkpoint"] or not len(self.online.part.surfels):
            return
        self._due["checkpoint"] = now_s + self.config.checkpoint_every_s
        with self._disk():
            self.saver.submit(checkpoint_of(self))

    def close(self) -> None:
        """Ends all threads; what waits is written."""
        self.front.close()
        self.publisher.close()
        self.saver.close()

    def last_news(self) -> Iterator[Event]:
        """What the writers finished while they were closed."""
        yield from self._published()

    def keep_now(self) -> None:
        """Writes scene, path, frames' geometry and checkpoint at once."""
        if not len(self.online.part.surfels):
            return
        self.folder.save_scene(scene_of(self.online, self.desk.generation).state())
        self.path.write(self.folder, self.online.depth_scale)
        self.saver.submit(checkpoint_of(self))
        self.close_recording()

    def close_recording(self) -> int:
        """Makes the kept frames an input for an offline run; their number."""
        online = self.online
        size = online.width_px, online.height_px
        self.recorder.follow(self.path)
        return self.recorder.close(
            online.intrinsics, size, online.depth_scale, online.typical_mm, online.metric
        )


_DISK = (
    "The disk does not take what the session writes (it may be full): the session goes on in memory and "
    "tries again. Make room; frames and checkpoints of this time may be missing."
)
_NO_ROOM = "The memory is full: expected room for this command. The session makes room; give it again."


class _Tolerant:
    """A context in which a disk's refusal is noted and no more."""

    def __init__(self, refused: Callable[[], None]) -> None:
        self._refused = refused

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            self._refused()
            return True
        return False

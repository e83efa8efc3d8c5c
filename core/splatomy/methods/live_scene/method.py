"""Live reconstruction, driven by captures: each brings new frames, None means that nothing new has come.

Reads like a session: observe a frame (where is the camera?) - learn from it - publish. The same state goes on
from frame to frame and from capture to capture.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Checkpoint, Notice, Progress, Snapshot, Task
from splatomy.kernels.ready import made_ready, on, surfel_kernels
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float, Observation
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.publishing import scene_of
from splatomy.methods.live_scene.telling import BreathTeller
from splatomy.scene import Scene

_REPORT_EVERY_S = 0.3
_CHECKPOINT_WITHIN_S = 25.0
_IDLE_STEPS = 4


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """A scene of surfels that grew with the frames; causal until the last frame, then refined.

    Raises:
        InputError: no colour images, or no visible tissue of known depth in any of them.

    Source: sheet online-incremental (EndoGSLAM, Endo-2DTAM and their relatives); README.md says what is ours.
    """
    yield from made_ready(*on(device, surfel_kernels))
    online: Online | None = None
    done = 0
    skip = 0 if resume is None else int(resume.values["step"])
    breath = BreathTeller()
    reported = published = time.monotonic()
    for capture in captures:
        if capture is None:
            if online is not None:
                online.learn(_IDLE_STEPS, bend=False)
            yield Progress("live", done, max(done, 1))
            continue
        if online is None:
            online = _begun(capture, config, device)
            if capture.cameras is None:
                yield Notice("warning", "assumed-camera", _ASSUMED.format(config.default_focal))
            if resume is not None:
                online.restore(resume.arrays, resume.values["online"])
        for observation in observations_of(capture, done):
            done += 1
            if done <= skip:
                continue
            outcome = online.observe(observation)
            loss = online.learn(config.steps_per_frame)
            yield from breath.news(online.breath_period_s, observation.time_s)
            now = time.monotonic()
            if now - reported > _REPORT_EVERY_S or done == len(capture):
                reported = now
                metrics = {"loss": loss, "surfels": float(len(online.part.surfels)), **breath.figures()}
                yield Progress("live", done, max(done, len(capture)), metrics)
            first = outcome.is_keyframe and len(online.part.keyframes) == 1
            due = now - published > min(config.snapshot_every_s, _CHECKPOINT_WITHIN_S)
            if len(online.part.surfels) and (first or due):
                published = now
                yield Snapshot("live", done, scene_of(online, done), checkpoint_of(online, done))
    if online is None:
        raise InputError("The stream brought no frames: expected at least one. Check the source.")
    yield from refined(online, config.refine_passes)
    scene = scene_of(online, done)
    yield Snapshot("live", done + 1, scene, checkpoint_of(online, done))
    return scene


_ASSUMED = "No camera is known: one with a focal length of {:g} image widths was assumed."


def refined(online: Online, passes: int) -> Task[None]:
    """Visits every keyframe of the present map again; no longer causal."""
    frames = list(online.part.keyframes.kept)
    total = passes * len(frames)
    reported = time.monotonic()
    for step in range(total):
        online.replay(frames[step % len(frames)])
        if time.monotonic() - reported > _REPORT_EVERY_S or step + 1 == total:
            reported = time.monotonic()
            yield Progress("refine", step + 1, total)


def observations_of(capture: Capture, first: int) -> Iterator[Observation]:
    """The frames of a capture, numbered from ``first``."""
    height, width = capture.images.shape[1:3]
    for n in range(len(capture)):
        hidden = np.zeros((height, width), bool) if capture.occluded is None else capture.occluded[n]
        if capture.outside is not None:
            hidden = hidden | capture.outside
        yield Observation(
            first + n,
            float(capture.times_s[n]),
            np.asarray(capture.images[n], np.float32),
            None if capture.depth_mm is None else np.asarray(capture.depth_mm[n], np.float32),
            np.asarray(hidden),
            None if capture.cameras is None else capture.cameras.camera_from_world[n],
        )


def checkpoint_of(online: Online, step: int) -> Checkpoint:
    """Everything needed to go on after ``step`` frames."""
    arrays, values = online.state()
    return Checkpoint(arrays, {"step": step, "online": values})


def _begun(capture: Capture, config: Config, device: torch.device) -> Online:
    height, width, channels = capture.images.shape[1:]
    if channels != 3:
        raise InputError(f"Tissue needs colour images: expected 3 channels, got {channels}.")
    k = intrinsics_of(capture, config)
    return Online(config, k, width, height, capture.metric, device)


def intrinsics_of(capture: Capture, config: Config) -> Float:
    """The capture's intrinsics (3, 3) px, or assumed ones."""
    if capture.cameras is not None:
        return capture.cameras.intrinsics[0]
    height, width = capture.images.shape[1:3]
    return assumed_intrinsics(width, height, config)


def assumed_intrinsics(width_px: int, height_px: int, config: Config) -> Float:
    """Intrinsics (3, 3) px with the assumed focal length and the middle of the picture."""
    focal = config.default_focal * width_px
    return np.array([[focal, 0, (width_px - 1) / 2], [0, focal, (height_px - 1) / 2], [0, 0, 1.0]])

"""Small streams for the tests of the live method: frames of the phantom as observations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from splatomy.geometry.rigid import inverse
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Observation
from splatomy.methods.live_scene.health import State
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.outcome import Outcome
from splatomy.phantoms.stream import PRESETS, StreamFrame, StreamPhantom

CALM = replace(PRESETS["tiny"], disturbances=())
QUICK = Config(steps_per_frame=2, spacing_px=1.0)


def observation(frame: StreamFrame, index: int | None = None, time_s: float | None = None) -> Observation:
    """The frame as the live method takes it, with masks and the sensor's depth."""
    return Observation(
        frame.number if index is None else index,
        frame.time_s if time_s is None else time_s,
        frame.image,
        frame.depth_mm,
        frame.occluded,
    )


def online_for(phantom: StreamPhantom, config: Config = QUICK) -> Online:
    """A fresh session for the phantom's camera."""
    p = phantom.preset
    return Online(config, phantom.intrinsics, p.width_px, p.height_px, True, torch.device("cpu"))


def played(online: Online, observations: Sequence[Observation]) -> list[Outcome]:
    """Observes and learns every frame."""
    outcomes = []
    for one in observations:
        outcomes.append(online.observe(one))
        online.learn(online.config.steps_per_frame)
    return outcomes


def fingerprint(online: Online) -> str:
    """A hash of the whole map."""
    arrays, _ = online.part.surfels.state()
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def path_error(outcomes: Sequence[Outcome], phantom: StreamPhantom) -> tuple[float, float]:
    """Root mean square error of the tracked camera places, mm, and the length of the true path, mm."""
    known = [o for o in outcomes if o.state in (State.OK, State.RELOCALISED)]
    found = np.stack([inverse(o.camera_from_world)[:3, 3] for o in known])
    true = np.stack([inverse(phantom.camera_from_world(o.time_s))[:3, 3] for o in known])
    length = float(np.linalg.norm(np.diff(true, axis=0), axis=1).sum())
    return float(np.sqrt(np.square(found - true).sum(1).mean())), length

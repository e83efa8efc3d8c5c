"""Whether a frame shows tissue at all, and how sure the camera's place is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np

from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import GREY, Observation
from splatomy.methods.live_scene.tracking import Found

_DARK = 0.07
_PALE_SHARE, _DULL_SHARE = 0.5, 0.15
_MEMORY = 0.05
_LEAST_INLIERS, _LEAST_COVERAGE = 0.5, 0.25
_SURE_INLIERS = 0.6
_LEAST_LIKENESS, _SURE_LIKENESS = 0.35, 0.5
_LARGEST_STEP, _LARGEST_TURN_DEG = 0.5, 25.0
_WIDTH = 96
_AGAIN_AFTER = 3
"""Unusable pictures in a row after which the camera's place is looked for anew."""


class State(StrEnum):
    """How the session stands with the camera."""

    OK = "ok"
    DEGRADED = "degraded"
    LOST = "lost"
    RELOCALISED = "relocalised"
    PAUSED = "paused"


@dataclass(frozen=True)
class Looks:
    """A picture's saturation, sharpness and brightness, over what is not hidden."""

    saturation: float
    sharpness: float
    brightest: float


def looks_of(observation: Observation) -> Looks:
    """What tells tissue from smoke, blackness and the world outside."""
    height, width = observation.occluded.shape
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    small = cv2.resize(observation.image, size, interpolation=cv2.INTER_AREA)
    hidden = cv2.resize(observation.occluded.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    seen = ~hidden if (~hidden).mean() > 0.05 else np.ones_like(hidden)
    grey = (small @ np.array(GREY, np.float32)).astype(np.float32)
    top, low = small.max(-1), small.min(-1)
    saturation = float(((top - low) / np.maximum(top, 0.05))[seen].mean())
    edges = cv2.Laplacian(grey, cv2.CV_32F)[seen]
    # Relative to the brightness: a dim picture is not a dull one.
    sharpness = float(edges.std() / max(float(grey[seen].mean()), 0.02))
    return Looks(saturation, sharpness, float(np.percentile(grey[seen], 95)))


class Gate:
    """Tells frames of tissue from others, by what the session has seen so far."""

    def __init__(self) -> None:
        self.saturation = 0.0
        self.sharpness = 0.0

    def is_open(self, looks: Looks) -> bool:
        """True if the frame shows tissue: not black, not pale as smoke, not dull as fog or a wet lens."""
        if looks.brightest < _DARK:
            return False
        if self.saturation == 0.0:
            return True
        return (
            looks.saturation > _PALE_SHARE * self.saturation
            and looks.sharpness > _DULL_SHARE * self.sharpness
        )

    def learn(self, looks: Looks) -> None:
        """Takes the looks of a frame whose place is known."""
        share = _MEMORY if self.saturation else 1.0
        self.saturation += share * (looks.saturation - self.saturation)
        self.sharpness += share * (looks.sharpness - self.sharpness)


def is_good(found: Found) -> bool:
    """Whether a pose explains its frame."""
    alike = found.inliers > _LEAST_INLIERS and found.likeness > _LEAST_LIKENESS
    return alike and found.coverage > _LEAST_COVERAGE


def is_sure(found: Found) -> bool:
    """Whether a pose that was looked for everywhere is to be believed."""
    alike = found.inliers > _SURE_INLIERS and found.likeness > _SURE_LIKENESS
    return alike and found.coverage > _LEAST_COVERAGE and found.residual < 2.0


def is_possible(step_mm: float, turn_deg: float, typical_mm: float, frames: float) -> bool:
    """Whether a camera can have moved so far in that many frames."""
    reach = max(1.0, min(frames, 4.0))
    return step_mm < _LARGEST_STEP * typical_mm * reach and turn_deg < _LARGEST_TURN_DEG * reach


class Health:
    """The state machine: fed with one verdict a frame."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state = State.OK
        self.bad_frames = 0
        self.unusable = 0
        self.lost_since_s: float | None = None

    @property
    def is_searching(self) -> bool:
        """True while the camera's place is not known."""
        return self.lost_since_s is not None

    def unusable_frame(self, time_s: float) -> State:
        """A frame without tissue."""
        self.unusable += 1
        if self.unusable >= _AGAIN_AFTER and self.lost_since_s is None:
            self.lost_since_s = time_s
        self.state = State.PAUSED
        return self.state

    def tracked(self, good: bool, time_s: float) -> State:
        """A frame of tissue, with or without a pose that explains it."""
        if self.unusable:
            # Time without tissue is no time of searching.
            self.unusable = 0
            if self.lost_since_s is not None:
                self.lost_since_s = time_s
        if good:
            self.state = State.RELOCALISED if self.lost_since_s is not None else State.OK
            self.bad_frames, self.lost_since_s = 0, None
            return self.state
        self.bad_frames += 1
        if self.bad_frames >= self.config.lost_after and self.lost_since_s is None:
            self.lost_since_s = time_s
        self.state = State.LOST if self.lost_since_s is not None else State.DEGRADED
        return self.state

    def values(self) -> dict[str, Any]:
        """JSON values to go on from."""
        return {
            "state": str(self.state),
            "bad_frames": self.bad_frames,
            "unusable": self.unusable,
            "lost_since_s": self.lost_since_s,
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Takes over what ``values`` gave."""
        self.state = State(values["state"])
        self.bad_frames, self.unusable = int(values["bad_frames"]), int(values["unusable"])
        self.lost_since_s = values["lost_since_s"]

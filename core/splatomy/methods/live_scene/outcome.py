"""What became of a frame, and the frame that may be learnt from."""

from __future__ import annotations

from dataclasses import dataclass

from splatomy.methods.live_scene.frames import Float, Level
from splatomy.methods.live_scene.health import State
from splatomy.methods.live_scene.tracking import Found, View


@dataclass(frozen=True)
class Outcome:
    """What became of a frame. is_keyframe: it will be learnt from again. new_share: of picture not mapped."""

    index: int
    time_s: float
    state: State
    camera_from_world: Float
    found: Found | None
    new_share: float
    is_keyframe: bool


@dataclass
class Current:
    """The newest frame that may be learnt from."""

    outcome: Outcome
    level: Level
    tracked: Level
    """The finest that the camera was tracked in; bending is smooth and needs no finer one."""
    gain: float
    foretold: View | None = None
    """The map as it shows the frame, until it learns from it."""

"""A device made ready for the first frame of a session."""

from __future__ import annotations

import numpy as np
import torch

from splatomy.errors import is_out_of_memory
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float, Observation
from splatomy.methods.live_scene.online import Online

_FRAMES = 3


def warm_up(config: Config, intrinsics: Float, width_px: int, height_px: int, device: torch.device) -> None:
    """Takes a few made-up frames through a session that is thrown away.

    The first frame loads a device's libraries and programs, which takes seconds; a stream does not wait.
    Where memory ends the session itself will find out, and go on with less.
    """
    try:
        _take_frames(config, intrinsics, width_px, height_px, device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise


def _take_frames(
    config: Config, intrinsics: Float, width_px: int, height_px: int, device: torch.device
) -> None:
    online = Online(config, intrinsics, width_px, height_px, True, device)
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 0.6, (height_px, width_px, 3)).astype(np.float32)
    depth = np.full((height_px, width_px), config.working_distance, np.float32)
    hidden = np.zeros((height_px, width_px), bool)
    for number in range(_FRAMES):
        time_s = number * config.keyframe_longest_s
        online.observe(Observation(10 * number, time_s, image, depth, hidden))
        online.score()
        online.learn(config.steps_per_frame)

"""A camera that moves over breathing tissue: its path and the map, on a seed that nothing was tuned on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from splatomy.engine.live.measuring import surface_distance
from splatomy.geometry.rigid import inverse
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Observation
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.publishing import scene_of
from splatomy.phantoms.stream import PRESETS, StreamPhantom

pytestmark = pytest.mark.verify

BREATH_S = 3.6
STREAM = replace(
    PRESETS["small"], fps=5.0, breath_mm=2.9, breath_period_s=BREATH_S, disturbances=(), instrument_mm=0.0
)


def test_path_and_map_hold_over_breathing_tissue() -> None:
    """After the first breath the path is within 1.5 mm, and less than a tenth of the map strays."""
    phantom = StreamPhantom(STREAM, 21)
    size = STREAM.width_px, STREAM.height_px
    config = Config(profile="deforming", steps_per_frame=2)
    online = Online(config, phantom.intrinsics, *size, True, torch.device("cpu"))
    misses = []
    for frame in phantom.frames(0, 50):
        one = Observation(frame.number, frame.time_s, frame.image, frame.depth_mm, frame.occluded)
        online.observe(one)
        online.learn(config.steps_per_frame)
        if frame.time_s > BREATH_S:
            true = inverse(frame.camera_from_world)[:3, 3]
            misses.append(float(np.linalg.norm(inverse(online.place())[:3, 3] - true)))
    assert np.sqrt(np.mean(np.square(misses))) < 1.5
    assert online.part.breathing is not None and online.part.breathing.common is not None
    scene = scene_of(online, 1)
    assert (surface_distance(scene, phantom, scene.time_s) > 3.0).mean() < 0.1

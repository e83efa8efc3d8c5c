"""A camera that moves is told from tissue that breathes and is pulled, with depth as stereo gives it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.events import finish
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.prepare._tracks import follow
from splatomy.prepare.poses import camera_motion

pytestmark = pytest.mark.verify
_FRAMES = 32


@pytest.mark.parametrize(("seed", "path_mm"), [(31, 0.0), (31, 2.5), (53, 0.0), (53, 2.5), (53, 5.0)])
def test_the_camera_moves_or_not(seed: int, path_mm: float) -> None:
    preset = replace(
        PRESETS["demo"], baseline_mm=0.0, camera_motion_mm=path_mm, frames=_FRAMES, duration_s=6.0
    )
    clip = finish(make_tissue(preset, seed))
    still = replace(clip.cameras, camera_from_world=np.repeat(np.eye(4)[None], _FRAMES, 0))
    noise = np.random.default_rng(seed).normal(0, 0.3, clip.depth_mm.shape)
    capture = Capture(
        Modality.COLOUR,
        clip.images,
        clip.times_s,
        cameras=still,
        occluded=clip.occluded,
        depth_mm=np.where(clip.occluded, np.nan, clip.depth_mm + noise),
    )
    found = camera_motion(capture, finish(follow(capture)))
    assert found.moves == (path_mm > 0), found.reason

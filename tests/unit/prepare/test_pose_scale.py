"""Poses of a foreign scale, brought to that of the depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.events import Event, Notice, Task
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.prepare.pose_scale import poses_at_depth_scale


def heard(task: Task[Capture]) -> tuple[Capture, list[Event]]:
    events = []
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            return stop.value, events


def capture_of(camera_motion_mm: float, factor: float) -> Capture:
    """A stiff scene with exact depth, whose camera path is ``factor`` times too long."""
    preset = replace(
        PRESETS["tiny"], width_px=192, height_px=156, focal_px=171.0, texels_per_mm=3.0, breath_mm=0.0,
        pull_mm=0.0, occlusion=0.0, baseline_mm=0.0, camera_motion_mm=camera_motion_mm,
    )  # fmt: skip
    task = make_tissue(preset, 0)
    while True:
        try:
            next(task)
        except StopIteration as stop:
            phantom = stop.value
            break
    poses = phantom.cameras.camera_from_world.copy()
    poses[:, :3, 3] *= factor
    cameras = replace(phantom.cameras, camera_from_world=poses)
    return Capture(
        Modality.COLOUR, phantom.images, phantom.times_s, cameras=cameras, depth_mm=phantom.depth_mm
    )


@pytest.mark.parametrize("factor", [0.1, 4.0])
def test_a_foreign_scale_is_found(factor: float) -> None:
    given = capture_of(8.0, factor)
    found, events = heard(poses_at_depth_scale(given))
    assert given.cameras is not None
    assert found.cameras is not None
    before, after = (c.camera_from_world[:, :3, 3] for c in (given.cameras, found.cameras))
    assert np.allclose(after, before / factor, rtol=0.05, atol=1e-6)
    assert "poses-scaled" in {e.code for e in events if isinstance(e, Notice)}
    assert found.provenance


def test_a_path_too_short_is_left_as_it_is_and_said() -> None:
    given = capture_of(0.01, 1.0)
    found, events = heard(poses_at_depth_scale(given))
    assert found is given
    assert "pose-scale-unknown" in {e.code for e in events if isinstance(e, Notice)}

"""Poses of our own against those of a published structure-from-motion run on real sinus endoscopy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splatomy.events import Notice, finish
from splatomy.io.endoscopy_load import load_endoscopy
from splatomy.io.options import InputOptions
from splatomy.io.sfm_folder import sfm_source
from splatomy.prepare._colmap import colmap_installed
from splatomy.prepare.poses import PoseConfig, estimate_poses

pytestmark = pytest.mark.verify

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "sinus-sfm-a"


def similarity_error(found: np.ndarray, given: np.ndarray) -> float:
    """RMS distance of paths (T, 3) after the best similarity, over the RMS radius of the given one."""
    a, b = found - found.mean(0), given - given.mean(0)
    u, s, v = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ v))])
    scale = (s * np.diag(sign)).sum() / (a**2).sum()
    left = scale * a @ (u @ sign @ v).T - b
    return float(np.sqrt((left**2).sum() / (b**2).sum()))


def turns(poses: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) against the first frame."""
    return poses[:, :3, :3] @ poses[0, :3, :3].T


@pytest.mark.parametrize("solver", ["own", "colmap"])
def test_path_agrees_with_the_published_one(solver: str) -> None:
    if not FOLDER.is_dir():
        pytest.fail(f"{FOLDER} is absent; this test needs the shared data")
    if solver == "colmap" and not colmap_installed():
        pytest.skip("pycolmap is not installed")
    options = InputOptions(bin=3)
    capture = finish(load_endoscopy(sfm_source(FOLDER, options), options)).capture()
    given = capture.cameras
    task = estimate_poses(capture, PoseConfig(solver=solver))
    codes = []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            out = stop.value
            break
        if isinstance(event, Notice):
            codes.append(event.code)
    assert "camera-moves" in codes
    assert not out.metric
    # The given run is no truth either: a tenth of the path and three degrees are what such runs agree to.
    assert similarity_error(out.cameras.centres_mm, given.centres_mm) < 0.10
    relative = turns(out.cameras.camera_from_world) @ np.swapaxes(turns(given.camera_from_world), 1, 2)
    angles = np.degrees(np.arccos(np.clip((np.trace(relative, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angles.mean() < 3.0

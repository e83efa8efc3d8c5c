"""Normals by a network of the user's: axes that differ are turned, what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import constants

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice, finish
from splatomy.geometry.cameras import Cameras
from splatomy.prepare.onnx import OnnxModel
from splatomy.prepare.onnx_normals import estimate_onnx_normals

TILTED = np.array([0.36, -0.48, -0.8])
"""Normal of the plane before the camera, camera axes, towards it."""


def plane_views(tmp: float = 200.0) -> Capture:
    k = np.array([[50.0, 0, 19.5], [0, 50.0, 15.5], [0, 0, 1]])
    x, y = np.meshgrid((np.arange(40) - 19.5) / 50, (np.arange(32) - 15.5) / 50)
    depth = -0.8 * tmp / (np.stack([x, y, np.ones_like(x)], -1) @ TILTED)
    cameras = Cameras(np.repeat(k[None], 2, 0), np.tile(np.eye(4), (2, 1, 1)), 40, 32)
    images = np.full((2, 32, 40, 3), 0.5, np.float32)
    depths = np.repeat(depth[None], 2, 0).astype(np.float32)
    return Capture(Modality.COLOUR, images, np.zeros(2), cameras=cameras, depth_mm=depths)


def network(path: Path, normal: np.ndarray, channels: int = 4) -> OnnxModel:
    """A network that gives one normal everywhere; the fourth channel is a certainty."""
    out = np.zeros((1, channels, 16, 20), np.float32)
    out[0, :3] = normal[: min(3, channels), None, None] if channels >= 3 else 0
    return OnnxModel(constants(path, {"image": (1, 3, 16, 20)}, {"normals": out}), "cpu")


@pytest.mark.parametrize("signs", [(1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_axes_are_turned_to_fit_the_measured_depth(tmp_path: Path, signs: tuple[int, ...]) -> None:
    model = network(tmp_path / "normals.onnx", TILTED * signs)
    events = []
    task = estimate_onnx_normals(plane_views(), model)
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            found = stop.value
            break
    normals = found.details["normals"]
    assert len(normals) == 2 and normals[0].shape == (32, 40, 3)
    assert np.allclose(normals[1], TILTED, atol=1e-4)
    turned = [e for e in events if isinstance(e, Notice) and e.code == "normals-axes"]
    assert bool(turned) == (signs != (1, 1, 1))


def test_normals_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = network(tmp_path / "normals.onnx", np.array([0.99, 0.1, 0.1]))
    with pytest.raises(InputError, match="do not fit the measured depth"):
        finish(estimate_onnx_normals(plane_views(), model))


def test_another_layout_is_refused(tmp_path: Path) -> None:
    model = network(tmp_path / "normals.onnx", TILTED, channels=2)
    with pytest.raises(InputError, match="expected one input"):
        finish(estimate_onnx_normals(plane_views(), model))

"""Poses in a wrong convention are found out by the pictures themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice
from splatomy.geometry.rigid import inverse
from splatomy.phantoms.object import PRESETS, make_object
from splatomy.prepare.pose_conventions import checked_poses

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def _product(task, notices=None):
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            return stop.value
        if notices is not None and isinstance(event, Notice):
            notices.append(event)


@pytest.fixture(scope="module")
def capture() -> Capture:
    """A textured scene from six places along an arc."""
    preset = replace(
        PRESETS["tiny"], views=6, width_px=256, height_px=192, focal_px=220.0, arc_deg=50.0, path="handheld"
    )
    made = _product(make_object(preset, 2))
    return Capture(Modality.COLOUR, made.images, np.zeros(6), cameras=made.cameras)


def test_right_poses_are_confirmed(capture):
    notices: list[Notice] = []
    _product(checked_poses(capture), notices)
    assert [n.code for n in notices] == ["poses-checked"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda m: FLIP @ m, "with the other axes"),
        (inverse, "inverted"),
        (lambda m: inverse(FLIP @ m), "inverted and with the other axes"),
    ],
)
def test_wrong_poses_are_refused_with_the_right_reading(capture, wrong, says):
    cameras = replace(capture.cameras, camera_from_world=wrong(capture.cameras.camera_from_world))
    with pytest.raises(InputError, match=says):
        _product(checked_poses(replace(capture, cameras=cameras)))


def test_pictures_without_texture_cannot_be_judged(capture):
    notices: list[Notice] = []
    _product(checked_poses(replace(capture, images=np.full_like(capture.images, 0.5))), notices)
    assert [n.code for n in notices] == ["poses-unchecked"]

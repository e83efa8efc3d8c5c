"""Photographs without cameras are placed by structure from motion; too few or blank ones are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Event, Notice, finish
from splatomy.phantoms.object import ObjectPhantom, ObjectPreset, make_object
from splatomy.prepare.photos import photo_poses

_VIEWS = ObjectPreset(
    views=9, width_px=256, height_px=192, focal_px=220.0, path="handheld", arc_deg=60.0, subrays=1
)


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    return finish(make_object(_VIEWS, 2))


def photographs(phantom: ObjectPhantom) -> Capture:
    count = len(phantom.images)
    details = {"names": [str(n) for n in range(count)], "frames": list(range(count))}
    return Capture(Modality.COLOUR, phantom.images, np.zeros(count), metric=False, details=details)


def off_by(capture: Capture, phantom: ObjectPhantom) -> float:
    """Typical error of the camera centres after the best similarity, mm."""
    assert capture.cameras is not None
    found = capture.cameras.centres_mm
    true = phantom.cameras.centres_mm[capture.details["frames"]]
    a, b = found - found.mean(0), true - true.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * np.diag(sign)).sum() / (a**2).sum()
    return float(np.sqrt((((scale * a @ (u @ sign @ vt)) - b) ** 2).sum(1).mean()))


def test_photographs_get_cameras_points_and_a_lens(phantom: ObjectPhantom) -> None:
    capture = photographs(phantom)
    # One picture shows nothing that can be placed.
    images = capture.images.copy()
    images[4] = 0.5
    events: list[Event] = []
    task = photo_poses(replace(capture, images=images))
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            made: Capture = stop.value
            break
    assert 4 not in made.details["frames"] and len(made) >= 7 and len(made.details["names"]) == len(made)
    assert any(isinstance(e, Notice) and e.code == "poses-missing" for e in events)
    assert made.cameras is not None and not made.metric and made.world == "structure from motion"
    # The cameras stand on an arc of 270 mm.
    assert off_by(made, phantom) < 2.0
    assert made.cameras.intrinsics[0, 0, 0] == pytest.approx(220, rel=0.05)
    points, colours = made.details["points_mm"], made.details["point_colours"]
    assert len(points) > 100 and points.shape == colours.shape and 0 <= colours.min() <= colours.max() <= 1


def test_pictures_that_share_nothing_are_refused(phantom: ObjectPhantom) -> None:
    capture = photographs(phantom)
    blank = np.full_like(capture.images[:3], 0.4)
    details = {"names": ["a", "b", "c"], "frames": [0, 1, 2]}
    with pytest.raises(InputError, match="found for 0 of the 3 pictures"):
        finish(photo_poses(Capture(Modality.COLOUR, blank, np.zeros(3), metric=False, details=details)))

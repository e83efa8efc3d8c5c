"""Hidden parts: drawn, carried into all views with a test of visibility, and filled from other views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.phantoms.object import PRESETS, ObjectPhantom, make_object
from splatomy.prepare.hidden_parts import fill_views, hidden_parts, support_plane, with_drawn_masks
from splatomy.prepare.inpaint import OBSERVED, SYNTHESISED
from splatomy.prepare.view_choice import choose_views

SMALL = replace(
    PRESETS["tiny"],
    views=7,
    width_px=96,
    height_px=72,
    focal_px=84.0,
    occluder=True,
    path="handheld",
    arc_deg=150.0,
)


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    return finish(make_object(SMALL, 2))


@pytest.fixture(scope="module")
def views(phantom: ObjectPhantom) -> Capture:
    p = phantom
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    return Capture(Modality.COLOUR, p.images, np.zeros(len(p.images)), **known)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_true_shape_gives_the_true_hidden_parts(phantom: ObjectPhantom, views: Capture) -> None:
    true = np.isfinite(phantom.true_depth_mm) & ~phantom.target & phantom.occluder
    found = finish(hidden_parts(views, phantom.mesh, {}))
    assert true.sum() > 200 and overlap(found.masks, true) > 0.9
    gap = np.abs(found.depth_mm - phantom.true_depth_mm)[found.masks & true]
    assert np.nanmax(gap) < 1e-2


def test_without_masks_of_what_hides_it_depth_tells(phantom: ObjectPhantom, views: Capture) -> None:
    true = np.isfinite(phantom.true_depth_mm) & ~phantom.target & phantom.occluder
    found = finish(hidden_parts(replace(views, occluded=None), phantom.mesh, {}))
    assert overlap(found.masks, true) > 0.85
    assert not (found.occluder & phantom.target).any()


def test_a_place_that_a_camera_sees_past_is_not_hidden(phantom: ObjectPhantom, views: Capture) -> None:
    far = np.full_like(views.depth_mm, 1e4)
    found = finish(hidden_parts(replace(views, occluded=None, depth_mm=far), phantom.mesh, {}))
    assert not found.masks.any()


def test_a_drawn_mask_stands_and_a_wrong_one_is_flagged(phantom: ObjectPhantom, views: Capture) -> None:
    wrong = np.zeros(views.target.shape[1:], np.bool_)
    wrong[:12, :12] = True
    found = finish(hidden_parts(views, phantom.mesh, {3: wrong}))
    assert np.array_equal(found.masks[3], wrong & ~views.target[3])
    assert "agree" in found.review[3]


def test_drawing_decides_its_view_and_forgets_the_occluders_depth(views: Capture) -> None:
    mask = views.occluded[3] & (np.arange(96) < 50)
    known = with_drawn_masks(views, {3: mask})
    assert np.array_equal(known.target[3], views.target[3] | mask)
    assert np.isnan(known.depth_mm[3][views.occluded[3]]).all()
    assert not known.synthetic[[0, 1, 2, 4, 5, 6]].any() and known.synthetic[3][views.occluded[3]].all()
    assert np.array_equal(known.depth_mm[0], views.depth_mm[0], equal_nan=True)


def test_a_drawing_of_another_size_is_refused(views: Capture) -> None:
    with pytest.raises(InputError, match="96x72"):
        with_drawn_masks(views, {3: np.ones((5, 5), np.bool_)})


def test_filling_takes_from_views_that_show_the_place(phantom: ObjectPhantom, views: Capture) -> None:
    hidden = finish(hidden_parts(views, phantom.mesh, {}))
    filled = finish(fill_views(views, phantom.mesh, hidden))
    outside = ~hidden.masks
    assert np.array_equal(filled.images[outside], views.images[outside])
    assert (filled.provenance[outside] == OBSERVED).all() and (
        filled.provenance[hidden.masks] != OBSERVED
    ).all()
    lent = hidden.masks & (filled.provenance > 0)
    made_up = hidden.masks & (filled.provenance == SYNTHESISED)
    assert lent.sum() > 100 and made_up.sum() > 20
    own = np.broadcast_to(np.arange(1, 8)[:, None, None], lent.shape)
    assert not (filled.provenance[lent] == own[lent]).any()

    # The block's colours must not come in: carried colours are nearer to the truth than what was recorded.
    def error(pictures: np.ndarray, where: np.ndarray) -> float:
        return float(np.abs(pictures - phantom.rgb)[where].mean())

    assert error(filled.images, lent) < 0.35 * error(views.images, lent)
    assert error(filled.images, made_up) < 0.7 * error(views.images, made_up)


def test_the_table_is_found_and_the_object_stands_on_it(phantom: ObjectPhantom, views: Capture) -> None:
    plane = finish(support_plane(views))
    assert plane is not None
    assert plane[2] > 0.999
    assert abs(plane[3] - (phantom.mesh.vertices_mm[:, 2].min() - 0.5)) < 1.0


def test_without_a_table_there_is_no_plane() -> None:
    p = finish(make_object(replace(SMALL, table=False), 2))
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    assert finish(support_plane(Capture(Modality.COLOUR, p.images, np.zeros(7), **known))) is None


def test_chosen_views_lie_on_all_sides_and_are_the_best_of_theirs() -> None:
    rng = np.random.default_rng(4)
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    poses = np.tile(np.eye(4), (400, 1, 1))
    poses[:, :2, 3] = np.stack([np.cos(angle), np.sin(angle)], 1)
    poses[:, :2, :2] = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(
        -1, 2, 2
    )
    scores = rng.random(400)
    chosen = choose_views(poses, scores)
    assert 30 <= len(chosen) <= 40 and (np.diff(chosen) > 0).all()
    assert np.diff(np.append(angle[chosen], angle[chosen[0]] + 2 * np.pi)).max() < np.pi / 5
    assert scores[chosen].mean() > 0.75
    assert np.array_equal(choose_views(poses[:12], scores[:12]), np.arange(12))

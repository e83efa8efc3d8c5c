"""Views of an object completed from masks and depth: what is filled, kept, told and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.engine.completing import COARSE, complete_views
from splatomy.errors import InputError
from splatomy.events import Event, Notice, finish
from splatomy.io.filled_views import FilledViews
from splatomy.phantoms.object import PRESETS, ObjectPhantom, make_object

QUICK = replace(COARSE, coarse_steps=60, rays=96, samples=14, mesh_resolution=32)
SHAPE = replace(
    PRESETS["tiny"], views=8, width_px=80, height_px=60, focal_px=70.0, occluder=True, path="handheld",
    arc_deg=160.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    return finish(make_object(SHAPE, 9))


@pytest.fixture(scope="module")
def views(phantom: ObjectPhantom) -> Capture:
    p = phantom
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    whole = np.isfinite(p.true_depth_mm)
    drawn = {t: whole[t] & ~p.target[t] for t in (2, 5)}
    return Capture(Modality.COLOUR, p.images, np.zeros(8), **known, details={"drawn_masks": drawn})


def run(folder: Path, views: Capture, train: Any = range(8), own: Any = None) -> tuple[Capture, list[Event]]:
    task, events = complete_views(folder, views, np.array(train), own or {}, coarse=QUICK), []
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            return stop.value, events


def test_hidden_parts_are_found_filled_and_marked(
    tmp_path: Path, phantom: ObjectPhantom, views: Capture
) -> None:
    whole, events = run(tmp_path, views)
    true = np.isfinite(phantom.true_depth_mm) & ~phantom.target
    found = whole.target & ~views.target
    assert (found & true).sum() / (found | true).sum() > 0.6
    untouched = ~(found | whole.synthetic)
    assert np.array_equal(whole.images[untouched], views.images[untouched])
    assert np.array_equal(whole.depth_mm[untouched], views.depth_mm[untouched], equal_nan=True)
    # Of a drawn view every hidden pixel is decided; depth of the block never stays on the object.
    assert (whole.synthetic[2] | ~views.occluded[2] | (whole.details["provenance"][2] > 0)).all()
    radius = SHAPE.radius_mm
    gap = np.abs(whole.depth_mm - phantom.true_depth_mm)[found & true]
    assert np.nanmedian(gap) < 0.15 * radius
    record = whole.details["inpainting"]
    assert record["drawn_masks"] == 2 and 0 < record["synthesised"] <= record["hidden"] < 0.6
    assert record["support_plane"][2] > 0.99
    told = [e.text for e in events if isinstance(e, Notice) and e.code == "hidden-parts"]
    assert told == [record["text"]]


def test_parts_are_kept_and_used_again_for_the_same_input_only(tmp_path: Path, views: Capture) -> None:
    first, _ = run(tmp_path, views)
    second, events = run(tmp_path, views)
    assert any(isinstance(e, Notice) and e.code == "prepared-reused" for e in events)
    for name in ("images", "depth_mm", "target", "synthetic", "occluded"):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name == "depth_mm")
    _, events = run(tmp_path, views, own={"input": "another"})
    assert not any(isinstance(e, Notice) and e.code == "prepared-reused" for e in events)
    (tmp_path / "completed.npz").write_bytes(b"PK damaged")
    _, events = run(tmp_path, views)
    assert not any(isinstance(e, Notice) and e.code == "prepared-reused" for e in events)


def test_held_out_views_stay_as_they_are(tmp_path: Path, views: Capture) -> None:
    whole, _ = run(tmp_path, views, train=[0, 1, 2, 4, 5, 6])
    for t in (3, 7):
        assert np.array_equal(whole.images[t], views.images[t])
        assert np.array_equal(whole.target[t], views.target[t]) and not whole.synthetic[t].any()
    lent = whole.details["provenance"]
    assert not np.isin(lent[lent > 0] - 1, (3, 7)).any()


def test_pictures_that_somebody_filled_take_the_place_of_our_own_filling(
    tmp_path: Path, views: Capture
) -> None:
    size = views.images.shape[1:3]
    picture = np.full((*size, 3), 0.25, np.float32)
    picture[:, :40] = np.nan
    depth = np.full(size, 231.0, np.float32)
    given = FilledViews({2: picture}, {2: depth})
    whole, _ = run(tmp_path, replace(views, details={**views.details, "filled_views": given}))
    hidden = whole.target[2] & ~views.target[2]
    invented = hidden & whole.synthetic[2]
    assert invented.any() and (whole.depth_mm[2][hidden] == 231.0).all()
    made = whole.images[2][invented & ~np.isnan(picture).any(-1)]
    assert len(made) and not np.isnan(whole.images[2]).any() and (made == 0.25).all(1).mean() > 0.2
    assert whole.details["filling"] == [
        "invented" if t == 2 else "drawn" if t == 5 else "carried" for t in range(8)
    ]
    record = whole.details["inpainting"]
    assert record["by"] == "given pictures" and record["given"] == [2] and "given" in record["text"]


def test_without_depth_it_is_said_and_nothing_is_filled(tmp_path: Path, views: Capture) -> None:
    whole, events = run(tmp_path, replace(views, depth_mm=None))
    assert [e.code for e in events if isinstance(e, Notice)] == ["not-completed"]
    assert np.array_equal(whole.images, views.images)


def test_without_masks_of_the_object_the_user_is_told(tmp_path: Path, views: Capture) -> None:
    with pytest.raises(InputError, match="--target"):
        run(tmp_path, replace(views, target=None))

"""Single pictures filled by a published pipeline, and pictures judged by CLIP, from folders alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_still import write_clip, write_pipeline

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice, finish
from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.consistency import Critic
from splatomy.methods.completed_object.fields import CascadedSdf, ColourField
from splatomy.methods.completed_object.rendering import grid_points
from splatomy.methods.completed_object.views import Views
from splatomy.phantoms.object import PRESETS, ObjectPhantom, make_object
from splatomy.prepare.clip import Clip
from splatomy.prepare.hidden_parts import fill_views, hidden_parts, with_drawn_masks
from splatomy.prepare.inpaint import SYNTHESISED
from splatomy.prepare.inpaint.diffusion.still import StillInpainter, load_still_inpainter
from splatomy.weights.still import find_still_weights

CPU = torch.device("cpu")
SHAPE = replace(PRESETS["tiny"], views=5, occluder=True, path="handheld", arc_deg=80.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_pipeline(folder / "inpainting")
    write_clip(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def inpainter(weights: Path) -> StillInpainter:
    return replace(load_still_inpainter(weights / "inpainting", CPU), steps=2)


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    return finish(make_object(SHAPE, 2))


@pytest.fixture(scope="module")
def views(phantom: ObjectPhantom) -> Capture:
    p = phantom
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    return Capture(Modality.COLOUR, p.images, np.zeros(5), **known, details={"object_name": "object"})


def test_a_folder_tells_what_it_holds(weights: Path, tmp_path: Path) -> None:
    found = find_still_weights(weights)
    assert found.pipeline == weights / "inpainting" and found.clip == weights / "clip"
    assert find_still_weights(weights / "clip").clip == weights / "clip"
    assert find_still_weights(None).pipeline is None and not find_still_weights(None).licences
    reading = found.record()
    while True:
        try:
            next(reading)
        except StopIteration as stop:
            files = {row["file"]: row for row in stop.value}
            break
    assert "clip/model.safetensors" in files and "OpenRAIL" in found.licences
    assert all(len(row["sha256"]) == 64 and row["licence"] for row in files.values())
    with pytest.raises(InputError, match="holds no weights"):
        find_still_weights(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        find_still_weights(tmp_path)


def test_a_folder_with_a_missing_part_is_named(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "inpainting").mkdir()
    text = (weights / "inpainting" / "model_index.json").read_text()
    (tmp_path / "inpainting" / "model_index.json").write_text(text)
    with pytest.raises(InputError, match="inpainting cannot be loaded"):
        load_still_inpainter(tmp_path / "inpainting", CPU)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="CLIP in"):
        Clip(tmp_path, CPU)


@pytest.mark.parametrize("size", [(40, 56), (24, 20)])
def test_only_the_hole_changes_and_a_seed_repeats(inpainter: StillInpainter, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    hole = np.zeros(size, np.bool_)
    hole[5:15, 4:12] = True
    hole[-3:, -3:] = size[0] == 40
    one, two = (inpainter.filled(picture, hole, "a object") for _ in range(2))
    assert np.array_equal(one, two) and np.array_equal(one[~hole], picture[~hole])
    assert np.abs(one - picture)[hole].max() > 0.01 and np.isfinite(one).all()


def test_what_no_view_shows_is_invented_once_for_all_views(
    inpainter: StillInpainter, phantom: ObjectPhantom, views: Capture
) -> None:
    hidden = finish(hidden_parts(views, phantom.mesh, {}))
    smooth = finish(fill_views(views, phantom.mesh, hidden))
    made = finish(inpainter.improved(views, phantom.mesh, hidden, smooth))
    missing = hidden.masks & (smooth.provenance == SYNTHESISED)
    assert (missing.sum((1, 2)) > 20).sum() >= 2
    assert np.array_equal(made.images[~missing], smooth.images[~missing])
    # The same place of the object has the same colour in every view that would show it.
    colours, places = [], []
    for t in np.argsort(-missing.sum((1, 2)))[:2]:
        row, column = np.nonzero(missing[t])
        pixels = np.stack([column, row], 1)[None].astype(float)
        places.append(views.cameras[int(t)].unproject(pixels, smooth.depth_mm[t][row, column][None])[0])
        colours.append(made.images[t][row, column])
    gap = np.linalg.norm(places[0][:, None] - places[1][None], axis=2)
    pair = gap.argmin(0)
    near = gap.min(0) < 3.0
    apart = np.abs(colours[1][near] - colours[0][pair[near]]).mean()
    strangers = np.abs(colours[1][near] - np.roll(colours[0], 37, 0)[pair[near]]).mean()
    assert near.sum() > 20 and apart < 0.8 * strangers


def test_depth_of_drawn_views_stays_within_what_is_possible(
    inpainter: StillInpainter, phantom: ObjectPhantom, views: Capture
) -> None:
    drawn = {2: np.isfinite(phantom.true_depth_mm[2]) & ~views.target[2]}
    known = with_drawn_masks(views, drawn)
    found = finish(inpainter.with_reference_depth(known, drawn))
    new = drawn[2] & np.isfinite(found.depth_mm[2])
    seen = views.depth_mm[2][views.target[2]]
    spread = np.ptp(seen)
    assert (found.depth_mm[2][new] > seen.min() - spread).all()
    assert (found.depth_mm[2][new] < seen.max() + spread).all()
    assert np.array_equal(found.depth_mm[2][~drawn[2]], known.depth_mm[2][~drawn[2]], equal_nan=True)


def test_clip_leads_the_field_by_new_views(weights: Path, views: Capture) -> None:
    config = Config(longest_side_px=64, levels=2, log2_table=8)
    capture = replace(views, details={**views.details, "weights": weights})
    prepared = Views(capture, 64, 0.3, CPU)
    task, notices = Critic.of(capture, prepared, config, CPU), []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            critic = stop.value
            break
        if isinstance(event, Notice):
            notices.append(event.text)
    assert critic is not None and "CLIP" in notices[0]
    torch.manual_seed(0)
    field, colours = CascadedSdf(2, 8), ColourField()
    with torch.no_grad():
        grid = field(grid_points(24, CPU)).reshape(24, 24, 24)
    loss = critic.loss(field, colours, grid, 40.0, torch.Generator().manual_seed(1))
    assert 0 < float(loss.detach()) < 8
    loss.backward()
    assert field.coarse[0].weight.grad.abs().max() > 0 and colours.layers[0].weight.grad.abs().max() > 0


def test_like_pictures_are_alike(weights: Path) -> None:
    clip = Clip(weights / "clip", CPU)
    rng = torch.Generator().manual_seed(0)
    picture, other = torch.rand((1, 3, 40, 30), generator=rng), torch.zeros(1, 3, 40, 30)
    with torch.no_grad():
        a, b, c = clip.of_pictures(picture), clip.of_pictures(picture + 1e-3), clip.of_pictures(other)
    assert float((a * b).sum()) > 0.99 > float((a * c).sum())
    assert clip.of_text("a object").shape == a.shape

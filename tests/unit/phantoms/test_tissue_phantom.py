"""The simulated clip: exact depth, masks that hide all of an instrument, one surface in all products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.events import Progress, finish
from splatomy.geometry.rigid import transform_points
from splatomy.phantoms import _tissue_render as render
from splatomy.phantoms._tissue_texture import CHANNELS, noise, tissue_texture
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue, srgb_from_linear

TINY = PRESETS["tiny"]
LENS = np.array([[60.0, 0, 31.3], [0, 60.0, 24.8], [0, 0, 1]])


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    return finish(make_tissue("tiny", seed=3))


@pytest.fixture(scope="module")
def moving() -> TissuePhantom:
    return finish(make_tissue(replace(TINY, camera_motion_mm=5.0), seed=3))


def _plane(depth_mm: float, tilt: float = 0.0, size: int = 41) -> np.ndarray:
    """Mesh nodes (R, C, 3) of the plane z = depth + tilt * y in the camera's frame, 5 mm apart."""
    y, x = np.meshgrid(*[5.0 * (np.arange(size) - size // 2)] * 2, indexing="ij")
    return np.stack([x, y, depth_mm + tilt * y], -1)


def test_the_depth_of_a_tilted_plane_is_exact() -> None:
    hits = render.cast_tissue(_plane(70.0, tilt=0.4), LENS, 64, 52, 1)
    y = (np.arange(52) - 24.8) / 60.0
    np.testing.assert_allclose(
        hits.depth_mm, np.broadcast_to((70 / (1 - 0.4 * y))[:, None], (52, 64)), rtol=1e-6
    )
    x = (np.arange(64) - 31.3) / 60.0
    np.testing.assert_allclose(hits.column, 20 + hits.depth_mm * x / 5, atol=1e-4)


def test_light_falls_with_squared_distance_and_cosine() -> None:
    maps = np.zeros((8, 8, CHANNELS), np.float32)
    maps[..., :3] = 0.5
    none = np.zeros((0, 8)), np.zeros((0, 5))
    pictures = []
    for depth in (50.0, 100.0):
        nodes = _plane(depth)
        hits = render.cast_tissue(nodes, LENS, 64, 52, 2)
        pictures.append(render.shade(hits, nodes, 5.0, maps, LENS, np.zeros(3), *none, 2).clean[..., 0])
    np.testing.assert_allclose(pictures[0], 4 * pictures[1], rtol=1e-4)
    x, y = (np.arange(64) - 31.3) / 60, (np.arange(52) - 24.8) / 60
    norm2 = 1 + x[None] ** 2 + y[:, None] ** 2
    # Cosine over squared distance of a plane lit from the pinhole; four rays average over the pixel.
    np.testing.assert_allclose(pictures[0], 0.5 / (2500 * norm2**1.5), rtol=2e-3)


def test_a_ball_in_front_hides_its_disc_and_has_its_own_depth() -> None:
    nodes = _plane(80.0)
    cones = np.array([[2.0, -1.0, 50.0, 6.0, 2.0, -1.0, 50.0, 6.0]])
    hits = render.cast_tissue(nodes, LENS, 64, 52, 2)
    view = render.shade(
        hits, nodes, 5.0, np.ones((8, 8, CHANNELS), np.float32), LENS, np.zeros(3), cones, np.ones((1, 5)), 2
    )
    x, y = np.meshgrid((np.arange(64) - 31.3) / 60, (np.arange(52) - 24.8) / 60)
    rays = np.stack([x, y, np.ones_like(x)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    miss = np.linalg.norm(np.cross(rays, cones[0, :3]), axis=-1)
    # A pixel's half diagonal is 0.6 mm at the ball.
    assert view.covered[miss < 6].all() and not view.covered[miss > 6.7].any()
    np.testing.assert_array_equal(view.seen[~view.covered], view.clean[~view.covered])
    depth = render.cast_tissue(nodes, LENS, 64, 52, 1).depth_mm
    nearest = render.nearest_depth(depth, cones, LENS, view.covered)
    along = rays @ cones[0, :3]
    front = (along - np.sqrt(np.maximum(36 - miss**2, 0))) * rays[..., 2]
    np.testing.assert_allclose(nearest[miss < 5.99], front[miss < 5.99], rtol=1e-5)
    np.testing.assert_array_equal(nearest[~view.covered], depth[~view.covered])


def test_highlights_stay_where_the_surface_faces_the_camera() -> None:
    maps = np.zeros((8, 8, CHANNELS), np.float32)
    maps[..., 5] = 1.0
    nodes = _plane(60.0)
    tilted = _plane(60.0, tilt=0.3)
    none = np.zeros((0, 8)), np.zeros((0, 5))
    peaks = []
    for mesh in (nodes, tilted):
        hits = render.cast_tissue(mesh, LENS, 64, 52, 2)
        clean = render.shade(hits, mesh, 5.0, maps, LENS, np.zeros(3), *none, 2).clean[..., 0]
        peaks.append(np.unravel_index(np.argmax(clean), clean.shape))
    assert abs(peaks[0][0] - 24.8) <= 1 and abs(peaks[0][1] - 31.3) <= 1
    # The foot of the perpendicular from the camera on z = 60 + 0.3 y lies at y / z = -0.3.
    assert abs(peaks[1][0] - (24.8 - 0.3 * 60)) <= 2


def test_arrays_have_their_documented_shapes(phantom: TissuePhantom) -> None:
    size = (TINY.frames, TINY.height_px, TINY.width_px)
    for name in ("occluded", "depth_mm", "observed_depth_mm", "never_seen", "occluded_right"):
        assert getattr(phantom, name).shape == size
    for name in ("images", "rgb", "images_right"):
        picture = getattr(phantom, name)
        assert picture.shape == (*size, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1
    np.testing.assert_allclose(phantom.images * 255, np.rint(phantom.images * 255), atol=1e-4)
    vertices = phantom.vertices_mm.shape[1]
    assert phantom.faces.max() == vertices - 1 and phantom.seen_frames.shape == (vertices,)
    assert len(phantom.cameras) == len(phantom.times_s) == TINY.frames
    np.testing.assert_array_equal(phantom.cameras.camera_from_world[0], np.eye(4))


def test_depth_camera_and_mesh_are_one_surface(moving: TissuePhantom) -> None:
    """Projected vertices that no fold hides lie at the depth map's values, in every frame."""
    for frame in range(len(moving.times_s)):
        pixels, z = moving.cameras[frame].project(moving.vertices_mm[frame].astype(np.float64))
        u, v = pixels[0].T
        inside = (u > 1) & (u < TINY.width_px - 2) & (v > 1) & (v < TINY.height_px - 2)
        at = np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int)
        gap = np.abs(moving.depth_mm[frame][at] - z[0][inside])
        # Half a pixel is 0.6 mm aside, on slopes of up to about 2; folds hide a few vertices.
        assert np.median(gap) < 0.4 and np.mean(gap < 1.5) > 0.9


def test_the_surface_covers_every_picture_at_the_stated_depths(moving: TissuePhantom) -> None:
    assert np.isfinite(moving.depth_mm).all()
    assert moving.depth_mm.min() > 40 and moving.depth_mm.max() < 115


def test_no_instrument_is_left_outside_the_masks(phantom: TissuePhantom) -> None:
    error = np.abs(phantom.images - phantom.rgb)[~phantom.occluded]
    # What is left is noise of about one percent.
    assert error.mean() < 0.02 and error.max() < 0.25
    assert np.abs(phantom.images - phantom.rgb)[phantom.occluded].mean() > 0.1
    outside = ~phantom.occluded
    np.testing.assert_array_equal(phantom.observed_depth_mm[outside], phantom.depth_mm[outside])
    instrument = phantom.instrument_depth_mm
    assert (
        np.isnan(instrument[outside]).all() and np.isfinite(instrument).sum() > 0.8 * phantom.occluded.sum()
    )
    assert np.nanmin(instrument) > 5


@pytest.mark.parametrize("wanted", [0.15, 0.25])
def test_the_instruments_hide_the_wanted_share(wanted: float) -> None:
    phantom = finish(make_tissue(replace(TINY, occlusion=wanted, baseline_mm=0.0), seed=1))
    # The mask holds whole pixels, so it is larger than the instruments on pictures this small.
    assert phantom.occluded.mean() == pytest.approx(wanted, abs=0.05)
    assert phantom.images_right is None and phantom.cameras_right is None and phantom.occluded_right is None


def test_without_instruments_everything_is_tissue() -> None:
    phantom = finish(make_tissue(replace(TINY, frames=2, occlusion=0.0, baseline_mm=0.0), seed=1))
    assert not phantom.occluded.any() and not phantom.never_seen.any()
    assert phantom.instrument_diameter_mm == 0 and np.isnan(phantom.instrument_depth_mm).all()
    assert np.abs(phantom.images - phantom.rgb).mean() < 0.02


def test_never_seen_tissue_is_hidden_in_every_frame(phantom: TissuePhantom) -> None:
    assert phantom.never_seen.any() and not (phantom.never_seen & ~phantom.occluded).any()
    unseen = phantom.seen_frames == 0
    for frame in range(len(phantom.times_s)):
        pixels, _ = phantom.cameras[frame].project(phantom.vertices_mm[frame][unseen].astype(np.float64))
        u, v = np.rint(pixels[0]).astype(int).T
        inside = (u >= 0) & (u < TINY.width_px) & (v >= 0) & (v < TINY.height_px)
        hidden = phantom.occluded[frame][v[inside], u[inside]]
        # Folds hide the few others.
        assert hidden.size == 0 or hidden.mean() > 0.5
    assert set(np.unique(phantom.mesh(0).evidence)) <= {0.0, 1.0}


def test_the_tissue_breathes_and_is_pulled(phantom: TissuePhantom) -> None:
    still = finish(make_tissue(replace(TINY, pull_mm=0.0), seed=3))
    breath = np.linalg.norm(still.vertices_mm - still.vertices_mm[0], axis=-1)
    assert 1.5 < np.median(breath.max(0)) < 8
    pulled = np.linalg.norm(phantom.vertices_mm - still.vertices_mm, axis=-1).max(0)
    assert pulled.max() == pytest.approx(TINY.pull_mm, rel=0.05)
    # Far from the grasp nothing is pulled.
    assert np.median(pulled) < 0.1


def test_the_right_camera_sees_the_same_tissue(phantom: TissuePhantom) -> None:
    left, right = phantom.cameras, phantom.cameras_right
    np.testing.assert_allclose(right.centres_mm - left.centres_mm, [[TINY.baseline_mm, 0, 0]] * TINY.frames)
    rows, columns = np.indices(phantom.depth_mm.shape[1:])
    disparity = TINY.focal_px * TINY.baseline_mm / phantom.depth_mm[0]
    at = np.rint(columns - disparity).astype(int)
    fits = (at >= 0) & ~phantom.occluded[0]
    fits &= ~phantom.occluded_right[0][rows, np.maximum(at, 0)]
    here = phantom.images[0][fits]
    shifted = phantom.images_right[0][rows[fits], at[fits]]
    unshifted = phantom.images_right[0][fits]
    assert np.abs(here - shifted).mean() < 0.6 * np.abs(here - unshifted).mean()


def test_the_same_seed_gives_the_same_clip(phantom: TissuePhantom) -> None:
    again = finish(make_tissue("tiny", seed=3))
    for name in ("images", "images_right", "rgb", "depth_mm", "occluded", "vertices_mm", "never_seen"):
        np.testing.assert_array_equal(getattr(phantom, name), getattr(again, name))
    other = finish(make_tissue("tiny", seed=4))
    assert np.abs(other.rgb - phantom.rgb).mean() > 0.03


def test_camera_motion_is_slow_and_reported(moving: TissuePhantom) -> None:
    centres = moving.cameras.centres_mm
    assert 2 < np.linalg.norm(centres - centres[0], axis=1).max() < 15
    np.testing.assert_array_equal(centres[0], np.zeros(3))
    # It turns to keep its target: the optical axis wanders less over the tissue than the camera does.
    axis = moving.cameras.camera_from_world[:, 2, :3]
    target = centres + TINY.distance_mm / axis[:, 2:] * axis
    assert np.linalg.norm(target - target[0], axis=1).max() < np.linalg.norm(centres, axis=1).max()
    local = transform_points(moving.cameras.camera_from_world[4], moving.vertices_mm[4])
    assert np.abs(local - moving.vertices_mm[4]).max() > 1


def test_noise_has_unit_variance_and_the_wanted_grain() -> None:
    smooth = noise(np.random.default_rng(0), (128, 160), (32.0, 32.0))
    fine = noise(np.random.default_rng(0), (128, 160), (8.0, 8.0))
    assert smooth.std() == pytest.approx(1, rel=1e-3)
    steps = [np.abs(np.diff(x, axis=0)).mean() for x in (smooth, fine)]
    assert 2.5 < steps[1] / steps[0] < 6
    maps = tissue_texture(np.random.default_rng(0), (30.0, 20.0), 4.0)
    assert maps.shape == (80, 120, CHANNELS)
    # Living tissue is redder than it is green or blue.
    red, green, blue = maps[..., :3].reshape(-1, 3).mean(0)
    assert red > 1.3 * green > 1.3 * 0.8 * blue


def test_srgb_is_monotonic_and_bounded() -> None:
    x = np.linspace(-0.1, 20, 5000)
    y = srgb_from_linear(x)
    assert y[0] == 0 and y[-1] <= 1 and (np.diff(y) >= 0).all()
    assert srgb_from_linear(np.array([0.2140]))[0] == pytest.approx(0.5, abs=1e-3)


def test_events_come_and_an_unknown_preset_is_refused() -> None:
    task = make_tissue("tiny")
    assert isinstance(next(task), Progress)
    task.close()
    with pytest.raises(InputError, match="demo"):
        finish(make_tissue("liver"))

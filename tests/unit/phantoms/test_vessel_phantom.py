"""The simulated DSA: exact projections, a lawful tree, causal transport, one truth in all products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from splatomy.errors import InputError
from splatomy.events import Progress, finish
from splatomy.geometry.conebeam import cone_beam, rays
from splatomy.phantoms import _projector
from splatomy.phantoms._bolus import BolusSettings, Transport, contrast_of, volume_transport
from splatomy.phantoms._tree import Tree, TreeSettings, grow
from splatomy.phantoms.vessels import PRESETS, VesselPhantom, make_vessels
from splatomy.scene import Volume

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def phantom() -> VesselPhantom:
    return finish(make_vessels("tiny", seed=3))


@pytest.fixture(scope="module")
def tree() -> Tree:
    tree = Tree()
    settings = TreeSettings(
        root_mm=(0.0, 0.0, -50.0), half_box_mm=(55.0, 55.0, 55.0), tip_radius_mm=0.4, length_mm=500.0
    )
    for _ in grow(tree, settings, np.random.default_rng(1)):
        pass
    return tree


def _cameras(angles=(0.3, 2.0)):
    return cone_beam(np.array(angles), 0.1, 750.0, 1200.0, 40, 48, (1.0, 1.0))


def _brute_force(elements, values, cameras, index, step):
    """Line integrals by dense sampling of the owned density, (H, W)."""
    source, directions = rays(cameras, index)
    t = np.arange(738.0, 762.0, step)
    out = np.zeros(directions.shape[:2])
    # The hull of two balls is the union of the balls in between.
    s = np.linspace(0, 1, 200)[:, None]
    for at in np.ndindex(out.shape):
        points = source + t[:, None] * directions[at]
        density = np.zeros(len(t))
        for e, value in zip(elements[::-1], values[::-1]):
            centres = e[:3] + s * (e[4:7] - e[:3])
            gap = cdist(points, centres) - (e[3] + s[:, 0] * (e[7] - e[3]))
            density[gap.min(1) <= 0] = value
        out[at] = step * density.sum()
    return out


def test_a_sphere_and_a_cylinder_have_their_analytic_line_integrals():
    cameras = _cameras()
    sphere = np.array([[1.0, 2.0, -1.0, 4.0, 1.0, 2.0, -1.0, 4.0]])
    got = _projector.project_elements(sphere, np.full((2, 1), 0.02), cameras, subrays=1)
    for view in range(2):
        source, directions = rays(cameras, view)
        miss = np.linalg.norm(np.cross(sphere[0, :3] - source, directions), axis=-1)
        wanted = 0.04 * np.sqrt(np.maximum(16.0 - miss**2, 0.0))
        np.testing.assert_allclose(got[view], wanted, atol=1e-6)
    long = np.array([[0.0, 0.0, -200.0, 3.0, 0.0, 0.0, 200.0, 3.0]])
    got = _projector.project_elements(long, np.full((2, 1), 0.02), cameras, subrays=1)
    source, directions = rays(cameras, 0)
    flat = np.linalg.norm(directions[..., :2], axis=-1)
    miss = np.abs(source[0] * directions[..., 1] - source[1] * directions[..., 0]) / flat
    wanted = 0.04 * np.sqrt(np.maximum(9.0 - miss**2, 0.0)) / flat
    np.testing.assert_allclose(got[0], wanted, atol=1e-6)


def test_overlapping_round_cones_count_once_and_the_first_owns():
    elements = np.array(
        [
            [-6.0, 0, 0, 2.0, 0, 0, 0, 1.0],
            [0, 0, 0, 1.0, 5.0, 2.0, 3.0, 0.5],
            [1.0, 0, 0, 2.5, 1.0, 0, 0, 2.5],
        ]
    )
    values = np.array([0.02, 0.03, 0.01])
    cameras = cone_beam(np.array([0.7]), 0.0, 750.0, 1200.0, 14, 12, (1.9, 1.9))
    got = _projector.project_elements(elements, values[None], cameras, subrays=1)[0]
    wanted = _brute_force(elements, values, cameras, 0, step=0.05)
    assert wanted.max() > 0.05
    np.testing.assert_allclose(got, wanted, atol=0.004)


def test_the_signed_distance_agrees_with_the_ray_cut():
    rng = np.random.default_rng(0)
    for _ in range(200):
        e = np.concatenate([rng.normal(size=3), [1.2], rng.normal(size=3) * 2, [0.4]])
        o = rng.normal(size=3) * 10
        d = -o + rng.normal(size=3)
        d /= np.linalg.norm(d)
        near, far = _projector.cut(e, *o, *d)
        if near < far:
            for t in (near, far):
                assert abs(_projector.distance(e, *(o + t * d))) < 1e-6
            assert _projector.distance(e, *(o + 0.5 * (near + far) * d)) < 0


def test_the_marcher_matches_the_exact_projection_of_the_same_vessels(phantom):
    frame = int(np.argmax(phantom.projections.sum((1, 2))))
    density = phantom.density_at(phantom.times_s[frame])
    marcher = _projector.VoxelProjector(density.values > 0, density.affine_mm)
    got = marcher.project(density.values, phantom.cameras[frame], subrays=2)
    # The mass agrees; single pixels differ by the voxels' blur.
    assert got.sum() == pytest.approx(phantom.projections[frame].sum(), rel=0.01)
    assert np.corrcoef(got.ravel(), phantom.projections[frame].ravel())[0, 1] > 0.98


def test_the_marcher_integrates_an_oblique_smooth_ball_within_a_percent():
    turn = np.eye(4)
    turn[:2, :2] = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    affine = turn @ np.diag([0.5, 0.5, 0.7, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, 19.5)
    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    values = (0.02 * np.exp(-0.5 * (world**2).sum(-1) / 9.0)).astype(np.float32)
    cameras = cone_beam(np.array([0.0, np.pi / 2]), 0.0, 750.0, 1200.0, 25, 25, (0.5, 0.5))
    for view in range(2):
        got = _projector.VoxelProjector(values > 0, affine).project(values, cameras[view])
        source, directions = rays(cameras, view)
        miss = np.linalg.norm(np.cross(-source, directions), axis=-1)
        wanted = 0.02 * np.sqrt(2 * np.pi) * 3.0 * np.exp(-0.5 * miss**2 / 9.0)
        np.testing.assert_allclose(got, wanted, atol=0.01 * wanted.max())


def test_radii_follow_murrays_law_at_every_bifurcation(tree):
    checked = 0
    for number in range(len(tree.branch_parent)):
        children = np.flatnonzero((tree.branch_parent == number) & (np.arange(len(tree.branch_parent)) > 0))
        first = [np.flatnonzero(tree.branch == c)[0] for c in children]
        if len(first) == 2:
            parent = tree.parent[first[0]]
            assert (tree.radius_mm[first] ** 3).sum() == pytest.approx(tree.radius_mm[parent] ** 3)
            np.testing.assert_array_equal(tree.points_mm[first], tree.points_mm[[parent, parent]])
            checked += 1
    assert checked >= 5


def test_branches_that_do_not_meet_keep_apart_and_all_stay_inside(tree):
    assert tree.length_mm > 250.0
    assert (np.abs(tree.points_mm) + tree.radius_mm[:, None] <= 55.0).all()
    assert tree.radius_mm.min() >= 0.4
    family = tree.branch_parent
    for a in range(len(family)):
        for b in range(a):
            if family[a] == b or family[a] == family[b]:
                continue
            p, q = tree.branch == a, tree.branch == b
            gap = np.linalg.norm(tree.points_mm[p][:, None] - tree.points_mm[q][None], axis=2)
            joint = np.linalg.norm(tree.points_mm[p][0] - tree.points_mm[q], axis=1).min()
            if joint > 2.5 * tree.radius_mm[p][0] + 2.0 + 5.0:
                assert (gap > tree.radius_mm[p][:, None] + tree.radius_mm[q][None]).all()


def test_contrast_arrives_later_further_down(phantom):
    has = phantom.parent >= 0
    assert (phantom.arrival_s[has] >= phantom.arrival_s[phantom.parent[has]]).all()
    inside = phantom.label > 0
    assert np.isfinite(phantom.arrival.values[inside]).all()
    assert np.isnan(phantom.arrival.values[~inside]).all()
    low, high = np.nanmin(phantom.arrival.values), np.nanmax(phantom.arrival.values)
    assert phantom.arrival_s.min() - 1e-6 <= low < high <= phantom.arrival_s.max() + 1e-6
    assert (phantom.mean_time_s > phantom.arrival_s).all()


def test_arrival_is_the_half_maximum_of_the_curve():
    curves = Transport(np.array([0.5, 1.0]), np.array([0.8, 1.3]), np.array([0.02, 0.03]), 2.5)
    at = curves.arrival_s
    half = np.diag(curves.attenuation(at)) / curves.peak_per_mm
    np.testing.assert_allclose(half, 0.5, rtol=1e-9)
    assert (at < curves.start_s + curves.rise_s).all()
    t = np.linspace(0, 40, 40001)
    c = curves.attenuation(t)
    np.testing.assert_allclose((c * t[:, None]).sum(0) / c.sum(0), curves.mean_time_s, rtol=1e-4)


def test_volume_label_and_surface_are_of_one_body(phantom):
    voxel = float(np.prod(phantom.grid.spacing_mm))
    v, f = phantom.surface.vertices_mm.astype(np.float64), phantom.surface.faces
    a, b, c = v[f[:, 0]], v[f[:, 1]], v[f[:, 2]]
    enclosed = (a * np.cross(b, c)).sum() / 6
    shares = np.asarray(phantom.truth.occupancy.sum(1)).sum() * voxel
    # The facets are chords of the wall: they lose up to (spacing / radius) ** 2 / 12 or so.
    assert enclosed == pytest.approx(shares, rel=0.025)
    assert phantom.label.sum() * voxel == pytest.approx(shares, rel=0.1)
    edges = np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all()
    later = [phantom.density_at(t).values for t in phantom.times_s]
    np.testing.assert_allclose(np.max(later, 0), phantom.volume.values, atol=1e-7)
    np.testing.assert_allclose(np.mean(later, 0), phantom.volume_mean.values, atol=1e-7)


def test_the_log_ratio_of_the_runs_is_the_projection_plus_noise(phantom):
    assert phantom.mask_run.dtype == phantom.fill_run.dtype == np.float32
    measured = np.log(phantom.mask_run) - np.log(phantom.fill_run)
    error = measured - phantom.projections
    sigma = np.sqrt(1 / phantom.mask_run + 1 / phantom.fill_run)
    assert abs((error / sigma).mean()) < 0.02
    assert (error / sigma).std() == pytest.approx(1.0, abs=0.05)
    assert 0.1 < phantom.projections.max() < 1.0
    assert phantom.projections[0].max() == 0.0


def test_same_seed_same_bits_and_another_seed_another_tree(phantom):
    again = finish(make_vessels("tiny", seed=3))
    for name in ("mask_run", "fill_run", "projections", "label", "centreline_mm"):
        np.testing.assert_array_equal(getattr(again, name), getattr(phantom, name))
    np.testing.assert_array_equal(again.surface.vertices_mm, phantom.surface.vertices_mm)
    other = finish(make_vessels(replace(TINY, frames=2), seed=4))
    assert other.centreline_mm.shape != phantom.centreline_mm.shape or not np.array_equal(
        other.centreline_mm, phantom.centreline_mm
    )


def test_motion_wobble_aneurysm_and_stenosis_change_what_they_should(phantom):
    bright = replace(TINY, photons=1e9)
    still = finish(make_vessels(bright, seed=3))
    moved = finish(make_vessels(replace(bright, motion_mm=1.0), seed=3))
    np.testing.assert_array_equal(moved.projections, still.projections)
    np.testing.assert_array_equal(moved.mask_run, still.mask_run)
    size = np.linalg.norm(moved.motion_mm, axis=1)
    assert size.min() > 0.15 and size.max() <= 1.0
    shadow = np.log(moved.fill_run) - np.log(still.fill_run)
    assert np.abs(shadow).max() > 0.02
    shaken = finish(make_vessels(replace(bright, wobble_mm=0.5, wobble_rad=0.002), seed=3))
    assert not np.array_equal(shaken.cameras.camera_from_world, shaken.nominal_cameras.camera_from_world)
    np.testing.assert_array_equal(shaken.label, still.label)
    assert not np.array_equal(shaken.projections, still.projections)
    bare = finish(make_vessels(replace(TINY, background=False, aneurysm=True, stenosis=True, frames=4)))
    assert bare.mask_run.mean() == pytest.approx(TINY.photons, rel=1e-3)
    assert bare.radius_mm.max() > 2.7 and bare.radius_mm.min() < 1.0


def test_a_given_mask_becomes_the_vessels_of_a_centred_grid():
    mask = np.zeros((40, 36, 44), np.uint8)
    mask[18:22, 16:20, 2:40] = 1
    mask[22:36, 17:19, 30:32] = 1
    mask[2:5, 2:5, 20:24] = 1
    affine = np.diag([-1.0, 1.0, 1.2, 1.0])
    affine[:3, 3] = [100.0, -7.0, 30.0]
    preset = replace(TINY, frames=12, photons=1e6)
    events = []
    task = make_vessels(preset, 0, Volume(mask.astype(np.float32), affine))
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            got = stop.value
            break
    assert all(isinstance(e, Progress) for e in events)
    np.testing.assert_allclose(got.grid.bounds_mm.sum(0), 0.0, atol=1e-9)
    np.testing.assert_array_equal(got.label, mask)
    arrival = got.arrival.values
    assert arrival[19, 18, 3] < arrival[19, 18, 20] < arrival[19, 18, 38]
    assert arrival[25, 18, 31] < arrival[34, 18, 31]
    assert arrival[3, 3, 22] > arrival[19, 18, 3] + 0.4
    corners = got.cameras.project(got.grid.bounds_mm)[0]
    assert corners.min() > -1.0 and corners.max() < got.cameras.width_px
    assert 0.015 < got.volume.values.max() <= 0.02 * 1.01
    assert got.projections.max() > 0.05
    v, f = got.surface.vertices_mm.astype(np.float64), got.surface.faces
    enclosed = (v[f[:, 0]] * np.cross(v[f[:, 1]], v[f[:, 2]])).sum() / 6
    assert enclosed == pytest.approx(mask.sum() * 1.2, rel=0.25)


def test_an_image_is_cut_by_otsu_and_scaled():
    rng = np.random.default_rng(0)
    image = rng.normal(40.0, 5.0, (30, 30, 30))
    image[10:14, 10:14, :] = rng.normal(300.0, 10.0, (4, 4, 30))
    got = contrast_of(image)
    assert (got[10:14, 10:14] > 0).all()
    assert (got > 0).sum() < 4 * 4 * 30 + 20
    assert np.percentile(got[got > 0], 99) == pytest.approx(0.025, rel=1e-3)
    with pytest.raises(InputError, match="constant"):
        contrast_of(np.ones((4, 4, 4)))


def test_travel_times_follow_the_vessel_not_the_air():
    bent = np.zeros((30, 12, 30))
    bent[2:28, 5, 3] = bent[27, 5, 3:28] = bent[2:28, 5, 27] = 0.02
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    curves, number = finish(volume_transport(bent, affine, BolusSettings()))
    delay = curves.start_s[number] - BolusSettings().onset_s
    # One voxel thin everywhere: the full speed; 25 + 24 + 25 mm along the path to the far end.
    assert delay[2, 5, 27] == pytest.approx(74.0 / 300.0, rel=0.05)


def test_unknown_names_and_too_large_volumes_are_the_users_to_fix():
    with pytest.raises(InputError, match="choose one of demo"):
        finish(make_vessels("nothing"))
    with pytest.raises(InputError, match="No trunk"):
        finish(make_vessels(replace(TINY, grid_shape=(4, 4, 4))))
    mask = np.zeros((8, 8, 8), np.float32)
    mask[3:5, 3:5, 3:5] = 1
    with pytest.raises(InputError, match="does not fit"):
        finish(make_vessels(TINY, 0, Volume(mask, np.diag([200.0, 200.0, 200.0, 1.0]))))

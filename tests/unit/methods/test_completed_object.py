"""The completed object: its losses, what may teach it, and what its mesh tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice, Snapshot, finish
from splatomy.extract.symmetry import AGREES, CONTRADICTS, UNSEEN, Symmetry, mirror_map
from splatomy.methods.completed_object import objective
from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.fairing import HIDDEN, SEEN, faired
from splatomy.methods.completed_object.fields import CascadedSdf
from splatomy.methods.completed_object.method import reconstruct
from splatomy.methods.completed_object.mirroring import (
    Mirrored,
    _disagreement,
    _seen,
    find_mirrored,
    look_at,
    vertex_normals,
)
from splatomy.methods.completed_object.rendering import Traced, interval_weights, sphere_span
from splatomy.methods.completed_object.views import Rays, Views
from splatomy.metrics.surface import sample_surface
from splatomy.phantoms._object_shapes import bumpy_body
from splatomy.phantoms.object import PRESETS, ObjectPhantom, make_object
from splatomy.scene import Mesh

CPU = torch.device("cpu")
QUICK = Config(
    coarse_steps=80, fine_steps=40, rays=96, samples=14, levels=4, log2_table=10, mesh_resolution=40,
    snapshot_every_s=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    """Eight small views round an object behind a block."""
    return finish(make_object(replace(PRESETS["tiny"], occluder=True), 5))


@pytest.fixture(scope="module")
def views(phantom: ObjectPhantom) -> Capture:
    p = phantom
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    return Capture(Modality.COLOUR, p.images, np.zeros(len(p.images)), **known)


@pytest.fixture(scope="module")
def scene(views: Capture) -> Any:
    return finish(reconstruct([views], QUICK, CPU))


def test_the_field_of_an_oblique_plane_costs_nothing() -> None:
    """Distances along rays, depths along the axis and distances to the surface must not be mixed up."""
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)
    angles = torch.linspace(-0.4, 0.4, 9)
    directions = torch.nn.functional.normalize(
        torch.stack([angles, 0.5 * angles.flip(0), torch.ones(9)], 1), dim=1
    )
    origins = torch.zeros(9, 3)
    level = float(normal @ torch.tensor([0.0, 0.0, 2.0]))
    reach = level / (directions @ normal)
    distances = reach[:, None] + torch.linspace(-0.5, 0.1, 25)
    points = origins[:, None] + distances[..., None] * directions[:, None]
    values = points @ normal - level
    ones, none = torch.ones(9), torch.zeros(9, dtype=torch.long)
    rays = Rays(
        none, none, none, origins, directions, torch.zeros(9, 3), ones, ones, reach,
        (directions @ normal).abs(), directions[:, 2], None,
    )  # fmt: skip
    traced = Traced(distances, values, torch.zeros(9, 24), ones, reach, torch.zeros(9, 3))
    near, free = objective.field_losses(traced, rays, 0.12)
    assert near.abs().max() < 1e-5 and free.abs().max() < 1e-5
    shifted = replace(traced, values=values - 0.05)
    worse, _ = objective.field_losses(shifted, rays, 0.12)
    assert torch.allclose(worse, torch.full_like(worse, 0.05), atol=1e-5)


def test_weights_of_a_steep_field_lie_where_it_changes_sign() -> None:
    distances = torch.linspace(0, 1, 41)[None]
    weights = interval_weights(0.5 - distances, 500.0)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-3)
    assert float((weights * 0.5 * (distances[:, 1:] + distances[:, :-1])).sum()) == pytest.approx(
        0.5, abs=0.02
    )


def test_rays_meet_the_sphere_where_they_should() -> None:
    near, far = sphere_span(torch.tensor([[0.0, 0.6, -3.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    assert float(near) == pytest.approx(3 - 0.8, abs=1e-5) and float(far) == pytest.approx(3.8, abs=1e-5)


def test_a_new_field_is_closed_about_the_middle_and_the_fine_part_silent() -> None:
    torch.manual_seed(0)
    field = CascadedSdf(4, 10)
    directions = torch.nn.functional.normalize(torch.randn(400, 3), dim=1)
    with torch.no_grad():
        assert (field(1.5 * directions) > 0).all() and float(field(torch.zeros(1, 3))) < 0
        coarse = field(directions)
        field.detailed = True
        assert (field(directions) - coarse).abs().max() < 0.02


def test_the_object_is_found_and_what_was_seen_is_told_from_the_rest(
    phantom: ObjectPhantom, scene: Any
) -> None:
    mesh, truth = scene.surface(0.0), phantom.mesh
    radius = PRESETS["tiny"].radius_mm
    gap, nearest = cKDTree(truth.vertices_mm).query(mesh.vertices_mm)
    assert gap.mean() < 0.06 * radius
    seen = truth.evidence[nearest] > 0
    assert (mesh.evidence[seen] > 0).mean() > 0.8
    assert (mesh.evidence[~seen] > 0).mean() < 0.35


def test_more_steps_bring_the_surface_nearer(phantom: ObjectPhantom, views: Capture, scene: Any) -> None:
    few = finish(reconstruct([views], replace(QUICK, coarse_steps=10, fine_steps=0), CPU))
    seen = phantom.mesh.vertices_mm[phantom.mesh.evidence > 0]
    errors = [cKDTree(sample_surface(s.surface(0.0), 50_000)).query(seen)[0].mean() for s in (few, scene)]
    assert errors[1] < 0.5 * errors[0]


def test_a_hidden_pixel_changes_nothing(views: Capture) -> None:
    quick = replace(QUICK, coarse_steps=12, fine_steps=6)
    states = []
    for value in (0.0, 1.0):
        images, depth = views.images.copy(), views.depth_mm.copy()
        images[views.occluded], depth[views.occluded] = value, 50.0 + 900 * value
        changed = replace(views, images=images, depth_mm=depth)
        states.append(finish(reconstruct([changed], quick, CPU)).state().arrays)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_invented_pixels_weigh_less_and_are_no_evidence(views: Capture) -> None:
    target = views.target | views.occluded
    invented = replace(views, target=target, synthetic=views.occluded)
    prepared = Views(invented, 640, 0.3, CPU)
    assert set(np.unique(prepared.weight.numpy()).tolist()) == {np.float32(0.3), 1.0}
    assert not (prepared.real & views.occluded).any() and prepared.invented.any()


def test_of_parts_carried_into_other_views_only_drawings_teach(views: Capture) -> None:
    target = views.target | views.occluded
    told = {"filling": ["drawn" if t == 2 else "carried" for t in range(len(views))]}
    prepared = Views(replace(views, target=target, synthetic=views.occluded, details=told), 640, 0.3, CPU)
    hidden = views.occluded & (prepared.weight.numpy() > 0)
    assert views.occluded[2].any() and np.array_equal(hidden[2], views.occluded[2])
    assert not np.delete(hidden, 2, axis=0).any() and (prepared.weight.numpy()[hidden] < 1).all()
    assert not (prepared.host_depth[2][views.occluded[2]] > 0).any() and prepared.invented.any()


def test_a_hidden_cap_goes_on_smoothly_and_what_was_seen_stays() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.6)
    truth, faces = np.asarray(ball.vertices), np.asarray(ball.faces, np.int32)
    kind = np.where(truth[:, 2] > 0.5, HIDDEN, SEEN)
    cap = kind == HIDDEN
    wrong = truth.copy()
    wrong[cap] *= 1 + 0.05 * np.cos(20 * truth[cap, :1])
    moved = faired(wrong, faces, kind)
    errors = [np.abs(np.linalg.norm(v[cap], axis=1) - 0.6).mean() for v in (wrong, moved)]
    assert errors[1] < 0.25 * errors[0]
    assert np.abs(moved - truth)[truth[:, 2] < 0.3].max() < 1e-9
    assert np.abs(moved - wrong)[~cap].max() < 0.01
    assert np.array_equal(faired(wrong, faces, np.full(len(truth), SEEN)), wrong)


def test_reflected_rays_end_where_the_images_of_seen_points_are(views: Capture) -> None:
    prepared = Views(views, 640, 0.3, CPU)
    on = prepared.inside[(prepared.host_depth[tuple(prepared.inside.numpy().T)] > 0)]
    on = torch.cat([on, torch.zeros_like(on[:, :1])], 1)
    normal = np.array([0.6, 0.8, 0.0])
    maps = mirror_map(normal, 0.1)[None]
    mirrored = Mirrored(Symmetry("mirror", maps, 1.0, 1.0), on, on[:0], torch.tensor(maps).float(), 0.02)
    rays = mirrored.drawn(prepared, 60, torch.Generator().manual_seed(0))
    ends = rays.origins + rays.measured[:, None] * rays.directions
    own = prepared.rays(torch.stack([rays.view, rays.row, rays.column], 1))
    seen = own.origins + own.measured[:, None] * own.directions
    away = ends @ torch.tensor(normal).float() - 0.1
    assert torch.allclose(away, 0.1 - seen @ torch.tensor(normal).float(), atol=1e-5)
    assert torch.allclose((ends - seen).norm(dim=1), 2 * away.abs(), atol=1e-5)
    # What is seen lies where the views look; its image behind the object is not called seen.
    points, normals = seen.numpy().astype(float), -own.directions.numpy().astype(float)
    assert (look_at(prepared, points, normals, 0.02) == AGREES).mean() > 0.9
    assert (look_at(prepared, points + 0.1 * normals, normals, 0.02) == CONTRADICTS).mean() > 0.8


def test_views_disagree_by_what_other_views_measured(views: Capture) -> None:
    """A view agrees with itself, whatever it measured: that tells nothing of the tolerance."""
    off = views.depth_mm.copy()
    off[1::2] *= 1.01
    prepared = Views(replace(views, depth_mm=off).frames([3, 4]), 640, 0.3, CPU)
    points, _, places = finish(_seen(prepared))
    shift = 0.01 * float(np.median(prepared.host_depth[prepared.host_depth > 0])) / prepared.frame.scale
    assert _disagreement(prepared, points, places[:, 0]) == pytest.approx(0.7 * shift, rel=0.4)


@pytest.mark.filterwarnings("error")
def test_one_view_cannot_tell_a_symmetry(phantom: ObjectPhantom, views: Capture) -> None:
    prepared = Views(replace(views, target=views.target & ~views.occluded).frames([2]), 640, 0.3, CPU)
    points, _, places = finish(_seen(prepared))
    assert len(points) > 200 and _disagreement(prepared, points, places[:, 0]) is None
    assert finish(find_mirrored(prepared)) is None


def test_views_do_not_deny_what_they_see_at_a_rim(phantom: ObjectPhantom, views: Capture) -> None:
    """There the slope is not measured: a depth of the next pixel may be far off."""
    prepared, truth = Views(views, 640, 0.3, CPU), phantom.mesh
    places = (truth.vertices_mm.astype(float) - prepared.frame.centre) / prepared.frame.scale
    told = look_at(prepared, places, vertex_normals(truth), 0.03)[truth.evidence > 0]
    assert (told == CONTRADICTS).mean() < 0.004 and (told == AGREES).mean() > 0.9


def test_what_views_look_through_is_empty_though_something_may_hide_the_object(views: Capture) -> None:
    unsure = replace(views, occluded=None, details={"outlines_certain": False}).frames([2])
    prepared = Views(unsure, 640, 0.3, CPU)
    row, column = np.nonzero(prepared.blank[0] & (prepared.host_depth[0] > 0))
    pixels, depth = np.stack([column, row], 1).astype(float)[None], prepared.host_depth[:1, row, column]
    for share, wanted in ((0.8, CONTRADICTS), (1.2, UNSEEN)):
        world = prepared.cameras[0].unproject(pixels, share * depth)[0]
        places = (world - prepared.frame.centre) / prepared.frame.scale
        assert len(places) > 100
        assert (look_at(prepared, places, np.zeros_like(places), 0.02) == wanted).all()


def test_a_mirrored_object_teaches_where_no_view_looks() -> None:
    body = bumpy_body(np.random.default_rng([36, 11]), 60.0)
    directions, across = np.asarray(trimesh.creation.icosphere(subdivisions=6).vertices), [-1.0, 1.0, 1.0]
    _, image = cKDTree(directions).query(directions * across)
    shape = (body.vertices_mm + body.vertices_mm[image] * across) / 2
    preset = replace(
        PRESETS["demo_occluded"], arc_deg=100.0, views=9, width_px=112, height_px=84, focal_px=98.0, subrays=1
    )
    p = finish(make_object(preset, 36, Mesh(shape.astype(np.float32), body.faces)))
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    views = Views(Capture(Modality.COLOUR, p.images, np.zeros(9), **known), 640, 0.3, CPU)
    mirrored = finish(find_mirrored(views))
    assert mirrored is not None and mirrored.symmetry.kind == "mirror"
    assert abs(mirrored.symmetry.maps[0][0, 0] + 1) < 0.01
    points, normals, places = finish(_seen(views))
    taught = {tuple(place) for place in mirrored.on[:, :3].tolist()}
    chosen = np.array([tuple(place) in taught for place in places.tolist()])
    (turn,) = mirrored.symmetry.maps
    images = points[chosen] @ turn[:3, :3].T + turn[:3, 3]
    told = look_at(views, images, normals[chosen] @ turn[:3, :3].T, mirrored.tolerance)
    assert chosen.sum() > 200 and (told == UNSEEN).all()


def test_reflected_pixels_weigh_as_the_pixels_themselves(views: Capture) -> None:
    invented = replace(views, target=views.target | views.occluded, synthetic=views.occluded)
    prepared = Views(invented, 640, 0.3, CPU)
    places = torch.cat([prepared.inside, torch.zeros_like(prepared.inside[:, :1])], 1)
    maps = mirror_map(np.array([1.0, 0.0, 0.0]), 0.0)[None]
    symmetry = Symmetry("mirror", maps, 1.0, 1.0)
    mirrored = Mirrored(symmetry, places, places, torch.tensor(maps).float(), 0.02)
    rays = mirrored.drawn(prepared, 200, torch.Generator().manual_seed(0))
    assert torch.equal(rays.weight, prepared.weight[rays.view, rays.row, rays.column])
    assert set(rays.weight.tolist()) == {float(np.float32(0.3)), 1.0}


def test_depth_without_end_is_unknown(views: Capture) -> None:
    hole = views.depth_mm.copy()
    hole[:, 20:24, 30:34] = np.nan
    endless = np.where(np.isnan(hole), np.float32(np.inf), hole)
    one, two = (Views(replace(views, depth_mm=d), 640, 0.3, CPU) for d in (hole, endless))
    assert np.array_equal(one.host_depth, two.host_depth) and one.frame.scale == two.frame.scale


def test_a_resumed_run_ends_where_an_undisturbed_one_does(views: Capture) -> None:
    quick = replace(QUICK, coarse_steps=12, fine_steps=12, snapshot_every_s=0.1)
    task, middle = reconstruct([views], quick, CPU), None
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            whole = stop.value
            break
        if isinstance(event, Snapshot) and middle is None and 0 < event.step < 24:
            middle = event
    assert middle is not None
    again = finish(reconstruct([views], quick, CPU, resume=middle.checkpoint))
    one, two = whole.state().arrays, again.state().arrays
    assert all(np.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_without_weights_the_stand_in_is_said(views: Capture) -> None:
    notices = [e for e in reconstruct([views], replace(QUICK, coarse_steps=10, fine_steps=0), CPU)
               if isinstance(e, Notice)]  # fmt: skip
    assert [n.code for n in notices] == ["semantic-consistency"] and "CLIP" in notices[0].text


@pytest.mark.parametrize("missing", ["cameras", "target"])
def test_what_is_missing_is_said(views: Capture, missing: str) -> None:
    with pytest.raises(InputError, match="completed_object needs"):
        finish(reconstruct([replace(views, **{missing: None})], QUICK, CPU))


def test_empty_masks_are_said(views: Capture) -> None:
    with pytest.raises(InputError, match="mask"):
        finish(reconstruct([replace(views, target=np.zeros_like(views.target))], QUICK, CPU))


def test_without_depth_outlines_and_colours_are_enough_to_run(views: Capture) -> None:
    quick = replace(QUICK, coarse_steps=60, fine_steps=10)
    scene = finish(reconstruct([replace(views, depth_mm=None)], quick, CPU))
    assert len(scene.surface(0.0).faces) > 0

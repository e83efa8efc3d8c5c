"""The phantom object: what it says is true must agree with itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from splatomy.errors import InputError
from splatomy.phantoms.object import PRESETS, ObjectPhantom, make_object
from splatomy.scene import Mesh

_SMALL = replace(PRESETS["tiny"], occluder=True, path="handheld", arc_deg=160.0, depth_noise=4e-6, views=6)


def _drive(task) -> ObjectPhantom:
    while True:
        try:
            next(task)
        except StopIteration as stop:
            return stop.value


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    """A small scene with an occluder and a depth sensor."""
    return _drive(make_object(_SMALL, 3))


def test_depth_is_that_of_the_mesh(phantom):
    """Points of the depth sensor lie on the true surface, within its noise."""
    body = trimesh.Trimesh(phantom.mesh.vertices_mm, phantom.mesh.faces, process=False)
    view = 2
    rows, columns = np.nonzero(phantom.target[view])
    pixels = np.stack([columns, rows], -1).astype(float)
    depth = phantom.depth_mm[view][rows, columns]
    points = phantom.cameras[view].unproject(pixels[None], depth[None])[0]
    surface = trimesh.sample.sample_surface(body, 200_000, seed=0)[0]
    away = cKDTree(surface).query(points)[0]
    noise = _SMALL.depth_noise * np.median(depth) ** 2
    between_samples = np.sqrt(body.area / len(surface))
    assert np.median(away) < noise + between_samples


def test_masks_are_disjoint_and_follow_the_depth(phantom):
    assert not (phantom.target & phantom.occluder).any()
    hidden = phantom.occluder & np.isfinite(phantom.true_depth_mm)
    assert hidden.any(), "the block must hide a part of the object"
    # Where the block hides the object, the sensor measures something nearer.
    assert (phantom.depth_mm[hidden] < phantom.true_depth_mm[hidden]).mean() > 0.99


def test_the_object_alone_equals_what_is_seen_of_it(phantom):
    inner = phantom.target & np.isfinite(phantom.true_depth_mm)
    gap = np.abs(phantom.images - phantom.rgb).mean(-1)[inner]
    assert np.median(gap) < 2 * _SMALL.colour_noise


def test_evidence_is_zero_below_and_behind(phantom):
    vertices, evidence = phantom.mesh.vertices_mm, phantom.mesh.evidence
    assert set(np.unique(evidence)) == {0.0, 1.0}
    lowest = vertices[:, 2] < np.quantile(vertices[:, 2], 0.01)
    assert not evidence[lowest].any(), "nobody sees what stands on the table"
    assert 0.2 < evidence.mean() < 0.9


def test_same_seed_same_views(phantom):
    again = _drive(make_object(_SMALL, 3))
    np.testing.assert_array_equal(again.images, phantom.images)
    other = _drive(make_object(replace(_SMALL, views=1), 4))
    assert not np.array_equal(other.images[0], phantom.images[0])


@pytest.mark.parametrize("shape", ["body", "ring"])
def test_shapes_are_closed(shape):
    made = _drive(make_object(replace(PRESETS["tiny"], shape=shape, views=1), 1))
    solid = trimesh.Trimesh(made.mesh.vertices_mm, made.mesh.faces, process=False)
    assert solid.is_watertight and solid.volume > 0
    assert solid.euler_number == (2 if shape == "body" else 0)


def test_a_given_mesh_is_centred_and_scaled():
    cube = trimesh.creation.box(extents=(1, 2, 3)).subdivide().subdivide()
    cube.apply_translation([50, 0, 0])
    given = Mesh(np.asarray(cube.vertices, np.float32), np.asarray(cube.faces, np.int32))
    made = _drive(make_object(replace(PRESETS["tiny"], views=1), 1, given))
    assert np.linalg.norm(made.mesh.vertices_mm, axis=1).max() == pytest.approx(60.0, rel=1e-4)


def test_unknown_preset():
    with pytest.raises(InputError, match="no object preset 'giant'"):
        _drive(make_object("giant", 0))

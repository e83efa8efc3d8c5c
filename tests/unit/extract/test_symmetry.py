"""The symmetry of a partly seen surface: found where there is one, denied where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.events import finish
from splatomy.extract.symmetry import AGREES, CONTRADICTS, UNSEEN, Symmetry, find_symmetry, mirror_map

Float = NDArray[np.float64]

PLANE = np.array([0.48, 0.6, 0.64])
NOISE = 0.004


def bumpy(rng: np.random.Generator, shape: str) -> trimesh.Trimesh:
    """A closed body of radius about one: "mirrored" by PLANE, "turned" about PLANE, or neither."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    directions = np.asarray(ball.vertices)
    radius = np.ones(len(directions))
    for wave in (2, 3, 3, 5, 5, 7):
        axis = PLANE if shape == "turned" else rng.normal(size=3)
        axis = axis / np.linalg.norm(axis)
        phase = rng.uniform(0, 6)
        along = directions @ axis
        if shape == "mirrored":
            other = axis - 2 * (axis @ PLANE) * PLANE
            pair = [np.cos(wave * np.arccos(a.clip(-1, 1)) + phase) for a in (along, directions @ other)]
            radius += 0.15 / wave * (pair[0] + pair[1])
        else:
            radius += 0.3 / wave * np.cos(wave * np.arccos(along.clip(-1, 1)) + phase)
    return trimesh.Trimesh(directions * radius[:, None], ball.faces, process=False)


def found_in(
    shape: str,
    seed: int = 0,
    side: tuple[float, ...] = (0.0, 0.6, 0.8),
    own_agreement: float = 1.0,
) -> Symmetry | None:
    """What is found of a body of which three fifths, on one side, were seen with noise."""
    rng = np.random.default_rng(seed)
    body = bumpy(rng, shape)
    whole, normals = np.asarray(body.vertices), np.asarray(body.vertex_normals)
    seen = whole @ np.array(side) > -0.25
    points = whole[seen] + NOISE * rng.normal(size=(int(seen.sum()), 1)) * normals[seen]
    tree = cKDTree(whole)

    def look(places: Float, facing: Float) -> NDArray[np.int8]:
        _, nearest = tree.query(places)
        gap = np.abs(((places - whole[nearest]) * normals[nearest]).sum(1))
        told = np.where(gap < 0.02, AGREES, CONTRADICTS)
        return np.where(seen[nearest], told, UNSEEN).astype(np.int8)

    return finish(find_symmetry(points, normals[seen], look, own_agreement))


def test_a_mirror_plane_is_found_from_a_part_of_the_surface() -> None:
    found = found_in("mirrored", 2)
    assert found is not None and found.kind == "mirror" and found.confidence > 0.9
    turn = found.maps[0][:3, :3] @ mirror_map(PLANE, 0.0)[:3, :3]
    assert np.degrees(np.arccos(min(1.0, (np.trace(turn) - 1) / 2))) < 1.0
    assert np.linalg.norm(found.maps[0][:3, 3]) < 0.02


def test_a_mirror_plane_is_found_where_hardly_more_than_one_side_was_seen() -> None:
    """Few pairs of points vote for such a plane."""
    for seed in (0, 1, 3, 5):
        found = found_in("mirrored", seed, tuple(PLANE))
        assert found is not None and found.kind == "mirror"
        assert found.maps[0][:3, :3] == pytest.approx(mirror_map(PLANE, 0.0)[:3, :3], abs=0.02)


def test_views_that_disagree_among_themselves_find_nothing() -> None:
    assert found_in("mirrored", 2, own_agreement=0.7) is not None
    assert found_in("mirrored", 2, own_agreement=0.3) is None


def test_an_axis_is_found_from_a_part_of_the_surface() -> None:
    found = found_in("turned")
    assert found is not None and found.kind == "axis" and len(found.maps) > 10
    axis = np.linalg.svd(found.maps[3][:3, :3] - np.eye(3))[2][2]
    assert abs(axis @ PLANE) > np.cos(np.radians(1.0))


def test_nothing_is_made_of_a_body_without_symmetry() -> None:
    assert found_in("neither", 1) is None


def test_too_little_to_go_by_is_no_symmetry() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    assert finish(find_symmetry(points, points, lambda p, n: np.zeros(len(p), np.int8), 1.0)) is None

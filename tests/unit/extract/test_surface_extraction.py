"""Iso-surfaces and their clean-up."""

from __future__ import annotations

import numpy as np
import pytest

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.extract.mesh import iso_surface, largest_components, smooth_mesh, vessel_surface
from splatomy.extract.vessels import label_of_mask
from splatomy.scene import Mesh, Volume


def balls(flip: bool = False) -> Volume:
    """Signed depth of two balls of radii 6 and 2 mm."""
    grid = Grid.centred((40, 36, 30), (0.8, 0.7, 0.9))
    affine = grid.affine_mm.copy()
    if flip:
        affine[0] *= -1
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    p = index @ affine[:3, :3].T + affine[:3, 3]
    depth = np.maximum(
        6 - np.linalg.norm(p - [-2, 1, 0], axis=-1), 2 - np.linalg.norm(p - [9.5, 8, 6], axis=-1)
    )
    return Volume(depth.astype(np.float32), affine)


def signed_volume(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices_mm[mesh.faces].astype(float), 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("flip", [False, True])
def test_surface_lies_in_the_world_and_faces_outwards(flip: bool) -> None:
    mesh = largest_components(iso_surface(balls(flip), 0.0))
    radius = np.linalg.norm(mesh.vertices_mm - [-2, 1, 0], axis=1)
    assert np.abs(radius - 6).max() < 0.1
    assert signed_volume(mesh) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)


def test_largest_components_choose_by_area() -> None:
    mesh = iso_surface(balls(), 0.0)
    mesh = Mesh(mesh.vertices_mm, mesh.faces, evidence=np.arange(len(mesh.vertices_mm), dtype=np.float32))
    one = largest_components(mesh, 1)
    assert len(one.faces) < len(mesh.faces)
    assert one.evidence is not None and len(one.evidence) == len(one.vertices_mm)
    assert len(largest_components(mesh, 0).faces) == len(mesh.faces)
    assert len(largest_components(mesh, 0, min_area_share=0.5).faces) == len(one.faces)
    with pytest.raises(InputError, match="0 \\(all\\) or more"):
        largest_components(mesh, -1)


def test_smoothing_keeps_the_volume() -> None:
    volume = balls()
    noisy = volume.values + 0.3 * np.random.default_rng(0).normal(size=volume.values.shape)
    mesh = largest_components(iso_surface(Volume(noisy.astype(np.float32), volume.affine_mm), 0.0))
    smooth = smooth_mesh(mesh)

    def roughness(m: Mesh) -> float:
        return float(np.std(np.linalg.norm(m.vertices_mm - [-2, 1, 0], axis=1)))

    assert roughness(smooth) < 0.8 * roughness(mesh)
    assert signed_volume(smooth) == pytest.approx(signed_volume(mesh), rel=0.02)


def test_a_region_at_the_border_is_closed() -> None:
    mesh = iso_surface(Volume(np.ones((4, 4, 4), np.float32), np.eye(4)), 0.5)
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), 1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 2).all()


def test_no_crossing_gives_an_empty_mesh() -> None:
    mesh = iso_surface(Volume(np.zeros((4, 4, 4), np.float32), np.eye(4)), 0.5)
    assert mesh.faces.shape == (0, 3)
    assert largest_components(smooth_mesh(mesh)).faces.shape == (0, 3)


def test_vessel_surface_encloses_the_label() -> None:
    mask = Volume((balls().values > 0).astype(np.float32), balls().affine_mm)
    label = label_of_mask(mask)
    assert signed_volume(vessel_surface(label)) / 1000 == pytest.approx(label.volume_ml, rel=0.05)

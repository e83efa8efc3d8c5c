"""Meshes of deforming tissue: exact on a plane, one topology over time, and honest about steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splatomy.errors import InputError
from splatomy.extract.tissue import carried, deformation_map, depth_mesh, fused_surface
from splatomy.gaussians.deform import CurveDeformation
from splatomy.geometry.cameras import Cameras
from splatomy.methods.dynamic_tissue.model import TissueScene
from splatomy.scene import Mesh

FOCAL = 60.0
NORMAL = np.array([0.2, -0.1, -1.0]) / np.linalg.norm([0.2, -0.1, -1.0])
DISTANCE_MM = 50.0


def camera(width: int = 48, height: int = 40, shift_mm: float = 0.0, focal: float = FOCAL) -> Cameras:
    k = np.array([[[focal, 0, (width - 1) / 2 + 3], [0, focal, (height - 1) / 2], [0, 0, 1]]])
    pose = np.eye(4)[None].copy()
    pose[0, 0, 3] = -shift_mm
    return Cameras(k, pose, width, height)


def plane_depth(view: Cameras) -> np.ndarray:
    """z depth of the plane through (0, 0, 50) with the normal above."""
    y, x = np.indices((view.height_px, view.width_px))
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(view.intrinsics[0]).T
    away = (np.array([0, 0, DISTANCE_MM]) - view.centres_mm[0]) @ NORMAL
    return away / (rays @ NORMAL)


def test_a_tilted_plane_is_exact_and_faces_the_camera() -> None:
    view = camera()
    colours = np.random.default_rng(0).random((40, 48, 3))
    mesh = depth_mesh(plane_depth(view), view, colours, np.full((40, 48), 0.25))
    assert len(mesh.vertices_mm) == 40 * 48 and len(mesh.faces) == 2 * 39 * 47
    off = (mesh.vertices_mm - np.array([0, 0, DISTANCE_MM])) @ NORMAL
    assert np.abs(off).max() < 1e-3
    a, b, c = (mesh.vertices_mm[mesh.faces[:, i]].astype(float) for i in range(3))
    normals = np.cross(b - a, c - a)
    assert (normals @ NORMAL > 0).all()
    assert mesh.colours is not None and np.allclose(mesh.colours, colours.reshape(-1, 3))
    assert mesh.evidence is not None and (mesh.evidence == 0.25).all()
    assert mesh.faces.dtype == np.int32


def test_steps_gaps_and_grazing_faces_are_left_out() -> None:
    view = camera()
    depth = np.full((40, 48), 50.0)
    depth[:, 24:] = 60.0
    depth[10, 10] = np.nan
    mesh = depth_mesh(depth, view)
    z = mesh.vertices_mm[mesh.faces][..., 2]
    assert (np.ptp(z, axis=1) < 1).all()
    assert len(mesh.faces) == 2 * 39 * 46 - 6
    # Slopes of at most 72 and at least 85 degrees; neither has a step.
    narrow = camera(focal=1000.0)
    for slope_mm, kept in ((0.15, 1), (1.8, 0)):
        slanted = np.broadcast_to(50 + slope_mm * np.arange(48), (40, 48))
        assert len(depth_mesh(slanted, narrow).faces) == kept * 2 * 39 * 47


def test_a_mesh_without_any_depth_is_empty() -> None:
    mesh = depth_mesh(np.full((40, 48), np.nan), camera())
    assert len(mesh.faces) == 0 and len(mesh.vertices_mm) == 0


def test_carried_vertices_follow_their_surfels() -> None:
    view = camera()
    rest = depth_mesh(plane_depth(view), view)
    rng = np.random.default_rng(1)
    anchors = rest.vertices_mm[rng.permutation(len(rest.vertices_mm))[:600]]
    moving = carried(rest, anchors)
    assert np.allclose(moving.share.sum(1), 1, atol=1e-5)
    shifted = moving.at(np.tile([1.0, -2.0, 3.0], (600, 1)))
    assert np.allclose(shifted.vertices_mm, rest.vertices_mm + [1, -2, 3], atol=1e-4)
    assert shifted.faces is rest.faces
    # An affine motion of the surfels is followed to within the distance between surfels.
    turn = np.array([[1, 0.05, 0], [-0.05, 1, 0], [0, 0, 1.02]])
    bent = moving.at(anchors @ turn.T - anchors)
    wanted = rest.vertices_mm @ turn.T
    assert np.median(np.linalg.norm(bent.vertices_mm - wanted, axis=1)) < 0.1
    with pytest.raises(ValueError, match="surfels"):
        carried(rest, np.zeros((0, 3)))


def test_the_deformation_map_is_that_of_a_stretch() -> None:
    view = camera()
    rest = depth_mesh(plane_depth(view), view)
    moved = Mesh(rest.vertices_mm * np.float32(1.1), rest.faces)
    found = deformation_map(rest, moved)
    assert np.allclose(found.stretch, 1.1, atol=1e-3)
    assert np.allclose(found.distance_mm, 0.1 * np.linalg.norm(rest.vertices_mm, axis=1), rtol=1e-3)
    with pytest.raises(InputError, match="one topology"):
        deformation_map(rest, Mesh(rest.vertices_mm[:-1], rest.faces[:10]))


def plane_scene(view: Cameras) -> TissueScene:
    mesh = depth_mesh(plane_depth(view), view)
    count = len(mesh.vertices_mm)
    half = np.arccos(-NORMAL[2]) / 2
    axis = np.cross([0, 0, -1.0], NORMAL) / np.linalg.norm(np.cross([0, 0, -1.0], NORMAL))
    quat = np.concatenate([[np.cos(half)], np.sin(half) * axis])
    curves = CurveDeformation(0.0, 1.0, 5, 0.1, 1.0, torch.device("cpu")).start(count).numpy()
    curves[:, 2, 0, 2] = 4.0
    surfels = {
        "means_mm": mesh.vertices_mm,
        "quats_wxyz": np.tile(quat, (count, 1)).astype(np.float32),
        "log_scales": np.full((count, 2), np.log(0.7 * DISTANCE_MM / FOCAL), np.float32),
        "opacity_logit": np.full(count, 3.0, np.float32),
        "sh": np.zeros((count, 1, 3), np.float32),
        "evidence": np.ones(count, np.float32),
        "curves": curves,
    }
    return TissueScene(surfels, {}, np.array([0.0, 1.0]), 1.0, 1.0, view, 0.0, True)


def test_fused_depths_give_the_plane_back() -> None:
    views = Cameras.concatenate([camera(), camera(shift_mm=4.0)])
    scene = plane_scene(views[0])
    mesh = fused_surface(scene, views, 0.0, voxel_mm=0.8)
    assert len(mesh.faces) > 500
    off = (mesh.vertices_mm - np.array([0, 0, DISTANCE_MM])) @ NORMAL
    assert np.median(np.abs(off)) < 0.1 and np.quantile(np.abs(off), 0.99) < 0.8
    with pytest.raises(InputError, match="larger voxels"):
        fused_surface(scene, views, 0.0, voxel_mm=0.01)


def test_a_scene_moves_its_one_mesh() -> None:
    scene = plane_scene(camera())
    rest, moved = scene.surface(0.0), scene.surface(0.5)
    assert np.array_equal(rest.faces, moved.faces) and len(rest.faces) > 1000
    shift = deformation_map(rest, moved).displacement_mm
    assert np.allclose(shift, [0, 0, 4.0], atol=0.05)
    with pytest.raises(ValueError, match="volume"):
        scene.volume(None, 0.0)  # type: ignore[arg-type]

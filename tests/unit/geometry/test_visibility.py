"""What a camera sees of a mesh, against what geometry says."""

from __future__ import annotations

import numpy as np
import trimesh

from splatomy.geometry.cameras import Cameras
from splatomy.geometry.visibility import first_hits, look_at, seen_vertices

K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])


def _camera() -> Cameras:
    pose = np.eye(4)
    pose[2, 3] = 100.0
    return Cameras(K[None], pose[None], 64, 48)


def test_depth_of_a_tilted_plane_is_exact():
    corners = np.array([[-200.0, -200, -30], [200, -200, 30], [200, 200, 30], [-200, 200, -30]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    camera = _camera()
    depth, face, weights = first_hits(corners, faces, K, camera.camera_from_world[0], 48, 64)
    x = (np.arange(64) - K[0, 2]) / K[0, 0]
    # z = 100 + 0.15 X with X = x z.
    np.testing.assert_allclose(depth, np.broadcast_to(100 / (1 - 0.15 * x), (48, 64)), rtol=1e-9)
    assert (face >= 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-12)


def test_the_nearer_of_two_plates_wins():
    near = np.array([[-10.0, -10, -20], [10, -10, -20], [0, 10, -20]])
    far = near * [5, 5, -1]
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    depth, face, _ = first_hits(np.concatenate([far, near]), faces, K, _camera().camera_from_world[0], 48, 64)
    assert face[23, 31] == 1 and depth[23, 31] == 80.0


def test_normals_of_a_view_face_the_camera():
    corners = np.array([[-200.0, -200, -30], [200, -200, 30], [200, 200, 30], [-200, 200, -30]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    for turned in (faces, faces[:, ::-1]):
        view = look_at(corners, turned, _camera(), 0)
        assert view.hit.all()
        assert np.allclose(view.normals, np.array([0.15, 0, -1]) / np.hypot(0.15, 1))
        points = (corners[view.corners] * view.share[..., None]).sum(1)
        np.testing.assert_allclose(points[:, 2] + 100, view.depth_mm)


def test_the_back_of_a_sphere_is_not_seen():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=20.0)
    vertices = np.asarray(ball.vertices, np.float64)
    lens = np.array([[900.0, 0, 239.5], [0, 900.0, 239.5], [0, 0, 1]])
    camera = Cameras(lens[None], _camera().camera_from_world, 480, 480)
    seen = seen_vertices(vertices, np.asarray(ball.faces, np.int32), camera, 0, 0.2)
    # Seen from 100 mm away, the horizon lies at z = -r^2 / d = -4.
    assert seen[vertices[:, 2] < -6].all()
    assert not seen[vertices[:, 2] > -1].any()


def test_triangles_behind_the_camera_are_left_out():
    vertices = np.array([[-10.0, -10, -150], [10, -10, -150], [0, 10, -150]])
    depth, face, _ = first_hits(
        vertices, np.array([[0, 1, 2]], np.int32), K, _camera().camera_from_world[0], 48, 64
    )
    assert (face == -1).all() and np.isinf(depth).all()

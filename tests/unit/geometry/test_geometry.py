"""Laws of rigid motions, cameras and frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splatomy.capture import Grid
from splatomy.geometry.cameras import from_projection_matrices
from splatomy.geometry.conebeam import cone_beam, gantry_angles_rad, rays
from splatomy.geometry.frames import lps_from_ras, opencv_from_opengl, ras_from_lps
from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector

angle = st.floats(-3.0, 3.0)
coordinate = st.floats(-300.0, 300.0)


def motion(values: tuple[float, ...]) -> np.ndarray:
    return rigid(rotation_from_vector(np.array(values[:3])), np.array(values[3:]))


@given(st.tuples(angle, angle, angle, coordinate, coordinate, coordinate))
def test_a_motion_times_its_inverse_is_the_identity(values: tuple[float, ...]) -> None:
    m = motion(values)
    assert np.allclose(m @ inverse(m), np.eye(4), atol=1e-9)
    assert np.isclose(np.linalg.det(m[:3, :3]), 1.0)


@given(angle, st.floats(-1.0, 1.0), st.floats(-20, 20), st.floats(-0.3, 0.3))
@settings(max_examples=40)
def test_project_undoes_unproject(primary: float, secondary: float, offset: float, roll: float) -> None:
    cameras = cone_beam(
        primary, secondary, 750, 1200, 300, 200, (0.6, 0.7), offset_px=(offset, -offset), roll_rad=roll
    )
    points = np.random.default_rng(0).uniform(-60, 60, (20, 3))
    pixels, depth = cameras.project(points)
    assert np.allclose(cameras.unproject(pixels, depth)[0], points, atol=1e-9)


@given(angle, st.floats(-1.0, 1.0))
@settings(max_examples=30)
def test_angles_and_matrices_come_back(primary: float, secondary: float) -> None:
    cameras = cone_beam(primary, secondary, 750, 1200, 300, 200, (0.6, 0.7))
    assert np.allclose(gantry_angles_rad(cameras)[0], [primary, secondary], atol=1e-9)
    again = from_projection_matrices(-3.7 * cameras.world_to_pixel, 300, 200)
    assert np.allclose(again.intrinsics, cameras.intrinsics, atol=1e-6)
    assert np.allclose(again.camera_from_world, cameras.camera_from_world, atol=1e-8)


def test_a_binned_camera_sees_the_centre_of_its_blocks() -> None:
    cameras = cone_beam(0.3, 0.1, 750, 1200, 64, 48, (1.0, 1.0))
    _, fine = rays(cameras, 0)
    _, coarse = rays(cameras.resized(2), 0)
    block = fine[10:12, 20:22].reshape(-1, 3).mean(0)
    assert np.allclose(coarse[5, 10], block / np.linalg.norm(block), atol=1e-7)


def test_row_zero_is_the_head_end() -> None:
    cameras = cone_beam(0.0, 0.0, 750, 1200, 65, 65, (1.0, 1.0))
    pixels, _ = cameras.project(np.array([[0.0, 0.0, 10.0]]))
    assert pixels[0, 0, 1] < 32


def test_frames_are_involutions() -> None:
    affine = np.random.default_rng(0).normal(size=(4, 4))
    assert np.allclose(ras_from_lps(lps_from_ras(affine)), affine)
    assert np.allclose(opencv_from_opengl(opencv_from_opengl(affine)), affine)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_binned_grid_fills_the_same_box(factor: int) -> None:
    grid = Grid.centred((16, 8, 32), (0.5, 1.0, 0.25))
    assert np.allclose(grid.binned(factor).bounds_mm, grid.bounds_mm)


def test_singular_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        from_projection_matrices(np.zeros((1, 3, 4)), 4, 4)

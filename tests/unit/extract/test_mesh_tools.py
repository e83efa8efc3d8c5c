"""Mesh tools on shapes whose figures are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.extract.mesh_check import mesh_figures, rims_of
from splatomy.extract.mesh_tools import (
    MeshTools,
    fill_holes,
    keep_largest,
    of_faces,
    smoothed,
    thinned,
    tidied,
    trimmed_to_views,
)
from splatomy.extract.room import check_room, grid_bytes, surface_bytes
from splatomy.geometry.orbit import orbit
from splatomy.scene import Mesh


def ball(radius: float = 10.0, detail: int = 3, shift: float = 0.0) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=detail, radius=radius)
    vertices = np.asarray(made.vertices, np.float32) + np.float32([shift, 0, 0])
    colours = np.clip(vertices / 40 + 0.5, 0, 1).astype(np.float32)
    evidence = (vertices[:, 2] > 0).astype(np.float32)
    return Mesh(vertices, np.asarray(made.faces, np.int32), colours, evidence)


def both(a: Mesh, b: Mesh) -> Mesh:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(a, name), getattr(b, name)])

    faces = np.concatenate([a.faces, b.faces + len(a.vertices_mm)])
    return Mesh(joined("vertices_mm"), faces, joined("colours"), joined("evidence"))


def with_hole(mesh: Mesh, reach: float) -> Mesh:
    """Without the faces whose corners all lie within ``reach`` of the top."""
    top = mesh.vertices_mm[:, 2].max()
    far = np.linalg.norm(mesh.vertices_mm - [0, 0, top], axis=1) > reach
    return of_faces(mesh, far[mesh.faces].any(1))


def test_figures_of_a_closed_ball() -> None:
    figures = mesh_figures(ball(10.0, 4))
    assert figures.is_closed and figures.is_manifold and figures.pieces == 1 and figures.holes == 0
    assert figures.area == pytest.approx(4 * np.pi * 100, rel=0.01)
    assert figures.volume == pytest.approx(4 / 3 * np.pi * 1000, rel=0.01)
    assert figures.seen_area == pytest.approx(figures.area / 2, rel=0.05)
    assert set(figures.rows("mm")) >= {"area", "rims", "manifold", "enclosed volume"}


def test_faults_are_counted() -> None:
    whole = ball()
    turned = Mesh(whole.vertices_mm, np.concatenate([whole.faces[1:], whole.faces[:1, ::-1]]))
    assert mesh_figures(turned).turned_edges == 3 and not mesh_figures(turned).is_closed
    fin = Mesh(
        np.concatenate([whole.vertices_mm, np.float32([[0, 0, 30]])]),
        np.concatenate([whole.faces, np.int32([[*whole.faces[0, :2], len(whole.vertices_mm)]])]),
    )
    assert mesh_figures(fin).crowded_edges == 1 and not mesh_figures(fin).is_manifold
    # Two tetrahedra that touch in one corner.
    corner = np.int32([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    places = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    second = np.int32([0, 4, 5, 6])[corner]
    pinched = mesh_figures(Mesh(places, np.concatenate([corner, second])))
    assert pinched.pinched_vertices == 1 and pinched.open_edges == 0


def test_a_small_hole_is_filled_without_evidence_and_a_large_one_is_left() -> None:
    holed = with_hole(ball(10.0, 4), 3.0)
    assert len(rims_of(holed)) == 1 and holed.evidence is not None
    filled, step = fill_holes(holed, 8.0)
    figures = mesh_figures(filled)
    assert figures.is_closed and figures.is_manifold and step.figures["filled"] == 1
    assert figures.volume is not None and figures.volume > 0
    assert filled.evidence is not None and filled.colours is not None
    assert len(filled.evidence) == len(filled.colours) == len(filled.vertices_mm)
    assert (filled.evidence[len(holed.vertices_mm) :] == 0).all()
    assert np.array_equal(filled.evidence[: len(holed.vertices_mm)], holed.evidence)
    left, step = fill_holes(holed, 2.0)
    assert step.figures == {"filled": 0.0, "left_open": 1.0, "added_area": 0.0}
    assert np.array_equal(left.faces, holed.faces)


def test_the_largest_piece_is_kept_by_area() -> None:
    # The small piece has more triangles, the large one more area.
    mesh = both(ball(10.0, 2), ball(2.0, 3, shift=30.0))
    kept, step = keep_largest(mesh)
    assert mesh_figures(kept).area == pytest.approx(mesh_figures(ball(10.0, 2)).area, rel=1e-5)
    assert step.figures["pieces_before"] == 2 and step.figures["pieces_after"] == 1


def test_smoothing_flattens_noise_and_keeps_the_volume() -> None:
    clean = ball(10.0, 4)
    noise = np.random.default_rng(0).normal(0, 0.15, clean.vertices_mm.shape).astype(np.float32)
    rough = Mesh(clean.vertices_mm + noise, clean.faces, clean.colours, clean.evidence)
    smooth, step = smoothed(rough, 20)

    def roughness(mesh: Mesh) -> float:
        return float(np.abs(np.linalg.norm(mesh.vertices_mm, axis=1) - 10).mean())

    assert roughness(smooth) < 0.6 * roughness(rough)
    before, after = mesh_figures(rough).volume, mesh_figures(smooth).volume
    assert before is not None and after == pytest.approx(before, rel=0.02)
    assert step.figures["largest_move"] > 0 and smooth.evidence is clean.evidence


def test_decimation_keeps_shape_and_evidence() -> None:
    mesh = ball(10.0, 4)
    fewer, _ = thinned(mesh, 800)
    figures = mesh_figures(fewer)
    assert len(fewer.faces) <= 820 and figures.is_closed and figures.is_manifold
    assert figures.area == pytest.approx(4 * np.pi * 100, rel=0.03)
    assert fewer.evidence is not None
    clear = np.abs(fewer.vertices_mm[:, 2]) > 1
    assert np.array_equal(fewer.evidence[clear] > 0, fewer.vertices_mm[clear, 2] > 0)


def test_trimming_keeps_what_views_show() -> None:
    mesh = ball()
    front, up = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    one = orbit(front, up, np.zeros(3), 12.0, np.zeros(1), np.zeros(1), 128)
    half, step = finish(trimmed_to_views(mesh, one))
    assert half.vertices_mm[:, 0].min() > -3 and half.vertices_mm[:, 0].max() > 9.9
    assert step.figures["dropped_faces"] > 0.3 * len(mesh.faces)
    nothing = np.ones((1, 128, 128), np.bool_)
    with pytest.raises(InputError, match="left no triangle"):
        finish(tidied(mesh, MeshTools(trim_views=1), one, nothing))


def test_tools_run_in_turn_and_tell_what_they_did() -> None:
    mesh = both(with_hole(ball(10.0, 4), 3.0), ball(1.0, 1, shift=40.0))
    tidy, steps = finish(tidied(mesh, MeshTools(keep_largest=1, fill_holes=9.0, smooth=5, decimate=1000)))
    assert [s.tool for s in steps] == ["keep largest", "fill holes", "smooth", "decimate"]
    figures = mesh_figures(tidy)
    assert figures.is_closed and figures.pieces == 1 and len(tidy.faces) <= 1020
    assert all(s.text().startswith(s.tool) for s in steps)
    for bad in ({"smooth": -1}, {"fill_holes": float("nan")}, {"decimate": 2}):
        with pytest.raises(InputError):
            MeshTools(**bad)


def test_memory_is_told_before_it_is_taken() -> None:
    assert grid_bytes((512, 512, 512)) == 512**3 * 4
    assert surface_bytes(1024) == pytest.approx(4 * surface_bytes(512), rel=1e-6)
    check_room(1000, "A grid", "less", free=2000)
    with pytest.raises(InputError, match=r"A grid would take 4\.0 GiB.*2\.0 GiB.*choose fewer cells"):
        check_room(4 << 30, "A grid", "fewer cells", free=2 << 30)

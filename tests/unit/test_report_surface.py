"""The report of a still surface: its pictures, its figures, and no millimetres where there is no scale."""

from __future__ import annotations

import re

import numpy as np
import pytest
import trimesh

from splatomy.extract.mesh_tools import mesh_figures
from splatomy.geometry.orbit import orbit
from splatomy.report import ReportData, SurfaceView, mesh_sides
from splatomy.report.page import build_page
from splatomy.scene import Mesh

_FRONT, _UP = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """A ball whose front half is red and was seen, and whose back half is green and was not."""
    made = trimesh.creation.icosphere(subdivisions=3, radius=10.0)
    vertices = np.asarray(made.vertices, np.float32)
    front = vertices[:, 0] > 0
    colours = np.where(front[:, None], np.float32([1, 0, 0]), np.float32([0, 1, 0]))
    return Mesh(vertices, np.asarray(made.faces, np.int32), colours, front.astype(np.float32))


def page(mesh: Mesh, metric: bool) -> str:
    cameras = orbit(_FRONT, _UP, np.zeros(3), 10.0, np.radians([-20, 0, 20.0]), np.full(3, 0.2), 32)
    rng = np.random.default_rng(0)
    picture = rng.random((20, 30, 3))
    hidden = np.zeros((20, 30), np.bool_)
    hidden[3:8, 4:9] = True
    view = SurfaceView("view 3, held out", picture, picture * 0.9, np.full((20, 30), 80.0), hidden, hidden)
    data = ReportData(
        title="Surface reconstruction",
        method_title="A method",
        citation="A paper",
        preset="draft",
        metric=metric,
        world="the input's world",
        metrics={"psnr": 20.0, "chamfer_mean_mm": 1.5} if metric else {"psnr": 20.0, "fscore_1pct": 0.8},
        surface_views=[view],
        mesh_sides=mesh_sides(mesh, cameras, 64),
        mesh_figures=mesh_figures(mesh).rows("mm" if metric else "units"),
    )
    return build_page(data)


def test_sides_show_what_was_seen_from_the_front(mesh: Mesh) -> None:
    cameras = orbit(_FRONT, _UP, np.zeros(3), 10.0, np.radians([-20, 0, 20.0]), np.full(3, 0.2), 32)
    sides = {side.name: side for side in mesh_sides(mesh, cameras, 64)}
    assert list(sides) == ["front", "right", "back", "left", "above", "below"]
    middle = (slice(28, 36), slice(28, 36))
    red, green = sides["front"].texture[middle].mean((0, 1)), sides["back"].texture[middle].mean((0, 1))
    assert red[0] > 0.5 > red[1] and green[1] > 0.5 > green[0]
    seen, unseen = sides["front"].evidence[middle].mean((0, 1)), sides["back"].evidence[middle].mean((0, 1))
    assert seen[2] > seen[0] and unseen[0] > unseen[2]
    # The ball fills the picture and does not touch its rim.
    shown = np.isfinite(sides["front"].texture[..., 0])
    assert shown.mean() > 0.6 and not shown[0].any() and not shown[:, -1].any()
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert mesh_sides(nothing, cameras) == []


def test_the_page_holds_views_sides_and_figures(mesh: Mesh) -> None:
    text = page(mesh, metric=True)
    assert text.count("data:image/png") == 2 and "view 3, held out" in text
    assert "1.50 mm from the known truth" in text and "enclosed volume" in text and "really seen" in text


def test_without_a_scale_no_length_is_in_millimetres(mesh: Mesh) -> None:
    text = re.sub(
        r"<style>.*?</style>|data:image/png;base64,[^\"]+", "", page(mesh, metric=False), flags=re.S
    )
    assert not re.search(r"\bmm\b", re.sub(r"<[^>]+>", " ", text))
    assert "units" in text and "of the truth" in text

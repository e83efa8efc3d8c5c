"""A pulled surface of tissue that moves: on the tissue at every time, and one topology for all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.engine.tissue_surface import pulled_tissue_mesh
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.method import find_method, make_config
from splatomy.methods.dynamic_tissue.method import reconstruct
from splatomy.methods.dynamic_tissue.model import TissueScene
from splatomy.methods.pulled_surface.model import PulledScene
from splatomy.methods.pulled_surface.tissue import PulledTissue, pull_tissue
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    return finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 0))


@pytest.fixture(scope="module")
def scene(phantom: TissuePhantom) -> TissueScene:
    """Disks that know the tissue behind the instruments, as after a right inpainting."""
    p = phantom
    capture = Capture(
        Modality.COLOUR,
        np.where(p.occluded[..., None], p.rgb, p.images),
        p.times_s,
        cameras=p.cameras,
        occluded=p.occluded,
        synthetic=p.occluded & p.never_seen,
        depth_mm=p.observed_depth_mm,
    )
    config = make_config(find_method("dynamic_tissue"), "draft", {"steps": 60, "spacing_px": 2.0})
    found = finish(reconstruct([capture], config, CPU))
    assert isinstance(found, TissueScene)
    return found


@pytest.fixture(scope="module")
def pulled(scene: TissueScene) -> PulledTissue:
    own = {
        "joint_steps": 150,
        "queries": 256,
        "levels": 7,
        "log2_table": 12,
        "mesh_resolution": 48,
        "field_rate": 6e-3,
    }
    return finish(pull_tissue(scene, make_config(find_method("pulled_surface"), "draft", own), CPU))


def test_the_mesh_lies_on_the_tissue_at_every_time(pulled: PulledTissue, phantom: TissuePhantom) -> None:
    for frame in (0, len(phantom.times_s) - 1):
        mesh = pulled.at(float(phantom.times_s[frame]))
        pixels, z = phantom.cameras[frame].project(mesh.vertices_mm)
        height, width = phantom.depth_mm.shape[1:]
        column, row = np.rint(pixels[0]).astype(int).T
        inside = (column >= 2) & (row >= 2) & (column < width - 2) & (row < height - 2)
        error = np.abs(z[0][inside] - phantom.depth_mm[frame][row[inside], column[inside]])
        # A pixel shows 1 to 2 mm of the tissue.
        assert inside.mean() > 0.5 and np.median(error) < 1.0


def test_it_covers_the_picture_and_has_no_back(
    pulled: PulledTissue, scene: TissueScene, phantom: TissuePhantom
) -> None:
    mesh = pulled.at(scene.rest_time_s)
    assert mesh.colours is not None and mesh.evidence is not None
    pixels, _ = scene.rest.project(mesh.vertices_mm)
    column, row = np.rint(pixels[0] / 4).astype(int).T
    cells = np.zeros((phantom.depth_mm.shape[1] // 4, phantom.depth_mm.shape[2] // 4), bool)
    inside = (column >= 0) & (row >= 0) & (column < cells.shape[1]) & (row < cells.shape[0])
    cells[row[inside], column[inside]] = True
    assert cells.mean() > 0.8
    a, b, c = (mesh.vertices_mm[mesh.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    towards = ((scene.rest.centres_mm[0] - a) * normal).sum(1)
    assert (towards > 0).mean() > 0.95


def test_faces_correspond_over_time(pulled: PulledTissue, phantom: TissuePhantom) -> None:
    first, last = (pulled.at(float(t)) for t in phantom.times_s[[0, -1]])
    assert np.array_equal(first.faces, last.faces)
    assert np.linalg.norm(first.vertices_mm - last.vertices_mm, axis=1).max() > 0.1


def test_only_disks_that_move_have_one() -> None:
    still = PulledScene({}, np.zeros(3), 1.0, None, 1.0, None, True)
    with pytest.raises(InputError, match="in which disks move"):
        finish(pulled_tissue_mesh(still, 0.0))

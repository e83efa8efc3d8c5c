"""The tissue method on the smallest phantom: what it may look at, what it gives, and that it can go on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Snapshot, Task, finish
from splatomy.kernels.surfel import SurfelRender
from splatomy.method import find_method, make_config
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.methods.dynamic_tissue.footage import Footage
from splatomy.methods.dynamic_tissue.method import reconstruct
from splatomy.methods.dynamic_tissue.model import TissueScene, load_scene
from splatomy.methods.dynamic_tissue.objective import (
    adaptive_weight,
    bending,
    depth_loss,
    fallen_weight,
    normal_loss,
)
from splatomy.metrics.endoscopy import depth_metrics, hidden_metrics
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.scene import Scene

CPU = torch.device("cpu")
QUICK = {"steps": 40, "grow_every": 10, "spacing_px": 3.0}


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    return finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 0))


@pytest.fixture(scope="module")
def capture(phantom: TissuePhantom) -> Capture:
    """As a camera and a depth sensor see it: instruments in the picture and in the depth."""
    p = phantom
    return Capture(
        Modality.COLOUR,
        p.images,
        p.times_s,
        cameras=p.cameras,
        occluded=p.occluded,
        depth_mm=p.observed_depth_mm,
    )


@pytest.fixture(scope="module")
def inpainted(phantom: TissuePhantom, capture: Capture) -> Capture:
    """With holes filled perfectly, marked as an inpainting marks them."""
    images = np.where(phantom.occluded[..., None], phantom.rgb, capture.images)
    return replace(capture, images=images, synthetic=phantom.occluded & phantom.never_seen)


def task(capture: Capture, resume: Any = None, **settings: Any) -> Task[Scene]:
    config = make_config(find_method("dynamic_tissue"), "draft", {**QUICK, **settings})
    return reconstruct([capture], config, CPU, resume)


def train(capture: Capture, **settings: Any) -> TissueScene:
    scene = finish(task(capture, **settings))
    assert isinstance(scene, TissueScene)
    return scene


def same(a: Scene, b: Scene) -> bool:
    one, two = a.state().arrays, b.state().arrays
    return one.keys() == two.keys() and all(np.array_equal(v, two[k]) for k, v in one.items())


@pytest.fixture(scope="module")
def scene(inpainted: Capture) -> TissueScene:
    return train(inpainted, steps=200, spacing_px=2.0)


def test_colours_and_depths_of_the_bare_tissue(scene: TissueScene, phantom: TissuePhantom) -> None:
    found = scene.render(phantom.cameras, phantom.times_s)
    assert found.depth_mm is not None and found.normals is not None and found.evidence is not None
    for values in (found.colour, found.alpha, found.normals, found.evidence):
        assert values is not None and np.isfinite(values).all()
    colours = hidden_metrics(found.colour, phantom.rgb, phantom.occluded, phantom.never_seen)
    assert colours["psnr_masked"] > 28 and colours["psnr_hidden"] > 26
    depth = depth_metrics(found.depth_mm, phantom.depth_mm)
    assert depth["depth_rmse_mm"] < 1.0 and depth["depth_worst_mm"] < 20 and depth["depth_missing"] < 0.01
    assert (found.normals[..., 2] < 0).mean() > 0.99


def test_evidence_is_low_where_nobody_looked(scene: TissueScene, phantom: TissuePhantom) -> None:
    evidence = scene.render(phantom.cameras, phantom.times_s).evidence
    assert evidence is not None and evidence.min() >= 0 and evidence.max() <= 1
    always = ~phantom.occluded.any(0)
    assert np.median(evidence[:, always]) > 0.95
    seen_elsewhere = phantom.occluded & ~phantom.never_seen
    assert evidence[phantom.never_seen].mean() < min(0.5, evidence[seen_elsewhere].mean())
    mesh = scene.surface(0.0)
    assert mesh.evidence is not None and mesh.evidence.min() < 0.3 and mesh.evidence.max() > 0.95


def test_the_mesh_moves_as_the_tissue_does(scene: TissueScene, phantom: TissuePhantom) -> None:
    meshes = [scene.surface(float(t)) for t in phantom.times_s]
    errors, shifts = [], []
    for frame, mesh in enumerate(meshes):
        assert np.array_equal(mesh.faces, meshes[0].faces) and mesh.colours is not None
        pixels, z = phantom.cameras[frame].project(mesh.vertices_mm)
        column, row = np.rint(pixels[0]).astype(int).T
        inside = (column >= 2) & (row >= 2) & (column < 62) & (row < 50)
        errors.append(np.abs(z[0][inside] - phantom.depth_mm[frame][row[inside], column[inside]]))
        shifts.append(np.linalg.norm(mesh.vertices_mm - meshes[0].vertices_mm, axis=1).mean())
    assert np.concatenate(errors).mean() < 1.0
    assert max(shifts) > 0.5


def test_the_scene_comes_back(scene: TissueScene, phantom: TissuePhantom) -> None:
    again = load_scene(scene.state())
    a, b = (s.render(phantom.cameras[[0, 3]], np.array([0.0, 1.2])) for s in (scene, again))
    assert np.array_equal(a.colour, b.colour) and np.array_equal(a.depth_mm, b.depth_mm, equal_nan=True)
    assert np.array_equal(scene.surface(1.0).vertices_mm, again.surface(1.0).vertices_mm)
    assert again.time_range_s == scene.time_range_s and again.metric


@pytest.mark.parametrize("deformation", ["nodes", "curves"])
def test_hidden_pixels_change_nothing(capture: Capture, deformation: str) -> None:
    """Without an inpainting the picture and the depth of the instruments are never looked at."""
    hidden = capture.occluded
    assert hidden is not None and capture.depth_mm is not None
    depth = np.where(hidden, np.float32(31.0), capture.depth_mm)
    other = replace(capture, images=np.where(hidden[..., None], np.float32(0.9), capture.images))
    first, second = (train(c, deformation=deformation) for c in (capture, replace(other, depth_mm=depth)))
    assert same(first, second)


@pytest.mark.parametrize("deformation", ["nodes", "curves"])
def test_a_resumed_run_ends_bit_for_bit_where_an_undisturbed_one_does(
    inpainted: Capture, deformation: str
) -> None:
    settings = {"deformation": deformation, "snapshot_every_s": 0.1, "num_bases": 5, "sh_degree": 1}
    running = task(inpainted, **settings)
    middle = None
    while True:
        try:
            event = next(running)
        except StopIteration as stop:
            undisturbed: Scene = stop.value
            break
        if isinstance(event, Snapshot) and middle is None and 10 < event.step < 40:
            middle = event.checkpoint
    assert middle is not None
    assert same(undisturbed, finish(task(inpainted, resume=middle, **settings)))


def test_snapshots_never_change(capture: Capture) -> None:
    running = task(capture)
    first = next(e for e in running if isinstance(e, Snapshot)).scene
    before = {k: v.copy() for k, v in first.state().arrays.items()}
    finish(running)
    assert all(np.array_equal(v, before[k]) for k, v in first.state().arrays.items())


def test_an_unknown_camera_is_assumed_and_said(capture: Capture) -> None:
    events = list(task(replace(capture, cameras=None, metric=False), steps=20))
    assert any(isinstance(e, Notice) and e.code == "assumed-camera" for e in events)
    last = [e for e in events if isinstance(e, Snapshot)][-1].scene
    assert isinstance(last, TissueScene) and not last.metric
    assert [e for e in events if isinstance(e, Progress)][-1].step == 20


def test_the_unit_of_length_does_not_matter(inpainted: Capture) -> None:
    """A clip whose depths have no scale, here 0.02 of a millimetre, gives the same pictures."""
    assert inpainted.depth_mm is not None and inpainted.cameras is not None
    poses = inpainted.cameras.camera_from_world.copy()
    poses[:, :3, 3] *= 0.02
    small = replace(
        inpainted,
        depth_mm=inpainted.depth_mm * np.float32(0.02),
        cameras=replace(inpainted.cameras, camera_from_world=poses),
        metric=False,
    )
    a, b = train(inpainted), train(small)
    one, two = (
        s.render(c.cameras, c.times_s) for s, c in ((a, inpainted), (b, small)) if c.cameras is not None
    )
    assert one.depth_mm is not None and two.depth_mm is not None
    assert np.abs(one.colour - two.colour).mean() < 2e-3
    assert np.nanmean(np.abs(two.depth_mm / 0.02 - one.depth_mm)) < 0.05


def test_a_frame_without_depth_and_a_covered_frame_do_no_harm(
    capture: Capture, phantom: TissuePhantom
) -> None:
    depth, hidden = np.array(capture.depth_mm), np.array(capture.occluded)
    depth[2] = np.nan
    hidden[5] = True
    assert capture.cameras is not None
    found = train(replace(capture, depth_mm=depth, occluded=hidden)).render(capture.cameras, capture.times_s)
    assert found.depth_mm is not None
    figures = depth_metrics(found.depth_mm, phantom.depth_mm)
    assert figures["depth_missing"] < 0.01 and figures["depth_rmse_mm"] < 1.5


def test_no_usable_depth_is_said(capture: Capture) -> None:
    with pytest.raises(InputError, match="depth"):
        finish(task(replace(capture, depth_mm=np.full(capture.images.shape[:3], np.nan, np.float32))))
    with pytest.raises(InputError, match="which side of the masks"):
        finish(task(replace(capture, occluded=np.ones(capture.images.shape[:3], bool))))
    with pytest.raises(InputError, match="3 channels"):
        finish(task(replace(capture, images=capture.images[..., :1])))


def test_trust_follows_the_provenance(inpainted: Capture) -> None:
    config = Config(propagated_weight=0.5, synthesised_weight=0.1, highlight_weight=1.0)
    hidden, made_up = inpainted.occluded, inpainted.synthetic
    assert hidden is not None and made_up is not None
    weight = Footage(inpainted, config, CPU).trusted(0)
    assert (weight[~hidden[0]] == 1).all()
    assert np.allclose(weight[hidden[0] & ~made_up[0]], 0.5) and np.allclose(weight[made_up[0]], 0.1)
    bare = Footage(replace(inpainted, synthetic=None), config, CPU)
    assert (bare.trusted(0)[hidden[0]] == 0).all()
    assert (bare.depth_known(0)[1][hidden[0]] == 0).all()


def test_bins_are_means_of_what_may_be_trusted(capture: Capture) -> None:
    footage = Footage(capture, Config(highlight_weight=1.0), CPU)
    fine, coarse = footage.view(1), footage.view(1, 2)
    block = (slice(10, 12), slice(20, 22))
    weight = fine.weight[block][..., None]
    wanted = (fine.image[block] * weight).sum((0, 1)) / weight.sum().clamp_min(1e-6)
    assert torch.allclose(coarse.image[5, 10], wanted, atol=1e-6)
    hidden = fine.weight == 0
    assert not fine.image[hidden].any()


def picture(depth: torch.Tensor, normal: torch.Tensor) -> SurfelRender:
    ones = torch.ones_like(depth)
    return SurfelRender(depth[..., None], ones, depth, depth, normal, 0 * depth, torch.zeros(1))


def test_a_plane_costs_no_bending_and_agrees_with_its_normals(capture: Capture) -> None:
    view = Footage(capture, Config(), CPU).view(0)
    k = view.intrinsics.float()
    y, x = torch.meshgrid(torch.arange(52.0), torch.arange(64.0), indexing="ij")
    rays = torch.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], torch.ones_like(x)], 2)
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)
    depth = 60 * normal[2] / (rays @ normal)
    whole = torch.ones_like(depth)
    assert bending(60 / depth, whole).item() < 1e-5
    assert normal_loss(picture(depth, normal.expand(52, 64, 3)), view).item() < 1e-3
    assert normal_loss(picture(depth, -normal.expand(52, 64, 3)), view).item() > 1.5
    wrong = view.inverse_depth + 1e3 * (view.depth_weight == 0)
    assert depth_loss(wrong, whole, view).item() == 0


def test_the_adaptive_depth_weight_is_that_of_the_seed() -> None:
    for share, ratio in ((0.0, 3.0), (0.5, 0.2), (1.0, 1.0)):
        gain = 1 + 0.25 * math.tanh(ratio - 1)
        wanted = min(max(10 * (1 - 0.8 * share) * gain, 1.0), 10.0)
        fallen = torch.tensor(fallen_weight(10.0, share))
        found = adaptive_weight(10.0, fallen, torch.tensor(0.02 * ratio), torch.tensor(0.02))
        assert found.item() == pytest.approx(wanted, rel=1e-4)


def test_a_stop_is_heeded(capture: Capture) -> None:
    running = task(capture)
    assert isinstance(next(running), Progress)
    running.close()
    with pytest.raises(StopIteration):
        next(running)

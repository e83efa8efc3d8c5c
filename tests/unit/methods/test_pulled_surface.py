"""The pulled surface on the smallest object: a closed mesh in the right place, and the laws of a method."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import binary_dilation

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Checkpoint, Notice, Snapshot, Task, finish
from splatomy.fields.sdf import HashSdf
from splatomy.gaussians.init import GaussianCloud, gaussian_cloud
from splatomy.geometry.visibility import look_at
from splatomy.io.gaussians import read_gaussians, write_gaussians
from splatomy.method import find_method, make_config
from splatomy.methods.pulled_surface.disks import first_disks, normals_of, rows_of_gaussians
from splatomy.methods.pulled_surface.meshing import surface_mesh
from splatomy.methods.pulled_surface.method import _Trainer, reconstruct
from splatomy.methods.pulled_surface.model import PulledScene, load_scene
from splatomy.methods.pulled_surface.pulling import Puller
from splatomy.methods.pulled_surface.views import Frame, Pictures
from splatomy.metrics.surface import surface_metrics
from splatomy.phantoms.object import PRESETS, ObjectPhantom, make_object
from splatomy.scene import Scene

CPU = torch.device("cpu")
QUICK: dict[str, Any] = {
    "splat_steps": 12, "joint_steps": 12, "finish_steps": 0, "start_points": 400, "queries": 128, "levels": 5,
    "log2_table": 12, "mesh_resolution": 24, "grow_every": 10, "longest_side_px": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def phantom() -> ObjectPhantom:
    return finish(make_object(replace(PRESETS["tiny"], occluder=True, depth_noise=0.0), 4))


@pytest.fixture(scope="module")
def capture(phantom: ObjectPhantom) -> Capture:
    """The object with masks of itself and of the block before it."""
    return Capture(
        Modality.COLOUR,
        phantom.images,
        np.zeros(len(phantom.images)),
        cameras=phantom.cameras,
        target=phantom.target,
        occluded=phantom.occluder,
    )


def task(capture: Capture, resume: Any = None, **own: Any) -> Task[Scene]:
    config = make_config(find_method("pulled_surface"), "draft", {**QUICK, **own})
    return reconstruct([capture], config, CPU, resume)


def train(capture: Capture, **own: Any) -> PulledScene:
    scene = finish(task(capture, **own))
    assert isinstance(scene, PulledScene)
    return scene


def same(a: Scene, b: Scene) -> bool:
    one, two = a.state().arrays, b.state().arrays
    return one.keys() == two.keys() and all(np.array_equal(v, two[k]) for k, v in one.items())


@pytest.fixture(scope="module")
def scene(capture: Capture) -> PulledScene:
    """Trained for long enough to have the object's shape."""
    own = {"splat_steps": 80, "joint_steps": 90, "start_points": 2000, "queries": 512, "levels": 7}
    return train(capture, **own, mesh_resolution=64, longest_side_px=64)


def test_the_mesh_is_closed_and_in_place(scene: PulledScene, phantom: ObjectPhantom) -> None:
    mesh = scene.surface(0.0)
    solid = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
    assert solid.is_watertight and solid.volume > 0
    # A pixel shows 4.6 mm of the object; what the block hides nobody can know.
    truth = phantom.mesh
    assert truth.evidence is not None and mesh.evidence is not None
    seen_truth = replace(truth, faces=truth.faces[truth.evidence[truth.faces].min(1) > 0])
    seen_mesh = replace(mesh, faces=mesh.faces[mesh.evidence[mesh.faces].min(1) > 0])
    assert surface_metrics(mesh, seen_truth, count=10_000)["completeness_mm"] < 4.6
    assert surface_metrics(seen_mesh, truth, count=10_000)["accuracy_mm"] < 4.6


def test_evidence_and_colours_belong_to_vertices(scene: PulledScene) -> None:
    mesh = scene.surface(0.0)
    assert mesh.evidence is not None and mesh.colours is not None
    assert mesh.evidence.shape == (len(mesh.vertices_mm),) and mesh.colours.shape == mesh.vertices_mm.shape
    # All cameras look down: the top is seen, the underside is not.
    height = mesh.vertices_mm[:, 2]
    low, high = np.quantile(height, [0.03, 0.9])
    assert mesh.evidence[height > high].mean() > 0.9
    assert mesh.evidence[height < low].mean() < 0.3
    assert (mesh.colours[mesh.evidence == 0] == 0.5).all()


def test_the_scene_renders_and_comes_back(scene: PulledScene, phantom: ObjectPhantom) -> None:
    again = load_scene(scene.state())
    a, b = (s.render(phantom.cameras[[0, 3]], 0.0) for s in (scene, again))
    assert np.array_equal(a.colour, b.colour)
    assert again.mesh is not None and scene.mesh is not None
    assert np.array_equal(again.mesh.faces, scene.mesh.faces)
    assert a.alpha is not None
    # Two pixels about the object: a splatter widens what it draws by one.
    allowed = binary_dilation(phantom.target[[0, 3]], np.ones((1, 5, 5))) | phantom.occluder[[0, 3]]
    assert ((a.alpha > 0.5) & ~allowed).sum() < 0.05 * allowed.sum()


def test_depth_is_that_of_the_mesh_and_evidence_is_shown(scene: PulledScene, phantom: ObjectPhantom) -> None:
    """Disks may lie off the surface, to which the last steps do not hold them."""
    camera = phantom.cameras[[2]]
    apart = replace(scene, surfels={**scene.surfels, "means_mm": 1.1 * scene.surfels["means_mm"]})
    one, other = scene.render(camera, 0.0), apart.render(camera, 0.0)
    assert one.depth_mm is not None and other.depth_mm is not None and one.evidence is not None
    assert not np.array_equal(one.colour, other.colour)
    np.testing.assert_array_equal(one.depth_mm, other.depth_mm)
    mesh, seen = scene.surface(0.0), np.isfinite(one.depth_mm[0])
    hits = look_at(mesh.vertices_mm.astype(np.float64), mesh.faces, camera, 0)
    assert np.array_equal(hits.hit, seen) and np.allclose(one.depth_mm[0][seen], hits.depth_mm)
    # The camera was trained on: it shows hardly anything that no view shows.
    assert one.evidence[0][seen].mean() > 0.8
    assert (one.evidence[0][~seen] == 0).all()
    alone = scene.without_surface().render(camera, 0.0)
    assert alone.depth_mm is not None and alone.evidence is None
    both = np.isfinite(alone.depth_mm) & np.isfinite(one.depth_mm)
    assert not np.array_equal(alone.depth_mm[both], one.depth_mm[both])


def test_the_same_seed_and_a_resumed_run_end_alike(capture: Capture) -> None:
    middle: list[Snapshot] = []
    first = task(capture, snapshot_every_s=0.1, joint_steps=60)
    while True:
        try:
            event = next(first)
        except StopIteration as stop:
            whole: Scene = stop.value
            break
        if isinstance(event, Snapshot) and event.stage == "train" and 12 < event.step < 72:
            middle.append(event)
    assert middle and middle[0].checkpoint is not None
    assert same(whole, finish(task(capture, joint_steps=60)))
    assert same(whole, finish(task(capture, resume=middle[0].checkpoint, joint_steps=60)))


def test_a_run_resumed_before_a_look_around_ends_alike(capture: Capture) -> None:
    """Looking around sees the field as the last step left it: that a checkpoint must bring back."""
    own = {**QUICK, "joint_steps": 20, "finish_steps": 8}
    config = make_config(find_method("pulled_surface"), "draft", own)
    pictures = Pictures(capture, config, CPU)

    def finished(trainer: _Trainer, kept: list[Checkpoint] | None = None) -> Checkpoint:
        while trainer.step < config.splat_steps + config.joint_steps + config.finish_steps:
            if kept is not None:
                kept.append(copy.deepcopy(trainer.checkpoint()))
            if trainer.needs_space:
                finish(trainer.look_around())
            trainer.train_step()
        return trainer.checkpoint()

    first, kept = finish(first_disks(pictures, config, CPU)), []
    whole = finished(_Trainer(pictures, config, first, CPU), kept)
    # The last steps leave the field alone, and move the disks.
    before = kept[32].arrays
    assert all(np.array_equal(a, whole.arrays[n]) for n, a in before.items() if n.startswith("field"))
    assert not np.array_equal(before["parameter.means_mm"], whole.arrays["parameter.means_mm"])
    # Before the joint steps, before each of the two later looks around, and before and in the last steps.
    for step in (12, 19, 26, 32, 36):
        resumed = _Trainer(pictures, config, first, CPU)
        resumed.restore(kept[step])
        end = finished(resumed)
        assert all(np.array_equal(array, end.arrays[name]) for name, array in whole.arrays.items()), step


def test_a_hidden_pixel_changes_nothing(capture: Capture) -> None:
    hidden = np.zeros(capture.images.shape[:3], bool)
    hidden[:, 20:26, 30:36] = True
    captures = []
    for value in (0.0, 1.0):
        images = capture.images.copy()
        images[hidden] = value
        captures.append(replace(capture, images=images, occluded=hidden))
    assert same(*(train(c) for c in captures))


def test_pictures_teach_the_field(capture: Capture) -> None:
    """With all other losses of the field off, only the pictures can move it."""
    off = dict.fromkeys(
        ("pull_weight", "orthogonal_weight", "eikonal_weight", "space_weight", "zero_weight",
         "tangent_weight", "centre_weight", "thin_weight"),
        0.0,
    )  # fmt: skip
    moved, still = (train(capture, **off, render_pulled=pulled) for pulled in (True, False))
    one, two = (s.surface(0.0).vertices_mm for s in (moved, still))
    # An untaught field stays the sphere that it began as.
    radius = np.linalg.norm((two - still.centre) / still.scale, axis=1)
    assert np.ptp(radius) < 1.0
    assert not np.array_equal(one, two)


def test_gaussians_of_a_user_are_the_start(scene: PulledScene, capture: Capture, tmp_path: Any) -> None:
    world = {**scene.surfels, "means_mm": scene.surfels["means_mm"] * scene.scale + scene.centre}
    world["log_scales"] = scene.surfels["log_scales"] + np.log(scene.scale)
    far = {name: np.concatenate([rows, rows[:50]]) for name, rows in world.items()}
    far["means_mm"][-50:] += 1e4
    write_gaussians(tmp_path / "given.ply", far)
    init = gaussian_cloud(read_gaussians(tmp_path / "given.ply"))
    assert len(init) == len(far["means_mm"])
    given_too = replace(capture, details={"gaussians": init})
    begun = next(e for e in task(given_too) if isinstance(e, Snapshot))
    assert isinstance(begun.scene, PulledScene)
    given = begun.scene.surfels["means_mm"] * begun.scene.scale + begun.scene.centre
    assert 0.5 * len(world["means_mm"]) < len(given) <= len(world["means_mm"])
    distance = np.linalg.norm(given[:, None] - world["means_mm"][None], axis=-1).min(1)
    assert distance.max() < 1e-2
    assert len(train(given_too).surface(0.0).faces)


def faded(capture: Capture, **own: Any) -> list[int]:
    """The last steps after which no disk was solid."""
    config = make_config(find_method("pulled_surface"), "draft", {**QUICK, "grow_every": 1000, **own})
    pictures = Pictures(capture, config, CPU)
    trainer = _Trainer(pictures, config, finish(first_disks(pictures, config, CPU)), CPU)
    found = []
    while trainer.finished < 0.3:
        if trainer.needs_space:
            finish(trainer.look_around())
        trainer.train_step()
        if torch.sigmoid(trainer.store["opacity_logit"].detach()).max() <= 0.1 + 1e-6:
            found.append(trainer.joint - config.joint_steps)
    return found


def test_disks_that_may_hide_the_surface_become_faint(capture: Capture, phantom: ObjectPhantom) -> None:
    assert faded(capture, finish_steps=1000, fadings=2) == [100, 200]
    # In a short run they would stay faint, and there is no need where depth was measured.
    assert faded(capture, finish_steps=900, fadings=2) == []
    measured = replace(capture, depth_mm=phantom.true_depth_mm)
    assert faded(measured, finish_steps=1000, fadings=2) == []


def test_gaussians_from_elsewhere_are_refused(scene: PulledScene, capture: Capture) -> None:
    count = 500
    cloud = GaussianCloud(
        np.full((count, 3), 1e5, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.ones((count, 3), np.float32),
        np.full(count, 0.9, np.float32),
        np.zeros((count, 1, 3), np.float32),
    )
    with pytest.raises(InputError, match="trained on these poses"):
        finish(task(replace(capture, details={"gaussians": cloud})))
    with pytest.raises(InputError, match="rot_0"):
        gaussian_cloud({"x": np.zeros(3), "y": np.zeros(3), "z": np.zeros(3)})


def test_disks_of_gaussians_lie_across_their_thinnest_axis() -> None:
    """Whatever the order of the scales, the normal is the axis of the smallest."""
    rng = np.random.default_rng(0)
    quats = rng.normal(size=(50, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    scales = np.array([rng.permutation([0.1, 2.0, 3.0]) for _ in range(50)], np.float32)
    cloud = GaussianCloud(
        rng.uniform(-50, 50, (50, 3)).astype(np.float32),
        quats.astype(np.float32),
        scales,
        np.full(50, 0.5, np.float32),
        np.zeros((50, 1, 3), np.float32),
    )
    rows, _ = rows_of_gaussians(cloud, Frame(np.zeros(3), 1.0), 1, CPU)
    w, x, y, z = quats.T
    axes = np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1),
            np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], -1),
            np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        1,
    )
    thin = np.take_along_axis(axes, scales.argmin(1)[:, None, None], 1)[:, 0]
    cosine = (normals_of(rows["quats_wxyz"]).numpy() * thin).sum(1)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-5)
    np.testing.assert_allclose(rows["log_scales"].exp().numpy(), [[3.0, 2.0]] * 50, rtol=1e-5)


@pytest.mark.parametrize("own", [{"field": "mlp"}, {"constant_disk": True, "set_weight": 1.0}])
def test_the_paper_and_its_release_can_be_asked_for(capture: Capture, own: dict[str, Any]) -> None:
    mesh = train(capture, **own, mesh_level=0.002, splat_steps=10, joint_steps=10, queries=64).surface(0.0)
    assert len(mesh.faces) and np.isfinite(mesh.vertices_mm).all()


@pytest.mark.parametrize("background", ["black", "white"])
def test_the_background_is_behind_the_object(capture: Capture, background: str) -> None:
    config = make_config(find_method("pulled_surface"), "draft", {"background": background})
    pictures = Pictures(capture, config, CPU)
    outside = ~capture.target[0] if capture.target is not None else np.zeros(0)
    assert (pictures.object_image(0)[outside] == (1.0 if background == "white" else 0.0)).all()
    rendered = train(capture, background=background, splat_steps=10, joint_steps=10).render(
        pictures.capture.cameras[[0]],
        0.0,  # type: ignore[index]
    )
    corner = rendered.colour[0, 0, 0]
    assert (corner > 0.99).all() if background == "white" else (corner < 0.01).all()


def test_an_open_sheet_has_no_back(capture: Capture) -> None:
    """Without sides the field is unsigned, and only what cameras see is kept."""
    mesh = train(capture, signed=False, joint_steps=120, queries=512, mesh_resolution=40).surface(0.0)
    assert len(mesh.faces) and mesh.evidence is not None
    assert mesh.evidence.mean() > 0.5


def test_what_is_missing_is_said(capture: Capture) -> None:
    with pytest.raises(InputError, match="cameras"):
        finish(task(replace(capture, cameras=None)))
    with pytest.raises(InputError, match="where the scene is"):
        finish(task(replace(capture, target=None)))
    opposite = capture.cameras
    assert opposite is not None
    turned = opposite.camera_from_world.copy()
    turned[:, [0, 2]] *= -1
    with pytest.raises(InputError, match="axes"):
        finish(task(replace(capture, cameras=replace(opposite, camera_from_world=turned))))


def test_no_surface_is_a_warning(capture: Capture, scene: PulledScene) -> None:
    config = make_config(find_method("pulled_surface"), "draft", QUICK)
    puller = Puller(config, 1.0, CPU)
    assert isinstance(puller.field, HashSdf)
    puller.field.radius = -5.0
    pictures = Pictures(capture, config, CPU)
    making = surface_mesh(puller, scene.surfels, Frame(scene.centre, scene.scale), pictures)
    assert [e.code for e in making if isinstance(e, Notice)] == ["empty-surface"]

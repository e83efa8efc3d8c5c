"""One suite over every method that is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Grid, Modality
from splatomy.errors import InputError
from splatomy.events import Progress, Snapshot, finish
from splatomy.method import config_schema, list_methods, load_symbol, make_config
from splatomy.phantoms.object import make_object
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.scene import Scene

METHODS = sorted(list_methods())
TRAINED = ["dynamic_vessels"]
"""Methods of DSA that train; tests/unit/methods holds those of tissue to the same laws."""
QUICK: dict[str, dict[str, Any]] = {
    "dynamic_vessels": {"steps": 60, "num_start": 1500, "snapshot_every_s": 0.1},
    "dynamic_tissue": {"steps": 30, "spacing_px": 3.0, "snapshot_every_s": 0.1},
    "live_scene": {"steps_per_frame": 2, "snapshot_every_s": 0.1},
    "pulled_surface": {
        "splat_steps": 15,
        "joint_steps": 15,
        "finish_steps": 15,
        "start_points": 400,
        "queries": 128,
        "levels": 6,
        "log2_table": 12,
        "mesh_resolution": 24,
    },
    "completed_object": {
        "coarse_steps": 20,
        "fine_steps": 10,
        "rays": 64,
        "samples": 12,
        "levels": 4,
        "log2_table": 10,
        "mesh_resolution": 24,
    },
}
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def tiny_tissue() -> Capture:
    """The smallest tissue phantom as a camera and a depth sensor see it."""
    p = finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 0))
    known = {"cameras": p.cameras, "occluded": p.occluded, "depth_mm": p.observed_depth_mm}
    return Capture(Modality.COLOUR, p.images, p.times_s, **known)


@pytest.fixture(scope="session")
def tiny_object() -> Capture:
    """The smallest object phantom with masks of the object and depth."""
    p = finish(make_object("tiny", 0))
    known = {"cameras": p.cameras, "target": p.target, "occluded": p.occluder, "depth_mm": p.depth_mm}
    return Capture(Modality.COLOUR, p.images, np.zeros(len(p.images)), **known)


@pytest.fixture
def capture(name: str, tiny_capture: Capture, tiny_tissue: Capture, tiny_object: Capture) -> Capture:
    """A tiny capture of the kind that the method takes."""
    spec = list_methods()[name]
    if spec.still:
        return tiny_object
    return {Modality.ATTENUATION: tiny_capture, Modality.COLOUR: tiny_tissue}[spec.modality]


def task(name: str, capture: Capture, resume: Any = None, **settings: Any) -> Any:
    spec = list_methods()[name]
    config = make_config(spec, "standard", {**QUICK.get(name, {}), **settings})
    return load_symbol(spec.reconstruct)([capture], config, CPU, resume=resume)


def assert_same_scene(a: Scene, b: Scene, relative: float = 0.0) -> None:
    one, two = a.state().arrays, b.state().arrays
    assert one.keys() == two.keys()
    for name, array in one.items():
        scale = float(np.abs(array).max())
        assert array.shape == two[name].shape, name
        assert np.abs(array - two[name]).max() <= relative * scale, name


@pytest.mark.parametrize("name", METHODS)
def test_the_description_is_whole(name: str) -> None:
    spec = list_methods()[name]
    assert {"draft", "standard", "best"} <= set(spec.presets) and spec.citation and spec.title
    for field in config_schema(spec):
        assert field["doc"], f"{name}.{field['name']} has no help"
    for preset in spec.presets:
        make_config(spec, preset, {})


@pytest.mark.parametrize("name", METHODS)
def test_wrong_settings_get_a_sentence(name: str) -> None:
    spec = list_methods()[name]
    with pytest.raises(InputError, match="no setting"):
        make_config(spec, "standard", {"nonsense": 1})
    with pytest.raises(InputError, match="no preset"):
        make_config(spec, "nonsense", {})
    number = next(f for f in config_schema(spec) if f["range"])
    with pytest.raises(InputError, match=number["name"]):
        make_config(spec, "standard", {number["name"]: number["range"][1] * 10 + 1})


@pytest.mark.parametrize("name", METHODS)
def test_scenes_give_what_they_promise_and_come_back(name: str, capture: Capture) -> None:
    spec = list_methods()[name]
    scene = finish(task(name, capture))
    assert isinstance(scene, Scene) and scene.abilities == spec.abilities
    assert capture.cameras is not None
    image = scene.render(capture.cameras[[3, 5]], 1.0).colour
    assert image.shape == (2, *capture.images.shape[1:])
    assert np.isfinite(image).all() and image.max() > 0
    if "volume" in spec.abilities:
        assert capture.grid is not None
        for time_s in (None, 1.5):
            volume = scene.volume(capture.grid, time_s)
            assert volume.values.shape == capture.grid.shape and np.isfinite(volume.values).all()
    if "surface" in spec.abilities:
        first, second = scene.surface(0.0), scene.surface(1.5)
        assert len(first.faces) > 0 and np.array_equal(first.faces, second.faces)
        assert np.isfinite(second.vertices_mm).all()
    again = load_symbol(spec.load_scene)(scene.state())
    assert np.array_equal(again.render(capture.cameras[[3, 5]], 1.0).colour, image)


@pytest.mark.parametrize("name", METHODS)
def test_a_closed_task_stops_and_events_come(name: str, capture: Capture) -> None:
    running = task(name, capture)
    assert isinstance(next(running), Progress)
    running.close()
    with pytest.raises(StopIteration):
        next(running)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_scene(name: str, capture: Capture) -> None:
    assert_same_scene(finish(task(name, capture)), finish(task(name, capture)))


@pytest.mark.parametrize("name", TRAINED)
def test_training_lowers_the_error(name: str, tiny_capture: Capture) -> None:
    def error(scene: Scene) -> float:
        assert tiny_capture.cameras is not None
        images = scene.render(tiny_capture.cameras, tiny_capture.times_s).colour
        return float(np.square(images - tiny_capture.images).mean())

    few = finish(task(name, tiny_capture, steps=20))
    many = finish(task(name, tiny_capture, steps=300))
    assert error(many) < 0.5 * error(few)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("field", ["curves", "grid"])
def test_a_resumed_run_ends_where_an_undisturbed_one_does(
    name: str, field: str, tiny_capture: Capture
) -> None:
    length = 90
    settings = {
        "field": field, "steps": length, "grow_every": 10, "residual_seeds": 1, "log2_table": 10,
        "num_start": 300, "snapshot_every_s": 0.1,
    }  # fmt: skip
    whole = task(name, tiny_capture, **settings)
    middle: Snapshot | None = None
    while True:
        try:
            event = next(whole)
        except StopIteration as stop:
            undisturbed: Scene = stop.value
            break
        if isinstance(event, Snapshot) and middle is None and 0 < event.step < length - 5:
            middle = event
    assert middle is not None and middle.checkpoint is not None
    resumed = finish(task(name, tiny_capture, resume=middle.checkpoint, **settings))
    assert_same_scene(undisturbed, resumed, relative=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_snapshots_do_not_change_afterwards(name: str, tiny_capture: Capture) -> None:
    running = task(name, tiny_capture)
    first = next(e for e in running if isinstance(e, Snapshot))
    before = {k: v.copy() for k, v in first.scene.state().arrays.items()}
    for _ in running:
        pass
    for key, array in first.scene.state().arrays.items():
        assert np.array_equal(array, before[key]), key


@pytest.mark.parametrize("name", TRAINED)
def test_a_hidden_pixel_changes_nothing(name: str, tiny_capture: Capture) -> None:
    """What the start and the loss see of a hidden pixel must not depend on its value."""
    hidden = np.zeros(tiny_capture.images.shape[:3], bool)
    hidden[:, 10:14, 20:30] = True
    captures = []
    for value in (0.0, 5.0):
        images = tiny_capture.images.copy()
        images[hidden] = value
        captures.append(replace(tiny_capture, images=images, occluded=hidden))
    a, b = (finish(task(name, c, coarsest_bin=1)) for c in captures)
    assert_same_scene(a, b)


@pytest.mark.parametrize("name", TRAINED)
def test_no_vessels_is_said(name: str, tiny_capture: Capture) -> None:
    empty = replace(tiny_capture, images=np.zeros_like(tiny_capture.images))
    with pytest.raises(InputError, match="brighter than the noise"):
        finish(task(name, empty))


def test_fdk_refuses_a_short_arc(tiny_capture: Capture) -> None:
    with pytest.raises(InputError, match="arc"):
        finish(task("fdk", tiny_capture.frames(slice(0, 8))))


def test_scaling_lengths_scales_attenuation(tiny_capture: Capture) -> None:
    """Lengths ten times as large: the same line integrals need a tenth of the attenuation."""
    assert tiny_capture.cameras is not None and tiny_capture.grid is not None
    poses = tiny_capture.cameras.camera_from_world.copy()
    poses[:, :3, 3] *= 10
    affine = tiny_capture.grid.affine_mm.copy()
    affine[:3] *= 10
    large = replace(
        tiny_capture,
        cameras=replace(tiny_capture.cameras, camera_from_world=poses),
        grid=Grid(tiny_capture.grid.shape, affine),
    )
    volumes = [finish(task("fdk", c)).volume(c.grid, None).values for c in (tiny_capture, large)]
    assert np.allclose(volumes[0], 10 * volumes[1], atol=1e-3 * np.abs(volumes[0]).max())

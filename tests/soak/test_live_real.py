"""Live sessions on real recordings: paths against given poses, surfaces, and that nothing breaks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from splatomy.engine.live import LiveRequest, live
from splatomy.engine.live.measuring import read_path
from splatomy.events import finish
from splatomy.geometry.rigid import inverse
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Observation
from splatomy.methods.live_scene.health import State
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.publishing import scene_of

pytestmark = pytest.mark.soak

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def folder(name: str) -> Path:
    """A folder of the shared data; a missing one fails the test."""
    path = DATA / name
    if not path.is_dir():
        pytest.fail(f"{path} is absent; this test needs the shared data")
    return path


def similarity_error(found: np.ndarray, given: np.ndarray) -> float:
    """RMS distance of paths (T, 3) after the best similarity, over the RMS radius of the given one."""
    a, b = found - found.mean(0), given - given.mean(0)
    u, s, v = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ v))])
    scale = (s * np.diag(sign)).sum() / max((a**2).sum(), 1e-12)
    left = scale * a @ (u @ sign @ v).T - b
    return float(np.sqrt((left**2).sum() / (b**2).sum()))


def test_a_kitchen_is_tracked_and_has_a_surface() -> None:
    """Every tenth frame of a hand-held Kinect: the path within a tenth of its length, most frames tracked."""
    where = folder("7scenes-redkitchen")
    size, focal = (320, 240), 585 / 2
    k = np.array([[focal, 0, 159.75], [0, focal, 119.75], [0, 0, 1.0]])
    online = Online(Config(depth_sigma=0.02), k, *size, True, torch.device("cpu"))
    found, true = [], []
    first: np.ndarray | None = None
    pictures = sorted(where.glob("*.color.jpg"))[:40]
    for n, picture in enumerate(pictures):
        name = picture.name.removesuffix(".color.jpg")
        image = cv2.resize(cv2.imread(str(picture)), size, interpolation=cv2.INTER_AREA)[..., ::-1]
        depth = cv2.imread(str(where / f"{name}.depth.png"), -1)[::2, ::2].astype(np.float32)
        depth[(depth == 0) | (depth > 6000)] = np.nan
        pose = np.loadtxt(where / f"{name}.pose.txt")
        pose[:3, 3] *= 1000
        first = pose if first is None else first
        hidden = np.zeros(depth.shape, bool)
        outcome = online.observe(Observation(10 * n, n / 3, image.astype(np.float32) / 255, depth, hidden))
        online.learn(4)
        if outcome.state in (State.OK, State.RELOCALISED):
            found.append(inverse(outcome.camera_from_world)[:3, 3])
            true.append((inverse(first) @ pose)[:3, 3])
    assert len(found) > 0.9 * len(pictures)
    length = np.linalg.norm(np.diff(true, axis=0), axis=1).sum()
    error = np.sqrt(np.square(np.array(found) - true).sum(1).mean())
    assert error < 0.1 * length
    mesh = scene_of(online, 1).surface(online.time_s)
    assert len(mesh.faces) > 10_000 and np.isfinite(mesh.vertices_mm).all()


def test_the_sinus_is_tracked_without_any_depth(tmp_path: Path) -> None:
    """One eye, shape from the light: a path is found; how it compares with the published one is printed."""
    where = folder("sinus-sfm-a")
    options = InputOptions(bin=4)
    request = LiveRequest(str(where), tmp_path / "run", rate="max", options=options)
    run = finish(live(request))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["tracked_share"] > 0.8
    _, places = read_path(RunFolder(run.path))
    assert np.isfinite(places).all()
    from splatomy.events import finish as done
    from splatomy.io.endoscopy_load import load_endoscopy
    from splatomy.io.sfm_folder import sfm_source

    clip = done(load_endoscopy(sfm_source(where, options), options))
    assert clip.cameras is not None
    given = clip.cameras.centres_mm
    if len(places) == len(given):
        print(f"sinus: path error {similarity_error(places, given):.2f} of its radius")


@pytest.mark.parametrize(
    ("name", "options", "frames"),
    [
        ("endovis17-clip/short_source.mp4", {"bin": 4}, 20),
        ("endonerf-clips/pulling_fascia.mp4", {"frames": (0, 40, 1), "bin": 2}, 40),
    ],
)
def test_real_surgery_runs_through(
    name: str, options: dict[str, object], frames: int, tmp_path: Path
) -> None:
    where = folder(name.split("/")[0]) / name.split("/")[1]
    request = LiveRequest(
        str(where), tmp_path / "run", rate="max", preset="deforming",
        options=InputOptions(**options),  # type: ignore[arg-type]
    )  # fmt: skip
    run = finish(live(request))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["frames"] == frames and metrics["surfels"] > 1000
    # The camera rests or moves slowly in both clips.
    assert metrics["tracked_share"] > 0.8
    assert (run.path / "report.html").stat().st_size > 10_000

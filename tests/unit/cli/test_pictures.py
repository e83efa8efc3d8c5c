"""render and export on small finished runs."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.cli.render import picture_of
from splatomy.geometry.cameras import Cameras
from splatomy.io.mesh import read_mesh
from splatomy.io.run import RunFolder
from splatomy.io.views import read_views
from splatomy.io.volume import read_volume, read_volume_4d
from splatomy.phantoms.vessels import VesselPhantom


@pytest.fixture(scope="module")
def moving(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose scene changes over time."""
    out = tmp_path_factory.mktemp("runs") / "moving"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), "--method", "classical_4d"]) == 0
    return out


@pytest.fixture(scope="module")
def static(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose scene stands still."""
    out = tmp_path_factory.mktemp("runs") / "static"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), "--method", "fdk"]) == 0
    return out


def test_the_run_keeps_its_cameras(moving: Path, tiny_phantom: VesselPhantom) -> None:
    views = read_views(moving / "scene" / "cameras.json", 1, 1)
    assert np.allclose(views.cameras.world_to_pixel, tiny_phantom.cameras.world_to_pixel)
    assert views.times_s is not None and np.allclose(views.times_s, tiny_phantom.times_s)
    assert views.grid is not None and views.grid.shape == tiny_phantom.grid.shape


def test_input_views_are_the_default(moving: Path, tmp_path: Path, tiny_phantom: VesselPhantom) -> None:
    """Each input frame comes back at its own time, and looks like what was measured."""
    out = tmp_path / "out"
    assert main(["render", str(moving), "--out", str(out), "--format", "npy"]) == 0
    files = sorted(out.glob("*.npy"))
    assert len(files) == len(tiny_phantom.times_s)
    picture, truth = np.load(files[12]), tiny_phantom.projections[12]
    assert picture.shape == truth.shape
    # Far above what another frame or a shifted camera would give.
    assert np.corrcoef(picture.ravel(), truth.ravel())[0, 1] > 0.8


def test_views_json_gives_the_same_pictures_again(moving: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["--format", "npy", "--size", "40"]
    assert (
        main(["render", str(moving), "--out", str(first), "--angles=-30,10", "--times", "1,2", *words]) == 0
    )
    again = ["--cameras", str(first / "views.json"), "--format", "npy"]
    assert main(["render", str(moving), "--out", str(second), *again]) == 0
    listed = json.loads((first / "views.json").read_text())["files"]
    assert len(listed) == 2
    for before, after in zip(sorted(first.glob("*.npy")), sorted(second.glob("*.npy")), strict=True):
        assert np.allclose(np.load(before), np.load(after), atol=1e-5)


def test_angles_use_the_runs_own_distances(moving: Path, tmp_path: Path, tiny_phantom: VesselPhantom) -> None:
    """The gantry angle of an input view gives that view's camera, up to the phantom's C-arm wobble."""
    primary = float(np.degrees(tiny_phantom.primary_rad[5]))
    words = ["--angles", f"{primary:.6f},0", "--times", "1", "--size", "64"]
    assert main(["render", str(moving), "--out", str(tmp_path / "out"), *words]) == 0
    made = read_views(tmp_path / "out" / "views.json", 1, 1).cameras
    nominal = tiny_phantom.nominal_cameras[5]
    points = np.array([[0.0, 0, 0], [20, -10, 15], [-15, 12, -25]])
    assert np.abs(made.project(points)[0] - nominal.project(points)[0]).max() < 1.0


def test_a_csv_of_matrices_is_a_list_of_cameras(
    moving: Path, tmp_path: Path, tiny_phantom: VesselPhantom
) -> None:
    table = tiny_phantom.cameras[[3, 9]].world_to_pixel.reshape(2, 12)
    np.savetxt(tmp_path / "two.csv", table, delimiter=",")
    out = tmp_path / "out"
    words = [
        "render",
        str(moving),
        "--out",
        str(out),
        "--cameras",
        str(tmp_path / "two.csv"),
        "--times",
        "1.5",
    ]
    assert main(words) == 0
    made: Cameras = read_views(out / "views.json", 1, 1).cameras
    assert np.allclose(made.centres_mm, tiny_phantom.cameras[[3, 9]].centres_mm, atol=1e-3)
    assert len(list(out.glob("*.png"))) == 2


def test_quantities_become_pixels() -> None:
    """Each quantity as a picture, for scenes that have it."""
    grey = picture_of("colour", np.array([[[0.0], [0.5], [2.0]]]), 1.0)
    assert grey.tolist() == [[255, 127, 0]]
    colour = picture_of("colour", np.array([[[0.0, 0.5, 1.0]]]), 1.0)
    assert colour.shape == (1, 1, 3) and colour[0, 0].tolist() == [0, 128, 255]
    depth = picture_of("depth", np.array([[12.34, np.nan]]), 1.0)
    assert depth.dtype == np.uint16 and depth.tolist() == [[1234, 0]]
    assert picture_of("normals", np.array([[[-1.0, 0.0, 1.0]]]), 1.0)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["render", "RUN", "--out", "OUT", "--what", "colour,normals"], "no normals"),
        (["render", "RUN", "--out", "OUT", "--what", "bones"], "bones"),
        (["render", "RUN", "--out", "OUT", "--cameras", "fixed:24"], "0 to 23"),
        (["render", "RUN", "--out", "OUT", "--cameras", "nowhere.json"], "nowhere.json"),
        (["render", "RUN", "--out", "OUT", "--times", "1,99"], "99"),
        (["render", "RUN", "--out", "OUT", "--times", "nan"], "nan"),
        (["render", "RUN", "--out", "OUT", "--angles", "30"], "--angles"),
        (["render", "RUN", "--out", "OUT", "--angles", "0,90"], "--angles"),
        (["render", "RUN", "--out", "OUT", "--size", "100000"], "--size"),
        (["render", "RUN", "--out", "RUN"], "not empty"),
        (["export", "RUN", "--what", "mesh", "--out", "OUT.png"], ".ply, .obj, .stl, .glb, .vtp"),
        (["export", "RUN", "--what", "volume", "--out", "OUT.mp4"], ".seq.nrrd"),
        (["export", "RUN", "--what", "volume", "--out", "OUT.nrrd", "--time", "99"], "99"),
        (["export", "RUN", "--what", "volume", "--out", "OUT.seq.nrrd", "--time", "1"], "all times"),
        (["export", "RUN", "--what", "gaussians", "--out", "OUT.ply"], "no Gaussians"),
        (["export", "RUN", "--what", "mesh", "--out", "OUT.ply", "--turn"], "--turn"),
        (["export", "RUN", "--what", "video", "--out", "OUT.mp4", "--time", "1"], "--turn"),
        (["export", "RUN", "--what", "video", "--out", "OUT.mp4", "--size", "3"], "--size"),
        (["export", "RUN", "--what", "mesh", "--out", "RUN"], "folder"),
    ],
)
def test_wrong_wishes_leave_nothing(
    words: list[str], part: str, moving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [w.replace("RUN", str(moving)).replace("OUT", str(tmp_path / "out")) for w in words]
    assert main(filled) == 2
    assert part in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_export_files_hold_the_product(moving: Path, tmp_path: Path) -> None:
    def export(*words: str) -> int:
        return main(["export", str(moving), *words])

    for suffix in ("ply", "obj", "stl", "glb", "vtp"):
        assert export("--what", "mesh", "--out", str(tmp_path / f"m.{suffix}")) == 0
    own = read_mesh(moving / "meshes" / "mesh.ply")
    assert np.allclose(read_mesh(tmp_path / "m.vtp").vertices_mm, own.vertices_mm, atol=1e-4)
    for suffix in ("nii.gz", "nrrd", "mha"):
        assert export("--what", "volume", "--time", "1.5", "--out", str(tmp_path / f"v.{suffix}")) == 0
    affine = read_volume(moving / "volumes" / "volume.nii.gz").affine_mm
    assert np.allclose(read_volume(tmp_path / "v.mha").affine_mm, affine, atol=1e-4)
    assert export("--what", "volume", "--out", str(tmp_path / "v.seq.nrrd")) == 0
    values, times_s, _ = read_volume_4d(tmp_path / "v.seq.nrrd")
    assert len(values) == len(times_s) > 2 and values.max() > 0


def test_a_file_is_not_overwritten_unasked(
    moving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.stl"
    out.write_text("mine")
    assert main(["export", str(moving), "--what", "mesh", "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err and out.read_text() == "mine"
    assert main(["export", str(moving), "--what", "mesh", "--out", str(out), "--force"]) == 0
    assert out.stat().st_size > 1000


def film(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(stream)]
        return frames, float(stream.average_rate or 0)


def test_playback_is_in_real_time(moving: Path, tmp_path: Path, tiny_phantom: VesselPhantom) -> None:
    out = tmp_path / "play.mp4"
    assert main(["export", str(moving), "--what", "video", "--out", str(out), "--size", "101"]) == 0
    frames, rate = film(out)
    duration_s = float(np.ptp(tiny_phantom.times_s))
    assert abs(len(frames) / rate - duration_s) < 2 / rate
    # The odd side gains one pixel, and the bolus and the clock change the picture.
    assert frames[0].shape == (102, 102) and np.abs(frames[0].astype(int) - frames[-1]).max() > 30


def test_a_still_scene_is_turned_but_not_played(
    static: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(static), "--what", "video", "--size", "64"]
    assert main([*words, "--out", str(tmp_path / "play.mp4")]) == 2
    assert "--turn" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main([*words, "--turn", "--time", "1", "--out", str(tmp_path / "turn.mp4")]) == 0
    assert len(film(tmp_path / "turn.mp4")[0]) > 100
    assert main(["export", str(static), "--what", "volume", "--out", str(tmp_path / "v.seq.nrrd")]) == 2
    assert "static" in capsys.readouterr().err


def test_a_stopped_run_still_gives_its_volume(static: Path, tmp_path: Path) -> None:
    """Cancelled before its products were made: the scene and its grid are enough."""
    folder = RunFolder(tmp_path / "run")
    for name in ("run.json", "scene/scene.json", "scene/cameras.json", "scene/fields.safetensors"):
        folder.file(*name.split("/")).write_bytes((static / name).read_bytes())
    out = tmp_path / "v.nii.gz"
    assert main(["export", str(folder.path), "--what", "volume", "--out", str(out)]) == 0
    assert np.allclose(read_volume(out).values, read_volume(static / "volumes" / "volume.nii.gz").values)


def test_png_grey_is_dark_on_white(moving: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["render", str(moving), "--out", str(out), "--cameras", "fixed:12", "--times", "2"]) == 0
    picture = cv2.imread(str(next(out.glob("*.png"))), cv2.IMREAD_UNCHANGED)
    assert picture.ndim == 2 and np.median(picture) > 230 and picture.min() < 60

"""Image sets of still scenes on the command line: from the views to a mesh, its figures and its report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.engine import RunRequest, load_scene, run
from splatomy.engine.still_running import PreparedViews, recorded_picture
from splatomy.engine.still_views import chosen_views, open_still_views
from splatomy.engine.surface_products import make_surface_products
from splatomy.events import Event, Notice, Snapshot, finish
from splatomy.io.gaussians import read_gaussians
from splatomy.io.mesh import read_mesh, write_mesh
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder
from splatomy.methods.pulled_surface.model import PulledScene
from splatomy.scene import Mesh

_QUICK = (
    "splat_steps=40",
    "joint_steps=80",
    "finish_steps=20",
    "mesh_resolution=32",
    "start_points=1000",
    "log2_table=12",
)
_WORDS = ["--preset", "draft", "--device", "cpu", *(w for s in _QUICK for w in ("--set", s))]


@pytest.fixture(scope="module")
def made_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest object phantom, as an RGB-D object folder with truth/."""
    case = tmp_path_factory.mktemp("object") / "case"
    assert main(["phantom", "object", "--out", str(case), "--preset", "tiny", "--seed", "1"]) == 0
    return case


@pytest.fixture(scope="module")
def made_run(made_case: Path) -> Path:
    """A short run of it, with two views held out."""
    run = made_case.parent / "run"
    assert main(["reconstruct", str(made_case), "--out", str(run), "--views", "6", *_WORDS]) == 0
    return run


@pytest.fixture
def object_case(made_case: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made_case, tmp_path / "case"))


def refused(words: list[str], capsys: pytest.CaptureFixture[str], out: Path) -> str:
    """The one sentence of a command that cannot be done, which left no run behind."""
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("splatomy: ") and not (out / "metrics.json").exists()
    return told


def run_words(case: Path, run: Path, *more: str) -> list[str]:
    return ["reconstruct", str(case), "--out", str(run), *_WORDS, *more]


def json_of(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_a_run_holds_everything_that_was_promised(made_run: Path) -> None:
    record = json_of(made_run / "run.json")
    assert record["state"] == "done" and record["method"] == "pulled_surface" and record["metric"]
    assert record["views"]["frames"] == list(range(8)) and record["views"]["layout"] == "ScanNet object"
    metrics = json_of(made_run / "metrics.json")
    assert {"psnr", "psnr_masked", "ssim", "evidence_share"} <= set(metrics)
    mesh = read_mesh(made_run / "meshes" / "mesh.ply")
    assert mesh.evidence is not None and mesh.colours is not None and 0 < mesh.evidence.mean() <= 1
    figures = json_of(made_run / "meshes" / "mesh.json")
    assert figures["unit"] == "mm" and figures["faces"] == len(mesh.faces)
    assert len(list((made_run / "renders").glob("frame_*_depth.png"))) == 8
    assert len(list((made_run / "prepared" / "target").glob("*.png"))) == 8
    page = (made_run / "report.html").read_text()
    assert page.count("data:image/png") >= 4 and "held out" in page and "enclosed volume" in page
    assert "several sides" in page and "http://" not in page and "https://" not in page


def test_the_depth_pictures_measure_the_object(made_run: Path, made_case: Path) -> None:
    step = json_of(made_run / "renders" / "renders.json")["depth_step"]
    codes = cv2.imread(str(made_run / "renders" / "frame_0000_depth.png"), cv2.IMREAD_UNCHANGED)
    true = np.load(made_case / "truth" / "depth" / "000000.npy")
    both = (codes > 0) & np.isfinite(true)
    assert both.sum() > 100 and np.median(np.abs(codes[both] * step - true[both])) < 5.0


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb", "vtp"])
def test_the_mesh_is_exported(suffix: str, made_run: Path, tmp_path: Path) -> None:
    out = tmp_path / f"mesh.{suffix}"
    assert main(["export", str(made_run), "--what", "mesh", "--out", str(out)]) == 0
    own, back = read_mesh(made_run / "meshes" / "mesh.ply"), read_mesh(out)
    assert len(back.faces) == len(own.faces)
    assert np.allclose(back.vertices_mm.min(0), own.vertices_mm.min(0), atol=1e-3)


@pytest.mark.parametrize("surface", ["own", "tsdf"])
def test_the_mesh_goes_through_the_tools(
    surface: str, made_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mesh.ply"
    tools = ["--trim-views", "--keep-largest", "--fill-holes-mm", "4", "--smooth", "4", "--decimate", "900"]
    words = ["export", str(made_run), "--what", "mesh", "--surface", surface, *tools, "--out", str(out)]
    capsys.readouterr()
    assert main(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    for word in ("trim to views: dropped faces", "keep largest: pieces before", "fill holes: filled"):
        assert word in told
    mesh = read_mesh(out)
    assert 0 < len(mesh.faces) <= 1000 and mesh.evidence is not None


def test_gaussians_and_pictures_lie_in_the_world(made_run: Path, tmp_path: Path) -> None:
    assert main(["export", str(made_run), "--what", "gaussians", "--out", str(tmp_path / "g.ply")]) == 0
    assert (
        main(["render", str(made_run), "--out", str(tmp_path / "p"), "--what", "colour,depth,normals"]) == 0
    )
    assert len(list((tmp_path / "p").glob("*.png"))) == 24
    turn = ["export", str(made_run), "--what", "video", "--turn", "--size", "64", "--out"]
    assert main([*turn, str(tmp_path / "turn.mp4")]) == 0
    columns = read_gaussians(tmp_path / "g.ply")
    mesh = read_mesh(made_run / "meshes" / "mesh.ply")
    for axis, name in enumerate("xyz"):
        low, high = np.quantile(columns[name], [0.05, 0.95])
        assert mesh.vertices_mm[:, axis].min() - 5 < low < high < mesh.vertices_mm[:, axis].max() + 5


def test_what_a_surface_has_not_is_said(
    made_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, part in (
        (["export", str(made_run), "--what", "volume", "--out", str(tmp_path / "v.nii.gz")], "no volume"),
        (["export", str(made_run), "--what", "gaussians", "--smooth", "3", "--out", str(tmp_path / "g.ply")],
         "mesh tools are for --what mesh"),
        (["render", str(made_run), "--angles", "0,0", "--out", str(tmp_path / "p")], "turns a C-arm"),
    ):  # fmt: skip
        assert part in refused(words, capsys, tmp_path)


@pytest.mark.parametrize("protocol", ["o2recon", pytest.param("dtu", marks=pytest.mark.verify)])
def test_the_truth_measures_the_run(
    protocol: str, made_run: Path, made_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = ["evaluate", str(made_run), "--truth", str(made_case / "truth"), "--protocol", protocol, "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    wanted = {"accuracy_mm", "completeness_seen_mm", "chamfer_icp_sum_mm", "psnr_masked", "depth_mae_mm"}
    own = {"dtu": "chamfer_mean_dtu_mm", "o2recon": "fscore_50mm_o2recon"}[protocol]
    assert wanted | {own} <= set(found)
    # The object is 120 mm wide; a run of 80 steps finds it roughly.
    assert found["chamfer_mean_mm"] < 10


@pytest.mark.verify
def test_the_true_mesh_scores_as_right(
    made_run: Path, made_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(made_run, tmp_path / "run"))
    truth = read_mesh(made_case / "truth" / "mesh.ply")
    write_mesh(run / "meshes" / "mesh.ply", truth)

    def figures() -> dict[str, float]:
        capsys.readouterr()
        assert main(["evaluate", str(run), "--truth", str(made_case / "truth"), "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out.strip().splitlines()[-1]))

    right = figures()
    assert right["chamfer_mean_mm"] < 0.5 and right["fscore_1mm"] > 0.99
    moved = truth.vertices_mm + np.float32([3, 0, 0])
    write_mesh(run / "meshes" / "mesh.ply", Mesh(moved, truth.faces, truth.colours, truth.evidence))
    wrong = figures()
    assert wrong["chamfer_mean_mm"] > 1 and wrong["chamfer_icp_sum_mm"] < 2.2 * right["chamfer_mean_mm"] + 0.1


def test_a_protocol_that_lacks_something_says_what(
    made_run: Path, made_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(made_run), "--truth", str(made_case / "truth"), "--protocol", "tnt"]
    assert "tau" in refused(words, capsys, made_case)
    empty = made_case / "color"
    assert "no truth of a surface" in refused(
        ["evaluate", str(made_run), "--truth", str(empty)], capsys, empty
    )


def test_other_methods_and_finished_runs_are_refused(
    made_run: Path, made_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    told = refused(
        ["reconstruct", str(made_case), "--out", str(run), "--method", "dynamic_tissue"], capsys, run
    )
    assert "works on recordings over time" in told and "pulled_surface" in told
    told = refused(["reconstruct", str(made_case), "--out", str(run), "--method", "fdk"], capsys, run)
    assert "attenuation" in told and not run.exists()
    capsys.readouterr()
    assert main(run_words(made_case, made_run)) == 2
    assert "already holds a run (done)" in capsys.readouterr().err


def test_masks_missing_for_some_views_are_told_and_used_where_they_are(object_case: Path) -> None:
    for number in (1, 4):
        (object_case / "mask" / f"{number}.png").unlink()
    capture = finish(open_still_views(object_case, InputOptions()))
    assert "2 of 8 views have no object mask" in " ".join(capture.problems)
    chosen = chosen_views(capture, [0, 1, 4, 5])
    assert chosen.details["has_target"] == [True, False, False, True]
    assert chosen.details["names"] == ["0", "1", "4", "5"] and len(chosen) == 4
    picture = recorded_picture(chosen, 1, 0.0)
    assert np.array_equal(picture, chosen.images[1]) and (recorded_picture(chosen, 0, 0.0)[0] == 0).all()


def test_pictures_of_different_sizes_are_refused(
    object_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = cv2.imread(str(object_case / "color" / "3.png"))
    cv2.imwrite(str(object_case / "color" / "3.png"), picture[:-4])
    assert "3.png is 64x44 but the first picture is 64x48" in refused(
        run_words(object_case, tmp_path / "run"), capsys, tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("places", ["one place", "one line"])
def test_cameras_that_show_no_shape(
    places: str, object_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = np.loadtxt(object_case / "pose" / "0.txt")
    for number in range(8):
        pose = np.loadtxt(object_case / "pose" / f"{number}.txt") if places == "one place" else first.copy()
        pose[:3, 3] = first[:3, 3]
        if places == "one line":
            pose[:3, 3] += 0.01 * number * first[:3, 0]
        np.savetxt(object_case / "pose" / f"{number}.txt", pose)
    # The phantom without its depth sensor.
    shutil.rmtree(object_case / "depth")
    (object_case / "depth").mkdir()
    capsys.readouterr()
    code = main(["inspect", str(object_case), "--json"])
    problems = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["problems"]
    assert code == (2 if places == "one place" else 0)
    assert any(f"8 cameras stand {'in' if places == 'one place' else 'on'} {places}" in p for p in problems)
    if places == "one place":
        told = refused(run_words(object_case, tmp_path / "run"), capsys, tmp_path / "run")
        assert "shows no depth" in told


def test_a_mesh_too_large_for_the_memory_is_refused_before_training(
    made_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splatomy.extract.room.free_bytes", lambda: 1 << 30)
    words = run_words(made_case, tmp_path / "run", "--set", "mesh_resolution=2048")
    assert "A mesh of 2048 cells a side would take" in refused(words, capsys, tmp_path / "run")


def test_a_stopped_run_goes_on(made_case: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    settings = dict(s.split("=") for s in (*_QUICK, "joint_steps=60", "snapshot_every_s=0.1"))
    request = RunRequest(
        source=made_case, out=path, method="pulled_surface", preset="draft", settings=settings, device="cpu"
    )
    task = run(request)
    for event in task:
        if isinstance(event, Snapshot) and event.step > 10:
            break
    task.close()
    assert json_of(path / "run.json")["state"] == "cancelled"
    assert (path / "scene" / "scene.json").exists() and not (path / "meshes" / "mesh.ply").exists()
    words = [w for key, value in settings.items() for w in ("--set", f"{key}={value}")]
    start = [
        "reconstruct",
        str(made_case),
        "--out",
        str(path),
        "--preset",
        "draft",
        "--device",
        "cpu",
        *words,
    ]
    assert main(start) == 2
    assert main([*start, "--resume"]) == 0
    record = json_of(path / "run.json")
    assert record["state"] == "done" and record["resumed"][0]["from_step"] > 10
    assert (path / "meshes" / "mesh.ply").exists()


@pytest.mark.verify
def test_a_job_shows_previews_and_answers(made_case: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    config = {k: int(v) for k, v in (s.split("=") for s in _QUICK)}
    record = {
        "contract": 1, "input": str(made_case), "out": str(tmp_path / "run"), "preset": "draft",
        "config": {**config, "snapshot_every_s": 0.1}, "device": "cpu",
    }  # fmt: skip
    job.write_text(json.dumps(record))
    words = [sys.executable, "-m", "splatomy", "job", "run", str(job)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        events = [json.loads(line) for line in engine.stdout]
    assert engine.returncode == 0 and events[-1]["event"] == "done"
    shots = [e for e in events if e["event"] == "snapshot" and e.get("files")]
    assert shots and {"preview", "gaussians"} <= set(shots[-1]["files"])


def test_an_empty_field_ends_with_a_sentence(made_run: Path, made_case: Path, tmp_path: Path) -> None:
    """What the products say of a scene whose surface is empty, as that of a field without a zero."""
    folder = RunFolder(tmp_path / "run")
    scene = load_scene(RunFolder(made_run))
    assert isinstance(scene, PulledScene)
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    capture = finish(open_still_views(made_case, InputOptions()))
    views = PreparedViews(capture, capture, np.arange(len(capture)))
    events: list[Event] = []
    task = make_surface_products(folder, replace(scene, mesh=nothing), views, np.zeros(0, np.intp))
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            made = stop.value
            break
    assert any(isinstance(e, Notice) and "No surface was found" in e.text for e in events)
    assert made.views and made.figures is None and not (folder.path / "meshes").exists()


def test_wrong_starts_are_refused(
    made_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    told = refused(run_words(made_case, run, "--init", str(made_case / "truth" / "mesh.ply")), capsys, run)
    assert "Gaussian" in told
    told = refused(run_words(made_case, run, "--init", str(tmp_path / "none.ply")), capsys, run)
    assert "none.ply" in told


@pytest.mark.verify
def test_a_run_starts_from_its_own_gaussians(made_run: Path, made_case: Path, tmp_path: Path) -> None:
    ply = tmp_path / "start.ply"
    assert main(["export", str(made_run), "--what", "gaussians", "--out", str(ply)]) == 0
    # The set's poses are in metres, and so are Gaussians that were trained on it elsewhere.
    data = ply.read_bytes()
    head, body = data.split(b"end_header\n", 1)
    names = [line.split()[-1].decode() for line in head.splitlines() if line.startswith(b"property")]
    table = np.frombuffer(body, np.dtype([(n, "<f4") for n in names])).copy()
    for name in "xyz":
        table[name] /= 1000
    for name in ("scale_0", "scale_1"):
        table[name] -= np.log(1000)
    ply.write_bytes(head + b"end_header\n" + table.tobytes())
    run = tmp_path / "run"
    assert main(run_words(made_case, run, "--init", str(ply))) == 0
    mesh, before = read_mesh(run / "meshes" / "mesh.ply"), read_mesh(made_run / "meshes" / "mesh.ply")
    assert np.abs(np.median(mesh.vertices_mm, 0) - np.median(before.vertices_mm, 0)).max() < 10

"""An endoscopic clip from the phantom to the figures, through the command line alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.engine import RunRequest, load_scene, run
from splatomy.events import Notice, Progress, Snapshot
from splatomy.io.mesh import read_mesh
from splatomy.io.run import RunFolder

STEPS = 40


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The standard output of a command that must succeed."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The sentence with which a command refuses its input or options."""
    code = main([str(word) for word in words])
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2, sentence
    assert sentence.startswith("splatomy: ")
    return sentence


def request(clip: Path, out: Path, **changes: Any) -> RunRequest:
    given: dict[str, Any] = {
        "source": clip,
        "out": out,
        "method": "dynamic_tissue",
        "preset": "draft",
        "settings": {"steps": STEPS, "snapshot_every_s": 0.1},
    }
    return RunRequest(**{**given, **changes})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "clip"
    assert main(["phantom", "tissue", "--preset", "tiny", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def finished(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the method that the input's kind decides."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["reconstruct", clip, "--out", out, "--preset", "draft", "--set", f"steps={STEPS}"]
    assert main([str(word) for word in words]) == 0
    return out


def test_the_phantom_is_an_input_that_inspect_knows(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(told(capsys, "inspect", clip, "--json"))
    assert report["usable"]
    assert "EndoNeRF" in json.dumps(report)


def test_a_run_folder_holds_what_the_contract_names(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert (record["state"], record["method"], record["metric"]) == ("done", "dynamic_tissue", True)
    assert record["world"] == "first camera"
    assert "flicker" in json.loads((finished / "metrics.json").read_text())
    prepared = json.loads((finished / "prepared" / "prepared.json").read_text())
    assert prepared["masks_mean"] == "hidden"
    for name in ("occluded", "inpainted", "provenance", "depth", "confidence"):
        assert len(list((finished / "prepared" / name).iterdir())) == 8, name
    assert (finished / "prepared" / "poses.json").exists()
    assert len(list((finished / "renders").glob("frame_????.png"))) == 8
    assert (finished / "renders" / "without_instruments.mp4").stat().st_size > 0
    assert (finished / "scene" / "gaussians.ply").exists()


def test_prepared_masks_and_visible_pixels_are_the_inputs(clip: Path, finished: Path) -> None:
    """Lossless: what was visible is bit-equal, what is hidden says where it came from."""
    for frame in range(8):
        name = f"{frame:06d}.png"
        given = cv2.imread(str(clip / "masks" / name), cv2.IMREAD_UNCHANGED)
        hidden = cv2.imread(str(finished / "prepared" / "occluded" / name), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(hidden)) <= {0, 255}
        assert np.array_equal(hidden > 0, given > 0)
        before = cv2.imread(str(clip / "images" / name), cv2.IMREAD_UNCHANGED)
        after = cv2.imread(str(finished / "prepared" / "inpainted" / name), cv2.IMREAD_UNCHANGED)
        assert after.dtype == before.dtype
        assert np.array_equal(after[hidden == 0], before[hidden == 0])
        source = cv2.imread(str(finished / "prepared" / "provenance" / name), cv2.IMREAD_UNCHANGED)
        assert ((source == 1) == (hidden == 0)).all()
        assert source.max() <= 8 + 1


def test_meshes_keep_one_topology_with_evidence(finished: Path) -> None:
    about = json.loads((finished / "meshes" / "meshes.json").read_text())
    meshes = [read_mesh(finished / "meshes" / f"frame_{n:04d}.ply") for n in about["frames"]]
    assert len(meshes) == 8
    assert about["unit"] == "mm"
    distance = np.load(finished / "meshes" / "deformation.npy")
    for mesh, row in zip(meshes, distance, strict=True):
        assert np.array_equal(mesh.faces, meshes[0].faces)
        assert mesh.evidence is not None
        assert 0 <= mesh.evidence.min() <= mesh.evidence.max() <= 1
        moved = np.linalg.norm(mesh.vertices_mm - meshes[0].vertices_mm, axis=1)
        assert np.allclose(moved, row, atol=1e-3)
    # The phantom breathes by 2.9 mm and is pulled by 7 mm.
    assert 1 < distance.max() < 20


def test_evaluation_names_every_figure_of_the_contract(
    clip: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(told(capsys, "evaluate", finished, "--truth", clip / "truth", "--json"))
    named = {
        "psnr", "psnr_masked", "psnr_zero_filled", "psnr_hidden", "psnr_never_seen", "ssim", "flicker",
        "depth_mae_mm", "depth_rmse_mm", "depth_rmse_clipped_mm", "chamfer_mean_mm", "hd95_mm",
    }  # fmt: skip
    assert named <= set(found)
    # Hidden pixels count as perfect there.
    assert found["psnr_zero_filled"] > found["psnr_masked"]
    # A clip of grey pictures, or depths of the instruments, would be far beyond this.
    assert found["psnr_hidden"] > 20
    assert found["depth_mae_mm"] < 3


def test_the_report_marks_what_is_synthetic(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<img") >= 4
    assert "magenta: synthetic" in page or "made up (magenta)" in page
    assert "Research use only" in page


def test_pictures_and_meshes_of_any_time(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures"
    words = ("--cameras", "fixed:2", "--times", "0.5", "--what", "colour,depth,alpha,normals")
    told(capsys, "render", finished, "--out", out, *words)
    names = {path.name.partition("s")[2] for path in out.glob("*.png")}
    assert names == {".png", "_depth.png", "_alpha.png", "_normals.png"}
    assert cv2.imread(str(next(out.glob("*s.png")))).shape == (52, 64, 3)
    for time_s in ("0", "1.35"):
        told(
            capsys,
            "export",
            finished,
            "--what",
            "mesh",
            "--time",
            time_s,
            "--out",
            tmp_path / f"{time_s}.ply",
        )
    first, later = read_mesh(tmp_path / "0.ply"), read_mesh(tmp_path / "1.35.ply")
    assert np.array_equal(first.faces, later.faces)
    assert np.abs(first.vertices_mm - later.vertices_mm).max() > 0.1
    refused(capsys, "export", finished, "--what", "mesh", "--time", "99", "--out", tmp_path / "late.ply")
    assert "no volume" in refused(
        capsys, "export", finished, "--what", "volume", "--out", tmp_path / "volume.nii.gz"
    )
    assert "C-arm" in refused(capsys, "render", finished, "--out", tmp_path / "turned", "--angles", "30,10")


def test_held_out_frames_take_no_part(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """EndoNeRF's protocol holds out frame 1 of 8; its picture must not reach the training frames."""
    spoiled = tmp_path / "clip"
    shutil.copytree(clip, spoiled)
    picture = spoiled / "images" / "000001.png"
    cv2.imwrite(str(picture), np.full((52, 64, 3), (255, 0, 0), np.uint8))
    filled = []
    for source in (clip, spoiled):
        out = tmp_path / f"run_{source.parent.name}"
        words = ("--views", "endonerf", "--preset", "draft", "--set", "steps=20")
        told(capsys, "reconstruct", source, "--out", out, *words)
        names = sorted(path.name for path in (out / "prepared" / "inpainted").iterdir())
        assert names == [f"{n:06d}.png" for n in (0, 2, 3, 4, 5, 6, 7)]
        filled.append([cv2.imread(str(out / "prepared" / "inpainted" / name)) for name in names])
        assert {"psnr_masked", "psnr_zero_filled"} <= set(json.loads((out / "metrics.json").read_text()))
    assert all(np.array_equal(a, b) for a, b in zip(*filled, strict=True))


def test_a_stopped_run_keeps_its_preparation_and_ends_alike(
    clip: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    task = run(request(clip, out))
    for event in task:
        if isinstance(event, Snapshot) and event.step >= STEPS // 2:
            break
    task.close()
    assert json.loads((out / "run.json").read_text())["state"] == "cancelled"
    written = {path: path.stat().st_mtime_ns for path in (out / "prepared").rglob("*.png")}
    events = list(run(request(clip, out, resume=True)))
    assert "prepared-reused" in {event.code for event in events if isinstance(event, Notice)}
    assert "inpaint" not in {event.stage for event in events if isinstance(event, Progress)}
    assert written == {path: path.stat().st_mtime_ns for path in (out / "prepared").rglob("*.png")}
    one, two = (load_scene(RunFolder(folder)).surface(1.0).vertices_mm for folder in (out, finished))
    assert np.abs(one - two).max() < 1e-3


def test_a_run_stopped_while_it_prepares_starts_over(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    few = {"steps": 20, "snapshot_every_s": 0.1}
    task = run(request(clip, out, settings=few))
    for event in task:
        if isinstance(event, Progress) and event.stage == "inpaint":
            break
    task.close()
    assert not (out / "prepared" / "prepared.json").exists()
    events = list(run(request(clip, out, resume=True, settings=few)))
    assert "inpaint" in {event.stage for event in events if isinstance(event, Progress)}


def test_one_eye_without_anything_else_has_no_millimetres(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of pictures alone: masks are proposed, depth comes from the light, lengths have no unit."""
    frames = tmp_path / "frames"
    shutil.copytree(clip / "images", frames)
    out = tmp_path / "run"
    told(capsys, "reconstruct", frames, "--out", out, "--preset", "draft", "--set", "steps=20")
    record = json.loads((out / "run.json").read_text())
    assert record["metric"] is False
    said = " ".join(record["notices"])
    assert "No masks were given" in said
    assert "light falls off" in said
    assert json.loads((out / "meshes" / "meshes.json").read_text())["unit"] == "relative"
    assert " mm" not in (out / "report.html").read_text().partition("<body>")[2]
    found = json.loads(told(capsys, "evaluate", out, "--truth", clip / "truth", "--json"))
    assert not [key for key in found if key.endswith("_mm")]
    assert "depth_abs_rel_scaled" in found


def test_stereo_gives_depth_in_millimetres(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = tmp_path / "clip", tmp_path / "run"
    told(capsys, "phantom", "tissue", "--preset", "tiny", "--layout", "stereomis", "--out", clip)
    told(capsys, "reconstruct", clip, "--out", out, "--preset", "draft", "--set", "steps=20")
    record = json.loads((out / "run.json").read_text())
    assert record["metric"] is True
    assert any(path.suffix == ".npy" for path in (out / "prepared" / "depth").iterdir())


def test_wrong_words_are_refused_in_one_sentence(
    clip: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert "colour" in refused(capsys, "reconstruct", clip, "--out", out, "--method", "dynamic_vessels")
    assert "at least 2" in refused(capsys, "reconstruct", clip, "--out", out, "--frames", "0:1")
    assert "already holds a run" in refused(capsys, "reconstruct", clip, "--out", finished)
    assert "--views" in refused(capsys, "reconstruct", clip, "--out", out, "--views", "99")
    assert not out.exists()
    refused(capsys, "phantom", "tissue", "--preset", "enormous", "--out", tmp_path / "other")
    refused(capsys, "phantom", "vessels", "--layout", "stereomis", "--out", tmp_path / "other")
    refused(capsys, "evaluate", finished, "--truth", tmp_path)


def test_a_tool_that_covers_everything_is_refused(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    covered = tmp_path / "clip"
    shutil.copytree(clip, covered)
    for path in (covered / "masks").iterdir():
        cv2.imwrite(str(path), np.full((52, 64), 255, np.uint8))
    assert "hid" in refused(capsys, "reconstruct", covered, "--out", tmp_path / "run")


def test_a_reviewed_case_is_an_input(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, out = tmp_path / "clip.splatomy", tmp_path / "run"
    told(capsys, "masks", clip, "--out", case)
    added = sorted((case / "masks" / "add").glob("*.png"))
    mask = cv2.imread(str(added[0]), cv2.IMREAD_GRAYSCALE)
    # What a person adds must reach the run: here a corner of the first frame.
    mask[:8, :8] = 255
    cv2.imwrite(str(added[0]), mask)
    told(capsys, "reconstruct", case, "--out", out, "--preset", "draft", "--set", f"steps={STEPS}")
    kept = sorted((out / "prepared" / "occluded").glob("*.png"))
    assert (cv2.imread(str(kept[0]), cv2.IMREAD_GRAYSCALE)[:8, :8] == 255).all()
    assert json.loads((out / "run.json").read_text())["method"] == "dynamic_tissue"
    assert "holds its own options" in refused(
        capsys, "reconstruct", case, "--out", tmp_path / "b", "--bin", "2"
    )

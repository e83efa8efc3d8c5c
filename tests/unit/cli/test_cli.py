"""The command line end to end on a tiny phantom, and its sentences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.io.volume import read_volume, write_volume
from splatomy.metrics.volume import dice, time_error_s, volume_metrics
from splatomy.scene import Volume

QUICK = ["--set", "steps=150", "--set", "num_start=1500"]


@pytest.fixture(scope="module")
def finished(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), "--views", "12", *QUICK]) == 0
    return out


@pytest.fixture(scope="module")
def truth(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is true but for the walls, whose distances take longest."""
    folder = tmp_path_factory.mktemp("true") / "truth"
    shutil.copytree(tiny_case / "truth", folder)
    (folder / "mesh.ply").unlink()
    return folder


def test_a_run_folder_is_whole(finished: Path, tiny_case: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert record["contract"] == 1 and record["state"] == "done" and record["method"] == "dynamic_vessels"
    assert "psnr" in json.loads((finished / "metrics.json").read_text())
    for name in (
        "events.jsonl", "report.html", "scene/scene.json", "scene/gaussians.ply", "scene/fields.safetensors",
        "meshes/mesh.ply", "volumes/volume.nii.gz", "volumes/vessels.nii.gz", "volumes/centreline.vtp",
        "volumes/arrival_s.nii.gz", "volumes/peak_s.nii.gz", "volumes/transit_s.nii.gz",
        "volumes/volume_4d.seq.nrrd", "checkpoint/newest/state.safetensors",
    ):  # fmt: skip
        assert (finished / name).stat().st_size > 0, name
    truth = read_volume(tiny_case / "truth" / "vessels.nii.gz")
    assert np.allclose(read_volume(finished / "volumes" / "volume.nii.gz").affine_mm, truth.affine_mm)


def test_the_run_is_right(finished: Path, tiny_case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(finished), "--truth", str(tiny_case / "truth"), "--input", str(tiny_case)]
    assert main([*arguments, "--json", "--protocol", "4drgs"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    # Thick vessels, 12 views, 150 steps: far from the full method, but plainly the right tree.
    assert found["dice_best"] > 0.6 and found["recall_all"] > 0.7 and found["psnr"] > 15
    assert {"chamfer_sum_mm", "hd95_mm", "arrival_error_s", "psnr_4drgs"} <= found.keys()


def test_the_own_input_is_found_again(
    finished: Path, tiny_case: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --input the run's own input is used, as long as it is the same."""
    assert main(["evaluate", str(finished), "--truth", str(truth), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["contract"] == 1 and found["psnr"] > 15
    other = tiny_case / "fill_run.nii.gz"
    whole = other.read_bytes()
    try:
        other.write_bytes(whole + b"x")
        assert main(["evaluate", str(finished), "--truth", str(truth), "--json"]) == 0
    finally:
        other.write_bytes(whole)
    captured = capsys.readouterr()
    assert "psnr" not in json.loads(captured.out.strip().splitlines()[-1])
    assert "has changed" in captured.err and "--input" in captured.err


def evaluated(run: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, float], str]:
    """The figures of a run, and what was told beside them."""
    capsys.readouterr()
    assert main(["evaluate", str(run), "--truth", str(truth), "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out.strip().splitlines()[-1]), " ".join(captured.err.split())


def turned(values: np.ndarray) -> np.ndarray:
    """The last axis comes first and runs backwards."""
    return np.ascontiguousarray(values[:, :, ::-1].transpose(2, 0, 1))


def write_turned(path: Path, volume: Volume, start: tuple[int, int, int], step: int) -> None:
    """Every step-th voxel from an index on as NIfTI in RAS with its axes in another order, as a CT has them.

    Half of its extent along the first axis lies beyond the volume: 0 there.
    """
    values = volume.values[start[0] :: step, start[1] :: step, start[2] :: step]
    values = np.concatenate([values, np.zeros_like(values)])
    affine = volume.affine_mm.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(start)
    affine[:3, :3] *= step
    affine[:3, 3] += affine[:3, 2] * (values.shape[2] - 1)
    affine[:, :3] = affine[:, [2, 0, 1]] * [-1, 1, 1]
    nibabel.save(nibabel.Nifti1Image(turned(values), np.diag([-1.0, -1, 1, 1]) @ affine), path)


def test_truth_on_another_grid_is_compared_there(
    finished: Path, tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its voxels are some of the run's here, so the figures follow from these without interpolation."""
    label = read_volume(tiny_case / "truth" / "vessels.nii.gz")
    density = read_volume(tiny_case / "truth" / "volume.nii.gz")
    start = (1, 2, 0)
    part = tuple(slice(first, None, 2) for first in start)
    write_turned(tmp_path / "vessels.nii.gz", label, start, 2)
    write_turned(tmp_path / "volume.nii.gz", density, start, 2)
    found, told = evaluated(finished, tmp_path, capsys)

    run = turned(read_volume(finished / "volumes" / "volume.nii.gz").values[part])
    own = turned(read_volume(finished / "volumes" / "vessels.nii.gz").values[part])
    expected = volume_metrics(run, own, turned(label.values[part]))
    assert expected["dice_best"] > 0.3 and expected["dice_own"] > 0
    for name, figure in expected.items():
        assert found[name] == pytest.approx(figure, rel=1e-3), name
    expected_rmse = float(np.sqrt(np.mean((run.astype(float) - turned(density.values[part])) ** 2)))
    assert found["volume_rmse_per_mm"] == pytest.approx(expected_rmse, rel=1e-4)
    assert found["compared_voxels"] == run.size and found["overlap_vessel_share"] == 1
    assert found["overlap_truth_share"] == pytest.approx(0.5)
    assert found["overlap_run_share"] == pytest.approx(8 * run.size / label.values.size)
    assert "50.0% of the truth" in told and "axes of its C-arm" in told


def test_one_true_volume_needs_no_folder(
    finished: Path, truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = read_volume(truth / "vessels.nii.gz")
    known, _ = evaluated(finished, truth, capsys)
    write_volume(tmp_path / "scan.nrrd", label)
    found, told = evaluated(finished, tmp_path / "scan.nrrd", capsys)
    assert found["dice_own"] == known["dice_own"] and "overlap_run_share" not in found
    assert "projections.npy" in told
    # A volume in Hounsfield units holds no attenuation, and no mask either.
    write_volume(tmp_path / "scan.mha", Volume(1000 * label.values - 1000, label.affine_mm))
    assert main(["evaluate", str(finished), "--truth", str(tmp_path / "scan.mha")]) == 2
    assert "-1000 to 0" in capsys.readouterr().err


def test_each_true_volume_may_have_its_grid(
    finished: Path, tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here a smaller label and arrival times of the whole."""
    label = read_volume(tiny_case / "truth" / "vessels.nii.gz")
    affine = label.affine_mm.copy()
    affine[:3, 3] += affine[:3, :3] @ [2, 0, 1]
    write_volume(tmp_path / "vessels.nii.gz", Volume(label.values[2:-3, :, 1:], affine))
    shutil.copy(tiny_case / "truth" / "arrival_s.nii.gz", tmp_path)
    found, _ = evaluated(finished, tmp_path, capsys)
    inside = np.zeros(label.values.shape, bool)
    inside[2:-3, :, 1:] = label.values[2:-3, :, 1:] > 0
    own, true = (read_volume(f / "arrival_s.nii.gz") for f in (finished / "volumes", tiny_case / "truth"))
    assert found["arrival_error_s"] == pytest.approx(time_error_s(own.values, true.values, inside))


def test_voxels_of_another_place_are_not_paired(
    finished: Path, tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many voxels as the run has do not make a truth lie where the run lies."""
    label = read_volume(tiny_case / "truth" / "vessels.nii.gz")
    affine = label.affine_mm.copy()
    affine[0, 3] += 10 * affine[0, 0]
    write_volume(tmp_path / "vessels.nii.gz", Volume(label.values, affine))
    found, _ = evaluated(finished, tmp_path, capsys)
    assert found["overlap_truth_share"] == pytest.approx(1 - 10 / label.values.shape[0])
    own = read_volume(finished / "volumes" / "vessels.nii.gz").values
    assert found["dice_own"] == pytest.approx(dice(own[10:], label.values[:-10]), abs=1e-3)

    affine[0, 3] += 1000
    write_volume(tmp_path / "vessels.nii.gz", Volume(label.values, affine))
    assert main(["evaluate", str(finished), "--truth", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "does not overlap" in error and "Traceback" not in error


def test_a_finished_run_is_not_overwritten(
    finished: Path, tiny_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "run.json").read_bytes()
    assert main(["reconstruct", str(tiny_case), "--out", str(finished), *QUICK]) == 2
    assert "--force" in capsys.readouterr().err and (finished / "run.json").read_bytes() == before


def test_vessels_of_anybodys_volume(tiny_case: Path, tmp_path: Path) -> None:
    out = tmp_path / "vessels"
    assert main(["vessels", str(tiny_case / "truth" / "volume.nii.gz"), "--out", str(out)]) == 0
    assert (out / "volumes" / "centreline.vtp").exists() and (out / "meshes" / "mesh.ply").exists()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["reconstruct", "nowhere", "--out", "x"], 2, "nowhere"),
        (["reconstruct", "CASE", "--out", "OUT", "--method", "nonsense"], 2, "no method"),
        (["reconstruct", "CASE", "--out", "OUT", "--preset", "nonsense"], 2, "no preset"),
        (["reconstruct", "CASE", "--out", "OUT", "--set", "steps"], 2, "KEY=VALUE"),
        (["reconstruct", "CASE", "--out", "OUT", "--set", "steps=abc"], 2, "steps"),
        (["reconstruct", "CASE", "--out", "OUT", "--views", "1"], 2, "--views"),
        (["reconstruct", "CASE", "--out", "OUT", "--device", "cuda:7"], 2, "cuda:7"),
        (["render", "CASE", "--out", "OUT"], 2, "not a run folder"),
        (["evaluate", "CASE", "--truth", "CASE"], 2, "not a run folder"),
        (["vessels", "CASE/transforms.json", "--out", "OUT"], 2, "transforms.json"),
    ],
)
def test_wrong_words_get_one_sentence(
    words: list[str],
    code: int,
    part: str,
    tiny_case: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [w.replace("CASE", str(tiny_case)).replace("OUT", str(tmp_path / "out")) for w in words]
    assert main(filled) == code
    error = capsys.readouterr().err
    assert part in error and "Traceback" not in error

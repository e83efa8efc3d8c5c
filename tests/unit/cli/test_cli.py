"""The command line end to end on a tiny phantom, and its sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.io.volume import read_volume

QUICK = ["--set", "steps=150", "--set", "num_start=1500"]


@pytest.fixture(scope="module")
def finished(tiny_case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), "--views", "12", *QUICK]) == 0
    return out


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
    finished: Path, tiny_case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --input the run's own input is used, as long as it is the same."""
    assert main(["evaluate", str(finished), "--truth", str(tiny_case / "truth"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["contract"] == 1 and found["psnr"] > 15
    other = tiny_case / "fill_run.nii.gz"
    whole = other.read_bytes()
    try:
        other.write_bytes(whole + b"x")
        assert main(["evaluate", str(finished), "--truth", str(tiny_case / "truth"), "--json"]) == 0
    finally:
        other.write_bytes(whole)
    captured = capsys.readouterr()
    assert "psnr" not in json.loads(captured.out.strip().splitlines()[-1])
    assert "has changed" in captured.err and "--input" in captured.err


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

"""`splatomy frames`: what a front end without readers of its own gets to see."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.io.dicom_write import XaRun, write_xa

SECRET = "Nobody^Knows"


def written(source: Path, out: Path, *words: str) -> dict[str, object]:
    """The frames.json of an input."""
    assert main(["frames", str(source), "--out", str(out), *words]) == 0
    found: dict[str, object] = json.loads((out / "frames.json").read_text())
    return found


def test_a_clip_becomes_its_pictures_with_masks_and_cameras(tmp_path: Path) -> None:
    clip, out = tmp_path / "clip", tmp_path / "out"
    assert main(["phantom", "tissue", "--preset", "tiny", "--seed", "3", "--out", str(clip)]) == 0
    about = written(clip, out, "--frames", "1:7:2")
    assert about["frames"] == [1, 3, 5]
    assert (about["modality"], about["metric"], about["world"]) == ("colour", True, "first camera")
    for number, frame in enumerate((1, 3, 5)):
        there = cv2.imread(str(out / "pictures" / f"{number:06d}.png"))
        assert np.array_equal(there, cv2.imread(str(clip / "images" / f"{frame:06d}.png")))
        hidden = cv2.imread(str(out / "occluded" / f"{number:06d}.png"), cv2.IMREAD_UNCHANGED)
        given = cv2.imread(str(clip / "masks" / f"{frame:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(hidden)) <= {0, 255}
        assert np.array_equal(hidden > 0, given > 0)
    assert len(json.loads((out / "views.json").read_text())["camera_from_world"]) == 3


def test_an_angiogram_becomes_line_integrals_with_angles(tiny_case: Path, tmp_path: Path) -> None:
    about = written(tiny_case, tmp_path / "out")
    listed = json.loads((tiny_case / "transforms.json").read_text())["frames"]
    angles = np.degrees([[f["PrimaryAngle"], f["SecondaryAngle"]] for f in listed])
    assert np.allclose(np.asarray(about["angles_deg"]), angles, atol=1e-3)
    integrals = np.load(tmp_path / "out" / "line_integrals.npy")
    assert integrals.shape == (24, 64, 64)
    assert integrals.dtype == np.float32
    # Line integrals of contrast are positive; the background is near zero.
    assert np.quantile(integrals, 0.999) > 10 * abs(float(np.median(integrals)))


def test_a_dicom_run_brings_its_positioner_angles_and_no_name(tmp_path: Path) -> None:
    primary = np.linspace(-170, 30, 12)
    run = XaRun(
        frames=np.random.default_rng(5).integers(100, 4000, (12, 8, 10)).astype(np.uint16),
        primary_deg=primary, secondary_deg=np.full(12, 5.0), sad_mm=750.0, sid_mm=1200.0,
        pixel_mm=(0.4, 0.5), times_s=np.arange(12) * 0.04, patient_name=SECRET,
    )  # fmt: skip
    write_xa(tmp_path / "run.dcm", run)
    about = written(tmp_path / "run.dcm", tmp_path / "out", "--already-subtracted")
    assert about["angles"] == "positioner"
    assert np.allclose(np.asarray(about["angles_deg"]), np.stack([primary, np.full(12, 5.0)], 1), atol=1e-3)
    for path in (tmp_path / "out").glob("*.json"):
        assert SECRET not in path.read_text()


def test_only_frames_are_ever_replaced(
    tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    written(tiny_case, out)
    assert main(["frames", str(tiny_case), "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    written(tiny_case, out, "--force", "--events", "jsonl")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"event": "done", "frames": str(out)}
    (out / "notes.txt").write_text("mine")
    assert main(["frames", str(tiny_case), "--out", str(out), "--force"]) == 2
    assert (out / "notes.txt").exists()

"""Real clips in ../shared from one command to a surface; absent data is a failure, not a skip.

What a number can tell is asserted here; the pictures in RUN/renders and the report have to be looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.io.views import read_views

SHARED = Path(__file__).parents[2].parent / "shared"
DRAFT = ("--preset", "draft", "--set", "steps=300")

pytestmark = pytest.mark.verify


def shared(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.fail(f"{path} is absent; this test needs the shared data")
    return path


def reconstructed(out: Path, name: str, *words: Any) -> dict[str, Any]:
    """The record of a finished run of a clip."""
    assert main([str(word) for word in ("reconstruct", shared(name), "--out", out, *DRAFT, *words)]) == 0
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    assert record["state"] == "done" and (out / "report.html").is_file()
    assert list((out / "meshes").glob("frame_*.ply")) and list((out / "renders").glob("frame_*.png"))
    return record


def hidden_share(out: Path) -> np.ndarray:
    """The share of the picture's own pixels that is hidden, (T,)."""
    border = out / "prepared" / "outside.png"
    masks = [cv2.imread(str(p), 0) > 0 for p in sorted((out / "prepared" / "occluded").iterdir())]
    outside = cv2.imread(str(border), 0) > 0 if border.exists() else np.zeros(masks[0].shape, bool)
    return np.array([mask[~outside].mean() for mask in masks])


def metrics(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def test_instruments_leave_the_robotic_clip(tmp_path: Path) -> None:
    out = tmp_path / "run"
    record = reconstructed(out, "endovis17-clip", "--bin", "4", "--views", "endonerf")
    assert not record["metric"]
    share = hidden_share(out)
    assert share.min() > 0.02 and share.max() < 0.5
    assert metrics(out)["psnr_masked"] > 15


def test_the_da_vinci_clip_up_to_its_jump(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--crop", "1354,271,516,414", "--frames", "33:143:4", "--bin", "2", "--camera", "fixed")
    record = reconstructed(out, "endonerf-clips/pulling_tissues.mp4", *words)
    assert not record["metric"] and record["input_options"]["camera"] == "fixed"
    # Bluish shafts and steel graspers: one or two in every frame.
    share = hidden_share(out)
    assert share.min() > 0.05 and share.max() < 0.4


@pytest.mark.parametrize("camera", ["given", "moving"])
def test_the_sinus_has_no_instrument(camera: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = () if camera == "given" else ("--camera", camera)
    record = reconstructed(out, "sinus-sfm-a", "--bin", "6", *words)
    assert not record["metric"]
    assert hidden_share(out).max() < 0.01
    centres = read_views(out / "scene" / "cameras.json", 1, 1).cameras.centres_mm
    assert np.ptp(centres, axis=0).max() > 1e-3


def test_stereo_of_another_endoscope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = shared("dvrk-stereo")
    words = (
        "reconstruct",
        clip,
        "--out",
        tmp_path / "a",
        "--calibration",
        clip / "CalibrationParameters.xml",
    )
    assert main([str(word) for word in words]) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the frames are 1280x960" in sentence and not (tmp_path / "a").exists()
    record = reconstructed(tmp_path / "b", "dvrk-stereo", "--bin", "4", "--camera", "fixed")
    assert not record["metric"]
    found = [text for text in record["notices"] if "geometry was found from the pictures" in text]
    # A quarter of the size: 1.5 px of the full picture.
    assert float(found[0].split(" px off")[0].split()[-1]) < 1.5 / 4

"""Masks on the real clip and models in ../shared, and on larger simulated clips; absent data is a failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.io.case import open_case
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.prepare.masks import propagate, propose
from splatomy.prepare.onnx import OnnxModel
from splatomy.prepare.onnx_masks import load_segmenter

SHARED = Path(__file__).parents[2].parent / "shared"

pytestmark = pytest.mark.verify


def shared(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.fail(f"{path} is absent; this test needs the shared data")
    return path


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_endovis17_clip_end_to_end(tmp_path: Path) -> None:
    clip = shared("endovis17-clip")
    out = tmp_path / "clip.splatomy"
    assert main(["masks", str(clip), "--out", str(out)]) == 0
    case = open_case(out)
    assert case.review.counts()["proposed"] == 20
    # SOURCE.md: the label pictures belong to frame 6; the given masks are of the whole picture.
    parts = [cv2.imread(str(clip / f"{side}_frame.png"), cv2.IMREAD_GRAYSCALE) for side in ("left", "right")]
    x, y, w, h = case.geometry["crop"]
    label = (np.maximum(*parts) > 0)[y : y + h, x : x + w]
    assert overlap(case.review.hidden(6), label) >= 0.8
    # Every frame shows an instrument, and none is all instrument.
    shares = [float(mask.mean()) for mask in case.review.masks()]
    assert min(shares) > 0.02 and max(shares) < 0.5


@pytest.mark.parametrize("camera_motion_mm", [0.0, 5.0])
def test_hard_phantom_at_its_own_speed(camera_motion_mm: float) -> None:
    # Half the size, since what is asked for does not depend on it; all 64 frames, since speed matters.
    preset = replace(
        PRESETS["hard"],
        width_px=320,
        height_px=256,
        focal_px=285.0,
        node_mm=1.1,
        texels_per_mm=4.5,
        baseline_mm=0.0,
        camera_motion_mm=camera_motion_mm,
    )
    phantom = finish(make_tissue(preset, seed=11))
    proposal = finish(propose(phantom.images))
    assert np.mean([overlap(a, b) for a, b in zip(proposal.occluded, phantom.occluded)]) >= 0.8
    given = {frame: phantom.occluded[frame] for frame in range(0, 64, 8)}
    carried = finish(propagate(phantom.images, given))
    between = [
        overlap(carried.occluded[i], phantom.occluded[i]) for i in np.flatnonzero(carried.spread).tolist()
    ]
    assert np.mean(between) >= 0.9


def test_yolox_nano_and_xfeat_run_and_are_no_mask_models() -> None:
    yolox = OnnxModel(shared("models/yolox-nano/yolox_nano.onnx"), "cpu")
    xfeat = OnnxModel(shared("models/xfeat/xfeat.onnx"), "cpu")
    # SOURCE.md has the hashes and shapes.
    assert yolox.sha256.startswith("358417533cc7") and xfeat.sha256.startswith("54041f61f0d9")
    rng = np.random.default_rng(0)
    (boxes,) = yolox.run({yolox.inputs[0].name: rng.uniform(0, 255, (1, 3, 416, 416))}).values()
    assert boxes.shape == (1, 3549, 8) and np.isfinite(boxes).all()
    shapes = {
        v.shape for v in xfeat.run({xfeat.inputs[0].name: rng.uniform(0, 1, (1, 3, 640, 640))}).values()
    }
    assert shapes == {(1, 64, 80, 80), (1, 65, 80, 80), (1, 1, 80, 80)}
    for name in ("yolox-nano/yolox_nano.onnx", "xfeat/xfeat.onnx"):
        with pytest.raises(InputError, match="expected one input"):
            load_segmenter(shared(f"models/{name}"), "cpu")

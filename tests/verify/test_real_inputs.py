"""Real recordings in ../shared; absent data is a failure, not a skip."""

from pathlib import Path

import numpy as np
import pytest

from splatomy.io.detect import inspect_input, open_input, open_views

SHARED = Path(__file__).parents[2].parent / "shared"
CORONARY = ("Patient_1/Coro_1", "Patient_1/Coro_2", *(f"Patient_4/Coro_{i}" for i in range(1, 7)))
FRAMES = (20, 21, 35, 37, 20, 33, 36, 30)

pytestmark = pytest.mark.verify


def shared(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.fail(f"{path} is absent; this test needs the shared data")
    return path


@pytest.mark.parametrize("syntax", ["JPLL", "JPLY", "RLE", "J2KR"])
def test_compressed_frame(syntax):
    run = open_input(shared("dsa-xa1-frame") / syntax)
    assert run.fill_run.shape == (1, 1024, 1024) and run.cameras is None
    lossless = open_input(shared("dsa-xa1-frame") / "RLE")
    difference = np.abs(run.fill_run - lossless.fill_run)
    assert lossless.fill_run.max() == 504
    assert difference.mean() < (5 if syntax == "JPLY" else 1e-9)
    report = inspect_input(shared("dsa-xa1-frame") / syntax)
    assert report.usable and report.patient_fields and "CompressedSamples" not in str(report)


@pytest.mark.parametrize(("name", "frames"), list(zip(CORONARY, FRAMES, strict=True)))
def test_coronary_run(name, frames):
    run = open_input(shared("coronary-xa") / name)
    assert run.fill_run.shape == (frames, 512, 512)
    assert run.times_known and run.is_static_view and run.cameras is not None
    np.testing.assert_allclose(np.diff(run.times_s), 0.1333333, atol=1e-5)
    assert run.mask_frames and run.mask_frames[0] == 0 and len(run.mask_frames) < frames / 2
    # Contrast darkens: the mask is brighter where the run's darkest moment differs most.
    lines = np.log(np.maximum(run.mask, 1)) - np.log(np.maximum(run.fill_run, 1))
    assert np.percentile(lines.max(0), 99) > 0.1


def test_views_of_one_patient():
    views = open_views(shared("coronary-xa") / "Patient_4")
    assert [len(v.fill_run) for v in views] == list(FRAMES[2:])
    joined = open_input(shared("coronary-xa") / "Patient_4")
    assert joined.frames_per_view == FRAMES[2:] and not joined.is_static_view

"""Real recordings in ../shared; absent data is a failure, not a skip."""

from pathlib import Path

import numpy as np
import pytest

from splatomy.io.detect import inspect_input, open_input, open_views
from splatomy.io.options import InputOptions

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
    assert lossless.fill_run.max() == 504
    if syntax == "JPLY":
        assert np.abs(run.fill_run - lossless.fill_run).mean() < 5
    else:
        np.testing.assert_array_equal(run.fill_run, lossless.fill_run)
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


def test_given_vessel_masks():
    options = InputOptions(target=Path("masks"))
    run = open_input(shared("coronary-xa") / "Patient_4/Coro_2", options)
    assert run.target is not None and run.target.shape == run.fill_run.shape
    assert 0.005 < run.target.mean() < 0.15
    # They were read the same way round as the pictures: contrast is darker inside than about it.
    lines = np.log(np.maximum(run.mask, 1)) - np.log(np.maximum(run.fill_run, 1))
    frame = int(run.target.sum((1, 2)).argmax())
    assert lines[frame][run.target[frame]].mean() > lines[frame][~run.target[frame]].mean() + 0.05
    mirrored = run.target[frame][:, ::-1]
    assert lines[frame][run.target[frame]].mean() > lines[frame][mirrored].mean() + 0.05


def test_views_of_one_patient():
    views = open_views(shared("coronary-xa") / "Patient_4")
    assert [len(v.fill_run) for v in views] == list(FRAMES[2:])
    left = open_input(shared("coronary-xa") / "Patient_4", InputOptions(view=(0, 1, 2, 3), bin=4))
    assert left.frames_per_view == FRAMES[2:6] and left.fill_run.shape[1:] == (128, 128)
    joined = open_input(shared("coronary-xa") / "Patient_4")
    assert joined.frames_per_view == FRAMES[2:] and not joined.is_static_view

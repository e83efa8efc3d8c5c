"""`splatomy vessels` on 4D volumes and on masks."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.cli.main import main
from splatomy.geometry.frames import ras_from_lps
from splatomy.io.volume import read_volume, write_sequence, write_volume
from splatomy.scene import Volume

TIMES_S = np.arange(0.0, 6.0, 0.25)
GRID = Grid.centred((24, 24, 48), (0.8, 0.8, 0.8))


def true_arrival_s() -> NDArray[np.float64]:
    """The bolus climbs along z and takes two seconds, (48,)."""
    return np.linspace(0.8, 2.8, GRID.shape[2])


def vessel() -> NDArray[np.bool_]:
    """A gently bent tube along z."""
    i, j, k = np.indices(GRID.shape)
    return np.asarray(np.hypot(i - 9 - 4 * np.sin(k / 20), j - 11.3) * 0.8 <= 2.5)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.float32]:
    """A vessel of 2.5 mm radius through which a bolus climbs, (T, I, J, K) in 1/mm."""
    inside = vessel()
    # A triangle of one second rise reaches half of its maximum half a second after its foot.
    since_foot = TIMES_S[:, None] - (true_arrival_s() - 0.5)
    curve = 0.02 * np.clip(np.minimum(since_foot, 2 - since_foot), 0, 1)
    noise = np.random.default_rng(0).normal(0, 2e-4, (len(TIMES_S), *GRID.shape))
    return (inside * curve[:, None, None, :] + noise).astype(np.float32)


def check_maps(out: Path) -> None:
    """Arrival, peak and transit against what the bolus does."""
    label = read_volume(out / "volumes" / "vessels.nii.gz").values > 0
    assert label.any()
    truth = np.broadcast_to(true_arrival_s(), GRID.shape)
    for name, expected in (("arrival", truth), ("peak", truth + 0.5), ("transit", 0.5)):
        found = read_volume(out / "volumes" / f"{name}_s.nii.gz").values
        assert np.isnan(found[~label]).all()
        assert np.nanmedian(np.abs(found - expected)[label]) <= 0.15, name


def test_time_maps_of_a_slicer_sequence(frames: NDArray[np.float32], tmp_path: Path) -> None:
    source = tmp_path / "bolus.seq.nrrd"
    write_sequence(source, iter(frames), TIMES_S, GRID)
    out = tmp_path / "out"
    assert main(["vessels", str(source), "--out", str(out)]) == 0
    check_maps(out)
    record = json.loads((out / "run.json").read_text())
    assert record["contract"] == 1 and record["state"] == "done" and len(record["times_s"]) == len(TIMES_S)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") >= 6 and "Contrast arrival" in page and "Time-attenuation" in page


@pytest.mark.parametrize(("unit", "step"), [("sec", 0.25), ("msec", 250.0), (None, 0.25)])
def test_time_maps_of_a_4d_nifti(
    unit: str | None,
    step: float,
    frames: NDArray[np.float32],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seconds and milliseconds are read from the header; without a unit the assumption is told."""
    image = nibabel.Nifti1Image(frames.transpose(1, 2, 3, 0), ras_from_lps(GRID.affine_mm))
    image.header.set_zooms((0.8, 0.8, 0.8, step))
    if unit is not None:
        image.header.set_xyzt_units("mm", unit)
    source, out = tmp_path / "bolus.nii.gz", tmp_path / "out"
    nibabel.save(image, source)
    assert main(["vessels", str(source), "--out", str(out)]) == 0
    check_maps(out)
    assert ("no unit of time" in capsys.readouterr().err) == (unit is None)


def test_the_time_step_can_be_given(frames: NDArray[np.float32], tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(frames.transpose(1, 2, 3, 0), ras_from_lps(GRID.affine_mm))
    source, out = tmp_path / "bolus.nii", tmp_path / "out"
    nibabel.save(image, source)
    assert main(["vessels", str(source), "--out", str(out), "--frame-time-s", "0.25"]) == 0
    check_maps(out)


@pytest.mark.parametrize("classes", [1, 5])
def test_a_mask_is_taken_as_it_is(classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every voxel of the user's mask stays, and the assumption is told."""
    inside = vessel()
    height = np.arange(GRID.shape[2]) * classes // GRID.shape[2]
    values = np.where(inside, 1 + height, 0).astype(np.float32)
    source, out = tmp_path / "mask.nii.gz", tmp_path / "out"
    write_volume(source, Volume(values, GRID.affine_mm))
    assert main(["vessels", str(source), "--out", str(out)]) == 0
    assert "taken as a mask" in capsys.readouterr().err
    assert np.array_equal(read_volume(out / "volumes" / "vessels.nii.gz").values > 0, inside)
    assert not (out / "volumes" / "arrival_s.nii.gz").exists()
    assert "taken as a mask" in (out / "report.html").read_text()
    other = tmp_path / "values"
    assert main(["vessels", str(source), "--out", str(other), "--as", "values"]) == 0
    assert "taken as a mask" not in capsys.readouterr().err


def test_an_image_is_no_mask(frames: NDArray[np.float32], tmp_path: Path) -> None:
    source, out = tmp_path / "image.nii.gz", tmp_path / "out"
    write_volume(source, Volume(frames.mean(0), GRID.affine_mm))
    assert main(["vessels", str(source), "--out", str(out)]) == 0
    assert json.loads((out / "run.json").read_text())["meaning"] == "values"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--threshold", "nan"], "--threshold"),
        (["--frame-time-s", "0"], "--frame-time-s"),
        (["--as", "mask"], "empty"),
    ],
)
def test_wrong_options_leave_no_folder(
    words: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "empty.nii.gz", tmp_path / "out"
    write_volume(source, Volume(np.zeros((8, 8, 8), np.float32), np.eye(4)))
    assert main(["vessels", str(source), "--out", str(out), *words]) == 2
    assert part in capsys.readouterr().err and not out.exists()


def test_times_that_go_back_are_refused(
    frames: NDArray[np.float32], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "bolus.seq.nrrd"
    write_sequence(source, iter(frames[:3]), np.array([0.0, 2.0, 1.0]), GRID)
    assert main(["vessels", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "do not increase" in capsys.readouterr().err


def test_a_reconstruction_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, source = tmp_path / "run", tmp_path / "mask.nii.gz"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"contract": 1, "state": "done", "method": "fdk"}))
    write_volume(source, Volume(vessel().astype(np.float32), GRID.affine_mm))
    assert main(["vessels", str(source), "--out", str(run), "--force"]) == 2
    assert "reconstruction" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["method"] == "fdk"

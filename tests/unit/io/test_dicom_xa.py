"""Synthetic DICOM XA runs with every trap of the field."""

import json

import numpy as np
import pytest
from pydicom.dataset import Dataset

from splatomy.errors import InputError
from splatomy.io.detect import inspect_input, open_input, open_views
from splatomy.io.dicom_write import XaRun, write_xa
from splatomy.io.dicom_xa import angio_cameras
from splatomy.io.dsa import InputOptions

POINTS = np.random.default_rng(1).uniform(-10, 10, (20, 3))
SECRET = "Geheim^Patientin"


def make(count=12, **changes):
    rng = np.random.default_rng(5)
    values = {
        "frames": rng.integers(100, 4000, (count, 8, 10)).astype(np.uint16),
        "primary_deg": np.linspace(-100, 100, count),
        "secondary_deg": np.full(count, 5.0),
        "sad_mm": 750.0,
        "sid_mm": 1200.0,
        "pixel_mm": (0.4, 0.5),
        "times_s": np.arange(count) * 0.04,
        "patient_name": SECRET,
    }
    return XaRun(**(values | changes))


def opened(tmp_path, run, enhanced=False, options=None, **extra):
    write_xa(tmp_path / "run.dcm", run, enhanced=enhanced, **extra)
    return open_input(tmp_path / "run.dcm", options)


@pytest.mark.parametrize("enhanced", [False, True])
def test_round_trip(tmp_path, enhanced):
    run = make()
    back = opened(tmp_path, run, enhanced)
    np.testing.assert_array_equal(back.fill_run, run.frames)
    np.testing.assert_allclose(back.times_s, run.times_s, atol=1e-6)
    expected = angio_cameras(run.primary_deg, run.secondary_deg, 750, 1200, 10, 8, (0.4, 0.5))
    np.testing.assert_allclose(back.cameras.project(POINTS)[0], expected.project(POINTS)[0], atol=1e-4)
    assert back.intensity == "linear" and back.times_known and back.mirrored
    report = inspect_input(tmp_path / "run.dcm")
    # Frames of noise: none is without contrast, which a reconstruction would need.
    assert [lack.what for lack in report.lacking] == ["frames without contrast"] and report.patient_fields
    assert report.views[0].primary_deg == pytest.approx((-100, 100), abs=1e-4)
    assert report.views[0].secondary_deg == pytest.approx((5, 5), abs=1e-4)
    assert report.views[0].pixel_mm == pytest.approx((0.4, 0.5))
    text = json.dumps(report.as_json()) + "\n".join(report.lines()) + repr(back)
    assert SECRET not in text and "not shown" in text


def test_angles_in_patient_axes():
    """Detector anterior at zero, to the patient's left for LAO, to the head for cranial."""
    cameras = angio_cameras([0, 90, 0], [0, 0, 30], 750, 1200, 11, 11, (1, 1))
    detector = -cameras.centres_mm / 750
    np.testing.assert_allclose(detector, [[0, -1, 0], [1, 0, 0], [0, -np.cos(np.pi / 6), 0.5]], atol=1e-12)
    right, head = cameras[0].project(np.array([[-10.0, 0, 0], [0, 0, 10]]))[0][0]
    assert right[0] > 5 and head[1] < 5


@pytest.mark.parametrize("increments", ["relative", "absolute", "steps"])
def test_increments(tmp_path, increments):
    run = make(count=30, primary_deg=np.linspace(-95, 40, 30), increments=increments)
    back = opened(tmp_path, run)
    expected = angio_cameras(run.primary_deg, run.secondary_deg, 750, 1200, 10, 8, (0.4, 0.5))
    np.testing.assert_allclose(back.cameras.centres_mm, expected.centres_mm, atol=1e-3)
    assert any("increments are" in p for p in back.problems) == (increments != "relative")


def test_frame_time_vector(tmp_path):
    times = np.cumsum(np.r_[0, np.random.default_rng(0).uniform(0.03, 0.1, 11)])
    np.testing.assert_allclose(opened(tmp_path, make(times_s=times)).times_s, times, atol=1e-6)


def test_cine_rate_and_no_times(tmp_path):
    back = opened(tmp_path, make(times_s=None), CineRate=10)
    np.testing.assert_allclose(back.times_s, np.arange(12) / 10)
    assert any("display rate" in p for p in back.problems)
    assert not opened(tmp_path, make(times_s=None)).times_known


@pytest.mark.parametrize("enhanced", [False, True])
def test_intensity_meaning(tmp_path, enhanced):
    assert opened(tmp_path, make(relation="LOG"), enhanced).intensity == "log"
    assert opened(tmp_path, make(relation="DISP"), enhanced).intensity == "display"
    missing = opened(tmp_path, make(relation=None), enhanced)
    assert missing.intensity == "linear" and any("does not say" in p for p in missing.problems)
    assert opened(tmp_path, make(), enhanced, InputOptions(log=True)).intensity == "log"
    run = make(rescale=(2.0, 10.0))
    np.testing.assert_allclose(opened(tmp_path, run, enhanced).fill_run, run.frames * 2.0 + 10)


def test_sign_and_photometric(tmp_path):
    run = make(sign=-1)
    np.testing.assert_array_equal(opened(tmp_path, run).fill_run, 65535 - run.frames.astype(float))
    np.testing.assert_array_equal(
        opened(tmp_path, make(sign=-1, relation="LOG")).fill_run, -run.frames.astype(np.float32)
    )
    inverted = make(sign=None, photometric="MONOCHROME1")
    np.testing.assert_array_equal(opened(tmp_path, inverted).fill_run, 65535 - run.frames.astype(float))
    # An explicit sign says what pixels mean; MONOCHROME1 then concerns the display alone.
    shown = make(sign=1, photometric="MONOCHROME1")
    np.testing.assert_array_equal(opened(tmp_path, shown).fill_run, run.frames)


def test_logarithmic_with_lookup_table(tmp_path):
    run = make(relation="LOG", frames=np.random.default_rng(0).integers(0, 256, (12, 8, 10)).astype(np.uint8))
    table = np.round(np.exp(np.arange(256) / 255 * 8)).astype(int)
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 16])
    item.add_new("LUTData", "US", table.tolist())
    item.ModalityLUTType = "US"
    back = opened(tmp_path, run, ModalityLUTSequence=[item])
    assert back.intensity == "linear"
    np.testing.assert_array_equal(back.fill_run, table[run.frames])


def test_mask_frames(tmp_path):
    back = opened(tmp_path, make(mask_frames=(1, 2), mask_shift_px=(0.5, -1.0)))
    assert back.mask_frames == (1, 2) and back.mask_shift_px == (0.5, -1.0)
    np.testing.assert_allclose(back.mask[7], back.fill_run[1:3].mean(0), rtol=1e-6)
    part = open_input(tmp_path / "run.dcm", InputOptions(frames=(5, 9, None)))
    assert part.mask_frames == ()
    np.testing.assert_allclose(part.mask[0], back.fill_run[1:3].mean(0), rtol=1e-6)
    kept = open_input(tmp_path / "run.dcm", InputOptions(frames=(1, 9, None)))
    assert kept.mask_frames == (0, 1)


@pytest.mark.parametrize("operation", ["TID", "REV_TID"])
def test_time_interval_differences_are_refused_as_masks(tmp_path, operation):
    back = opened(tmp_path, make(mask_operation=operation))
    assert back.mask_frames == () and any("time-interval" in p for p in back.problems)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["NO", "YES"])
def test_rotated_and_flipped_detector_pictures(tmp_path, rotation, flip):
    run = make()
    shown = run.frames[:, :, ::-1]
    # Clockwise rotation first, then the flip, as the scanner does.
    stored = np.rot90(shown, -rotation // 90, axes=(1, 2))
    stored = stored[:, :, ::-1] if flip == "YES" else stored
    pixel = run.pixel_mm if rotation % 180 == 0 else run.pixel_mm[::-1]
    turned = make(frames=np.ascontiguousarray(stored[:, :, ::-1]), pixel_mm=pixel)
    back = opened(tmp_path, turned, FieldOfViewRotation=float(rotation), FieldOfViewHorizontalFlip=flip)
    np.testing.assert_array_equal(back.fill_run, run.frames)
    expected = angio_cameras(run.primary_deg, run.secondary_deg, 750, 1200, 10, 8, (0.4, 0.5))
    np.testing.assert_allclose(back.cameras.intrinsics, expected.intrinsics, atol=1e-6)


def test_patient_orientation_of_a_picture_seen_from_the_source(tmp_path):
    run = make(primary_deg=np.linspace(0, 100, 12))
    stored = opened(tmp_path, run, PatientOrientation=["R", "F"])
    np.testing.assert_array_equal(stored.fill_run, run.frames[:, :, ::-1])
    usual = opened(tmp_path, run, PatientOrientation=["L", "F"])
    np.testing.assert_array_equal(usual.fill_run, run.frames)


def test_missing_geometry_still_opens(tmp_path):
    back = opened(tmp_path, make(sad_mm=None))
    assert back.cameras is None and any("source-isocentre distance" in p for p in back.problems)
    factor = opened(tmp_path, make(sad_mm=None), EstimatedRadiographicMagnificationFactor=1.6)
    assert factor.cameras is not None
    np.testing.assert_allclose(np.linalg.norm(factor.cameras.centres_mm, axis=1), 750)
    subtracted = InputOptions(already_subtracted=True)
    assert inspect_input(tmp_path / "run.dcm", subtracted).usable
    opened(tmp_path, make(sad_mm=None))
    report = inspect_input(tmp_path / "run.dcm", subtracted)
    assert report.usable and [lack.options for lack in report.lacking] == [("--geometry FILE",)]


def test_mask_and_fill_runs_are_paired(tmp_path):
    mask = make(count=10, started_s=0)
    fill = make(count=12, started_s=60, primary_deg=np.linspace(-100, 100, 12))
    mask = make(count=12, started_s=0, frames=fill.frames + np.uint16(100))
    write_xa(tmp_path / "b.dcm", fill)
    write_xa(tmp_path / "c.dcm", mask)
    run = open_input(tmp_path)
    np.testing.assert_array_equal(run.fill_run, fill.frames)
    np.testing.assert_array_equal(run.mask_run, mask.frames)
    assert any("same trajectory" in p for p in run.problems)


def test_biplane_views(tmp_path):
    for name, angle in (("a", 0.0), ("b", 90.0)):
        still = make(primary_deg=np.full(12, angle), mask_frames=(0,))
        write_xa(tmp_path / f"{name}.dcm", still)
    assert [v.is_static_view for v in open_views(tmp_path)] == [True, True]
    run = open_input(tmp_path)
    assert run.frames_per_view == (12, 12) and not run.is_static_view and run.mask_run is not None


def test_frames_are_cut_while_decoding(tmp_path):
    run = make()
    back = opened(tmp_path, run, options=InputOptions(crop=(2, 1, 6, 4), bin=2, frames=(3, 9, 2)))
    assert back.fill_run.shape == (3, 2, 3)
    np.testing.assert_allclose(back.fill_run[0, 0, 0], run.frames[3, 1:3, 2:4].mean())


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (make(sad_mm=1300.0), "swapped"),
        (make(sad_mm=0.75, sid_mm=1.2), "metres"),
        (make(pixel_mm=(0.4, -0.5)), "pixel size"),
        (make(frames=np.zeros((12, 8, 10), np.uint16)), "in every pixel"),
    ],
)
def test_impossible_runs(tmp_path, run, says):
    write_xa(tmp_path / "run.dcm", run)
    with pytest.raises(InputError, match=says) as caught:
        open_input(tmp_path / "run.dcm")
    assert SECRET not in str(caught.value)
    assert not inspect_input(tmp_path / "run.dcm").usable


@pytest.mark.parametrize("keep", [140, 400, 0.6, 0.97])
def test_cut_off_files(tmp_path, keep):
    path = tmp_path / "run.dcm"
    write_xa(path, make())
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep > 1 else int(len(data) * keep)])
    with pytest.raises(InputError) as caught:
        open_input(path)
    assert SECRET not in str(caught.value)
    report = inspect_input(path)
    assert not report.usable and SECRET not in "\n".join(report.lines())


def test_size_is_limited_before_decoding(tmp_path):
    write_xa(tmp_path / "run.dcm", make(), Rows=60000, Columns=60000, NumberOfFrames=900)
    with pytest.raises(InputError, match=r"GiB decoded.*crop it, bin it"):
        open_input(tmp_path / "run.dcm")

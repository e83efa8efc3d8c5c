"""Case folders, image stacks, frame folders and the options on them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from splatomy.errors import InputError
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.detect import inspect_input, open_input, open_views
from splatomy.io.dicom_xa import angio_cameras
from splatomy.io.dsa import InputOptions, write_case

POINTS = np.random.default_rng(1).uniform(-10, 10, (20, 3))


def save(path, array, spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def write(folder, tiny, cameras=None):
    write_case(
        folder,
        tiny.mask,
        tiny.fill,
        tiny.times_s,
        tiny.primary_rad,
        tiny.secondary_rad,
        tiny.sad,
        tiny.sid,
        tiny.pixel_mm,
        tiny.grid,
        cameras,
    )
    return folder


def expected_cameras(tiny):
    _, height, width = tiny.fill.shape
    return cone_beam(tiny.primary_rad, tiny.secondary_rad, tiny.sad, tiny.sid, width, height, tiny.pixel_mm)


def change(folder, **changes):
    path = folder / "transforms.json"
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


def assert_same_cameras(a, b):
    np.testing.assert_allclose(a.project(POINTS)[0], b.project(POINTS)[0], atol=1e-6)


def test_case_round_trip(tmp_path, tiny):
    run = open_input(write(tmp_path / "case", tiny))
    np.testing.assert_array_equal(run.fill_run, tiny.fill)
    np.testing.assert_array_equal(run.mask_run, tiny.mask)
    np.testing.assert_allclose(run.times_s, tiny.times_s)
    assert run.times_known and not run.already_subtracted and not run.is_static_view
    assert_same_cameras(run.cameras, expected_cameras(tiny))
    assert run.grid.shape == tiny.grid.shape
    np.testing.assert_allclose(run.grid.affine_mm, tiny.grid.affine_mm)
    report = inspect_input(tmp_path / "case")
    assert report.usable and report.views[0].mask == "mask run"
    assert json.loads(json.dumps(report.as_json()))["views"][0]["source_to_detector_mm"] == 1200
    assert any("14 x 10" in line for line in report.lines())


def test_wobbling_case(tmp_path, tiny):
    wobbly = cone_beam(
        tiny.primary_rad,
        0.0,
        tiny.sad,
        tiny.sid,
        14,
        10,
        tiny.pixel_mm,
        offset_px=np.random.default_rng(0).normal(0, 2, (12, 2)),
        roll_rad=0.02,
    )
    assert_same_cameras(open_input(write(tmp_path / "case", tiny, wobbly)).cameras, wobbly)


@pytest.mark.parametrize("name", ["DSA", "proj"])
def test_subtracted_folders(tmp_path, tiny, name):
    folder = write(tmp_path / "case", tiny)
    (folder / "mask_run.nii.gz").unlink()
    (folder / "fill_run.nii.gz").unlink()
    save(folder / f"{name}.nii.gz", np.log(tiny.mask / tiny.fill))
    run = open_input(folder)
    assert run.already_subtracted and run.mask_run is None
    assert ("VPAL" in run.layout) == (name == "proj")
    np.testing.assert_allclose(run.fill_run, np.log(tiny.mask / tiny.fill))


def test_write_without_mask_is_subtracted(tmp_path, tiny):
    lines = np.log(tiny.mask / tiny.fill)
    rest = (tiny.times_s, tiny.primary_rad, tiny.secondary_rad, 750, 1200, tiny.pixel_mm, tiny.grid)
    write_case(tmp_path / "case", None, lines, *rest)
    assert open_input(tmp_path / "case").already_subtracted


def test_occluded_and_missing_times(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    hidden = tiny.fill > 600
    save(folder / "occluded.nii.gz", hidden.astype(np.uint8))
    value = json.loads((folder / "transforms.json").read_text())
    for frame in value["frames"]:
        del frame["time_s"]
    del value["times_s"]
    (folder / "transforms.json").write_text(json.dumps(value))
    run = open_input(folder)
    np.testing.assert_array_equal(run.occluded, hidden)
    assert not run.times_known and any("no frame times" in p for p in run.problems)
    timed = open_input(folder, InputOptions(frame_time_s=0.25))
    assert timed.times_known and timed.times_s[4] == 1.0


def test_crop_frames_and_bin_keep_the_geometry(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    full = open_input(folder)
    run = open_input(folder, InputOptions(crop=(3, 1, 9, 8), frames=(2, 11, 3), bin=2))
    assert run.fill_run.shape == (3, 4, 4)
    np.testing.assert_allclose(run.fill_run[1, 0, 0], full.fill_run[5, 1:3, 3:5].mean(), rtol=1e-6)
    expected = (full.cameras.project(POINTS)[0][[2, 5, 8]] - [3, 1] - 0.5) / 2
    np.testing.assert_allclose(run.cameras.project(POINTS)[0], expected, atol=1e-9)
    np.testing.assert_allclose(run.times_s, tiny.times_s[[2, 5, 8]])


@pytest.mark.parametrize(
    "options", [{"crop": (0, 0, 15, 5)}, {"frames": (90, 99, 1)}, {"frames": (0, 5, -1)}]
)
def test_options_that_do_not_fit(tmp_path, tiny, options):
    with pytest.raises(InputError):
        open_input(write(tmp_path / "case", tiny), InputOptions(**options))
    assert not inspect_input(tmp_path / "case", InputOptions(**options)).usable


def test_matrix_file_overrides_transforms(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    cameras = cone_beam(tiny.primary_rad + 0.1, 0.0, 700, 1100, 14, 10, (0.5, 0.5))
    text = "\n".join(",".join(map(repr, m)) for m in cameras.world_to_pixel.reshape(-1, 12).tolist())
    (folder / "projection_matrices.csv").write_text(text)
    run = open_input(folder)
    assert_same_cameras(run.cameras, cameras)
    assert "projection_matrices.csv" in run.geometry_source and run.times_known


def test_stack_with_rtk_geometry_is_turned(tmp_path, tiny):
    angles = np.degrees(tiny.primary_rad).tolist()
    body = "".join(f"<Projection><GantryAngle>{a!r}</GantryAngle></Projection>" for a in angles)
    (tmp_path / "geometry.xml").write_text(
        "<RTKThreeDCircularGeometry><SourceToIsocenterDistance>750</SourceToIsocenterDistance>"
        f"<SourceToDetectorDistance>1200</SourceToDetectorDistance>{body}</RTKThreeDCircularGeometry>"
    )
    save(tmp_path / "run.mha", np.ascontiguousarray(tiny.fill[:, ::-1]), (0.6, 0.5, 1.0))
    save(tmp_path / "run_mask.mha", np.ascontiguousarray(tiny.mask[:, ::-1]), (0.6, 0.5, 1.0))
    run = open_input(tmp_path)
    np.testing.assert_array_equal(run.fill_run, tiny.fill)
    np.testing.assert_array_equal(run.mask_run, tiny.mask)
    assert_same_cameras(run.cameras, cone_beam(tiny.primary_rad, 0.0, 750, 1200, 14, 10, (0.6, 0.5)))
    cut = open_input(tmp_path / "run.mha", InputOptions(crop=(1, 2, 6, 5), bin=2))
    np.testing.assert_allclose(cut.fill_run[0, 0, 0], tiny.fill[0, 2:4, 1:3].mean(), rtol=1e-6)


def coronary_like(folder: Path, shape=(12, 40, 48), darkening=0.5):
    """Two still views under one geometry.json; contrast arrives at frame 4."""
    runs = {}
    for name, angle in (("P/A", 30.0), ("P/B", -30.0)):
        (folder / name / "frames").mkdir(parents=True)
        for i in range(shape[0]):
            image = np.full(shape[1:], 180.0)
            image[:, :10] = 120
            image[10:20, 20:40] *= 1 - darkening * min(max(i - 3, 0) / 3, 1)
            cv2.imwrite(str(folder / name / "frames" / f"frame_{i}.png"), image.astype(np.uint8))
        runs[name] = {
            "frame_time_ms": 100.0,
            "distance_source_to_detector_mm": 1034.0,
            "distance_source_to_patient_mm": 744.0,
            "imager_pixel_spacing_mm": [0.3, 0.3],
            "positioner_primary_angle_deg": angle,
            "positioner_secondary_angle_deg": 10.0,
            "number_of_frames": shape[0],
            "pixel_intensity_relationship": "LIN",
        }
    (folder / "geometry.json").write_text(json.dumps({"runs": runs}))
    return folder


def test_frame_folder(tmp_path):
    run = open_input(coronary_like(tmp_path) / "P" / "A")
    assert run.fill_run.shape == (12, 40, 48) and run.is_static_view and run.mirrored
    # The stored picture's left edge is on the right when seen from the source.
    assert run.fill_run[0, 0, -1] == 120 and run.fill_run[0, 0, 0] == 180
    assert run.mask_frames == (0, 1, 2, 3)
    np.testing.assert_allclose(run.times_s, np.arange(12) * 0.1)
    assert_same_cameras(run.cameras, angio_cameras(np.full(12, 30.0), 10.0, 744, 1034, 48, 40, (0.3, 0.3)))
    report = inspect_input(tmp_path / "P" / "A")
    assert report.views[0].primary_deg == pytest.approx((30, 30))
    assert report.views[0].secondary_deg == pytest.approx((10, 10))


def test_several_views(tmp_path):
    coronary_like(tmp_path)
    assert len(open_views(tmp_path / "P")) == 2
    run = open_input(tmp_path / "P")
    assert run.frames_per_view == (12, 12) and not run.is_static_view and len(run.cameras) == 24
    assert run.mask_run.shape == run.fill_run.shape
    assert open_input(tmp_path / "P", InputOptions(view=1)).fill_run.shape[0] == 12
    with pytest.raises(InputError, match="view 5"):
        open_input(tmp_path / "P", InputOptions(view=5))


def test_frames_of_two_sizes(tmp_path):
    coronary_like(tmp_path)
    cv2.imwrite(str(tmp_path / "P/A/frames/frame_5.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=r"frame_5\.png is 9x9"):
        open_input(tmp_path / "P/A")
    (tmp_path / "P/A/frames/frame_5.png").write_bytes(b"")
    with pytest.raises(InputError, match="no readable picture"):
        open_input(tmp_path / "P/A")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sad": None}, "sad must be a finite number"),
        ({"sad": 1300.0}, "swapped"),
        ({"sad": 0.75, "sid": 1.2}, "metres"),
        ({"sid": -5.0}, "positive millimetres"),
        ({"proj_spacing": [0, 0.5]}, "pixel size"),
        ({"proj_spacing": None, "proj_phy": None}, "proj_spacing"),
        ({"proj_resolution": [10, 14]}, "rows and columns are swapped"),
        ({"proj_resolution": [99, 14]}, "does not fit the images"),
        ({"N_views": 5}, "N_views says 5"),
        ({"frames": []}, "frames must be a list"),
        ({"frames": [{"PrimaryAngle": 0.1}] * 3, "N_views": 3, "times_s": None}, "describes 3 views"),
        ({"frames": [{"PrimaryAngle": 90.0}] * 12}, "looks like degrees"),
        ({"frames": [{"PrimaryAngle": None}] * 12}, "PrimaryAngle"),
        ({"times_s": [0.0, 1.0]}, "times_s must list one time"),
        ({"times_s": [0.0] * 12}, "do not increase"),
        ({"volume_spacing": [0, 1, 1]}, "must be positive"),
    ],
)
def test_hostile_transforms(tmp_path, tiny, changes, says):
    folder = write(tmp_path / "case", tiny)
    change(folder, **changes)
    with pytest.raises(InputError, match=says):
        open_input(folder)
    report = inspect_input(folder)
    assert not report.usable and report.problems


def test_hostile_stacks(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    save(folder / "mask_run.nii.gz", tiny.mask[:5])
    with pytest.raises(InputError, match="5 images of 14x10 but fill_run"):
        open_input(folder)
    bad = tiny.mask.copy()
    bad[0, 0, :3] = np.nan
    save(folder / "mask_run.nii.gz", bad)
    with pytest.raises(InputError, match="3 NaN"):
        open_input(folder)
    save(folder / "mask_run.nii.gz", np.ones_like(bad))
    with pytest.raises(InputError, match="in every pixel"):
        open_input(folder)
    data = (folder / "fill_run.nii.gz").read_bytes()
    (folder / "fill_run.nii.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"fill_run\.nii\.gz (could not be read|has no readable)"):
        open_input(folder)
    (folder / "transforms.json").write_text("{")
    with pytest.raises(InputError, match=r"not readable JSON|could not be read|no readable"):
        open_input(folder)


def test_warnings(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    zeros = tiny.fill.copy()
    zeros[0, 0, :4] = [0, -1, 0, 0]
    save(folder / "fill_run.nii.gz", zeros)
    change(folder, frames=[{"PrimaryAngle": a} for a in np.linspace(0, 1, 12).tolist()])
    problems = " ".join(open_input(folder).problems)
    assert "fill run has 4 pixels" in problems and "shorter than 180 plus the fan" in problems
    change(folder, frames=[{"PrimaryAngle": 0.5}] * 12)
    assert open_input(folder).is_static_view
    (folder / "transforms.json").unlink()
    run = open_input(folder)
    assert run.cameras is None and any("geometry is unknown" in p for p in run.problems)


def test_a_report_names_what_a_reconstruction_lacks(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    whole = inspect_input(folder)
    assert whole.usable and not whole.lacking and whole.as_json()["lacking"] == []
    (folder / "transforms.json").unlink()
    report = inspect_input(folder)
    # It can be looked at, and its masks drawn.
    assert report.usable and "usable: yes, but not for a reconstruction as it is" in report.lines()
    (lack,) = report.as_json()["lacking"]
    assert "matrices" in lack["what"] and lack["options"] == ["--geometry FILE"] and lack["views"] == [0]
    (line,) = [text for text in report.lines() if text.startswith("lacking")]
    assert "geometry" in line and "--geometry" in line and "view" not in line

    (folder / "mask_run.nii.gz").unlink()
    save(folder / "fill_run.nii.gz", np.full_like(tiny.fill, 0.5) + tiny.fill)
    names = [lack.options[0] for lack in inspect_input(folder).lacking]
    assert names == ["--geometry FILE", "--mask FILE"]
    subtracted = inspect_input(folder, InputOptions(already_subtracted=True))
    assert [lack.options for lack in subtracted.lacking] == [("--geometry FILE",)]

    # A file in a volume's format may also be a finished volume.
    (folder / "fill_run.nii.gz").rename(tmp_path / "head.nii.gz")
    volume = inspect_input(tmp_path / "head.nii.gz")
    assert volume.usable and len(volume.lacking) == 2
    assert any("splatomy vessels" in problem for problem in volume.problems)
    frames = inspect_input(tmp_path / "head.nii.gz", InputOptions(already_subtracted=True))
    assert not any("splatomy vessels" in problem for problem in frames.problems)


def test_one_frame_lacks_a_second(tmp_path, tiny):
    folder = write(tmp_path / "case", tiny)
    report = inspect_input(folder, InputOptions(frames=(3, 4, None)))
    assert report.usable and [lack.what for lack in report.lacking] == ["a second frame"]
    assert "lacking for a reconstruction: a second frame" in report.lines()


def test_not_an_input(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_input(tmp_path / "none")
    with pytest.raises(InputError, match="no readable run"):
        open_input(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"123")
    with pytest.raises(InputError, match="of no known kind"):
        open_input(tmp_path / "a.bin")
    assert not inspect_input(tmp_path / "a.bin").usable


def test_size_is_limited_before_loading(tmp_path, tiny, monkeypatch):
    folder = write(tmp_path / "case", tiny)
    monkeypatch.setattr("splatomy.io.volume.MAX_BYTES", 1000)
    with pytest.raises(InputError, match="crop it"):
        open_input(folder)

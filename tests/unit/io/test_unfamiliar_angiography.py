"""Angiography as other programs write it: missing attributes, matrices of stored pictures, swapped runs."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pydicom
import pytest

from splatomy.errors import InputError
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.detect import inspect_input, open_input
from splatomy.io.dicom_write import XaRun, write_xa
from splatomy.io.dsa import InputOptions

COUNT, HEIGHT, WIDTH = 12, 16, 20
RUN = XaRun(
    frames=np.random.default_rng(3).integers(2000, 4000, (COUNT, HEIGHT, WIDTH)).astype(np.uint16),
    primary_deg=np.linspace(-100, 100, COUNT),
    secondary_deg=np.zeros(COUNT),
    sad_mm=750.0,
    sid_mm=1200.0,
    pixel_mm=(2.0, 2.0),
    times_s=np.arange(COUNT) * 0.2,
)


def without(path, *keywords):
    dataset = pydicom.dcmread(path)
    for keyword in keywords:
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("keyword", ["PhotometricInterpretation", "BitsStored", "NumberOfFrames"])
def test_a_missing_attribute_of_the_pixels_is_assumed_and_told(tmp_path, keyword):
    write_xa(tmp_path / "run.dcm", RUN)
    whole = open_input(tmp_path / "run.dcm")
    without(tmp_path / "run.dcm", keyword)
    run = open_input(tmp_path / "run.dcm")
    np.testing.assert_array_equal(run.fill_run, whole.fill_run)
    assert any("assumed" in problem and keyword in problem for problem in run.problems)


def test_steps_of_a_sparse_sweep_are_summed(tmp_path):
    # 12 views over 200 degrees turn 18 each; 24 turn 8.7.
    many = replace(
        RUN,
        frames=np.repeat(RUN.frames, 2, axis=0),
        primary_deg=np.linspace(-100, 100, 24),
        secondary_deg=np.zeros(24),
        times_s=np.arange(24) * 0.2,
        increments="steps",
    )
    write_xa(tmp_path / "run.dcm", many)
    (view,) = inspect_input(tmp_path / "run.dcm").views
    assert view.primary_deg == pytest.approx((-100, 100), abs=1e-3)


def write_matrices(path, matrices):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(matrices.reshape(len(matrices), 12).tolist())


def test_a_geometry_file_of_a_dicom_run_is_of_its_stored_pictures(tmp_path):
    write_xa(tmp_path / "run.dcm", RUN)
    angles = np.radians(RUN.primary_deg) + np.pi / 2
    seen = cone_beam(angles, np.zeros(COUNT), 750.0, 1200.0, WIDTH, HEIGHT, (2.0, 2.0))
    # The file shows the detector's side: its columns run the other way.
    mirror = np.array([[-1.0, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1]])
    write_matrices(tmp_path / "geometry.csv", mirror @ seen.intrinsics @ seen.camera_from_world[:, :3])
    header = open_input(tmp_path / "run.dcm")
    without(tmp_path / "run.dcm", "PositionerPrimaryAngle", "PositionerPrimaryAngleIncrement")
    given = open_input(tmp_path / "run.dcm", InputOptions(geometry=tmp_path / "geometry.csv"))
    assert given.geometry_source == "projection matrices in geometry.csv"
    # The same point of the world has the same grey value in both.
    points = np.random.default_rng(1).uniform(-5, 5, (30, 3))
    values = []
    for run in (header, given):
        pixels, _ = run.cameras[4].project(points)
        columns, rows = np.rint(np.asarray(pixels).reshape(-1, 2)).astype(int).T
        values.append(run.fill_run[4][rows, columns])
    np.testing.assert_array_equal(*values)


def test_the_mask_that_was_named_is_used_with_dicom_and_with_pictures(tmp_path):
    write_xa(tmp_path / "run.dcm", RUN)
    write_xa(
        tmp_path / "mask.dcm",
        replace(
            RUN,
            frames=RUN.frames[:1] + 50,
            times_s=np.zeros(1),
            primary_deg=RUN.primary_deg[:1],
            secondary_deg=np.zeros(1),
        ),
    )
    run = open_input(tmp_path / "run.dcm", InputOptions(mask=tmp_path / "mask.dcm"))
    assert run.mask_run.shape == run.fill_run.shape
    np.testing.assert_array_equal(run.mask_run[7], run.fill_run[0] + 50)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(RUN.frames):
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame)
    pictures = open_input(folder, InputOptions(mask=folder / "002.png"))
    np.testing.assert_array_equal(pictures.mask_run[9], RUN.frames[2])
    with pytest.raises(InputError, match="expected one, or one for each"):
        (tmp_path / "two").mkdir()
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / "two" / name), RUN.frames[0])
        open_input(folder, InputOptions(mask=tmp_path / "two"))


def test_swapped_runs_centimetres_and_a_sideways_axis_are_told(tmp_path):
    bright = np.full((COUNT, HEIGHT, WIDTH), 3000, np.uint16)
    dark = bright.copy()
    dark[:, 4:6] = 1500
    for name, fill, mask in (("right", dark, bright), ("swapped", bright, dark)):
        folder = tmp_path / name
        folder.mkdir()
        write_xa(folder / "mask.dcm", replace(RUN, frames=mask + np.arange(WIDTH, dtype=np.uint16)))
        write_xa(
            folder / "fill.dcm", replace(RUN, frames=fill + np.arange(WIDTH, dtype=np.uint16), started_s=9)
        )
    told = {name: "\n".join(inspect_input(tmp_path / name).problems) for name in ("right", "swapped")}
    assert "swapped" not in told["right"]
    assert "mask and fill run are swapped" in told["swapped"]
    small = replace(RUN, sad_mm=75.0, sid_mm=120.0, pixel_mm=(0.2, 0.2))
    write_xa(tmp_path / "small.dcm", small)
    assert any("centimetres" in problem for problem in inspect_input(tmp_path / "small.dcm").problems)
    seen = cone_beam(np.radians(RUN.primary_deg), np.zeros(COUNT), 750.0, 1200.0, HEIGHT, WIDTH, (2.0, 2.0))
    turned = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]) @ seen.intrinsics @ seen.camera_from_world[:, :3]
    write_matrices(tmp_path / "turned.csv", turned)
    report = inspect_input(tmp_path / "small.dcm", InputOptions(geometry=tmp_path / "turned.csv"))
    assert any("rows and columns are not swapped" in problem for problem in report.problems)


def test_angles_are_shown_without_the_rest_of_a_rotation(tmp_path):
    write_xa(tmp_path / "run.dcm", RUN)
    lines = inspect_input(tmp_path / "run.dcm").lines()
    assert "secondary angle: 0 to 0 degrees" in lines


def test_mask_frames_and_targets_outlive_a_geometry_that_counts_rows_upwards(tmp_path):
    folder = tmp_path / "run"
    (folder / "wanted").mkdir(parents=True)
    frames = np.full((6, HEIGHT, WIDTH), 3000, np.uint16)
    frames[3:, 4:6, 3:9] = 1000
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame + np.arange(WIDTH, dtype=np.uint16))
        cv2.imwrite(str(folder / "wanted" / f"{number:03d}.png"), (frame < 2000).astype(np.uint8) * 255)
    seen = cone_beam(np.linspace(0, 3, 6), np.zeros(6), 750.0, 1200.0, WIDTH, HEIGHT, (2.0, 2.0))
    upwards = np.array([[1.0, 0, 0], [0, -1, HEIGHT - 1], [0, 0, 1]])
    write_matrices(folder / "geometry.csv", upwards @ seen.intrinsics @ seen.camera_from_world[:, :3])
    run = open_input(folder, InputOptions(geometry=folder / "geometry.csv", target=folder / "wanted"))
    assert run.mask_frames == (0, 1, 2)
    np.testing.assert_array_equal(run.target[4], frames[4, ::-1] < 2000)


def test_damaged_json_beside_a_run_stays_one_sentence(tmp_path):
    write_xa(tmp_path / "run.dcm", RUN)
    (tmp_path / "angles.json").write_text(json.dumps({"sad_mm": 750})[:-3])
    report = inspect_input(tmp_path / "run.dcm", InputOptions(geometry=tmp_path / "angles.json"))
    assert not report.usable
    assert "not readable JSON" in report.problems[0]


def test_inspect_looks_at_the_view_that_was_named(tmp_path):
    for name, primary in (("a", 30.0), ("b", -60.0)):
        still = replace(RUN, primary_deg=np.full(COUNT, primary), started_s=9 if name == "b" else 0)
        write_xa(tmp_path / f"{name}.dcm", still)
    (view,) = inspect_input(tmp_path, InputOptions(view=1)).views
    assert view.primary_deg == pytest.approx((-60, -60))
    report = inspect_input(tmp_path, InputOptions(view=2))
    assert not report.usable
    assert "expected 0 to 1" in report.problems[0]

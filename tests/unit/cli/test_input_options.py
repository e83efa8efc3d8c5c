"""Options on a DSA input, end to end: after each of them the geometry still fits the pictures."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.cli.commands import _options
from splatomy.cli.main import build_parser, main
from splatomy.engine import open_capture
from splatomy.events import finish
from splatomy.io.dsa import write_case
from splatomy.kernels.march import march
from splatomy.phantoms.vessels import VesselPhantom

MATRICES = "m.csv"


def opened(case: Path, words: list[str]) -> Capture:
    """The input as `reconstruct` opens it after these words."""
    parsed: Namespace = build_parser().parse_args(["reconstruct", str(case), "--out", "unused", *words])
    return finish(open_capture(parsed.input, _options(parsed)))


@pytest.fixture(scope="module")
def clean_case(tiny_phantom: VesselPhantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny phantom without noise, so that a shift of a pixel cannot hide in it."""
    phantom = tiny_phantom
    mask = np.broadcast_to(np.linspace(4e4, 5e4, phantom.projections.shape[2]), phantom.projections.shape)
    folder = tmp_path_factory.mktemp("clean")
    write_case(
        folder,
        mask,
        mask * np.exp(-phantom.projections),
        phantom.times_s,
        phantom.primary_rad,
        phantom.secondary_rad,
        phantom.source_to_isocentre_mm,
        phantom.source_to_detector_mm,
        (phantom.pixel_mm, phantom.pixel_mm),
        phantom.grid,
        phantom.cameras,
    )
    return folder


def shadow(phantom: VesselPhantom, capture: Capture, frame: int) -> NDArray[np.float32]:
    """The true vessels through the capture's own camera."""
    assert capture.cameras is not None
    image: NDArray[np.float32] = march(
        phantom.label.astype(np.float32), phantom.grid.affine_mm, capture.cameras[frame]
    )[0]
    return image


def agreement(image: NDArray[np.floating], model: NDArray[np.floating]) -> float:
    return float(np.corrcoef(image.ravel(), model.ravel())[0, 1])


def check_fits(phantom: VesselPhantom, capture: Capture) -> None:
    """True anatomy projects onto the anatomy of the picture, and onto no shifted picture better."""
    fullest = np.argsort(-capture.images.max((1, 2, 3)))[:3]
    for frame in fullest:
        image, model = capture.images[frame, ..., 0], shadow(phantom, capture, int(frame))
        here = agreement(image, model)
        assert here > 0.9
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            assert agreement(np.roll(image, step, axis), model) < here


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], (24, 64, 64)),
        (["--crop", "10,6,45,51"], (24, 51, 45)),
        (["--bin", "2"], (24, 32, 32)),
        (["--crop", "9,5,47,53", "--bin", "2"], (24, 26, 23)),
        (["--frames", "4:20:3"], (6, 64, 64)),
        (["--frames", "::2", "--bin", "2", "--crop", "8,8,50,50"], (12, 25, 25)),
    ],
)
def test_geometry_follows_the_window(
    words: list[str], size: tuple[int, int, int], clean_case: Path, tiny_phantom: VesselPhantom
) -> None:
    capture = opened(clean_case, words)
    assert capture.images.shape[:3] == size
    check_fits(tiny_phantom, capture)


def test_a_known_point_lands_on_the_same_pixel(tiny_case: Path, tiny_phantom: VesselPhantom) -> None:
    """Pixels of a crop and bin are the full image's, shifted and divided."""
    points = tiny_phantom.centreline_mm[::20]
    full, part = opened(tiny_case, []), opened(tiny_case, ["--crop", "9,5,47,53", "--bin", "2"])
    assert full.cameras is not None and part.cameras is not None
    expected = (full.cameras.project(points)[0] - [9, 5] + 0.5) / 2 - 0.5
    assert np.allclose(part.cameras.project(points)[0], expected)


def test_frames_keep_their_times(tiny_case: Path, tiny_phantom: VesselPhantom) -> None:
    assert np.allclose(opened(tiny_case, ["--frames", "4:20:3"]).times_s, tiny_phantom.times_s[4:20:3])


def stack_apart(case: Path, folder: Path, phantom: VesselPhantom) -> Path:
    """The fill run as a lone stack, its mask and its matrices in other folders."""
    for name in ("fill", "mask", "geometry"):
        (folder / name).mkdir()
    shutil.copy(case / "fill_run.nii.gz", folder / "fill" / "run.nii.gz")
    shutil.copy(case / "mask_run.nii.gz", folder / "mask" / "before.nii.gz")
    table = phantom.cameras.world_to_pixel.reshape(-1, 12)
    np.savetxt(folder / "geometry" / MATRICES, table, delimiter=",", fmt="%.12g")
    return folder / "fill" / "run.nii.gz"


def test_mask_geometry_and_frame_time_can_be_given(
    clean_case: Path, tiny_phantom: VesselPhantom, tmp_path: Path
) -> None:
    source = stack_apart(clean_case, tmp_path, tiny_phantom)
    mask, matrices = tmp_path / "mask" / "before.nii.gz", tmp_path / "geometry" / MATRICES
    words = ["--mask", str(mask), "--geometry", str(matrices), "--frame-time-s", "0.2"]
    capture = opened(source, words)
    assert np.allclose(capture.times_s, np.arange(24) * 0.2)
    check_fits(tiny_phantom, capture)
    check_fits(tiny_phantom, opened(source, [*words, "--crop", "10,6,45,51", "--bin", "2"]))


def test_integrals_can_be_given(tiny_case: Path, tiny_phantom: VesselPhantom, tmp_path: Path) -> None:
    source = stack_apart(tiny_case, tmp_path, tiny_phantom)
    sitk.WriteImage(sitk.GetImageFromArray(tiny_phantom.projections), str(source))
    matrices = tmp_path / "geometry" / MATRICES
    capture = opened(source, ["--already-subtracted", "--geometry", str(matrices), "--frame-time-s", "0.2"])
    assert np.allclose(capture.images[..., 0], tiny_phantom.projections, atol=1e-6)
    check_fits(tiny_phantom, capture)


def test_one_of_several_runs_is_chosen(clean_case: Path, tiny_phantom: VesselPhantom, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(clean_case, tmp_path / name)
    transforms = tmp_path / "b" / "transforms.json"
    value = json.loads(transforms.read_text())
    value["times_s"] = [t + 1 for t in value["times_s"]]
    for frame in value["frames"]:
        frame["time_s"] += 1
    transforms.write_text(json.dumps(value))
    capture = opened(tmp_path, ["--view", "1"])
    assert np.allclose(capture.times_s, tiny_phantom.times_s + 1)
    check_fits(tiny_phantom, capture)


def test_a_cropped_run_is_evaluated_on_its_own_window(
    tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The truth's projections are cut like the input was, so held-out figures stay right."""
    out = tmp_path / "run"
    window = ["--crop", "6,4,54,56", "--bin", "2"]
    assert main(["reconstruct", str(tiny_case), "--out", str(out), "--method", "classical_4d", *window]) == 0
    capsys.readouterr()
    # Distances of walls, which take longest, have nothing to do with it.
    truth = shutil.copytree(tiny_case / "truth", tmp_path / "truth", ignore=shutil.ignore_patterns("*.ply"))
    assert main(["evaluate", str(out), "--truth", str(truth), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    # A shift of one pixel costs the classical method about half of its agreement.
    assert found["psnr"] > 15


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--crop", "60,0,10,10"], "crop"),
        (["--crop", "0,0,0,5"], "crop"),
        (["--crop=-1,0,5,5"], "crop"),
        (["--bin", "0"], "bin"),
        (["--bin", "100"], "bin"),
        (["--frames", "5:5"], "frames"),
        (["--frames", "::-1"], "step"),
        (["--frames", "0:1"], "2 frames"),
        (["--view", "3"], "view 3"),
        (["--mask", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["--geometry", "nowhere.csv"], "nowhere.csv"),
        (["--frame-time-s", "-1"], "frame_time_s"),
    ],
)
def test_impossible_options_are_one_sentence(
    words: list[str], part: str, tiny_case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["reconstruct", str(tiny_case), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert part in error and "Traceback" not in error and not out.exists()

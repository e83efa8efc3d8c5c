"""What a user may say about a clip, and the benchmarks' protocols, through the command line alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from splatomy.cli.main import main
from splatomy.io.options import InputOptions
from splatomy.jobs.request import read_job

DRAFT = ("--preset", "draft", "--set", "steps=20")
SIZE = (52, 64)


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The standard output of a command that must succeed."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The one sentence with which a command refuses its options."""
    code = main([str(word) for word in words])
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2, sentence
    return sentence


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "clip"
    assert main(["phantom", "tissue", "--preset", "tiny", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def frames(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures alone."""
    folder = tmp_path_factory.mktemp("plain") / "frames"
    shutil.copytree(clip / "images", folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """depth.onnx: brighter is nearer; metric.onnx: a tilted plane about 20 units away; masks.onnx: the left
    quarter of any picture is an instrument.
    """
    folder = tmp_path_factory.mktemp("models")
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, "H", "W"))
    depth = helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, "H", "W"))
    mean = helper.make_node("ReduceMean", ["image"], ["depth"], axes=[1], keepdims=0)
    left = np.full((1, 1, *SIZE), -9, np.float32)
    left[..., : SIZE[1] // 4] = 9
    value = helper.make_node("Constant", [], ["mask"], value=numpy_helper.from_array(left, "mask"))
    fixed = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, *SIZE))
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, left.shape)
    plane = np.tile(np.linspace(19, 21, SIZE[1], dtype=np.float32), (1, SIZE[0], 1))
    steps = helper.make_node("Constant", [], ["plane"], value=numpy_helper.from_array(plane, "plane"))
    away = helper.make_tensor_value_info("plane", TensorProto.FLOAT, plane.shape)
    for name, nodes, given, made in (
        ("depth", [mean], picture, depth),
        ("metric", [steps], fixed, away),
        ("masks", [value], fixed, mask),
    ):
        graph = helper.make_graph(nodes, name, [given], [made])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")
    return folder


def test_networks_lens_and_camera_are_taken_from_the_words_and_recorded(
    frames: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = (
        "--mask-model", models / "masks.onnx", "--depth-model", models / "depth.onnx", "--fov-deg", "90",
        "--camera", "fixed",
    )  # fmt: skip
    run(capsys, "reconstruct", frames, "--out", out, *DRAFT, *words)
    record = record_of(out)
    options = record["input_options"]
    assert (options["fov_deg"], options["camera"]) == (90, "fixed")
    assert (out / options["mask_model"]).resolve() == (models / "masks.onnx").resolve()
    assert [len(model["sha256"]) for model in record["input_models"]] == [64, 64]
    assert record["backend"] == "numba" and record["backends"]["surfel"] == "numba"
    hidden = cv2.imread(str(out / "prepared" / "occluded" / "000002.png"), cv2.IMREAD_GRAYSCALE) > 0
    assert hidden[:, :15].all() and not hidden[:, 18:].any()
    prepared = json.loads((out / "prepared" / "prepared.json").read_text())
    assert "depth.onnx" in prepared["details"]["depth_source"]
    assert prepared["details"]["pose_source"] == "fixed camera"
    cameras = json.loads((out / "prepared" / "poses.json").read_text())
    # Half of the longer side over the tangent of half the field of view.
    assert f"{SIZE[1] / 2 / np.tan(np.radians(45)):g}" in json.dumps(cameras)
    assert not record["metric"]


def test_depth_of_a_metric_network_gives_millimetres(
    frames: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("--depth-model", models / "metric.onnx", "--depth-model-output", "metric", "--depth-scale-mm", 3)
    report = run(capsys, "inspect", frames, *words)
    assert "scale: millimetres, from the depth model" in report
    run(capsys, "reconstruct", frames, "--out", out, *DRAFT, *words, "--camera", "fixed")
    assert record_of(out)["metric"]
    depth = np.load(out / "prepared" / "depth" / "000000.npy")
    np.testing.assert_allclose(depth[np.isfinite(depth)], 60, rtol=0.06)


def test_the_light_and_the_shafts_instead_of_given_depth(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("--depth-source", "light", "--instrument-diameter-mm", "8")
    run(capsys, "reconstruct", clip, "--out", out, *DRAFT, *words)
    prepared = json.loads((out / "prepared" / "prepared.json").read_text())
    assert "light" in prepared["details"]["depth_source"]
    # The tiny phantom's shafts are too short to tell their width, which is then said.
    said = " ".join(record_of(out)["notices"])
    assert ("instruments' diameter of 8 mm" in said) == record_of(out)["metric"]
    assert record_of(out)["metric"] or "No straight shaft" in said


def test_contradictions_are_refused_before_anything_is_written(
    clip: Path, frames: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    for source, words, says in (
        (frames, ("--depth-source", "stereo"), "shows one eye"),
        (frames, ("--depth-source", "given"), "no depth maps"),
        (frames, ("--depth-source", "model"), "--depth-model"),
        (frames, ("--depth-model", models / "depth.onnx", "--depth-source", "light"), "leave one"),
        (frames, ("--fov-deg", "3"), "10 to 160"),
        (clip, ("--fov-deg", "80"), "lens is known"),
        (frames, ("--instrument-diameter-mm", "500"), "usual shafts"),
        (frames, ("--mask-classes", "1"), "--mask-model"),
    ):
        assert says in refused(capsys, "reconstruct", source, "--out", out, *DRAFT, *words), words
        assert not out.exists()
    assert "ONNX model" in refused(
        capsys, "reconstruct", frames, "--out", out, *DRAFT, "--mask-model", broken
    )
    # It failed while it prepared: nothing is lost by starting again, without --force.
    assert record_of(out)["state"] == "failed" and "ONNX model" in record_of(out)["error"]
    run(capsys, "reconstruct", frames, "--out", out, *DRAFT, "--camera", "fixed")
    assert record_of(out)["state"] == "done" and "error" not in record_of(out)


def test_jobs_and_cases_take_the_same_options(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "fov_deg": 80, "camera": "moving", "instrument_diameter_mm": 5.5, "depth_source": "light",
        "mask_model": str(tmp_path / "m.onnx"), "mask_classes": [1, 2],
    }  # fmt: skip
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"contract": 1, "input": str(frames), "out": "run", "options": options}))
    read = read_job(job).run.options
    assert read == InputOptions(
        fov_deg=80.0, camera="moving", instrument_diameter_mm=5.5, depth_source="light",
        mask_model=tmp_path / "m.onnx", mask_classes=(1, 2),
    )  # fmt: skip
    case = tmp_path / "A.splatomy"
    words = ("--fov-deg", "80", "--camera", "fixed", "--instrument-diameter-mm", "8", "--frames", "0:3")
    run(capsys, "masks", frames, "--out", case, *words)
    stored = json.loads((case / "case.json").read_text())["options"]
    assert (stored["fov_deg"], stored["camera"], stored["instrument_diameter_mm"]) == (80, "fixed", 8)
    out = tmp_path / "run"
    run(capsys, "reconstruct", case, "--out", out, *DRAFT)
    prepared = json.loads((out / "prepared" / "prepared.json").read_text())
    assert prepared["details"]["pose_source"] == "fixed camera"


def test_the_benchmarks_protocols(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(clip, data)
    # Instruments alone are what the protocol scores with; here one row of pixels.
    for path in (data / "masks").iterdir():
        mask = np.zeros(SIZE, np.uint8)
        mask[0] = 255
        (data / "gt_masks").mkdir(exist_ok=True)
        cv2.imwrite(str(data / "gt_masks" / path.name), mask)
    run(capsys, "reconstruct", data, "--out", out, *DRAFT, "--views", "endonerf")
    found = json.loads(run(capsys, "evaluate", out, "--protocol", "endonerf", "--json"))
    assert list(found)[1:4] == ["psnr_masked", "psnr_zero_filled", "ssim_zero_filled"]
    assert found["test_frames"] == 1 and found["test_frames_trained_on"] == 0
    assert found["lpips"] is None and "AlexNet" in found["lpips_reason"]
    # Over the same pixels the two differ by the share of tissue alone: 10 log10(52 / 51).
    assert found["psnr_zero_filled"] - found["psnr_masked"] == pytest.approx(0.0843, abs=1e-3)
    assert found["psnr_endonerf"] == pytest.approx(found["psnr_zero_filled"], abs=0.1)
    assert found["depth_rmse_endonerf"] == pytest.approx(found["depth_rmse_mm"], abs=1.0)
    other = json.loads(run(capsys, "evaluate", out, "--protocol", "stereomis", "--truth", data, "--json"))
    # There the instruments' full masks count.
    assert other["psnr_zero_filled"] - other["psnr_masked"] > 0.2
    assert "psnr_stereomis" in other
    assert "endoscopic" not in refused(capsys, "evaluate", out)
    assert "simulated truth" in refused(
        capsys, "evaluate", out, "--protocol", "endonerf", "--truth", data / "truth"
    )

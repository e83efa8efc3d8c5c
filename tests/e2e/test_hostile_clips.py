"""Endoscopic inputs that cannot be used, or only in part, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from splatomy.cli.main import main

DRAFT = ("--preset", "draft", "--set", "steps=20")
SIZE = (52, 64)


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """What a command that must succeed says, to people and to programs."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out + " ".join(captured.err.split())


def refused(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    code = main([str(word) for word in words])
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2, sentence
    assert sentence.startswith("splatomy: ") and "Traceback" not in sentence
    return sentence


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"qscale": "2"}
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "clip"
    assert main(["phantom", "tissue", "--preset", "tiny", "--seed", "3", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(clip: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(clip, tmp_path / "copy")


@pytest.fixture(scope="module")
def pictures(clip: Path) -> list[np.ndarray]:
    paths = sorted((clip / "images").iterdir())
    return [cv2.imread(str(path))[..., ::-1].copy() for path in paths]


def test_files_without_a_film(
    pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, noise, sound = tmp_path / "empty.mp4", tmp_path / "noise.mp4", tmp_path / "sound.mp4"
    empty.write_bytes(b"")
    noise.write_bytes(np.random.default_rng(0).bytes(4096))
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = write_video(tmp_path / "whole.mp4", pictures).read_bytes()
    (tmp_path / "head.mp4").write_bytes(whole[: len(whole) // 3])
    for name in ("empty", "noise", "sound", "head", "absent"):
        out = tmp_path / f"run_{name}"
        assert f"{name}.mp4" in refused(capsys, "reconstruct", tmp_path / f"{name}.mp4", "--out", out, *DRAFT)
        assert not out.exists()
        assert main(["inspect", str(tmp_path / f"{name}.mp4")]) == 2
        assert main(["masks", str(tmp_path / f"{name}.mp4"), "--out", str(tmp_path / "case")]) == 2
        assert not (tmp_path / "case" / "case.json").exists()
        capsys.readouterr()


def test_a_film_that_breaks_off_is_used_as_far_as_it_goes(
    pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.mkv"
    whole = write_video(path, pictures * 6).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    report = json.loads(run(capsys, "inspect", path, "--json"))
    assert report["usable"] and 4 <= report["frames"] < 48
    said = run(capsys, "masks", path, "--out", tmp_path / "case", "--frames", "0:4:2")
    assert "2 frames" in said


def test_one_frame_is_too_little(
    pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "one.mp4", pictures[:1])
    assert "at least 2 frames" in refused(capsys, "reconstruct", path, "--out", tmp_path / "run", *DRAFT)
    assert "one frame only" in run(capsys, "inspect", path)
    # One frame has masks all the same.
    assert "1 frames" in run(capsys, "masks", path, "--out", tmp_path / "case")


def test_masks_the_wrong_way_round(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (copy / "masks").iterdir():
        cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    out = tmp_path / "run"
    assert "--masks-mean" in refused(capsys, "reconstruct", copy, "--out", out, *DRAFT)
    assert not out.exists()
    run(capsys, "reconstruct", copy, "--out", out, *DRAFT, "--masks-mean", "visible", "--camera", "fixed")
    # Said to hide the tissue, they leave the instruments: that is done, but not in silence.
    said = run(capsys, "masks", copy, "--out", tmp_path / "case", "--masks-mean", "hidden")
    assert "is it the right way round?" in said


def test_masks_and_depth_of_another_size(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copy.parent / "run"
    masks = copy.parent / "small"
    masks.mkdir()
    for path in (copy / "masks").iterdir():
        cv2.imwrite(str(masks / path.name), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[::2, ::2])
    sentence = refused(capsys, "reconstruct", copy, "--out", out, "--masks", masks, *DRAFT)
    assert "32x26" in sentence and "64x52" in sentence
    wrong = sorted((copy / "depth").iterdir())[3]
    cv2.imwrite(str(wrong), np.full((20, 30), 6000, np.uint16))
    assert wrong.name in refused(capsys, "reconstruct", copy, "--out", out, *DRAFT)
    assert not out.exists()


def test_missing_depth(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((copy / "depth").iterdir())[3:]:
        path.unlink()
    said = run(capsys, "inspect", copy)
    assert "depth for 3 of 8 frames" in said
    out = tmp_path / "partly"
    run(capsys, "reconstruct", copy, "--out", out, *DRAFT)
    assert any(
        "have no given depth" in text for text in json.loads((out / "run.json").read_text())["notices"]
    )
    shutil.rmtree(copy / "depth")
    out = tmp_path / "without"
    run(capsys, "reconstruct", copy, "--out", out, *DRAFT)
    assert "light falls off" in " ".join(json.loads((out / "run.json").read_text())["notices"])


def test_a_tool_over_everything(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = sorted((copy / "masks").iterdir())
    # In three frames alone: they take no part, the others do.
    for path in masks[2:5]:
        cv2.imwrite(str(path), np.full(SIZE, 255, np.uint8))
    assert "In 3 frames everything is hidden" in run(
        capsys, "reconstruct", copy, "--out", tmp_path / "a", *DRAFT
    )
    for path in masks:
        cv2.imwrite(str(path), np.full(SIZE, 255, np.uint8))
    words = ("reconstruct", copy, "--out", tmp_path / "b", *DRAFT)
    assert "masks-mean" in refused(capsys, *words)
    assert "hide every pixel" in refused(capsys, *words, "--masks-mean", "hidden")
    assert not (tmp_path / "b").exists()


def test_a_round_picture_has_no_tissue_about_it(
    pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The black is neither filled nor counted, however often it is hidden."""
    rows, columns = np.mgrid[0 : SIZE[0] * 4, 0 : SIZE[1] * 4]
    circle = np.hypot(rows - 104, columns - 128) < 98
    large = [cv2.resize(p, (256, 208), interpolation=cv2.INTER_CUBIC) * circle[..., None] for p in pictures]
    for i, picture in enumerate(large):
        (tmp_path / "frames").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "frames" / f"{i:03d}.png"), picture[..., ::-1].astype(np.uint8))
    assert "circle" in run(capsys, "inspect", tmp_path / "frames")
    out = tmp_path / "run"
    words = (*DRAFT, "--bin", "2", "--camera", "fixed", "--views", "endonerf")
    said = run(capsys, "reconstruct", tmp_path / "frames", "--out", out, *words)
    assert "is hidden in every frame" not in said
    outside = cv2.imread(str(out / "prepared" / "outside.png"), cv2.IMREAD_GRAYSCALE) > 0
    assert 0.15 < outside.mean() < 0.35
    for name in ("000000.png", "000005.png"):
        assert (cv2.imread(str(out / "prepared" / "occluded" / name), 0) > 0)[outside].all()
        provenance = cv2.imread(str(out / "prepared" / "provenance" / name), cv2.IMREAD_UNCHANGED)
        if provenance is not None:
            assert (provenance[outside] == 1).all()
    assert np.isnan(np.load(out / "prepared" / "depth" / "000000.npy")[outside]).all()

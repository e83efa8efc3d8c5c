"""`splatomy masks` from a folder of frames to a case that can be carried on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.events import finish
from splatomy.io.case import open_case, save_case
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.review import ReviewState

CLIP = replace(
    PRESETS["demo"], width_px=160, height_px=128, focal_px=142.0, node_mm=1.6, subrays=1, baseline_mm=0.0
)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Five frames (T, H, W, 3) out of the middle of a clip, and where instruments hide the tissue."""
    phantom = finish(make_tissue(CLIP, seed=0))
    return phantom.images[10:15], phantom.occluded[10:15]


@pytest.fixture
def frames(clip: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, image in enumerate(clip[0]):
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.rint(image[..., ::-1] * 255).astype(np.uint8))
    return folder


def given_masks(occluded: np.ndarray, folder: Path, chosen: list[int], value: int = 255) -> Path:
    folder.mkdir()
    for i in chosen:
        mask = occluded[i] if value else ~occluded[i]
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.where(mask, 255, 0).astype(np.uint8))
    return folder


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_case_is_made_reviewed_and_carried_on(
    clip: tuple[np.ndarray, np.ndarray], frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "A.splatomy"
    assert main(["masks", str(frames), "--out", str(out)]) == 0
    assert "5 frames: 5 proposed" in capsys.readouterr().out
    case = open_case(out)
    assert np.mean([overlap(case.review.hidden(i), clip[1][i]) for i in range(5)]) >= 0.75
    assert sorted(p.name for p in out.iterdir()) == ["case.json", "labels", "lock", "masks"]
    assert len(list(out.glob("masks/auto/*.png"))) == len(list(out.glob("labels/*.png"))) == 5
    assert not case.metric and case.geometry["bin"] == 1
    # A person replaces one mask by an empty one and confirms another frame.
    review = case.review
    blank = np.zeros(clip[1].shape[1:], bool)
    review = review.replaced(1, replace(review.frames[1], erase=~blank, state=ReviewState.EDITED))
    review = review.replaced(4, review.frames[4].confirmed())
    save_case(out, replace(case, review=review), saved=case.review)
    assert main(["masks", str(out), "--out", str(out), "--propagate"]) == 0
    again = open_case(out).review
    assert [f.state.value for f in again.frames] == [
        "propagated", "edited", "propagated", "propagated", "confirmed",
    ]  # fmt: skip
    assert not again.hidden(1).any()
    np.testing.assert_array_equal(again.hidden(4), case.review.hidden(4))


@pytest.mark.parametrize("value", [255, 0])
def test_given_masks_keep_their_polarity_and_are_carried(
    value: int,
    clip: tuple[np.ndarray, np.ndarray],
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = given_masks(clip[1], tmp_path / "given", [0, 4], value)
    out = tmp_path / "A"
    words = ["masks", str(frames), "--out", str(out), "--masks", str(folder), "--propagate"]
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert f"non-zero = {'hidden' if value else 'visible'}" in shown
    case = open_case(out)
    for i in (0, 4):
        np.testing.assert_array_equal(case.review.hidden(i), clip[1][i])
        assert case.review.frames[i].state == ReviewState.EDITED
    between = [overlap(case.review.hidden(i), clip[1][i]) for i in (1, 2, 3)]
    assert np.mean(between) >= 0.8
    assert any("non-zero" in note for note in case.notes)


def test_a_cut_case_has_the_frames_numbers(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "A"
    assert main(["masks", str(frames), "--out", str(out), "--frames", "1::2", "--crop", "10,8,128,96"]) == 0
    case = open_case(out)
    assert case.frames.tolist() == [1, 3] and case.options.crop == (10, 8, 128, 96)
    assert sorted(p.name for p in out.glob("masks/auto/*")) == ["000001.png", "000003.png"]
    assert main(["masks", str(out), "--out", str(out), "--propagate"]) == 0
    assert len(json.loads((out / "case.json").read_text())["frames"]) == 2


def test_wrong_words_are_one_sentence_and_leave_everything(
    clip: tuple[np.ndarray, np.ndarray], frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, precious = tmp_path / "A", tmp_path / "mine"
    assert main(["masks", str(frames), "--out", str(out), "--frames", ":2"]) == 0
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(frames.iterdir())[:2]:
        (other / path.name).write_bytes(path.read_bytes())
    folder = given_masks(clip[1], tmp_path / "given", [0])
    before = (out / "case.json").read_bytes()
    for words, says in (
        ([str(frames), "--out", str(precious)], "thesis.txt"),
        ([str(frames), "--out", str(out)], "expected the same"),
        ([str(other), "--out", str(out)], "another input"),
        ([str(out), "--out", str(tmp_path / "B")], "the same case"),
        ([str(frames), "--out", str(out), "--masks", str(folder)], "has masks already"),
        ([str(frames), "--out", str(tmp_path / "B"), "--model", str(tmp_path / "no.onnx")], "does not exist"),
        ([str(tmp_path / "nothing"), "--out", str(tmp_path / "B")], "does not exist"),
    ):
        capsys.readouterr()
        assert main(["masks", *words]) == 2, words
        sentence = capsys.readouterr().err.strip().splitlines()[-1]
        assert says in sentence
    assert (out / "case.json").read_bytes() == before and not (tmp_path / "B" / "case.json").exists()

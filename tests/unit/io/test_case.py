"""The case folder: nothing is lost, whichever way it is closed, moved or damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.io.case import (
    AUTOSAVE,
    RECORD,
    Case,
    autosave_case,
    is_case,
    locked,
    open_case,
    recovered_case,
    save_case,
)
from splatomy.io.case_masks import write_labels
from splatomy.io.options import InputOptions
from splatomy.review import FrameReview, MaskReview, ReviewState


def some_mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(13, 18)) < 0.3


@pytest.fixture
def case(tmp_path: Path) -> Case:
    source = tmp_path / "study" / "clip.mp4"
    source.parent.mkdir()
    source.write_bytes(b"frames")
    frames = (
        FrameReview(),
        FrameReview(auto=some_mask(1), state=ReviewState.PROPOSED, confidence=0.75),
        FrameReview(some_mask(2), some_mask(3), some_mask(4), ReviewState.CONFIRMED, 0.5),
    )
    options = InputOptions(crop=(1, 2, 18, 13), frames=(4, None, 3), masks=tmp_path / "study" / "masks")
    return Case(
        source=source,
        options=options,
        frames=np.array([4, 7, 10]),
        times_s=np.array([0.0, 0.12, 0.24]),
        review=MaskReview(13, 18, frames),
        geometry={"crop": [1, 2, 18, 13]},
        mm_per_unit=1.5,
        notes=("non-zero = hidden",),
    )


def assert_same(a: Case, b: Case) -> None:
    assert (a.source, a.options, a.geometry, a.metric, a.mm_per_unit, a.notes) == (
        b.source, b.options, b.geometry, b.metric, b.mm_per_unit, b.notes,
    )  # fmt: skip
    np.testing.assert_array_equal(a.frames, b.frames)
    np.testing.assert_array_equal(a.times_s, b.times_s)
    for one, other in zip(a.review.frames, b.review.frames, strict=True):
        assert (one.state, one.confidence) == (other.state, other.confidence)
        for name in ("auto", "add", "erase"):
            x, y = getattr(one, name), getattr(other, name)
            assert (x is None) == (y is None)
            if x is not None:
                np.testing.assert_array_equal(x, y)


def changed(case: Case) -> Case:
    """The case after a frame was edited and another one was reset."""
    review = case.review.replaced(0, FrameReview(add=some_mask(9), state=ReviewState.EDITED))
    return replace(case, review=review.replaced(2, FrameReview(auto=review.frames[2].auto)), mm_per_unit=2.0)


def test_a_case_comes_back_as_it_was(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "A.splatomy"
    save_case(folder, case)
    assert is_case(folder) and is_case(folder / RECORD) and not is_case(tmp_path)
    assert_same(open_case(folder), case)
    assert_same(open_case(folder / RECORD), case)
    record = json.loads((folder / RECORD).read_text())
    assert record["contract"] == 1 and record["schema"] == 1 and record["source"] == "../study/clip.mp4"
    assert str(tmp_path) not in (folder / RECORD).read_text()


def test_masks_are_8_bit_and_255_is_marked(case: Case, tmp_path: Path) -> None:
    save_case(tmp_path / "A", case)
    files = sorted(p.relative_to(tmp_path / "A" / "masks").as_posix() for p in tmp_path.glob("A/masks/*/*"))
    assert files == ["add/000010.png", "auto/000007.png", "auto/000010.png", "erase/000010.png"]
    stored = cv2.imread(str(tmp_path / "A/masks/auto/000007.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, np.where(some_mask(1), 255, 0))


def test_labels_are_apart_and_never_255(tmp_path: Path) -> None:
    outside = np.zeros((13, 18), bool)
    outside[:3] = True
    write_labels(tmp_path, 5, some_mask(1), some_mask(2), outside)
    labels = cv2.imread(str(tmp_path / "labels/000005.png"), cv2.IMREAD_UNCHANGED)
    expected = np.where(outside, 3, np.where(some_mask(1), 1, np.where(some_mask(2), 2, 0)))
    np.testing.assert_array_equal(labels, expected)


def test_labels_of_frames_come_back_and_old_cases_have_none(case: Case, tmp_path: Path) -> None:
    rim = np.zeros((13, 18), bool)
    rim[:2] = True
    shine = some_mask(3) & ~rim
    frame = replace(case.review.frames[2], specular=shine, outside=rim)
    labelled = replace(case, review=case.review.replaced(2, frame))
    save_case(tmp_path, labelled)
    kept = open_case(tmp_path).review
    np.testing.assert_array_equal(kept.frames[2].specular, shine)
    np.testing.assert_array_equal(kept.frames[2].outside, rim)
    assert kept.frames[0].specular is None and kept.never_seen() is None
    # What was autosaved after the last save has them too, and can take them away.
    autosave_case(tmp_path, replace(case, review=case.review), labelled.review)
    recovered = recovered_case(tmp_path)
    assert recovered is not None and recovered.review.frames[2].outside is None
    # A case of before says nothing of labels, and may have a file of them or none.
    record = json.loads((tmp_path / RECORD).read_text())
    for entry in record["frames"]:
        del entry["labels"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    np.testing.assert_array_equal(open_case(tmp_path).review.frames[2].specular, shine)
    shutil.rmtree(tmp_path / "labels")
    assert open_case(tmp_path).review.frames[2].specular is None
    # One that says that there are labels is not opened without them.
    record["frames"][2]["labels"] = True
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"labels/000010\.png is missing"):
        open_case(tmp_path)


def test_a_study_can_be_moved(case: Case, tmp_path: Path) -> None:
    save_case(tmp_path / "study" / "A", case)
    shutil.move(tmp_path / "study", tmp_path / "elsewhere")
    moved = open_case(tmp_path / "elsewhere" / "A")
    assert moved.source == tmp_path / "elsewhere" / "clip.mp4"
    assert moved.options.masks is not None
    assert moved.options.masks.resolve() == tmp_path / "elsewhere" / "masks"


def test_only_what_changed_is_written_again(case: Case, tmp_path: Path) -> None:
    save_case(tmp_path, case)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("masks/*/*")}
    new = changed(case)
    save_case(tmp_path, new, saved=case.review)
    assert_same(open_case(tmp_path), new)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("masks/*/*")}
    assert all(after[p] == before[p] for p in before if p.parent.name == "auto")
    assert sorted(p.relative_to(tmp_path / "masks").as_posix() for p in after) == [
        "add/000004.png", "auto/000007.png", "auto/000010.png",
    ]  # fmt: skip


def test_frames_of_an_earlier_case_leave_no_masks(case: Case, tmp_path: Path) -> None:
    save_case(tmp_path, case)
    fewer = replace(
        case,
        frames=case.frames[:2],
        times_s=case.times_s[:2],
        review=MaskReview(13, 18, case.review.frames[:2]),
    )
    save_case(tmp_path, fewer)
    assert [p.name for p in tmp_path.glob("masks/*/*")] == ["000007.png"]


def test_unsaved_work_is_recovered(case: Case, tmp_path: Path) -> None:
    save_case(tmp_path, case)
    assert recovered_case(tmp_path) is None
    new = changed(case)
    autosave_case(tmp_path, new, saved=case.review)
    assert_same(open_case(tmp_path), case)
    recovered = recovered_case(tmp_path)
    assert recovered is not None
    assert_same(recovered, new)
    save_case(tmp_path, recovered)
    assert not (tmp_path / AUTOSAVE).exists()
    assert_same(open_case(tmp_path), new)


def test_a_lock_holds_while_its_program_lives(tmp_path: Path) -> None:
    folder = tmp_path / "A"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom splatomy.io.case import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"open in another program .process {holder.pid}"),
            locked(folder),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(folder):
        pass
    with locked(folder):
        pass


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / RECORD).unlink(), "no case folder"),
        (lambda f: (f / RECORD).write_text("{"), "is damaged"),
        (lambda f: (f / RECORD).write_text("[]"), "is damaged"),
        (lambda f: (f / RECORD).write_text('{"schema": 1}'), "is damaged"),
        (lambda f: (f / RECORD).write_text('{"schema": 99}'), "schema 99"),
        (lambda f: (f / "masks/add/000010.png").unlink(), "add/000010.png is missing"),
        (lambda f: (f / "masks/add/000010.png").write_bytes(b"x"), "no readable picture"),
        (lambda f: cv2.imwrite(str(f / "masks/auto/000007.png"), np.zeros((9, 9), np.uint8)), "9x9"),
        (
            lambda f: cv2.imwrite(str(f / "masks/auto/000007.png"), np.full((13, 18), 7, np.uint8)),
            "0 and 255",
        ),
    ],
)
def test_damage_is_told_in_one_sentence(case: Case, tmp_path: Path, spoil, says: str) -> None:
    save_case(tmp_path, case)
    spoil(tmp_path)
    with pytest.raises(InputError, match=says):
        open_case(tmp_path)


def test_a_damaged_autosave_is_refused(case: Case, tmp_path: Path) -> None:
    save_case(tmp_path, case)
    autosave_case(tmp_path, changed(case), saved=case.review)
    record = json.loads((tmp_path / AUTOSAVE).read_text())
    record["layers"]["4"]["add"] = "AAAA"
    (tmp_path / AUTOSAVE).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"autosave\.json is damaged"):
        recovered_case(tmp_path)
    assert_same(open_case(tmp_path), case)


def test_counts_must_agree(case: Case) -> None:
    with pytest.raises(ValueError, match="times_s"):
        replace(case, times_s=np.zeros(2))

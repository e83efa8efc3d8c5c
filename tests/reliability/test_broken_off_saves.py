"""A case whose save ends at any of its steps holds the masks of before or the new ones, all of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fault_masks import case_of, is_same

from splatomy.io.case import (
    AUTOSAVE,
    SAVING,
    Case,
    autosave_case,
    is_case,
    locked,
    open_case,
    recovered_case,
    save_case,
)


class PowerCut(BaseException):
    """Nothing handles it, as nothing handles kill -9."""


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Lets the step-th change to the folder's files be the end."""
    left = [step]

    def counted(real: Any) -> Any:
        def change(path: Path, *words: Any, **more: Any) -> Any:
            # The temporary file of a write that did not come to its rename stays, as after a kill.
            if not path.name.startswith(".") or words:
                left[0] -= 1
                if left[0] < 0:
                    raise PowerCut
            return real(path, *words, **more)

        return change

    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"frames")
    return path


def test_every_step_of_a_save_may_be_the_last(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, new = case_of(1, source), case_of(2, source)
    made = tmp_path / "made"
    save_case(made, before)
    autosave_case(made, case_of(3, source), before.review)
    found = []
    for step in range(0, 200, 3):
        folder = tmp_path / f"at{step}"
        shutil.copytree(made, folder)
        with monkeypatch.context() as patch:
            cut_at(patch, step)
            try:
                save_case(folder, new, before.review)
                is_cut = False
            except PowerCut:
                is_cut = True
        opened = open_case(folder)
        found.append(is_same(opened, new))
        assert found[-1] or is_same(opened, before), step
        recovered = recovered_case(folder)
        if found[-1]:
            assert recovered is None, f"what was autosaved before the save is older than it ({step})"
        else:
            assert recovered is not None and is_same(recovered, case_of(3, source))
        with locked(folder):
            assert not (folder / SAVING).exists()
            assert is_same(open_case(folder), new if found[-1] else before)
        shutil.rmtree(folder)
        if not is_cut:
            break
    assert found[0] is False and found[-1] is True and found == sorted(found) and len(found) > 5


def test_a_first_save_that_was_broken_off_is_a_case(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut_at(patch, 2)
        with pytest.raises(PowerCut):
            save_case(tmp_path / "case", case_of(1, source))
    assert is_case(tmp_path / "case") and is_same(open_case(tmp_path / "case"), case_of(1, source))


def refused(folder: Path, new: Case, before: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that the disk refuses when half of its files are written."""
    left = [6]
    real = os.fsync

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save_case(folder, new, before.review)


def test_an_edit_that_is_undone_after_a_failed_save_is_undone_on_the_disk(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, new = case_of(1, source), case_of(2, source)
    save_case(tmp_path / "case", before)
    refused(tmp_path / "case", new, before, monkeypatch)
    save_case(tmp_path / "case", before, before.review)
    assert is_same(open_case(tmp_path / "case"), before)


def test_an_autosave_after_a_failed_save_is_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, new, later = (case_of(edit, source) for edit in (1, 2, 3))
    save_case(tmp_path / "case", before)
    refused(tmp_path / "case", new, before, monkeypatch)
    autosave_case(tmp_path / "case", later, before.review)
    assert (tmp_path / "case" / AUTOSAVE).exists()
    recovered = recovered_case(tmp_path / "case")
    assert recovered is not None and is_same(recovered, later)

"""kill -9 while masks are written: afterwards a mask is the one of before or the new one, never neither."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fault_checks import folder_problems
from fault_runs import Child, Told
from fault_tally import Tally

from splatomy.errors import InputError
from splatomy.io.case import Case, autosave_case, locked, open_case, recovered_case, save_case
from splatomy.io.options import InputOptions
from splatomy.review import FrameReview, MaskReview, ReviewState

SAVING, AUTOSAVING = "saving a case", "autosaving a case"
FAULT = "kill -9, masks"
_FRAMES, _SIZE = 5, (52, 64)
_STATES = (ReviewState.PROPOSED, ReviewState.EDITED, ReviewState.CONFIRMED)


def case_of(edit: int, source: Path) -> Case:
    """A case after so many edits; each edit changes layers, labels and states of most frames."""
    frames = []
    for number in range(_FRAMES):
        rng = np.random.default_rng([edit, number])
        layers = [rng.uniform(size=_SIZE) < 0.3 if rng.uniform() < 0.7 else None for _ in range(5)]
        if layers[3] is not None and layers[4] is not None:
            # A pixel outside of the picture is no highlight: the file holds one label for each.
            layers[3] &= ~layers[4]
        state = _STATES[int(rng.integers(3))]
        frames.append(FrameReview(*layers[:3], state, 0.5, layers[3], layers[4]))
    review = MaskReview(*_SIZE, tuple(frames))
    numbers = np.arange(_FRAMES, dtype=np.int64)
    return Case(source, InputOptions(), numbers, numbers / 25.0, review, mm_per_unit=1.0 + edit)


def is_same(one: Case, other: Case) -> bool:
    """True if every layer, label and state of two cases is the same."""
    if one.mm_per_unit != other.mm_per_unit:
        return False
    for a, b in zip(one.review.frames, other.review.frames, strict=True):
        if (a.state, a.confidence) != (b.state, b.confidence):
            return False
        for name in ("auto", "add", "erase", "specular", "outside"):
            x, y = getattr(a, name), getattr(b, name)
            if (x is None or not x.any()) != (y is None or not y.any()):
                return False
            if x is not None and y is not None and not np.array_equal(x, y):
                return False
    return True


def edited(folder: Path, source: Path, first: int, autosaving: bool) -> Callable[[Told], int]:
    """The work of a child: edit after edit is saved, or autosaved with a save after every third one."""

    def work(tell: Told) -> int:
        with locked(folder):
            saved = open_case(folder)
            for edit in range(first, first + 10_000):
                case = case_of(edit, source)
                is_save = not autosaving or edit % 3 == 0
                tell(f"{'save' if is_save else 'autosave'} {edit}")
                if is_save:
                    save_case(folder, case, saved.review)
                    saved = case
                else:
                    autosave_case(folder, case, saved.review)
        return 0

    return work


def kill_masks(tally: Tally, work: Path, wanted: int, until_s: float) -> None:
    """Kills a program that saves a case, ``wanted`` times while it saves and as often while it autosaves."""
    folder, source = work / "case.splatomy", work / "clip.mp4"
    shutil.rmtree(folder, ignore_errors=True)
    source.write_bytes(b"frames")
    rng = np.random.default_rng([3, sum(row.injected for row in tally.rows.values())])
    save_case(folder, case_of(0, source))
    newest = 0
    for where in (SAVING, AUTOSAVING):
        while tally.count(FAULT, where) < wanted and time.monotonic() < until_s:
            began = time.monotonic()
            child = Child(edited(folder, source, newest + 1, where == AUTOSAVING))
            child.hear(lambda line: True)
            child.listen(time.monotonic() + rng.uniform(0, 0.2))
            child.kill()
            code = child.end()
            problems = folder_problems(folder)
            if code > 0:
                problems.append(f"it ended by itself: {child.said()[-300:]}")
            problems += _lost(folder, source, newest, [line for _, line in child.lines])
            newest = int(child.lines[-1][1].split()[1])
            # What a user does next: the case is opened with what was recovered, and saved.
            save_case(folder, case_of(newest, source))
            problems += [f"after the next save: {p}" for p in _lost(folder, source, newest, [])]
            tally.add(FAULT, where, problems, resumed=True, seconds=time.monotonic() - began)
    if all(tally.count(FAULT, where) >= wanted for where in (SAVING, AUTOSAVING)):
        tally.finish()


def _lost(folder: Path, source: Path, before: int, told: list[str]) -> list[str]:
    """What is wrong with a case whose program was killed after it told so much.

    The last thing that was told may have happened or not; everything before it must have.
    """
    saves = [before, *(int(line.split()[1]) for line in told if line.startswith("save"))]
    last = told[-1] if told else ""
    allowed = saves[-2:] if last.startswith("save") and len(saves) > 1 else saves[-1:]
    autosaves = [int(line.split()[1]) for line in told if line.startswith("autosave")]
    try:
        opened, recovered = open_case(folder), recovered_case(folder)
    except InputError as error:
        return [f"unreadable: {error}"]
    problems = []
    found = [edit for edit in allowed if is_same(opened, case_of(edit, source))]
    if not found:
        problems.append(f"the saved masks are neither those of before nor the new ones ({last})")
        return problems
    newer = [edit for edit in autosaves if edit > found[0]]
    # The autosave under way may be missing, every earlier one after the last save must be there.
    sure = [edit for edit in newer if f"autosave {edit}" != last]
    if recovered is None:
        if sure:
            problems.append("autosaved masks are gone")
    elif not any(is_same(recovered, case_of(edit, source)) for edit in (newer[-2:] if newer else found)):
        problems.append(f"recovered masks are not the newest ones ({last})")
    return problems

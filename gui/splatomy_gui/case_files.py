"""Case folders on disk: a new one, what it holds, and its runs."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from splatomy.errors import InputError
from splatomy.events import Task
from splatomy.io.options import chosen_frames
from splatomy.review import FrameReview, MaskReview, ReviewState
from splatomy_gui.frames import ClipFrames, ViewFrames
from splatomy_gui.inputs import Kind, OpenedInput, open_frames

if TYPE_CHECKING:
    from splatomy.io.case import Case
    from splatomy.io.endoscopy import EndoscopyInput

# The readers of cases and pictures are imported where they are used, on other threads: they are slow to load
# and the start page does without.
RECORD, AUTOSAVE = "case.json", "case.autosave.json"
SUFFIX = ".splatomy"
THUMBNAIL = "thumbnail.png"
_THUMBNAIL_PX = 256
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class OpenCase:
    """A case that is held open. lock: closes it for others; ``close`` gives it back."""

    folder: Path
    case: Case
    opened: OpenedInput
    lock: ExitStack


@dataclass(frozen=True)
class RunInfo:
    """A run folder in short. state: running, done, cancelled, failed or unfinished; share: done, 0 to 1."""

    path: Path
    state: str
    method: str
    preset: str
    share: float
    started: str
    metrics: dict[str, Any]


@dataclass(frozen=True)
class CaseInfo:
    """A case in short, for the start page."""

    folder: Path
    source_name: str
    frames: int
    confirmed: int
    saved_s: float
    recoverable: bool
    runs: tuple[RunInfo, ...]

    @property
    def state(self) -> str:
        """What was done last, in words."""
        if self.recoverable:
            return "unsaved changes can be recovered"
        if self.runs:
            newest = self.runs[-1]
            if newest.state in ("done", "running"):
                return {"done": "reconstructed", "running": "being reconstructed"}[newest.state]
            return f"reconstruction {newest.share:.0%} - interrupted"
        return f"{self.confirmed} of {self.frames} masks confirmed" if self.confirmed else "opened"


def new_folder(parent: Path, kind: Kind) -> Path:
    """A free name for a new case; it says nothing of the patient."""
    stem = f"{kind.value.capitalize()} {time.strftime('%Y-%m-%d')}"
    number = 1
    while (parent / f"{stem} {number}{SUFFIX}").exists():
        number += 1
    return parent / f"{stem} {number}{SUFFIX}"


def starting_review(opened: OpenedInput) -> MaskReview:
    """The masks to start from: those given with the input, as a person's work that is not confirmed."""
    width, height = opened.frames.size_px
    review = MaskReview.untouched(opened.frames.count, height, width)
    if not isinstance(opened.frames, ClipFrames):
        views = isinstance(opened.frames, ViewFrames)
        given = opened.frames.views.occluded if views else opened.frames.run.occluded  # type: ignore[attr-defined]
        known = np.zeros(0, np.int64) if given is None else np.flatnonzero(given.any((1, 2)))
        return _with_given(review, given, known, None)
    clip: EndoscopyInput = opened.frames.clip
    # The border of the picture is no instrument.
    return _with_given(review, clip.occluded, np.flatnonzero(clip.mask_known), clip.outside)


def _with_given(review: MaskReview, given: Any, known: Any, outside: Any) -> MaskReview:
    frames = list(review.frames)
    for number in known.tolist() if given is not None else ():
        mask = given[number] if outside is None else given[number] & ~outside
        frames[number] = FrameReview(add=np.array(mask), state=ReviewState.EDITED, confidence=1.0)
    return replace(review, frames=tuple(frames))


def make_case(folder: Path, opened: OpenedInput) -> OpenCase:
    """Keeps an opened input as a new case in ``folder``.

    Raises:
        InputError: the folder is taken.
    """
    from splatomy.io.case import Case, locked, save_case

    if folder.exists():
        raise InputError(f"{folder.name} exists already; expected a new folder: choose another name.")
    count = opened.frames.count
    case = Case(
        source=opened.source.resolve(),
        options=opened.options,
        frames=_numbers(opened, count),
        times_s=np.asarray(opened.frames.times_s, dtype=np.float64),
        review=starting_review(opened),
        geometry=opened.geometry,
        metric=opened.metric,
        notes=opened.notes,
    )
    with ExitStack() as lock:
        lock.enter_context(locked(folder))
        save_case(folder, case)
        _write_thumbnail(folder, opened)
        return OpenCase(folder, case, opened, lock.pop_all())


def _numbers(opened: OpenedInput, count: int) -> Any:
    if isinstance(opened.frames, ClipFrames):
        return np.asarray(opened.frames.clip.frames, dtype=np.int64)
    if isinstance(opened.frames, ViewFrames):
        return np.asarray(opened.frames.views.numbers, dtype=np.int64)
    if opened.options.frames is None:
        return np.arange(count, dtype=np.int64)
    first, _, step = opened.options.frames
    return chosen_frames((first or 0) + count * (step or 1), opened.options)[:count]


def load_case(folder: Path, recover: bool, source: Path | None = None) -> Task[OpenCase]:
    """Opens a case that exists. recover: with what was autosaved; source: where its input lies now.

    Raises:
        InputError: it is damaged or open elsewhere, or its input is gone or changed.
    """
    from splatomy.io.case import locked, open_case, recovered_case, save_case

    with ExitStack() as lock:
        lock.enter_context(locked(folder))
        kept = recovered_case(folder) if recover else None
        case = open_case(folder) if kept is None else kept
        if source is not None:
            case = replace(case, source=source.resolve())
        opened = yield from open_frames(case.source, case.options)
        size = (case.review.width_px, case.review.height_px)
        if opened.frames.size_px != size or opened.frames.count != len(case.review):
            width, height = opened.frames.size_px
            raise InputError(
                f"The case was made of {len(case.review)} frames of {size[0]}x{size[1]}, but its input has "
                f"{opened.frames.count} of {width}x{height}; expected the same: make a new case of the input."
            )
        if kept is not None or source is not None:
            save_case(folder, case)
        else:
            (folder / AUTOSAVE).unlink(missing_ok=True)
        return OpenCase(folder, case, opened, lock.pop_all())


class CaseWriter:
    """Writes an open case from any thread: one write at a time, and never an older state over a newer one.

    Threads may run in another order than they were started: each write has a turn, taken on the GUI thread.
    """

    def __init__(self, folder: Path, case: Case, lock: ExitStack) -> None:
        """case: as it is on disk, kept in ``saved``, so that only masks that changed are written.

        lock: gives the case back to others.
        """
        self.folder, self.saved = folder, case
        self._closes, self._alone = lock, Lock()
        self._turns = itertools.count(1)
        self._kept_turn = self._saved_turn = 0

    def turn(self) -> int:
        """The place of a write among all."""
        return next(self._turns)

    def save(self, turn: int, case: Case) -> None:
        """Saves a state of the case, unless a newer one was written.

        A case whose folder was moved or deleted while it was open is written whole, with all its masks.
        """
        from splatomy.io.case import save_case

        with self._alone:
            if turn > self._saved_turn:
                known = (self.folder / RECORD).is_file()
                save_case(self.folder, case, self.saved.review if known else None)
                self.saved, self._saved_turn = case, turn

    def autosave(self, turn: int, case: Case) -> None:
        """Keeps a state in the case's autosave file, beside the record that it belongs to."""
        from splatomy.io.case import autosave_case

        if not (self.folder / RECORD).is_file():
            self.save(turn, case)
            return
        with self._alone:
            if turn > max(self._saved_turn, self._kept_turn):
                autosave_case(self.folder, case, self.saved.review)
                self._kept_turn = turn

    def save_and_close(self, turn: int, case: Case) -> None:
        """Saves the last state and gives the case back to others."""
        with self._closes:
            self.save(turn, case)

    def close(self) -> None:
        """Gives the case back to others."""
        self._closes.close()


def _write_thumbnail(folder: Path, opened: OpenedInput) -> None:
    import cv2

    from splatomy.io.picture import write_png

    picture = opened.frames.picture(opened.frames.count // 2)
    picture = picture[:, ::-1] if opened.frames.mirrored else picture
    scale = _THUMBNAIL_PX / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    write_png(folder / THUMBNAIL, np.asarray(small, np.uint8))


def source_of(folder: Path) -> Path:
    """Where the input of a case lies; reads the masks too, so that a damaged case is found out.

    Raises:
        InputError: the case is damaged.
    """
    from splatomy.io.case import open_case

    return open_case(folder).source


def case_info(folder: Path) -> CaseInfo | None:
    """The case in short; None if there is none any more."""
    if not (folder / RECORD).is_file():
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        frames = record["frames"]
        return CaseInfo(
            folder,
            Path(record["source"]).name,
            len(frames),
            sum(frame["state"] == ReviewState.CONFIRMED for frame in frames),
            (folder / RECORD).stat().st_mtime,
            (folder / AUTOSAVE).is_file(),
            tuple(list_runs(folder)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def list_runs(folder: Path) -> list[RunInfo]:
    """The runs of a case, oldest first."""
    found = []
    for path in sorted((folder / "runs").glob("*")):
        if (
            path.is_dir()
            and not path.name.startswith(".")
            and ((path / "run.json").is_file() or (path / "events.jsonl").is_file())
        ):
            found.append(run_info(path))
    return found


def run_info(path: Path) -> RunInfo:
    """A run folder in short."""
    record, metrics = _json(path / "run.json"), _json(path / "metrics.json")
    state = str(record.get("state", "unfinished"))
    return RunInfo(
        path,
        state,
        str(record.get("method", "")),
        str(record.get("preset", "")),
        1.0 if state == "done" else _share(path / "events.jsonl"),
        str(record.get("start", record.get("started", ""))),
        metrics,
    )


def _json(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def _share(events: Path) -> float:
    """How far the training came, from the end of the list of events."""
    share = 0.0
    with suppress(OSError), events.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL_BYTES))
        for line in file:
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                event = json.loads(line)
                if event["event"] == "progress" and event["stage"] == "train" and event["total"]:
                    share = event["step"] / event["total"]
    return float(min(1.0, share))

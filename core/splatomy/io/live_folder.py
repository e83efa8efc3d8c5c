"""A folder that another program fills with frames, followed while it grows."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.depth_folder import DEPTH_SUFFIXES, read_depth
from splatomy.io.frame_source import Frame
from splatomy.io.frames import PICTURE_SUFFIXES, natural_key, read_picture, read_rgb
from splatomy.io.live_eyes import LiveEyes, check_live_options
from splatomy.io.live_frames import LiveFrame, Rate
from splatomy.io.live_poses import GrowingPoses
from splatomy.io.live_reader import Frames, Tally, ThreadedSource
from splatomy.io.mask_folder import foreground
from splatomy.io.options import InputOptions

END_NAME = "end-of-stream"
"""An empty file of this name says that no frame will follow."""

_FRAME_FOLDERS = ("left", "images", "rgb", "frames")
_ASSUMED_RATE = 25.0
_FIRST_FRAME_S = 10.0
_LOOK_EVERY_S = 0.04
_STABLE_S = 0.1
_GIVEN_UP_S = 2.0
_QUIET_END_S = 2.0
_MOST_WAITING = 2000
_MOST_DIGITS = 9
_ENDINGS = {
    ".png": b"\x49\x45\x4e\x44\xae\x42\x60\x82",
    ".jpg": b"\xff\xd9",
    ".jpeg": b"\xff\xd9",
}
"""Last bytes of whole files; a copy under way has others."""


def growing_folder_source(folder: Path, options: InputOptions, rate: Rate) -> ThreadedSource:
    """Follows a folder; its first picture must arrive within 10 s.

    The pictures lie in it, or in left, images, rgb or frames, beside right, depth and masks with files of
    the same names. At rate "real" it starts with the newest picture; at rate "max" it takes every one and
    ends when nothing more comes.

    Raises:
        InputError: no picture comes, or the options do not fit.
    """
    check_live_options(options)
    if not folder.is_dir():
        raise InputError(f"{folder.name} is no folder; expected one that fills with frames: check the path.")
    following = _Following(folder, options, rate)
    fps = 1 / following.step_s
    metric = following.metric
    info = following.eyes.info(folder.name, fps, rate == "real", metric, following.found)
    return ThreadedSource(info, following.frames, rate)


@dataclass(frozen=True)
class _Waiting:
    """A picture that was seen but not taken yet: its place in the order, and since when it is there."""

    path: Path
    number: int
    seen_s: float


class _Following:
    """One growing folder."""

    def __init__(self, folder: Path, options: InputOptions, rate: Rate) -> None:
        inside = next((folder / n for n in _FRAME_FOLDERS if (folder / n).is_dir()), folder)
        self._folder, self._frames = folder, inside
        self._right = folder / "right" if (folder / "right").is_dir() else None
        self._depth = folder / "depth" if (folder / "depth").is_dir() else None
        self._masks = folder / "masks" if (folder / "masks").is_dir() else None
        self._newest_only = rate == "real"
        self._scale_mm = options.depth_scale_mm
        self.step_s = options.frame_time_s or 1 / _ASSUMED_RATE
        self._known: set[str] = set()
        self._sizes: dict[str, tuple[int, float]] = {}
        first = self._first_picture()
        self.eyes = LiveEyes(first.shape[1], first.shape[0], options, self._right is not None)
        if self._right is not None and self.eyes.baseline_mm is None:
            # Without a calibration nothing is gained by waiting for the other eye.
            self._right = None
        self._poses = None
        if options.poses is not None:
            self._poses = GrowingPoses(options.poses, options.poses_convention, self.step_s)
        self.found = (f"a folder that is followed while it grows, {1 / self.step_s:g} frames a second",)

    @property
    def metric(self) -> bool:
        """True if depth comes in a known unit."""
        return self._depth is not None and self._scale_mm is not None

    def frames(self, tally: Tally, stopping: threading.Event) -> Frames:
        """The frames in the order of their numbers, each as soon as all its files are whole."""
        waiting: list[_Waiting] = []
        newest, quiet_s = -1, time.monotonic()
        first: int | None = None
        if self._newest_only:
            newest = self._skip_old(tally)
        while not stopping.is_set():
            began_s = time.monotonic()
            waiting += self._new_pictures(newest, tally)
            waiting.sort(key=lambda w: w.number)
            self._bound(waiting, tally)
            taken = False
            while waiting and not stopping.is_set():
                frame = self._taken(waiting[0], tally, first)
                if frame is None:
                    break
                if isinstance(frame, LiveFrame):
                    first = waiting[0].number if first is None else first
                    yield frame
                taken, newest = True, waiting.pop(0).number
            if taken:
                quiet_s = time.monotonic()
            elif not waiting and self._over(quiet_s):
                return
            yield None
            # Looking through a long folder takes time: never more than a quarter of it.
            stopping.wait(max(_LOOK_EVERY_S, 3 * (time.monotonic() - began_s)) if not taken else 0.0)

    def _over(self, quiet_s: float) -> bool:
        if (self._folder / END_NAME).exists() or (self._frames / END_NAME).exists():
            return True
        return not self._newest_only and time.monotonic() - quiet_s > _QUIET_END_S

    def _pictures(self) -> Iterator[Path]:
        for path in self._frames.iterdir():
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
                yield path

    def _first_picture(self) -> Frame:
        """The first picture that is whole, of which only the size is used."""
        end_s = time.monotonic() + _FIRST_FRAME_S
        while True:
            for path in self._in_order():
                if self._is_whole(path):
                    return read_rgb(path)
            if time.monotonic() > end_s:
                raise InputError(
                    f"{self._folder.name} got no picture within {_FIRST_FRAME_S:g} s; expected a folder that "
                    "fills with PNG or JPEG frames: start the recording first."
                )
            time.sleep(_LOOK_EVERY_S)

    def _skip_old(self, tally: Tally) -> int:
        """Passes over everything but the newest picture of a folder that is not empty."""
        found = self._in_order()
        self._known.update(path.name for path in found[:-1])
        if len(found) < 2:
            return -1
        tally.tell(f"{len(found) - 1} frames that were there before are passed over.")
        return -1 if (number := _number(found[-2])) is None else number

    def _in_order(self) -> list[Path]:
        return sorted(self._pictures(), key=lambda p: natural_key(p.name))

    def _new_pictures(self, newest: int, tally: Tally) -> list[_Waiting]:
        """Pictures that were not there before; one without a number comes after all others."""
        added: list[_Waiting] = []
        for path in self._in_order():
            if path.name in self._known:
                continue
            self._known.add(path.name)
            number = _number(path)
            if number is None:
                number = max([newest, *(w.number for w in added)]) + 1
            if number <= newest:
                tally.drop()
                tally.tell(f"Frames came out of order (first {path.name}) and are left out.")
                continue
            added.append(_Waiting(path, number, time.monotonic()))
        return added

    def _bound(self, waiting: list[_Waiting], tally: Tally) -> None:
        if not self._newest_only or len(waiting) <= _MOST_WAITING:
            return
        tally.drop(len(waiting) - _MOST_WAITING)
        del waiting[:-_MOST_WAITING]

    def _taken(self, item: _Waiting, tally: Tally, first: int | None) -> LiveFrame | bool | None:
        """The frame, True when it is given up, or None when its files are not whole yet."""
        late = time.monotonic() - item.seen_s > _GIVEN_UP_S
        parts = [item.path]
        right = None if self._right is None else self._right / item.path.name
        depth, mask = self._partner(self._depth, item.path), self._partner(self._masks, item.path)
        parts += [p for p in (right, depth, mask) if p is not None]
        lacking = [p for p in parts if not self._is_whole(p)]
        if lacking and not late:
            return None
        if item.path in lacking or right in lacking:
            return self._given_up(item, tally)
        if lacking:
            tally.tell(f"{item.path.name} has no depth or no mask in time; such frames go without.")
        number = item.number - (item.number if first is None else first)
        try:
            picture = read_rgb(item.path)
            other = None if right is None else read_rgb(right)
            frame = LiveFrame(
                index=number,
                time_s=number * self.step_s,
                received_s=time.monotonic(),
                image=np.zeros((0, 0, 3), np.float32),
                depth_mm=None if depth is None or depth in lacking else self._depth_of(depth, picture),
                occluded=None if mask is None or mask in lacking else self._hidden(mask, picture),
                camera_from_world=None
                if self._poses is None
                else self._poses.of(number, number * self.step_s),
            )
        except InputError as error:
            tally.tell(str(error))
            return self._given_up(item, tally)
        if not self.eyes.fits(picture) or (other is not None and not self.eyes.fits(other)):
            tally.tell(f"{item.path.name} has another size than the first frame; such frames are left out.")
            return self._given_up(item, tally)
        image, both = self.eyes.images(picture, other)
        return replace(frame, image=image, right=both)

    def _given_up(self, item: _Waiting, tally: Tally) -> bool:
        tally.drop()
        tally.tell(f"{item.path.name} is damaged or incomplete; such frames are left out.")
        return True

    def _partner(self, folder: Path | None, path: Path) -> Path | None:
        """The file of the same name in a folder of depth or masks; the likely name while there is none."""
        if folder is None:
            return None
        found = [folder / (path.stem + suffix) for suffix in DEPTH_SUFFIXES]
        return next((p for p in found if p.exists()), folder / (path.stem + ".png"))

    def _depth_of(self, path: Path, picture: Frame) -> NDArray[np.float32]:
        stored = read_depth(path)
        if stored.shape != picture.shape[:2]:
            raise InputError(f"{path.name} has another size than its frame; expected the same.")
        known = np.isfinite(stored) & (stored > 0)
        depth = np.where(known, stored * (self._scale_mm or 1.0), np.nan).astype(np.float32)
        return np.asarray(self.eyes.map(depth), np.float32)

    def _hidden(self, path: Path, picture: Frame) -> NDArray[np.bool_]:
        mask = foreground(read_picture(path))
        if mask.shape != picture.shape[:2]:
            raise InputError(f"{path.name} has another size than its frame; expected the same.")
        return np.asarray(self.eyes.map(mask.astype(np.uint8)) > 0) | self.eyes.outside

    def _is_whole(self, path: Path) -> bool:
        """True if a file is there completely: by its last bytes, or since its size stands still."""
        try:
            size = path.stat().st_size
            ending = _ENDINGS.get(path.suffix.lower())
            if size == 0:
                return False
            if ending is not None:
                with path.open("rb") as file:
                    file.seek(max(0, size - len(ending)))
                    return file.read() == ending
        except OSError:
            return False
        before, since_s = self._sizes.get(path.name, (-1, 0.0))
        if size != before:
            self._sizes[path.name] = (size, time.monotonic())
            return False
        if time.monotonic() - since_s < _STABLE_S:
            return False
        del self._sizes[path.name]
        return True


def _number(path: Path) -> int | None:
    """The last number in a file's name, or None without one and of a date or a time stamp."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found and len(found[-1]) <= _MOST_DIGITS else None

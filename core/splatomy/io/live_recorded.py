"""A recorded clip of any known layout, played as if it came in live."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.endoscopy import EndoscopySource
from splatomy.io.endoscopy_detect import endoscopy_source
from splatomy.io.endoscopy_frames import EyeLens, depth_in, eye_picture, hidden_in, left_lens, outside_of
from splatomy.io.endoscopy_load import cut_calibration
from splatomy.io.endoscopy_options import ASSUMED_VIEW_DEG, crop_of
from splatomy.io.frame_source import Frame
from splatomy.io.live_frames import LiveFrame, Rate, SourceInfo
from splatomy.io.live_pair import EyePair, eye_pair
from splatomy.io.live_reader import Frames, Tally, ThreadedSource
from splatomy.io.options import InputOptions, chosen_frames
from splatomy.io.poses import from_first_camera


def recorded_source(path: Path, options: InputOptions, rate: Rate) -> ThreadedSource:
    """A video, a folder of frames or a published layout as a live source.

    Raises:
        InputError: it is no endoscopic clip, unreadable, or the options do not fit.
    """
    clip = _Clip(endoscopy_source(path, options), options)
    return ThreadedSource(clip.info(path.name), clip.frames, rate)


class _Clip:
    """One clip with everything that its frames need."""

    def __init__(self, source: EndoscopySource, options: InputOptions) -> None:
        self._source = source
        self._wanted = chosen_frames(source.left.count, options)
        self._crop = crop_of(source)
        self._bin = options.bin
        lens = left_lens(source, self._crop, options.fov_deg or ASSUMED_VIEW_DEG)
        self._lens: EyeLens = lens
        self._outside = outside_of(source, self._crop, options.bin, lens)
        self._pair = self._eyes()
        self._poses: NDArray[np.float64] | None = None
        if source.poses is not None:
            poses = source.poses.camera_from_world[self._wanted]
            if self._pair is not None:
                poses = self._pair.rectified_from_left @ poses
            self._poses = from_first_camera(poses)

    def _eyes(self) -> EyePair | None:
        """The pair's rectification; None of one eye, and of two that nothing relates."""
        source = self._source
        if source.right is None or not source.has_baseline:
            return None
        calibration = cut_calibration(source.calibration, self._crop, self._bin)
        height, width = self._outside.shape
        return None if calibration is None else eye_pair(calibration, width, height)

    def _intrinsics(self) -> NDArray[np.float64]:
        if self._pair is not None:
            return self._pair.intrinsics
        k = np.array(np.broadcast_to(self._lens.intrinsics, (self._source.left.count, 3, 3))[self._wanted[0]])
        k[:2, 2] -= self._crop[:2]
        k[:2] /= self._bin
        # With centres at integers, the picture's corner lies at -1/2.
        k[:2, 2] += (0.5 / self._bin) - 0.5
        return k

    def info(self, name: str) -> SourceInfo:
        """What the frames are."""
        source = self._source
        times = source.left.times_s[self._wanted]
        step_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
        outside = self._outside if self._pair is None else self._outside | self._pair.outside
        height, width = outside.shape
        problems = source.problems
        if source.right is not None and self._pair is None:
            problems = (*problems, "Only the left eye is used live, since nothing relates the two.")
        return SourceInfo(
            name=name,
            width_px=width,
            height_px=height,
            fps=1 / max(step_s, 1e-3),
            intrinsics=self._intrinsics(),
            baseline_mm=None if self._pair is None else self._pair.baseline_mm,
            metric=source.metric or self._pair is not None,
            live=False,
            outside=outside if outside.any() else None,
            intrinsics_known=self._lens.known,
            frames=len(self._wanted),
            found=source.found,
            assumed=source.assumed,
            problems=problems,
        )

    def frames(self, tally: Tally, stopping: threading.Event) -> Frames:
        """The frames, one at a time; what cannot be decoded is counted and left out."""
        source, first_s = self._source, float(self._source.left.times_s[self._wanted[0]])
        right = self._right()
        expected = 0
        for number, picture in source.left.read(self._wanted):
            place = int(np.searchsorted(self._wanted, number))
            if place > expected:
                tally.drop(place - expected)
                tally.tell(f"{source.left.name}: frames that cannot be decoded are left out.")
            expected = place + 1
            frame = self._frame(number, place, picture, float(source.left.times_s[number]) - first_s)
            if self._pair is not None and source.right_box is not None:
                other = picture if right is None else right.get(number)
                if other is None:
                    tally.drop()
                    tally.tell(f"{source.left.name}: frames without their right eye are left out.")
                    continue
                eye = eye_picture(other, source.right_box, source.deinterlace, self._crop, self._bin)
                frame = replace(frame, right=_unit(self._pair.right(eye)))
            yield frame
            if stopping.is_set():
                return

    def _right(self) -> _Follower | None:
        """The right eye when it has files of its own."""
        right = self._source.right
        if self._pair is None or right is None or right is self._source.left:
            return None
        return _Follower(right.read(self._wanted))

    def _frame(self, number: int, place: int, picture: Frame, time_s: float) -> LiveFrame:
        source, pair = self._source, self._pair
        image = eye_picture(picture, source.left_box, source.deinterlace, self._crop, self._bin, self._lens)
        hidden = hidden_in(source, number, self._crop, self._bin, self._lens, self._outside)
        depth = depth_in(source, number, self._crop, self._bin, self._lens)
        if pair is not None:
            image = pair.left(image)
            if hidden is not None:
                hidden = pair.left(hidden.astype(np.uint8), nearest=True) > 0
        return LiveFrame(
            index=place,
            time_s=time_s,
            received_s=0.0,
            image=_unit(image),
            depth_mm=depth,
            occluded=hidden,
            camera_from_world=None if self._poses is None else self._poses[place],
        )


class _Follower:
    """Frames of a second file, found by their number while the first file is read."""

    def __init__(self, frames: Iterator[tuple[int, Frame]]) -> None:
        self._frames = frames
        self._next = next(frames, None)

    def get(self, number: int) -> Frame | None:
        """The frame of this number, or None if it cannot be decoded; numbers only ever grow."""
        while self._next is not None and self._next[0] < number:
            self._next = next(self._frames, None)
        return self._next[1] if self._next is not None and self._next[0] == number else None


def _unit(picture: NDArray[Any]) -> NDArray[np.float32]:
    """A picture of 8 or 16 bits as float32 in [0, 1]."""
    if picture.dtype not in (np.uint8, np.uint16):
        raise InputError(f"A frame holds {picture.dtype} values; expected 8 or 16 bits: convert the clip.")
    return np.asarray(picture * np.float32(1 / np.iinfo(picture.dtype).max), np.float32)

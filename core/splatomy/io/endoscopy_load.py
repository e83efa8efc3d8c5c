"""Loading an endoscopic clip: one pass over its frames, in bounded memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.calibration import Calibration, Lens
from splatomy.io.endoscopy import EndoscopyInput, EndoscopySource
from splatomy.io.endoscopy_frames import EyeLens, depth_in, eye_picture, hidden_in, left_lens, outside_of
from splatomy.io.endoscopy_options import ASSUMED_VIEW_DEG, crop_of
from splatomy.io.frame_source import Frame, FrameSource, LazyImages, storage
from splatomy.io.options import Crop, InputOptions, chosen_frames
from splatomy.io.poses import from_first_camera
from splatomy.io.quality import FrameQuality, QualityMeter

_EVENT_EVERY_S = 0.3
_MOST_HIDDEN = 0.999


class _Ahead:
    """Decodes one frame ahead in a thread of its own, so that a task can report while it waits."""

    def __init__(self, source: FrameSource, wanted: NDArray[np.int64]) -> None:
        self._frames = source.read(wanted)
        self._total = len(wanted)
        self._pool = ThreadPoolExecutor(1)
        self._next = self._pool.submit(next, self._frames, None)
        self._told = time.monotonic()

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        # The frame that is being decoded is left to itself: closing a task does not wait for it.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def taken(self, stage: str, step: int) -> Task[tuple[int, Frame] | None]:
        """The next (index, picture), or None at the end."""
        while not wait([self._next], timeout=_EVENT_EVERY_S).done:
            self._told = time.monotonic()
            yield Progress(stage, step, self._total)
        item = self._next.result()
        if item is not None:
            self._next = self._pool.submit(next, self._frames, None)
        if time.monotonic() - self._told > _EVENT_EVERY_S:
            self._told = time.monotonic()
            yield Progress(stage, step, self._total)
        return item


def load_endoscopy(source: EndoscopySource, options: InputOptions) -> Task[EndoscopyInput]:
    """The clip with its pixels, masks, depth and cameras.

    Colour frames are kept as 8 or 16 bit codes, in a temporary file when they are many (LazyImages).

    Raises:
        InputError: frames are unreadable, or everything is hidden.
    """
    wanted = chosen_frames(source.left.count, options)
    crop = crop_of(source)
    lens = left_lens(source, crop, options.fov_deg or ASSUMED_VIEW_DEG)
    shape = (len(wanted), crop[3] // options.bin, crop[2] // options.bin)
    left = storage((*shape, 3), source.left.dtype)
    right = None if source.right is None else storage((*shape, 3), source.right.dtype)
    yield Progress("open", 0, len(wanted))
    frames, quality = yield from _read_left(source, wanted, crop, options.bin, lens, left, right)
    problems = list(source.problems)
    if len(frames) == 0:
        raise InputError(
            f"{source.left.name}: none of the chosen frames can be decoded: choose others with --frames."
        )
    if len(frames) < len(wanted):
        problems.append(
            f"{len(wanted) - len(frames)} of {len(wanted)} chosen frames cannot be decoded; left out."
        )
    if right is not None and source.right is not source.left and source.right is not None:
        yield from _read_right(source.right, source, frames, crop, options.bin, right)
    outside = outside_of(source, crop, options.bin, lens)
    occluded, mask_known = yield from _occluded(source, frames, crop, options.bin, lens, outside)
    depth = yield from _depth(source, frames, crop, options.bin, lens)
    problems += [] if quality is None else quality.notes()
    problems += _hidden_notes(occluded, outside)
    yield Progress("open", len(wanted), len(wanted))
    times = source.left.times_s[frames]
    return EndoscopyInput(
        images=LazyImages(left[: len(frames)]),
        right_images=None if right is None else LazyImages(right[: len(frames)]),
        times_s=times - times[0],
        times_known=source.left.times_known,
        frames=frames,
        cameras=_cameras(source, frames, crop, options.bin, lens),
        intrinsics_known=lens.known,
        poses_known=source.poses is not None,
        calibration=cut_calibration(source.calibration, crop, options.bin),
        undistorted=lens.maps is not None,
        occluded=occluded,
        mask_known=mask_known,
        depth_mm=depth,
        metric=source.metric,
        layout=source.layout,
        stereo=source.stereo,
        crop=crop,
        bin=options.bin,
        found=source.found,
        assumed=source.assumed,
        problems=tuple(dict.fromkeys(problems)),
        quality=quality,
        input_files=source.left.input_files + (() if source.right is None else source.right.input_files),
        options=options,
        outside=outside if outside.any() else None,
    )


def _read_left(
    source: EndoscopySource,
    wanted: NDArray[np.int64],
    crop: Crop,
    size: int,
    lens: EyeLens,
    left: NDArray[Any],
    right: NDArray[Any] | None,
) -> Task[tuple[NDArray[np.int64], FrameQuality | None]]:
    """Reads the left eye into ``left``, and the right one too where both lie in one picture.

    Gives the frames that could be decoded, and their quality.
    """
    meter = QualityMeter()
    kept: list[int] = []
    with _Ahead(source.left, wanted) as ahead:
        while (item := (yield from ahead.taken("open", len(kept)))) is not None:
            number, picture = item
            place = len(kept)
            left[place] = eye_picture(picture, source.left_box, source.deinterlace, crop, size, lens)
            if right is not None and source.right is source.left and source.right_box is not None:
                right[place] = eye_picture(picture, source.right_box, source.deinterlace, crop, size)
            meter.add(number, left[place])
            kept.append(number)
    return np.array(kept, dtype=np.int64), meter.result()


def _read_right(
    right: FrameSource,
    source: EndoscopySource,
    frames: NDArray[np.int64],
    crop: Crop,
    size: int,
    out: NDArray[Any],
) -> Task[None]:
    """Reads the right eye from its own file into ``out``."""
    box = source.right_box or (0, 0, right.width_px, right.height_px)
    place = {int(n): i for i, n in enumerate(frames)}
    with _Ahead(right, frames) as ahead:
        while (item := (yield from ahead.taken("open the right eye", len(frames) - len(place)))) is not None:
            number, picture = item
            out[place.pop(number)] = eye_picture(picture, box, source.deinterlace, crop, size)
    if place:
        raise InputError(
            f"{right.name}: frame {min(place)} of the right eye cannot be decoded; expected both eyes of "
            "every "
            "frame: choose others with --frames."
        )


def _cameras(
    source: EndoscopySource, frames: NDArray[np.int64], crop: Crop, size: int, lens: EyeLens
) -> Cameras:
    """One camera per frame for the cropped and binned pictures; the first one is the world."""
    k = np.broadcast_to(lens.intrinsics, (source.left.count, 3, 3))[frames].copy()
    k[:, 0, 2] -= crop[0]
    k[:, 1, 2] -= crop[1]
    poses = np.tile(np.eye(4), (len(frames), 1, 1))
    if source.poses is not None:
        poses = from_first_camera(source.poses.camera_from_world[frames])
    return Cameras(k, poses, crop[2], crop[3]).resized(size)


def cut_calibration(calibration: Calibration | None, crop: Crop, size: int) -> Calibration | None:
    """The calibration of both eyes for the cropped and binned pictures."""
    if calibration is None:
        return None

    def fitted(lens: Lens) -> Lens:
        k = lens.intrinsics.copy()
        k[:2, 2] -= crop[:2]
        return replace(lens, intrinsics=k).scaled(1 / size)

    right = None if calibration.right is None else fitted(calibration.right)
    box = (crop[2] // size, crop[3] // size)
    return replace(calibration, left=fitted(calibration.left), right=right, size_px=box)


def _occluded(
    source: EndoscopySource,
    frames: NDArray[np.int64],
    crop: Crop,
    size: int,
    lens: EyeLens,
    outside: NDArray[np.bool_],
) -> Task[tuple[NDArray[np.bool_] | None, NDArray[np.bool_]]]:
    """Hidden pixels, (T, H, W), or None; and the frames that have a mask, (T,)."""
    known = np.zeros(len(frames), dtype=bool)
    if source.masks is None:
        every = np.broadcast_to(outside, (len(frames), *outside.shape)) if outside.any() else None
        return every, known
    out = storage((len(frames), *outside.shape), np.bool_)
    told = time.monotonic()
    for i, number in enumerate(frames.tolist()):
        mask = hidden_in(source, number, crop, size, lens, outside)
        known[i] = mask is not None
        out[i] = outside if mask is None else mask
        if time.monotonic() - told > _EVENT_EVERY_S:
            told = time.monotonic()
            yield Progress("open masks", i + 1, len(frames))
    return out, known


def _depth(
    source: EndoscopySource, frames: NDArray[np.int64], crop: Crop, size: int, lens: EyeLens
) -> Task[NDArray[np.float32] | None]:
    """Depth (T, H, W), NaN = unknown, or None; a block has the mean of its known depths."""
    if source.depth is None:
        return None
    h, w = crop[3] // size, crop[2] // size
    out = storage((len(frames), h, w), np.float32)
    told = time.monotonic()
    for i, number in enumerate(frames.tolist()):
        depth = depth_in(source, number, crop, size, lens)
        out[i] = np.nan if depth is None else depth
        if time.monotonic() - told > _EVENT_EVERY_S:
            told = time.monotonic()
            yield Progress("open depth", i + 1, len(frames))
    return out


def _hidden_notes(occluded: NDArray[np.bool_] | None, outside: NDArray[np.bool_]) -> list[str]:
    """Sentences about how much of what the picture shows is hidden.

    Raises:
        InputError: everything is.
    """
    if occluded is None:
        return []
    shown = max(int((~outside).sum()), 1)
    shares = np.array([np.count_nonzero(frame & ~outside) / shown for frame in occluded])
    if (shares > _MOST_HIDDEN).all():
        raise InputError(
            "The masks hide every pixel of every frame; expected some visible tissue: check --masks-mean and "
            "the "
            "masks."
        )
    never = np.logical_and.reduce(occluded, axis=0) & ~outside
    notes = []
    covered = np.flatnonzero(shares > _MOST_HIDDEN)
    if len(covered):
        notes.append(
            f"In {len(covered)} frames everything is hidden (first: the {int(covered[0])}. chosen one)."
        )
    if never.any():
        notes.append(f"{100 * float(never.mean()):.1f} % of the picture is hidden in every frame.")
    return notes

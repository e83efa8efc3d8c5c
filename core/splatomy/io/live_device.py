"""Cameras, capture cards and network video: they die and come back, and nothing waits for them for ever."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import av
import cv2
import numpy as np

from splatomy.checks import is_whole_number
from splatomy.errors import InputError
from splatomy.io.frame_source import Frame
from splatomy.io.live_eyes import LiveEyes, check_live_options
from splatomy.io.live_frames import LiveFrame
from splatomy.io.live_poses import GrowingPoses
from splatomy.io.live_reader import Frames, Tally, ThreadedSource
from splatomy.io.options import InputOptions

_OPEN_S = 5.0
_RETRY_S = 1.0
_ASSUMED_RATE = 25.0
_RESTART_S = 1.0
"""A time stamp this far behind the newest one comes from a stream that began anew."""
_DEVICE_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_NETWORK_OPTIONS = {
    # One connection that we open: with UDP, pictures would have to be accepted on ports of this machine.
    "rtsp_transport": "tcp",
    "fflags": "nobuffer",
    "flags": "low_delay",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """One picture as a device gave it, with a stamp in s of the device's own clock if it has one.

    other: that of the right eye of a second device.
    """

    pixels: Frame
    stamp_s: float | None
    other: Frame | None = None


@dataclass(frozen=True)
class Opened:
    """A device that answers: its nominal rate, its pictures until it fails, and how to let it go."""

    fps: float
    pictures: Iterator[Picture]
    close: Callable[[], None]


class StreamClock:
    """Times of frames from stamps that may repeat, run backwards or begin anew."""

    def __init__(self) -> None:
        """The first frame will be at 0 s."""
        self._offset_s: float | None = None
        self._newest_s = 0.0
        self._began_s: float | None = None

    def restarted(self) -> None:
        """The device was lost and is back: its stamps mean nothing beside the older ones."""
        self._offset_s = None

    def time_s(self, stamp_s: float | None, now_s: float) -> float | None:
        """Seconds from the first frame, or None for a frame that is late or repeated.

        now_s: a clock of ours, which bridges the gaps between one run of stamps and the next.
        """
        if self._began_s is None:
            self._began_s = now_s
            self._offset_s = 0.0 if stamp_s is None else -stamp_s
            return 0.0
        elapsed_s = now_s - self._began_s
        if stamp_s is None:
            time_s = elapsed_s
        else:
            if self._offset_s is None or stamp_s + self._offset_s < self._newest_s - _RESTART_S:
                self._offset_s = max(elapsed_s, self._newest_s + 1e-3) - stamp_s
            time_s = stamp_s + self._offset_s
        if time_s <= self._newest_s:
            return None
        self._newest_s = time_s
        return time_s


def camera_source(name: str, options: InputOptions) -> ThreadedSource:
    """A camera or capture card: its number, two numbers "0+1" for two eyes, or its name.

    Raises:
        InputError: it does not answer within 5 s, or the options do not fit.
    """
    numbers = name.split("+")
    if all(is_whole_number(n) for n in numbers) and len(numbers) <= 2:
        indices = [int(n) for n in numbers]
        return _device_source(f"camera {name}", lambda: _open_cameras(indices), options, len(indices) == 2)
    if not name:
        raise InputError("A camera needs its number or name; expected camera:0 for the first one.")
    return _device_source(f"camera {name}", lambda: _open_named(name), options, False)


def network_source(address: str, options: InputOptions) -> ThreadedSource:
    """Network video at an address that the user gave.

    Raises:
        InputError: it is no rtsp address, does not answer within 5 s, or the options do not fit.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("rtsp", "rtsps") or not parts.hostname:
        raise InputError(
            f"{parts.scheme or 'this'} video is not opened; expected an address like rtsp://host/stream."
        )
    # The address may hold a password: only the host is ever told.
    name = f"network video of {parts.hostname}"
    return _device_source(name, lambda: _open_av(address, None, _NETWORK_OPTIONS), options, False)


def _device_source(
    name: str, open_device: Callable[[], Opened], options: InputOptions, two_pictures: bool
) -> ThreadedSource:
    check_live_options(options)
    try:
        opened, first = _within(_OPEN_S + 1.0, lambda: _first_picture(open_device))
    except (OSError, av.FFmpegError, StopIteration, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
        raise InputError(
            f"The {name} gives no picture ({reason}); expected one within {_OPEN_S:g} s: check that it is "
            "connected, switched on and used by no other program."
        ) from None
    height, width = first.pixels.shape[:2]
    eyes = LiveEyes(width, height, options, two_pictures)
    poses = None
    if options.poses is not None:
        poses = GrowingPoses(options.poses, options.poses_convention, 1 / opened.fps)
    device = _Device(name, open_device, opened, eyes, poses)
    return ThreadedSource(eyes.info(name, opened.fps, live=True, metric=False), device.frames, "real")


def _within(seconds: float, work: Callable[[], T]) -> T:
    """The result of a call that may hang; then it is left to its thread.

    Raises:
        TimeoutError: nothing came in time.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is awaited
            failure.append(error)

    thread = threading.Thread(target=call, name="splatomy open source", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError
    return outcome[0]


def _first_picture(open_device: Callable[[], Opened]) -> tuple[Opened, Picture]:
    opened = open_device()
    try:
        return opened, next(opened.pictures)
    except (StopIteration, OSError, av.FFmpegError):
        opened.close()
        raise OSError("no picture arrives") from None


class _Device:
    """A device that is opened again whenever it fails."""

    def __init__(
        self,
        name: str,
        open_device: Callable[[], Opened],
        opened: Opened,
        eyes: LiveEyes,
        poses: GrowingPoses | None,
    ) -> None:
        self._name, self._open, self._opened = name, open_device, opened
        self._eyes, self._poses = eyes, poses

    def frames(self, tally: Tally, stopping: threading.Event) -> Frames:
        """Frames until the source is closed."""
        clock, index = StreamClock(), 0
        opened: Opened | None = self._opened
        while not stopping.is_set():
            if opened is None:
                opened = self._opened_again(clock, stopping)
                yield None
                continue
            try:
                for picture in opened.pictures:
                    frame = self._frame(picture, index, clock, tally)
                    index += 1
                    yield frame
                    if stopping.is_set():
                        break
            except (OSError, av.FFmpegError):
                pass  # what follows is the same as for a device that just stops
            finally:
                opened.close()
            opened = None
            if not stopping.is_set():
                tally.tell(f"The {self._name} was interrupted; it is tried again every second.")

    def _opened_again(self, clock: StreamClock, stopping: threading.Event) -> Opened | None:
        if stopping.wait(_RETRY_S):
            return None
        try:
            opened = self._open()
        except (OSError, av.FFmpegError):
            return None
        clock.restarted()
        return opened

    def _frame(self, picture: Picture, index: int, clock: StreamClock, tally: Tally) -> LiveFrame | None:
        now_s = time.monotonic()
        time_s = clock.time_s(picture.stamp_s, now_s)
        if time_s is None:
            tally.drop()
            return None
        if not self._eyes.fits(picture.pixels):
            tally.drop()
            tally.tell(f"The {self._name} changed its picture size; such frames are left out.")
            return None
        image, right = self._eyes.images(picture.pixels, picture.other)
        pose = None if self._poses is None else self._poses.of(index, time_s)
        return LiveFrame(index, time_s, now_s, image, right, camera_from_world=pose)


def _open_cameras(indices: list[int]) -> Opened:
    """One or two cameras by their numbers."""
    # It would write on the terminal what the sentence for the user says.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    captures = [cv2.VideoCapture(index) for index in indices]

    def close() -> None:
        for capture in captures:
            capture.release()

    if not all(capture.isOpened() for capture in captures):
        close()
        raise OSError("it cannot be opened")
    for capture in captures:
        # Old pictures in the driver's queue would only add to the delay.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    fps = float(captures[0].get(cv2.CAP_PROP_FPS))
    return Opened(fps if 1 <= fps <= 240 else _ASSUMED_RATE, _captured(captures), close)


def _captured(captures: list[Any]) -> Iterator[Picture]:
    """Pictures of all cameras, taken at once and decoded afterwards."""
    while all(capture.grab() for capture in captures):
        found = [capture.retrieve() for capture in captures]
        if not all(done for done, _ in found):
            return
        pixels = [np.ascontiguousarray(picture[..., ::-1]) for _, picture in found]
        yield Picture(pixels[0], None, pixels[1] if len(pixels) > 1 else None)


def _open_named(name: str) -> Opened:
    """A capture card by the name that the operating system has for it."""
    kind = _DEVICE_FORMATS.get(sys.platform, "v4l2")
    return _open_av(f"video={name}" if kind == "dshow" else name, kind, {})


def _open_av(address: str, kind: str | None, settings: dict[str, str]) -> Opened:
    container = av.open(address, format=kind, options=settings, timeout=(_OPEN_S, _OPEN_S))
    if not container.streams.video:
        container.close()
        raise OSError("it has no picture")
    rate = float(container.streams.video[0].average_rate or 0)
    return Opened(rate if 1 <= rate <= 240 else _ASSUMED_RATE, _streamed(container), container.close)


def _streamed(container: Any) -> Iterator[Picture]:
    """Pictures of a stream; packets that cannot be decoded are passed over."""
    for packet in container.demux(container.streams.video[0]):
        with contextlib.suppress(av.error.InvalidDataError):
            for frame in packet.decode():
                yield Picture(
                    frame.to_ndarray(format="rgb24"), None if frame.pts is None else float(frame.time)
                )

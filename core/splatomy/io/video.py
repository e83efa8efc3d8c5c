"""Video files of any codec as frames with times in seconds (PyAV)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.frame_source import Frame, FrameSource
from splatomy.io.video_end import breaks_off

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".3gp", ".mxf", ".ogv", ".dv", ".h264", ".264", ".hevc", ".265", ".y4m"),
)
AUDIO_SUFFIXES = (".mp3", ".m4a", ".aac", ".wav", ".flac", ".ogg", ".oga", ".opus", ".wma")

_ASSUMED_RATE = 25.0
_INTERLACED_ORDERS = (2, 3, 4, 5)
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "avi", "matroska,webm", "mpeg", "mpegts", "mpegvideo", "asf", "flv", "mxf",
    "ogg", "dv", "h264", "hevc", "yuv4mpegpipe", "wav", "mp3", "aac", "flac",
)  # fmt: skip
# A play list would have the library open other files and addresses.
_OPENING = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
_PICTURE_FORMATS = ("image2", "gif", "apng", "tty", "ico", "lrc", "srt")


@dataclass(frozen=True)
class _Index:
    """Where the frames of a stream are: their time stamps in order, or only how many there are.

    stamps: (T,) presentation time stamps, or None when the file has none that are usable.
    keys: time stamps of the frames at which decoding can start.
    """

    stamps: NDArray[np.int64] | None
    keys: NDArray[np.int64]
    count: int


def is_video(path: Path) -> bool:
    """True if a file is a video or sound file by its name, or, with another name, by its content."""
    if path.suffix.lower() in VIDEO_SUFFIXES + AUDIO_SUFFIXES:
        return True
    try:
        with av.open(str(path), metadata_errors="replace", options=dict(_OPENING)) as container:
            known = container.format.name
            return bool(container.streams.video) and not (
                known in _PICTURE_FORMATS or known.endswith("_pipe")
            )
    except (av.FFmpegError, OSError):
        return False


def video_source(path: Path, frame_time_s: float | None = None) -> FrameSource:
    """The frames of a video file; only headers, packets and one frame are read.

    frame_time_s: seconds between frames, used when the file has no time stamps.

    Raises:
        InputError: empty, broken, without a picture, or of a codec that cannot be decoded.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); expected a video: copy or export it again.")
    try:
        with av.open(str(path), metadata_errors="replace", options=dict(_OPENING)) as container:
            stream = _picture_stream(container, path)
            index, num_packets = _scan(container, stream)
            announced_s = _announced_s(container, stream)
            announced = int(stream.frames)
            container_name = container.format.name
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            tick_s = float(stream.time_base)
            codec = stream.codec_context.name
            aspect = float(stream.sample_aspect_ratio or 1) or 1.0
            interlaced = int(getattr(stream.codec_context, "field_order", 0)) in _INTERLACED_ORDERS
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None
    if index.stamps is None:
        # Packets without usable stamps can only be counted by decoding them.
        index = _Index(None, index.keys, sum(1 for _ in _decoded(path, None)))
    first = next((frame for _, frame in _decoded(path, None)), None)
    if index.count == 0 or first is None:
        raise InputError(
            f"{path.name}: no frame of its {codec} picture can be decoded; expected a complete video: copy "
            "or "
            "export it again."
        )
    quarter = _quarter_turns(first)
    width, height = (first.height, first.width) if quarter % 2 else (first.width, first.height)
    times, known, assumed = _times(index, tick_s, rate, frame_time_s)
    problems = []
    reached_s = times[-1] + (3 * float(np.median(np.diff(times))) if len(times) > 1 else 0.5)
    is_short = num_packets < announced or reached_s < 0.9 * announced_s
    if is_short or breaks_off(path, container_name):
        why = "fewer than its header announces" if is_short else "and its last packet lacks its end"
        problems.append(
            f"The video is damaged or cut off: {index.count} frames over {times[-1]:.1f} s can be reached, "
            f"{why}; these are used."
        )
    found = [f"{codec} video of {index.count} frames, {width}x{height} px, {times[-1]:.2f} s"]
    if quarter:
        found.append(f"pictures turned by {90 * quarter} degrees counter-clockwise, as the file asks")
    if known and len(times) > 2 and np.ptp(np.diff(times)) > 0.25 * float(np.median(np.diff(times))):
        found.append("variable frame rate; the times are the file's own")
    return FrameSource(
        kind="video",
        name=path.name,
        width_px=width,
        height_px=height,
        times_s=times,
        times_known=known,
        read=lambda wanted: _read(path, index, wanted, (height, width)),
        input_files=(path,),
        pixel_aspect=1 / aspect if quarter % 2 else aspect,
        interlaced=interlaced or bool(first.interlaced_frame),
        found=tuple(found),
        assumed=tuple(assumed),
        problems=tuple(problems),
    )


def _announced_s(container: Any, stream: Any) -> float:
    """How long the picture is by the file's header, in seconds; 0 when it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None or container.streams.audio:
        # With sound, the whole may be longer than its picture.
        return 0.0
    return float(container.duration / av.time_base)


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return InputError(
        f"{path.name} ({path.stat().st_size} bytes) cannot be read as a video ({reason}); expected a "
        "complete "
        "file, and a copy that was cut off often lacks its end: copy or export it again."
    )


def _picture_stream(container: Any, path: Path) -> Any:
    """The first moving picture of a container; the cover of a sound file is none."""
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        what = "sound only" if container.streams.audio else "no picture"
        raise InputError(f"{path.name} holds {what}; expected a video with pictures: choose another file.")
    if moving[0].codec_context is None:
        raise InputError(
            f"{path.name} uses a codec that cannot be decoded here; expected a common one: convert it to "
            "H.264."
        )
    moving[0].thread_type = "AUTO"
    return moving[0]


def _scan(container: Any, stream: Any) -> tuple[_Index, int]:
    """The index of a stream from its packets, and the number of sound packets."""
    stamps: list[int] = []
    keys: list[int] = []
    num_packets, usable = 0, True
    for packet in _packets(container, stream):
        num_packets += packet.size > 0 and not packet.is_corrupt
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.pts is None:
            usable = False
            continue
        stamps.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
    order = np.array(sorted(stamps), dtype=np.int64)
    if not usable or len(order) == 0 or (np.diff(order) <= 0).any():
        return _Index(None, np.zeros(0, np.int64), 0), num_packets
    return _Index(order, np.array(sorted(keys), dtype=np.int64), len(order)), num_packets


def _times(
    index: _Index, tick_s: float, rate: float, frame_time_s: float | None
) -> tuple[NDArray[np.float64], bool, list[str]]:
    """Times of the frames, whether they are known, and what was assumed for them."""
    if index.stamps is not None:
        return (index.stamps - index.stamps[0]) * tick_s, True, []
    numbers = np.arange(index.count, dtype=np.float64)
    if frame_time_s is not None:
        return numbers * frame_time_s, True, []
    rate = rate if 0 < rate < 1000 else _ASSUMED_RATE
    return numbers / rate, False, [f"the file has no usable time stamps: {rate:g} frames per second"]


def _quarter_turns(frame: Any) -> int:
    """How often the picture must be turned by 90 degrees counter-clockwise."""
    return round(float(frame.rotation) / 90) % 4


def _decoded(path: Path, start: int | None) -> Iterator[tuple[int, Any]]:
    """Decodable frames as (number since the start, frame); packets that fail are passed over."""
    with av.open(str(path), metadata_errors="replace", options=dict(_OPENING)) as container:
        stream = _picture_stream(container, path)
        if start is not None:
            container.seek(start, stream=stream, backward=True)
        number = 0
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                # A damaged packet; the decoder goes on at the next one that it can use.
                continue
            for frame in frames:
                yield number, frame
                number += 1


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, up to the place where the file breaks off."""
    with contextlib.suppress(av.FFmpegError):
        yield from container.demux(stream)


def _read(
    path: Path, index: _Index, wanted: NDArray[np.int64], size: tuple[int, int]
) -> Iterator[tuple[int, Frame]]:
    """The wanted frames of a video, see FrameSource.read."""
    try:
        starts = np.array([_start(index, int(n)) for n in wanted])
        # A new seek is only worth it when it leads beyond what is decoded already.
        cuts = np.flatnonzero(starts[1:] > wanted[:-1]) + 1
        for run, start in zip(np.split(wanted, cuts), starts[np.append(0, cuts)].tolist()):
            for number, frame in _run(path, index, run, start):
                picture = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                if picture.shape[:2] != size:
                    raise InputError(
                        f"{path.name}: frame {number} is {picture.shape[1]}x{picture.shape[0]} but the first "
                        "is "
                        f"{size[1]}x{size[0]}; expected one size: choose a part of one size with --frames."
                    )
                yield number, picture
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None


def _start(index: _Index, number: int) -> int:
    """The frame at which decoding must start to get a frame: one key frame earlier than its own.

    The first pictures after a seek may refer to pictures before it.
    """
    if index.stamps is None:
        return 0
    key = int(np.searchsorted(index.keys, index.stamps[number], side="right")) - 2
    return int(np.searchsorted(index.stamps, index.keys[key])) if key >= 0 else 0


def _run(path: Path, index: _Index, wanted: NDArray[np.int64], start: int) -> Iterator[tuple[int, Any]]:
    """Wanted frames that are decoded in one go, from frame ``start`` on."""
    last = int(wanted[-1])
    if index.stamps is None:
        choice = set(wanted.tolist())
        for number, frame in _decoded(path, None):
            if number in choice:
                yield number, frame
            if number >= last:
                return
        return
    number_of = {int(index.stamps[n]): int(n) for n in wanted}
    for _, frame in _decoded(path, int(index.stamps[start]) if start > 0 else None):
        if frame.pts in number_of:
            yield number_of[frame.pts], frame
        if frame.pts is not None and frame.pts >= index.stamps[last]:
            return

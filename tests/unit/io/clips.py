"""Small recordings that the reader tests make for themselves."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

TICK = Fraction(1, 1000)


def tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth reddish texture, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.uniform(0, 1, (height, width, 3)).astype(np.float32), (0, 0), 3)
    noise = (noise - noise.min()) / np.ptp(noise)
    return (255 * (0.15 + 0.8 * noise * [1.0, 0.55, 0.45])).astype(np.uint8)


def panning(count: int, height: int, width: int, step: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Frames of a camera that moves sideways over tissue."""
    wide = tissue(height, width + step * count, seed)
    return [np.ascontiguousarray(wide[:, step * i : step * i + width]) for i in range(count)]


def interlaced(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Every frame's odd rows come from the next frame."""
    out = []
    for now, later in pairwise(frames):
        both = now.copy()
        both[1::2] = later[1::2]
        out.append(both)
    return out


def write_video(
    path: Path,
    frames: list[np.ndarray],
    codec: str = "mpeg4",
    times_s: list[float] | None = None,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Writes frames as a video; high quality unless options say otherwise."""
    if not options:
        options = {"mpeg4": {"qscale": "2"}, "libx264": {"crf": "10"}}.get(codec, {})
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p" if codec != "ffv1" else "bgr0"
        stream.options = options
        if times_s is not None:
            stream.time_base = stream.codec_context.time_base = TICK
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times_s is None:
                frame.pts = i
            else:
                frame.pts, frame.time_base = round(times_s[i] / TICK), TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """Writes a second of sound without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        samples = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, frames: list[np.ndarray], name: str = "{:06d}.png") -> Path:
    """Writes RGB or grey frames as pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / name.format(i)), frame if frame.ndim == 2 else frame[..., ::-1])
    return folder


def tool_masks(count: int, height: int, width: int, value: int = 255) -> list[np.ndarray]:
    """A bar that moves down the picture; about a fifth of it is non-zero."""
    out = []
    for i in range(count):
        mask = np.zeros((height, width), np.uint8)
        top = i % max(1, height - height // 5)
        mask[top : top + height // 5] = value
        out.append(mask)
    return out

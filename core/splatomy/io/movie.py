"""Films on disk: mp4, written frame by frame (PyAV, imported when first used)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.atomic import atomic_path

_H264 = "libx264"
_FALLBACK = "mpeg4"
_CAPTION = "Synthetic view. Research use only."


class MovieWriter:
    """Takes the pictures of a film one after the other.

    is_h264: False when this machine's libraries have no H.264 encoder and MPEG-4 part 2 is written.
    """

    def __init__(self, container: Any, stream: Any, is_h264: bool) -> None:
        self._container, self._stream, self.is_h264 = container, stream, is_h264

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Adds one RGB picture (H, W, 3)."""
        from av import VideoFrame

        height, width = self._stream.height, self._stream.width
        # Video needs even sides; a repeated last row or column is not seen.
        missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
        frame = VideoFrame.from_ndarray(np.pad(picture, missing, mode="edge"), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self._container.mux(self._stream.encode(None))


@contextmanager
def open_movie(path: Path | str, width_px: int, height_px: int, frames_per_s: float) -> Iterator[MovieWriter]:
    """A writer of an .mp4 file that appears when the block ends without an error.

    Raises:
        InputError: the extension is not mp4.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise InputError(f"Films are written as .mp4, got {target.name}; change the extension.")
    import av

    is_h264 = _has_encoder(_H264)
    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        rate = Fraction(frames_per_s).limit_denominator(1000)
        stream: Any = container.add_stream(_H264 if is_h264 else _FALLBACK, rate=rate)
        stream.width, stream.height = width_px + width_px % 2, height_px + height_px % 2
        stream.pix_fmt = "yuv420p"
        # Thin vessels vanish at the usual quality; one thread gives the same file every time.
        stream.options = {"crf": "16", "threads": "1"} if is_h264 else {"qscale": "2", "threads": "1"}
        writer = MovieWriter(container, stream, is_h264)
        yield writer
        writer.finish()


def captioned(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The RGB picture (H, W, 3) with its time above and what it is below."""
    out = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    size, thick = max(0.3, width / 900), max(1, width // 500)
    margin = max(4, width // 50)
    lines = ((text, margin + round(22 * size)), (_CAPTION, height - margin))
    for line, row in lines:
        # A white rim keeps the words readable over vessels.
        for colour, weight in (((255, 255, 255), 3 * thick), ((30, 30, 30), thick)):
            cv2.putText(out, line, (margin, row), cv2.FONT_HERSHEY_SIMPLEX, size, colour, weight, cv2.LINE_AA)
    return out


def _has_encoder(name: str) -> bool:
    import av

    try:
        av.codec.Codec(name, "w")
    except (ValueError, av.error.FFmpegError):
        return False
    return True

"""Colour frames on disk, of which only headers were read, and their lazy form in a Capture."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.options import Crop

MEMORY_BYTES = 2**30
"""Arrays larger than this are kept in a temporary file instead of in memory."""

Frame = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class FrameSource:
    """Frames of one clip; ``read`` decodes the chosen ones, in increasing order, as (index, picture).

    A picture is (H, W, 3) RGB of ``dtype``. A frame that cannot be decoded is left out by ``read``.
    times_s: (T,) seconds from the first frame; ``times_known`` is False when they were assumed.
    pixel_aspect: width of a pixel over its height. interlaced: the header says so.
    """

    kind: str
    name: str
    width_px: int
    height_px: int
    times_s: NDArray[np.float64]
    times_known: bool
    read: Callable[[NDArray[np.int64]], Iterator[tuple[int, Frame]]]
    input_files: tuple[Path, ...]
    dtype: type[np.uint8] | type[np.uint16] = np.uint8
    pixel_aspect: float = 1.0
    interlaced: bool = False
    found: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.times_s)

    def sample(self, most: int) -> list[Frame]:
        """Up to ``most`` frames, spread over the clip.

        Raises:
            InputError: not one of them can be decoded.
        """
        index = np.unique(np.linspace(0, self.count - 1, min(most, self.count)).round().astype(np.int64))
        frames = [frame for _, frame in self.read(index)]
        if not frames:
            raise InputError(
                f"{self.name}: no frame can be decoded; expected a complete {self.kind}: copy or export it "
                "again."
            )
        return frames


def cut(frame: NDArray[Any], crop: Crop) -> NDArray[Any]:
    """The box of a picture (H, W, ...)."""
    x, y, w, h = crop
    return frame[y : y + h, x : x + w]


def storage(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """A zeroed array; one larger than MEMORY_BYTES lies in a temporary file that vanishes with it.

    Raises:
        InputError: the temporary folder has too little space.
    """
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if num_bytes <= MEMORY_BYTES:
        return np.zeros(shape, dtype)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if num_bytes > 0.8 * free:
        raise InputError(
            f"The frames need {num_bytes / 2**30:.1f} GiB of temporary space, where {free / 2**30:.1f} GiB "
            "are free; expected less than 80 % of it: crop them, bin them or take fewer (--crop, --bin, "
            "--frames)."
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


class LazyImages:
    """Images (T, H, W, 3), float32 sRGB in [0, 1], that are converted only when asked for.

    The smallest array that a Capture needs: ``images[5]`` is that frame's array; ``images[3:9]`` and
    ``images[[1, 4]]`` are lazy views, so that choosing frames costs no memory; ``images[a, b, c]`` and
    ``numpy.asarray(images)`` give plain arrays. Reading is safe from several threads.
    """

    def __init__(self, codes: NDArray[Any], index: NDArray[np.int64] | None = None) -> None:
        """codes: (N, H, W, 3) uint8 or uint16. index: (T,) which of them, or None for all."""
        if codes.ndim != 4 or codes.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"codes must be (N, H, W, 3) uint8 or uint16, got {codes.shape} {codes.dtype}")
        self._codes = codes
        self._index = np.arange(len(codes), dtype=np.int64) if index is None else index
        self._scale = np.float32(1 / np.iinfo(codes.dtype).max)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        _, height, width, channels = self._codes.shape
        return len(self._index), height, width, channels

    @property
    def ndim(self) -> int:
        """Always 4."""
        return 4

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """The type that reading gives."""
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack once it is a plain array."""
        return int(np.prod(self.shape)) * 4

    def codes(self, frame: int) -> Frame:
        """A frame as it is stored, (H, W, 3); not to be written to."""
        return np.asarray(self._codes[self._index[frame]])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            first, rest = key[0], key[1:]
            if first is Ellipsis:
                return np.asarray(self)[key]
            chosen = np.asarray(self[first])
            return chosen[rest] if isinstance(first, int | np.integer) else chosen[(slice(None), *rest)]
        if isinstance(key, int | np.integer):
            return self._codes[self._index[key]] * self._scale
        return LazyImages(self._codes, self._index[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("lazy images cannot become an array without a copy")
        out = np.empty(self.shape, np.float32)
        for number, index in enumerate(self._index):
            np.multiply(self._codes[index], self._scale, out=out[number])
        return out if dtype is None else out.astype(dtype, copy=False)

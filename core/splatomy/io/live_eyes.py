"""The eyes in the pictures of a camera, of network video or of a growing folder: boxes, lens and pair."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.calibration import Calibration, read_calibration
from splatomy.io.endoscopy_load import cut_calibration
from splatomy.io.endoscopy_options import ASSUMED_VIEW_DEG, assumed_intrinsics
from splatomy.io.frame_source import Frame, cut
from splatomy.io.live_frames import SourceInfo
from splatomy.io.live_pair import eye_pair
from splatomy.io.options import InputOptions, chosen_crop
from splatomy.io.picture_analysis import eye_boxes

_FOR_RECORDINGS = ("frames", "masks", "depth")


class LiveEyes:
    """What becomes of every picture of a source whose size is known: cut, straightened, paired.

    Nothing is found out from the pictures themselves, since the first ones of a procedure may show
    anything: two eyes in one picture are told by ``layout``, the lens by ``calibration`` or ``fov_deg``.
    """

    def __init__(self, width_px: int, height_px: int, options: InputOptions, two_pictures: bool) -> None:
        """width_px, height_px: of a picture as it arrives. two_pictures: the right eye has its own.

        Raises:
            InputError: the options do not fit the picture.
        """
        if two_pictures and options.layout is not None:
            raise InputError(
                "--layout was given for two eyes in pictures of their own; expected none: leave it out."
            )
        layout = options.layout or "mono"
        left, right = eye_boxes(layout, width_px, height_px)
        self._left_box, self._right_box = left, right or left
        self._has_two = two_pictures or layout != "mono"
        self._size = (width_px, height_px)
        self._bin = options.bin
        self._crop = chosen_crop(self._left_box[2], self._left_box[3], options)
        self.width_px, self.height_px = self._crop[2] // options.bin, self._crop[3] // options.bin
        self.intrinsics_known = options.calibration is not None
        self._maps: tuple[Any, Any] | None = None
        calibration = self._calibration(options)
        if calibration is None:
            view = options.fov_deg or ASSUMED_VIEW_DEG
            self._assumed: tuple[str, ...] = (
                f"lens unknown: a field of view of {view:g} degrees across the longer side, axis in the "
                "middle (--fov-deg, --calibration FILE)",
            )
            self.intrinsics = assumed_intrinsics(self.width_px, self.height_px, 1.0, view)
        else:
            self._assumed = ()
            self.intrinsics = calibration.left.intrinsics
        self._pair = None
        if calibration is not None and self._has_two:
            self._pair = eye_pair(calibration, self.width_px, self.height_px)
        self.outside = np.zeros((self.height_px, self.width_px), np.bool_)
        if self._pair is not None:
            self.intrinsics, self.outside = self._pair.intrinsics, self._pair.outside
        elif calibration is not None and calibration.left.distorts:
            self._straighten(calibration)

    def _calibration(self, options: InputOptions) -> Calibration | None:
        if options.calibration is None:
            return None
        fitted, _ = read_calibration(options.calibration).fitted(self._left_box[2], self._left_box[3])
        return cut_calibration(fitted, self._crop, self._bin)

    def _straighten(self, calibration: Calibration) -> None:
        lens, size = calibration.left, (self.width_px, self.height_px)
        maps = cv2.initUndistortRectifyMap(
            lens.intrinsics, lens.distortion, np.eye(3), lens.intrinsics, size, cv2.CV_32FC1
        )
        self._maps = (maps[0], maps[1])
        seen = cv2.remap(np.ones(self.outside.shape, np.uint8), *self._maps, cv2.INTER_NEAREST)
        self.outside = seen == 0

    @property
    def baseline_mm(self) -> float | None:
        """Distance of the eyes of a rectified pair, mm."""
        return None if self._pair is None else self._pair.baseline_mm

    def fits(self, picture: NDArray[Any]) -> bool:
        """True if a picture has the size that was announced."""
        return picture.shape[:2] == (self._size[1], self._size[0])

    def images(
        self, picture: Frame, other: Frame | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Left and right image, float32 in [0, 1], of a picture and that of a right eye of its own."""
        left = self._cut(picture, self._left_box)
        if self._pair is None:
            if self._maps is not None:
                left = np.asarray(cv2.remap(left, *self._maps, cv2.INTER_LINEAR))
            return left, None
        right = self._cut(picture if other is None else other, self._right_box)
        return self._pair.left(left), self._pair.right(right)

    def map(self, values: NDArray[Any]) -> NDArray[Any]:
        """A mask or a depth map of the whole left eye, cut and moved like its picture, nearest values."""
        values = cut(values, self._crop)[:: self._bin, :: self._bin]
        values = np.ascontiguousarray(values[: self.height_px, : self.width_px])
        if self._pair is not None:
            return self._pair.left(values, nearest=True)
        return values if self._maps is None else np.asarray(cv2.remap(values, *self._maps, cv2.INTER_NEAREST))

    def _cut(self, picture: Frame, box: tuple[int, int, int, int]) -> NDArray[np.float32]:
        part = cut(cut(picture, box), self._crop)
        part = part * np.float32(1 / np.iinfo(part.dtype).max)
        if self._bin == 1:
            return np.ascontiguousarray(part, np.float32)
        h, w, size = self.height_px, self.width_px, self._bin
        return np.asarray(part[: h * size, : w * size].reshape(h, size, w, size, 3).mean((1, 3)), np.float32)

    def info(
        self, name: str, fps: float, live: bool, metric: bool, found: tuple[str, ...] = ()
    ) -> SourceInfo:
        """What the frames are; ``metric``: lengths are millimetres for another reason than the pair."""
        problems: tuple[str, ...] = ()
        if self._has_two and self._pair is None:
            problems = ("Only the left eye is used, since no --calibration relates the two.",)
        return SourceInfo(
            name=name,
            width_px=self.width_px,
            height_px=self.height_px,
            fps=fps,
            intrinsics=self.intrinsics,
            baseline_mm=self.baseline_mm,
            metric=metric or self._pair is not None,
            live=live,
            outside=self.outside if self.outside.any() else None,
            intrinsics_known=self.intrinsics_known,
            found=found,
            assumed=self._assumed,
            problems=problems,
        )


def check_live_options(options: InputOptions) -> None:
    """Raises InputError for options that choose among frames which do not exist yet."""
    for name in _FOR_RECORDINGS:
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name} was given for a live source; expected it for recordings only: leave it out."
            )

"""The pictures in the form in which they train: binned, in a working cube, with what each pixel may teach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.methods.pulled_surface.config import Config

Float = NDArray[np.float64]

HALF = 100.0
"""Half the working cube's side: Gaussians live in these units, the field in units of the whole half."""
_RIM_PX, _RIM_SHARE = 8, 0.1
_KEPT_BYTES = 1 << 30
"""Views that are made ready once are kept up to this size; a GPU would wait for them otherwise."""


@dataclass(frozen=True)
class Frame:
    """The working cube: world = centre + scale * working; working coordinates lie within +-HALF."""

    centre: Float
    scale: float

    def to_working(self, points: NDArray[np.floating]) -> Float:
        """World points (..., 3) in the working cube."""
        return np.asarray((np.asarray(points, np.float64) - self.centre) / self.scale)

    def to_world(self, points: NDArray[np.floating]) -> Float:
        """Working points (..., 3) in the world."""
        return np.asarray(np.asarray(points, np.float64) * self.scale + self.centre)

    def cameras(self, cameras: Cameras) -> Cameras:
        """The same cameras about the working cube."""
        pose = cameras.camera_from_world.copy()
        pose[:, :3, 3] = (pose[:, :3, :3] @ self.centre + pose[:, :3, 3]) / self.scale
        return Cameras(cameras.intrinsics, pose, cameras.width_px, cameras.height_px)


@dataclass(frozen=True)
class View:
    """One picture as tensors.

    image: (H, W, 3). weight: (H, W), 0 where something hides the scene, and in the rim about a masked object;
    shown: (H, W), the same without the rim. target: (H, W), share of the object,
    or None. inverse_depth: (H, W) 1 / working units, 0 = unknown.
    """

    image: Tensor
    weight: Tensor
    shown: Tensor
    target: Tensor | None
    inverse_depth: Tensor | None
    intrinsics: Tensor
    camera_from_world: Tensor

    @property
    def camera(self) -> tuple[Tensor, Tensor, int, int]:
        """What a splatter needs: intrinsics, pose, width and height in pixels."""
        return self.intrinsics, self.camera_from_world, self.image.shape[1], self.image.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """All that there is of it, by name."""
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: part for name, part in parts if part is not None}

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> View:
        """The view that these, among others, are the ``tensors`` of."""
        parts = {field.name: tensors.get(field.name) for field in fields(View)}
        return View(**parts)  # type: ignore[arg-type]


class Pictures:
    """All views of a capture; ``numpy`` arrays on the host, tensors on the device as far as there is room."""

    def __init__(self, capture: Capture, config: Config, device: torch.device) -> None:
        if capture.cameras is None:
            raise InputError(
                "pulled_surface needs the cameras of all pictures, which are unknown here: give --poses and "
                "--calibration, or pictures from which they can be found."
            )
        if capture.images.shape[-1] != 3:
            raise InputError("pulled_surface expects colour pictures; got pictures of one channel.")
        self.capture, self.device = capture, device
        longest = max(capture.cameras.width_px, capture.cameras.height_px)
        self.bin = max(1, round(longest / config.longest_side_px))
        self.cameras = capture.cameras.resized(self.bin)
        given = capture.details.get("has_target")
        self.has_target = np.zeros(len(capture), np.bool_)
        if capture.target is not None:
            self.has_target[:] = True if given is None else np.asarray(given, np.bool_)
        self.background = self._background(config)
        self.images = np.stack([self._binned(capture.images[t]) for t in range(len(capture))])
        self.target = self._target()
        self.weight = self._weight()
        self.depth = self._depth()
        self._kept: dict[int, tuple[Frame, View]] = {}
        self._room = _KEPT_BYTES

    def __len__(self) -> int:
        return len(self.capture)

    @property
    def masked(self) -> bool:
        """True if most views say where the object is."""
        return bool(self.has_target.mean() > 0.6)

    def _binned(self, picture: NDArray[np.floating]) -> NDArray[np.float32]:
        height, width = self.cameras.height_px, self.cameras.width_px
        whole = np.ascontiguousarray(picture[: height * self.bin, : width * self.bin], np.float32)
        return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.float32)

    def _background(self, config: Config) -> float | None:
        """Brightness of what lies behind the object; None = the pictures show a scene, not an object."""
        if config.background != "auto":
            return {"black": 0.0, "white": 1.0, "none": None}[config.background]
        return 0.0 if self.masked else None

    def _target(self) -> NDArray[np.float32] | None:
        if self.capture.target is None:
            return None
        return np.stack([self._binned(self.capture.target[t]) for t in range(len(self))])

    def _weight(self) -> NDArray[np.float32]:
        weight = np.ones(self.images.shape[:3], np.float32)
        if self.capture.occluded is not None:
            for t in range(len(self)):
                # A pixel that is hidden in part shows something else in part.
                weight[t] = self._binned(self.capture.occluded[t]) == 0
        return weight

    def _depth(self) -> NDArray[np.float32] | None:
        """World units, NaN = unknown; of blocks the middle pixel."""
        if self.capture.depth_mm is None:
            return None
        height, width = self.cameras.height_px, self.cameras.width_px
        half = self.bin // 2
        depth = np.stack(
            [
                np.asarray(self.capture.depth_mm[t][half :: self.bin, half :: self.bin])
                for t in range(len(self))
            ]
        )[:, :height, :width]
        if self.target is not None:
            depth = np.where(self.has_target[:, None, None] & (self.target < 0.99), np.nan, depth)
        return np.where(self.weight > 0, depth, np.nan).astype(np.float32)

    def object_image(self, t: int) -> NDArray[np.float32]:
        """The picture with the background in place of everything but the object."""
        image = self.images[t]
        if self.background is None or self.target is None or not self.has_target[t]:
            return image
        share = self.target[t][..., None]
        return np.asarray(image * share + self.background * (1 - share), np.float32)

    def _rim(self, t: int) -> NDArray[np.bool_]:
        """Pixels just outside of the object: a splatter's low-pass widens silhouettes by about a pixel, and a
        loss there would draw the surface inwards."""
        if self.target is None:
            return np.zeros(self.weight.shape[1:], np.bool_)
        inside = self.target[t] > 0.5
        return np.asarray(ndimage.binary_dilation(inside, np.ones((3, 3))) & ~inside)

    def _window(self, t: int) -> tuple[slice, slice]:
        """Rows and columns about the object, or all: what lies far beside it teaches nothing."""
        height, width = self.cameras.height_px, self.cameras.width_px
        everything = (slice(0, height), slice(0, width))
        if self.target is None or self.background is None or not self.has_target[t]:
            return everything
        rows, columns = (np.flatnonzero(self.target[t].any(axis)) for axis in (1, 0))
        if not len(rows):
            return everything
        found = []
        for line, size in ((rows, height), (columns, width)):
            rim = _RIM_PX + round(_RIM_SHARE * len(line))
            found.append(slice(max(0, int(line[0]) - rim), min(size, int(line[-1]) + 1 + rim)))
        return found[0], found[1]

    @cached_property
    def _windows(self) -> list[tuple[slice, slice]]:
        """Of all views, and of one size: what is done with a view is recorded for those of its size."""
        found = [self._window(t) for t in range(len(self))]
        sizes = self.cameras.height_px, self.cameras.width_px
        most = [max(window[axis].stop - window[axis].start for window in found) for axis in (0, 1)]

        def widened(part: slice, length: int, size: int) -> slice:
            start = (part.start + part.stop - length) // 2
            start = min(max(0, start), size - length)
            return slice(start, start + length)

        return [
            (widened(rows, most[0], sizes[0]), widened(columns, most[1], sizes[1])) for rows, columns in found
        ]

    def view(self, t: int, frame: Frame, *, whole: bool = False) -> View:
        """A view as tensors, in the working cube; of a masked object the part about it, unless ``whole``."""
        if whole:
            return self._made(t, frame, whole=True)
        if t in self._kept and self._kept[t][0] is frame:
            return self._kept[t][1]
        view = self._made(t, frame, whole=False)
        parts = (view.image, view.weight, view.shown, view.target, view.inverse_depth)
        size = 4 * sum(part.numel() for part in parts if part is not None)
        if size <= self._room or t in self._kept:
            self._room -= 0 if t in self._kept else size
            self._kept[t] = (frame, view)
        return view

    def _made(self, t: int, frame: Frame, *, whole: bool) -> View:
        cameras = frame.cameras(self.cameras[t])
        full = (slice(0, cameras.height_px), slice(0, cameras.width_px))
        rows, columns = full if whole else self._windows[t]

        def tensor(array: NDArray[np.floating]) -> Tensor:
            part = np.ascontiguousarray(array[rows, columns], np.float32)
            return torch.as_tensor(part, device=self.device)

        target = None
        if self.target is not None and self.has_target[t]:
            target = tensor(self.target[t])
        inverse = None
        if self.depth is not None:
            inverse = tensor(np.nan_to_num(frame.scale / self.depth[t], nan=0.0, posinf=0.0))
        intrinsics = cameras.intrinsics[0].copy()
        intrinsics[:2, 2] -= (columns.start, rows.start)
        weight, shown = self.weight[t], tensor(self.weight[t])
        if target is not None and self.background is not None:
            weight = np.where(self._rim(t), np.float32(0), weight)
        return View(
            tensor(self.object_image(t)),
            tensor(weight),
            shown,
            target,
            inverse,
            torch.as_tensor(intrinsics, device=self.device),
            torch.as_tensor(cameras.camera_from_world[0], device=self.device),
        )

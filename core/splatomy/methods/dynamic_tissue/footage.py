"""What the frames of a capture say: how far each pixel is to be trusted, and the depth of the bare tissue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from splatomy.ahead import made_ahead
from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.methods.dynamic_tissue.depths import cleaned, noise_of
from splatomy.prepare.inpaint.fields import filled_smoothly, grown
from splatomy.prepare.inpaint.motion import Recent, completed, highlights

_KEPT_BYTES, _KEPT_DEPTH_BYTES = 600e6, 400e6
_KEPT_SHARE = 0.25
"""Of a GPU's free memory."""
_CLEANED_AT_ONCE = 16


@dataclass(frozen=True)
class View:
    """One frame as tensors; a weight of 0 hides the value under it.

    image (H, W, 3) with weight (H, W); inverse_depth (H, W), relative to the typical depth, with
    depth_weight (H, W); hidden (H, W) in [0, 1]. The camera lies with them: the host never looks at it.
    """

    image: torch.Tensor
    weight: torch.Tensor
    inverse_depth: torch.Tensor
    depth_weight: torch.Tensor
    hidden: torch.Tensor
    intrinsics: torch.Tensor
    camera_from_world: torch.Tensor
    width_px: int
    height_px: int
    time_s: float

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors by name."""
        names = ("image", "weight", "inverse_depth", "depth_weight", "hidden")
        return {name: getattr(self, name) for name in (*names, "intrinsics", "camera_from_world")}

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> View:
        """A view of the same size with those of ``tensors`` for its own."""
        return View(
            tensors["image"],
            tensors["weight"],
            tensors["inverse_depth"],
            tensors["depth_weight"],
            tensors["hidden"],
            tensors["intrinsics"],
            tensors["camera_from_world"],
            self.width_px,
            self.height_px,
            self.time_s,
        )


class Footage:
    """The frames of a capture, with cameras, bare-tissue depths and weights; made on demand.

    cameras: those of the capture, or a fixed one. typical_mm: the median depth. The capture's
    ``synthetic`` says whether hidden pixels were filled: without it they still show instruments, and
    nothing of their values is used.
    """

    def __init__(self, capture: Capture, config: Config, device: torch.device) -> None:
        if capture.depth_mm is None:
            raise ValueError("dynamic_tissue needs depth_mm")
        self.capture, self.config, self.device = capture, config, device
        frames, self.height_px, self.width_px, channels = capture.images.shape
        if channels != 3:
            raise InputError(f"Tissue needs colour images: expected 3 channels, got {channels}.")
        self.cameras = capture.cameras if capture.cameras is not None else self._fixed_camera(frames)
        sample = capture.depth_mm[:, ::4, ::4][self._seen(slice(None))[:, ::4, ::4]]
        sample = sample[np.isfinite(sample) & (sample > 0)]
        if sample.size < 20:
            raise InputError(
                "No depth of visible tissue is known: expected depth_mm at visible pixels, got "
                f"{sample.size}. Estimate the depth first, and check which side of the masks is hidden."
            )
        self.typical_mm = float(np.median(sample))
        size, room = 28 * self.width_px * self.height_px, _KEPT_BYTES
        if device.type == "cuda":
            room = max(room, _KEPT_SHARE * torch.cuda.mem_get_info(device)[0])
        self._kept = Recent(self._make_view, max(2, min(2 * frames, int(room / size))))
        self._limits = 0.25 * float(np.quantile(sample, 0.01)), 4 * float(np.quantile(sample, 0.99))
        most = int(_KEPT_DEPTH_BYTES / (8 * self.width_px * self.height_px))
        self._noise = noise_of(self._measured, frames)
        self._ready: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._depths = Recent(self._depth_of, max(2, min(frames, most)))

    def __len__(self) -> int:
        return len(self.capture)

    def _fixed_camera(self, frames: int) -> Cameras:
        focal = self.config.default_focal * self.width_px
        k = np.array([[focal, 0, (self.width_px - 1) / 2], [0, focal, (self.height_px - 1) / 2], [0, 0, 1]])
        poses = np.repeat(np.eye(4)[None], frames, 0)
        return Cameras(np.repeat(k[None], frames, 0), poses, self.width_px, self.height_px)

    def _seen(self, frame: int | slice) -> NDArray[np.bool_]:
        """True where the recording itself shows tissue."""
        if self.capture.occluded is None:
            return np.ones(self.capture.images[frame].shape[:-1], bool)
        return ~self.capture.occluded[frame]

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(H, W), True where no frame shows anything: there is no tissue to build."""
        if self.capture.outside is None:
            return np.zeros((self.height_px, self.width_px), bool)
        return self.capture.outside

    def seen(self, frame: int) -> NDArray[np.bool_]:
        """(H, W), True where the recording itself shows tissue."""
        return self._seen(frame)

    def trusted(self, frame: int) -> NDArray[np.float32]:
        """Colour weights (H, W) in [0, 1] by what a pixel is: observed, propagated, made up, highlight."""
        config, capture = self.config, self.capture
        weight = self._seen(frame).astype(np.float32)
        if capture.synthetic is not None:
            made_up = capture.synthetic[frame]
            weight[(weight == 0) & ~made_up] = config.propagated_weight
            weight[made_up] = config.synthesised_weight
        weight[self.outside] = 0
        weight[highlights(capture.images[frame])] *= np.float32(config.highlight_weight)
        return weight

    def _measured(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inverse depths (H, W), relative to the typical one, of visible tissue and their weights (H, W)."""
        if self.capture.depth_mm is None:
            raise ValueError("dynamic_tissue needs depth_mm")
        depth = np.nan_to_num(self.capture.depth_mm[frame].astype(np.float32), posinf=0.0, neginf=0.0)
        good = self._seen(frame) & (depth > self._limits[0]) & (depth < self._limits[1])
        weight = good.astype(np.float32)
        if self.capture.depth_confidence is not None:
            weight *= np.nan_to_num(self.capture.depth_confidence[frame]).clip(0, 1).astype(np.float32)
        return np.where(good, self.typical_mm / np.maximum(depth, 1e-9), np.float32(0)), weight

    def depth_known(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The depth (H, W) mm of visible tissue and its weight (H, W): 0 where unknown, hidden or stray."""
        return self._depths(frame)

    def depths_known(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """``depth_known`` of every frame, made by all processors and kept as far as there is room."""
        for frame, found in enumerate(made_ahead(self._clean, len(self), _CLEANED_AT_ONCE)):
            self._ready[frame] = found
            yield self._depths(frame)

    def _depth_of(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._ready.pop(frame) if frame in self._ready else self._clean(frame)

    def _clean(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inverse, weight = cleaned(*self._measured(frame), self._seen(frame), self._noise)
        good = (weight > 0) & (inverse > self.typical_mm / self._limits[1])
        depth = np.where(good, self.typical_mm / np.where(good, inverse, 1), 0).astype(np.float32)
        return depth, np.where(good, weight, np.float32(0))

    def bare_depth(
        self,
        frame: int,
        carried_mm: NDArray[np.float32] | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The depth (h, w) mm with unknown places completed smoothly, and the weight (h, w) of the known.

        carried_mm: (H, W) depths that other frames tell of, 0 = none; used where this frame shows none.
        size: (w, h) px of the result, None = that of the frames.
        """
        depth, weight = self.depth_known(frame)
        if carried_mm is not None:
            depth = np.where(weight > 0, depth, carried_mm)
        given = (depth > 0).astype(np.float32)
        # A plane is affine in inverse depth.
        inverse = (self.typical_mm * given / np.where(given > 0, depth, 1)).astype(np.float32)
        if size is not None:
            weight, given, inverse = (
                np.asarray(cv2.resize(a, size, interpolation=cv2.INTER_AREA), np.float32)
                for a in (weight, given, inverse)
            )
            inverse = np.asarray(inverse / np.maximum(given, 1e-6), np.float32)
        if not given.any():
            return np.full_like(inverse, self.typical_mm), weight
        whole = completed(inverse[..., None], given)[..., 0]
        near, far = self.typical_mm / self._limits[0], self.typical_mm / self._limits[1]
        return np.asarray(self.typical_mm / whole.clip(far, near), np.float32), weight

    def bare_colour(self, frame: int) -> NDArray[np.float32]:
        """The picture (H, W, 3); what is hidden and not filled is completed from its surroundings."""
        image = self.capture.images[frame]
        hidden = ~self._seen(frame)
        if self.capture.synthetic is not None or not hidden.any():
            return image
        return filled_smoothly(image, (~grown(hidden, 1)).astype(np.float32))

    def view(self, frame: int, factor: int = 1) -> View:
        """The frame binned by ``factor``; each bin is the mean of what may be trusted in it."""
        return self._kept((frame, factor))

    def _make_view(self, key: tuple[int, int]) -> View:
        frame, factor = key
        camera = self.cameras[frame].resized(factor)
        depth, depth_weight = self.depth_known(frame)
        inverse = np.where(depth_weight > 0, self.typical_mm / np.maximum(depth, 1e-9), 0)
        image, weight = self._binned(self.capture.images[frame], self.trusted(frame), factor)
        inverse_depth, depth_weight_ = self._binned(inverse[..., None], depth_weight, factor)
        seen = self._tensor(self._seen(frame))
        if factor > 1:
            seen = avg_pool2d(seen[None], factor)[0]
        return View(
            image,
            weight,
            inverse_depth[..., 0],
            depth_weight_,
            1 - seen,
            torch.as_tensor(camera.intrinsics[0], device=self.device),
            torch.as_tensor(camera.camera_from_world[0], device=self.device),
            camera.width_px,
            camera.height_px,
            float(self.capture.times_s[frame]),
        )

    def _binned(
        self, values: NDArray[np.floating], weight: NDArray[np.floating], factor: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        v, w = self._tensor(values).permute(2, 0, 1), self._tensor(weight)[None]
        # Zeroed even at full size: what is hidden must not reach any sum, not even times 0.
        v = torch.where(w > 0, v, 0.0)
        if factor > 1:
            mass = avg_pool2d(w, factor)
            v, w = avg_pool2d(v * w, factor) / mass.clamp_min(1e-6), mass
        return v.permute(1, 2, 0).contiguous(), w[0]

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array)).to(self.device).float()

    def padded_camera(self, frame: int, share: float) -> Cameras:
        """The frame's camera with a picture that is larger by ``share`` of its size on every side."""
        camera = self.cameras[frame]
        pad_x, pad_y = round(share * self.width_px), round(share * self.height_px)
        k = camera.intrinsics.copy()
        k[:, 0, 2] += pad_x
        k[:, 1, 2] += pad_y
        size = {"width_px": self.width_px + 2 * pad_x, "height_px": self.height_px + 2 * pad_y}
        return replace(camera, intrinsics=k, **size)


def visibility(means_mm: torch.Tensor, view: View, near_mm: float) -> torch.Tensor:
    """How far points (N, 3) lie on tissue that the frame really shows, and in the picture at all; (N, 2)."""
    pose = view.camera_from_world.to(means_mm)
    place = means_mm @ pose[:3, :3].T + pose[:3, 3]
    k = view.intrinsics.to(means_mm)
    pixel = torch.round((place / place[:, 2:].clamp_min(near_mm)) @ k.T)[:, :2].long()
    x, y = pixel.unbind(1)
    inside = (x >= 0) & (x < view.width_px) & (y >= 0) & (y < view.height_px) & (place[:, 2] > near_mm)
    x, y = x * inside, y * inside
    visible = (1 - view.hidden[y, x]) * inside
    return torch.stack([visible, inside.float()], 1)

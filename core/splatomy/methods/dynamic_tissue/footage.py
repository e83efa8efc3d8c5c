"""What the frames of a capture say: how far each pixel is to be trusted, and the depth of the bare tissue."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.prepare.inpaint.fields import filled_smoothly, grown
from splatomy.prepare.inpaint.motion import Recent, completed, highlights

_STRAY = 0.08
"""A depth that differs by this share from the median of its surroundings is not used."""
_KEPT_BYTES = 600e6


@dataclass(frozen=True)
class View:
    """One frame as tensors; a weight of 0 hides the value under it.

    image (H, W, 3) with weight (H, W); inverse_depth (H, W), relative to the typical depth, with
    depth_weight (H, W); hidden (H, W) in [0, 1].
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
        size = 28 * self.width_px * self.height_px
        self._kept = Recent(self._make_view, max(2, min(2 * frames, int(_KEPT_BYTES / size))))
        self._limits = 0.25 * float(np.quantile(sample, 0.01)), 4 * float(np.quantile(sample, 0.99))

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
        weight[highlights(capture.images[frame])] *= np.float32(config.highlight_weight)
        return weight

    def depth_known(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The depth (H, W) mm of visible tissue and its weight (H, W): 0 where unknown, hidden or stray."""
        if self.capture.depth_mm is None:
            raise ValueError("dynamic_tissue needs depth_mm")
        depth = np.nan_to_num(self.capture.depth_mm[frame].astype(np.float32), posinf=0.0, neginf=0.0)
        # The instrument's edge bleeds into measured depths.
        hidden = ~self._seen(frame)
        rim = grown(hidden, max(1, round(self.width_px / 320))) if hidden.any() else hidden
        good = ~rim & (depth > self._limits[0]) & (depth < self._limits[1])
        whole = filled_smoothly(depth[..., None], good.astype(np.float32))[..., 0]
        middle = cv2.medianBlur(whole, 5)
        good &= np.abs(depth - middle) < _STRAY * middle
        weight = good.astype(np.float32)
        if self.capture.depth_confidence is not None:
            weight *= np.nan_to_num(self.capture.depth_confidence[frame]).clip(0, 1).astype(np.float32)
        return np.where(weight > 0, depth, np.float32(0)), weight

    def bare_depth(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The depth (H, W) mm with unknown places completed smoothly, and the weight (H, W) of the known."""
        depth, weight = self.depth_known(frame)
        if not weight.any():
            return np.full_like(depth, self.typical_mm), weight
        whole = completed(depth[..., None], (weight > 0).astype(np.float32))[..., 0]
        return whole.clip(*self._limits), weight

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
        hidden = (~self._seen(frame)).astype(np.float32)
        _, seen = self._binned(self.capture.images[frame], 1 - hidden, factor)
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
        v = torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32).permute(2, 0, 1)
        w = torch.as_tensor(np.ascontiguousarray(weight), dtype=torch.float32)[None]
        # Zeroed even at full size: what is hidden must not reach any sum, not even times 0.
        v = torch.where(w > 0, v, 0.0)
        if factor > 1:
            mass = avg_pool2d(w, factor)
            v, w = avg_pool2d(v * w, factor) / mass.clamp_min(1e-6), mass
        return v.permute(1, 2, 0).contiguous().to(self.device), w[0].to(self.device)

    def padded_camera(self, frame: int, share: float) -> Cameras:
        """The frame's camera with a picture that is larger by ``share`` of its size on every side."""
        camera = self.cameras[frame]
        pad_x, pad_y = round(share * self.width_px), round(share * self.height_px)
        k = camera.intrinsics.copy()
        k[:, 0, 2] += pad_x
        k[:, 1, 2] += pad_y
        size = {"width_px": self.width_px + 2 * pad_x, "height_px": self.height_px + 2 * pad_y}
        return replace(camera, intrinsics=k, **size)

"""The training views at several detector resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from splatomy.capture import Capture
from splatomy.methods.dynamic_vessels.config import Config


@dataclass(frozen=True)
class View:
    """One frame: image, noise_std and weight (0 where hidden), each (H, W), with its camera and time."""

    image: torch.Tensor
    noise_std: torch.Tensor
    weight: torch.Tensor
    intrinsics: torch.Tensor
    camera_from_world: torch.Tensor
    width_px: int
    height_px: int
    time_s: float

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its tensors by name."""
        names = ("image", "noise_std", "weight", "intrinsics", "camera_from_world")
        return {name: getattr(self, name) for name in names}

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> View:
        """A view of the same size with those of ``tensors`` for its own."""
        return View(
            tensors["image"],
            tensors["noise_std"],
            tensors["weight"],
            tensors["intrinsics"],
            tensors["camera_from_world"],
            self.width_px,
            self.height_px,
            self.time_s,
        )


class Views:
    """All frames of a capture, binned on demand; each resolution is made once."""

    def __init__(self, capture: Capture, device: torch.device, coarsest: int, finest: int) -> None:
        self.capture, self.device = capture, device
        # Binning by more than the image allows would leave nothing to look at.
        smallest = min(capture.images.shape[1:3])
        self.limit = max(1, smallest // 32)
        self.finest, self.coarsest = min(finest, self.limit), min(coarsest, self.limit)
        self._made: dict[tuple[int, int], View] = {}
        noise = capture.noise_std
        self.typical_noise = 1e-3 if noise is None else float(np.median(noise[:, ::8, ::8]))
        self.noise_floor = 0.3 * self.typical_noise

    def at(self, frame: int, factor: int) -> View:
        """The frame binned by ``factor``."""
        key = (frame, min(factor, self.limit))
        if key not in self._made:
            if any(k[1] != key[1] for k in self._made):
                self._made = {k: v for k, v in self._made.items() if k[1] == key[1]}
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, frame: int, factor: int) -> View:
        capture = self.capture
        if capture.cameras is None:
            raise ValueError("views need cameras")
        camera = capture.cameras[frame].resized(factor)

        def binned(array: np.ndarray) -> torch.Tensor:
            tensor = torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)[None]
            return avg_pool2d(tensor, factor)[0] if factor > 1 else tensor[0]

        image = binned(capture.images[frame, ..., 0])
        noise = torch.full_like(image, self.typical_noise)
        if capture.noise_std is not None:
            noise = binned(capture.noise_std[frame]).clamp(min=self.noise_floor)
        weight = torch.ones_like(image)
        if capture.occluded is not None:
            weight = (binned(capture.occluded[frame].astype(np.float32)) == 0).float()
        return View(
            image.to(self.device),
            (noise / factor).to(self.device),
            weight.to(self.device),
            torch.as_tensor(camera.intrinsics[0], device=self.device),
            torch.as_tensor(camera.camera_from_world[0], device=self.device),
            camera.width_px,
            camera.height_px,
            float(capture.times_s[frame]),
        )


def binning_at(share: float, config: Config) -> int:
    """The detector binning after a share of the steps: coarsest for 15 %, halved until the finest at 40 %."""
    factor = config.coarsest_bin
    levels = 0
    while factor > config.finest_bin:
        factor //= 2
        levels += 1
    if levels == 0:
        return config.finest_bin
    done = min(levels, int(share / 0.4 * levels + 1e-9)) if share < 0.4 else levels
    return max(config.finest_bin, config.coarsest_bin >> done)

"""Frames as the latents of the published image autoencoder, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.diffusion.checkpoint import built, fill
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.weights import WeightsFolder

_MULTIPLE = 8
_LONGEST_PX, _SHORTEST_PX = 960, 64
_GROWN_TIMES = 8
_SCALING = 0.18215
_RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Attention layers of the autoencoder as older files name them."""


def working_size(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a frame is worked on: multiples of 8, 64 px or more, the longer up to 960."""
    factor = min(1.0, _LONGEST_PX / max(height, width))
    factor = max(factor, _SHORTEST_PX / min(height, width))
    sides = [max(_SHORTEST_PX, round(side * factor) // _MULTIPLE * _MULTIPLE) for side in (height, width)]
    return sides[0], sides[1]


def resized(picture: Float32, height: int, width: int) -> Float32:
    """The picture (H, W, C) at another size."""
    if picture.shape[:2] == (height, width):
        return picture
    smaller = height * width < picture.shape[0] * picture.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.float32)


def grown_hole(hidden: Bool, height: int, width: int) -> Bool:
    """The hole (H, W) at the working size, without specks and with a rim of about 7 px.

    Source: sheet endo-dynamic-2dgs, section 1.2.
    """
    small = cv2.resize(hidden.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    square = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(cv2.erode(small, square), square, iterations=_GROWN_TIMES) > 0)


@dataclass(frozen=True)
class Autoencoder:
    """The published image autoencoder."""

    network: Any
    scaling: float

    def to(self, device: torch.device, dtype: torch.dtype) -> Autoencoder:
        """The same on a device."""
        return Autoencoder(self.network.to(device, dtype), self.scaling)

    def _first(self) -> Tensor:
        parameter: Tensor = next(self.network.parameters())
        return parameter

    @property
    def factor(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.network.config.block_out_channels) - 1))

    def latents(self, picture: Float32) -> Tensor:
        """Latents (C, h, w) float32 of a picture (H, W, 3) in [0, 1]: the most likely ones."""
        first = self._first()
        given = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None] * 2 - 1
        with torch.no_grad():
            found = self.network.encode(given.to(first.device, first.dtype)).latent_dist.mode()
        return (found[0] * self.scaling).float()

    def picture(self, latents: Tensor) -> Float32:
        """The picture (H, W, 3) in [0, 1] of latents (C, h, w)."""
        first = self._first()
        with torch.no_grad():
            found = self.network.decode((latents[None] / self.scaling).to(first.dtype)).sample
        picture = (found[0].permute(1, 2, 0).float().cpu().numpy() / 2 + 0.5).clip(0, 1)
        return np.asarray(np.nan_to_num(picture), np.float32)


def load_autoencoder(weights: WeightsFolder) -> Autoencoder:
    """The autoencoder of a weights folder, on the CPU.

    Raises:
        InputError: settings and tensors do not belong together. MissingBackendError: no diffusers.
    """
    settings = weights.settings("settings of the image autoencoder")
    path = weights.file("settings of the image autoencoder").path
    network = built(lambda: package("diffusers").AutoencoderKL.from_config(dict(settings)), path)
    tensors = _renamed(weights.tensors("image autoencoder"))
    fill(network, tensors, weights.file("image autoencoder").path)
    return Autoencoder(network.eval().requires_grad_(False), float(settings.get("scaling_factor", _SCALING)))


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for name, tensor in tensors.items():
        new = name
        for old, current in _RENAMED.items():
            if ".attentions." in name and old in name:
                new = name.replace(old, current)
        # Older attention layers were convolutions of one pixel.
        made[new] = tensor.flatten(1) if new != name and tensor.dim() == 4 else tensor
    return made

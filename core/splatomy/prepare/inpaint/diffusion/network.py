"""A small diffusion network that starts from a filled picture and takes its errors out, step by step.

Between truth x and filling y lie the states x_t = (1 - t) x + t (y + e n), n standard normal, e small. The
network is trained to tell x from x_t, t and everything known of the filling; going from t = 1 down in a few
steps, each state is moved towards what it tells. One step gives the mean of what is plausible, more steps
give sharper pictures.

Source: Inversion by Direct Iteration (Delbracio & Milanfar, TMLR 2023), which is the small-noise case of the
image-to-image Schroedinger bridge (Liu et al., ICML 2023). Ours: the change is scaled by the root of the
propagation's doubt, so a sure pixel cannot be repainted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splatomy.errors import InputError
from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.diffusion.examples import NUM_PLANES

MULTIPLE_PX = 8
"""Sides of a picture that the network takes must be multiples of it."""
_NOISE = 0.03
_STEP = 0.1
"""Colour change that an output of 1 stands for at full doubt."""


@dataclass(frozen=True)
class ClipDiffusionConfig:
    """How the clip's own network is trained and used."""

    steps: int = 2000
    """Training steps."""
    time_limit_s: float = 60.0
    """Training ends after so many seconds at the latest, and says so; steps alone decide otherwise."""
    crop_px: int = 128
    """Side of the pictures trained on and of the tiles filled; a multiple of 8."""
    batch: int = 32
    learning_rate: float = 5e-4
    channels: tuple[int, ...] = (32, 64, 96, 128)
    """Of the network's levels, each half the size of the one before; multiples of 8."""
    examples: int = 64
    """Frames with transplanted holes to learn from."""
    sampling_steps: int = 1
    """1 = the mean of what is plausible, which has the least error; more make sharper, less sure pictures."""
    gain_db: float = 0.2
    """By how much it must beat propagation in held-out holes to be used."""

    def __post_init__(self) -> None:
        if self.crop_px % MULTIPLE_PX or self.crop_px < 16:
            raise InputError(f"crop_px must be a multiple of 8 from 16 on, got {self.crop_px}: use 128.")
        if len(self.channels) != 4 or any(c % 8 for c in self.channels):
            raise InputError(
                f"channels must be four multiples of 8, got {self.channels}: use (32, 64, 96, 128)."
            )
        least = min(self.steps, self.batch, self.examples, self.sampling_steps)
        if least < 1 or self.learning_rate <= 0 or self.time_limit_s <= 0:
            raise InputError(
                "steps, batch, examples, sampling_steps, learning_rate and time_limit_s must be positive: "
                "leave them out to take the defaults."
            )


class ClipNetwork(nn.Module):
    """Tells the true picture from a state between it and its filling."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.unet: Any = package("diffusers").UNet2DModel(
            in_channels=3 + NUM_PLANES,
            out_channels=3,
            down_block_types=("DownBlock2D",) * 4,
            up_block_types=("UpBlock2D",) * 4,
            block_out_channels=channels,
            layers_per_block=2,
            norm_num_groups=8,
            add_attention=False,
        )
        # With a zero start the filling is what it tells before any training.
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, state: Tensor, planes: Tensor, level: Tensor) -> Tensor:
        """The true colours (B, 3, H, W) from state (B, 3, H, W), planes (B, 6, H, W), level t (B,)."""
        told = torch.cat([(state - planes[:, :3]) * 10, (planes[:, :3] - 0.5) * 4, planes[:, 3:]], 1)
        change = self.unet(told, level * 1000).sample
        return planes[:, :3] + _STEP * planes[:, 4:5].clamp(min=0).sqrt() * change.float()


def noisy_state(
    truth: Tensor, planes: Tensor, known: Tensor, level: Tensor, generator: torch.Generator
) -> Tensor:
    """States (B, 3, H, W) at levels (B,); where the truth is not known, those of level 1."""
    share = torch.where(known[:, None], level[:, None, None, None], 1.0)
    noise = torch.randn(truth.shape, generator=generator, device=truth.device)
    noise = noise * planes[:, 3:4] * planes[:, 4:5]
    return (1 - share) * truth + share * (planes[:, :3] + _NOISE * noise)


def restored(network: nn.Module, planes: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """The true colours (B, 3, H, W) from planes (B, 6, H, W) alone, in so many steps."""
    noise = torch.randn(planes[:, :3].shape, generator=generator, device=planes.device)
    state = planes[:, :3] + _NOISE * noise * planes[:, 3:4] * planes[:, 4:5]
    for step in range(steps):
        level = 1 - step / steps
        level_of = torch.full((len(planes),), level, device=planes.device)
        told = network(state, planes, level_of)
        share = 1 / (steps - step)
        state = share * told + (1 - share) * state
    return state

"""The published diffusion inpainter of Diff2DGS, with the weights that a user brings along.

Propagation gives the prior that the published system takes from a network of its own. From its latents, with
the text left empty, a few steps of the motion UNet steered by BrushNet lead to the result, window by window.

Source: DiffuEraser (Li et al. 2025) as Diff2DGS uses it: sheet endo-dynamic-2dgs, sections 1.2 and 1.4.
Deviations: the mode of the autoencoder's distribution instead of a sample; pictures are composed inside the
holes only, at full size, and mixed with the prior by its confidence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.events import Progress, Task
from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.diffusion.brushnet import BrushNet
from splatomy.prepare.inpaint.diffusion.checkpoint import built, fill
from splatomy.prepare.inpaint.diffusion.latents import (
    Autoencoder,
    grown_hole,
    load_autoencoder,
    resized,
    working_size,
)
from splatomy.prepare.inpaint.diffusion.lora import merge
from splatomy.prepare.inpaint.diffusion.motion_unet import denoise, make_motion_unet, with_motion
from splatomy.prepare.inpaint.diffusion.text import empty_prompt
from splatomy.prepare.inpaint.diffusion.windows import (
    LENGTH,
    cross_faded,
    reflected,
    spread_frames,
    windows,
)
from splatomy.prepare.inpaint.diffusion.writing import own_copy, write_hidden
from splatomy.prepare.inpaint.fields import Bool, Float32
from splatomy.prepare.inpaint.gate import Inpainter
from splatomy.prepare.inpaint.provenance import Inpainting
from splatomy.weights import WeightsFolder

STAGE = "inpaint by published weights"
_FEATHER_PX = 21
_LCM_STEPS = 4
_STEPS_IN_NAME = re.compile(r"_(\d+)step_")


@dataclass
class _Clip:
    """A clip as the networks see it; all on the device, float32.

    prior: (N, C, h, w) latents of the propagated frames. masked: likewise of the frames without their holes.
    known: (N, 1, h, w), 1 = known. noise: (22, C, h, w).
    """

    prior: Tensor
    masked: Tensor
    known: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.prior)

    def part(self, frames: Sequence[int]) -> _Clip:
        """Some of the frames."""
        chosen = list(frames)
        return _Clip(self.prior[chosen], self.masked[chosen], self.known[chosen], self.noise)


class PublishedDiffusion:
    """The loaded networks, and how they fill a clip.

    text: (1, L, D). steps: of the few-step weights.
    """

    def __init__(
        self, autoencoder: Autoencoder, brushnet: Any, unet: Any, text: Tensor, schedule: Any, steps: int
    ) -> None:
        self._autoencoder, self._brushnet, self._unet = autoencoder, brushnet, unet
        self._text, self._schedule, self._steps = text, schedule, steps
        self._device, self._dtype = torch.device("cpu"), torch.float32

    def to(self, device: torch.device) -> PublishedDiffusion:
        """The same on a device, in half precision on CUDA."""
        self._device = device
        self._dtype = torch.float16 if device.type == "cuda" else torch.float32
        self._autoencoder = self._autoencoder.to(device, self._dtype)
        self._brushnet = self._brushnet.to(device, self._dtype)
        self._unet = self._unet.to(device, self._dtype)
        self._text = self._text.to(device, self._dtype)
        return self

    def after(self, inpainter: Inpainter, outside: Bool | None = None, seed: int = 0) -> Inpainter:
        """The inpainter that improves what another one filled, which must fill all frames of a clip.

        outside: (H, W), True = left alone.
        """

        def both(images: Float32, occluded: Bool, frames: NDArray[np.integer] | None) -> Task[Inpainting]:
            filled = yield from inpainter(images, occluded, frames)
            own = own_copy(filled)
            inside = occluded if outside is None else occluded & ~outside
            yield from self.improve(own, images, inside, seed)
            return own

        return both

    def improve(self, filled: Inpainting, images: Float32, occluded: Bool, seed: int = 0) -> Task[None]:
        """Writes generated pictures into the hidden pixels of a filled clip; visible ones stay bit-equal.

        The less sure a propagated pixel, the more the generated one counts. images: (T, H, W, 3) as
        recorded. occluded: (T, H, W), True = may be changed.
        """
        height, width = occluded.shape[1:]
        clip = yield from self._encoded(filled, images, occluded, seed)
        count = len(clip)
        padded = clip.part(reflected(count, max(count, LENGTH)))
        first = spread_frames(count)
        if first:
            yield from self._solve_first(padded, first, seed)
        latents = yield from self._solved(padded, seed)
        for frame in range(count):
            yield Progress(STAGE, frame, count)
            hidden = np.asarray(occluded[frame])
            if not hidden.any():
                continue
            generated = resized(self._autoencoder.picture(latents[frame]), height, width)
            before = np.asarray(filled.images[frame], np.float32)
            share = (_inwards(hidden) * (1 - filled.confidence[frame]))[..., None]
            write_hidden(filled, frame, hidden, before + share * (generated - before))
        yield Progress(STAGE, count, count)

    def _encoded(self, filled: Inpainting, images: Float32, occluded: Bool, seed: int) -> Task[_Clip]:
        size = working_size(*occluded.shape[1:])
        prior, masked, known = [], [], []
        for frame in range(len(occluded)):
            yield Progress(STAGE, 0, len(occluded))
            hole = grown_hole(np.asarray(occluded[frame]), *size)
            picture = resized(np.asarray(images[frame], np.float32), *size) * ~hole[..., None]
            masked.append(self._autoencoder.latents(picture))
            prior.append(self._autoencoder.latents(resized(np.asarray(filled.images[frame]), *size)))
            known.append(self._known(hole))
        # Drawn on the host, so that every device sees the same noise.
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((LENGTH, *prior[0].shape), generator=generator).to(self._device)
        return _Clip(torch.stack(prior), torch.stack(masked), torch.stack(known), noise)

    def _known(self, hole: Bool) -> Tensor:
        """The mask (1, h, w) at the size of the latents, 1 = known."""
        factor = self._autoencoder.factor
        small = (~hole[::factor, ::factor]).astype(np.float32)
        return torch.from_numpy(small)[None].to(self._device)

    def _solve_first(self, clip: _Clip, frames: Sequence[int], seed: int) -> Task[None]:
        """Solves frames spread over a long clip and makes them known frames of it, in place."""
        latents = yield from self._solved(clip.part(frames), seed)
        for frame, found in zip(frames, latents, strict=True):
            yield Progress(STAGE, 0, len(clip))
            picture = self._autoencoder.picture(found)
            clip.prior[frame] = found
            clip.masked[frame] = self._autoencoder.latents(picture)
            clip.known[frame] = 1

    def _solved(self, clip: _Clip, seed: int) -> Task[Tensor]:
        """The latents (N, C, h, w) after all steps."""
        schedule, count = self._schedule, len(clip)
        schedule.set_timesteps(self._steps, device=self._device)
        noise = clip.noise[torch.arange(count, device=clip.noise.device) % LENGTH]
        start = torch.zeros(count, dtype=torch.long, device=self._device)
        state = schedule.add_noise(clip.prior, noise, start)
        generator = torch.Generator(self._device).manual_seed(seed)
        # A schedule that takes eta is made deterministic; another draws from the generator.
        more: dict[str, Any] = {"generator": generator}
        if "TCD" in type(schedule).__name__:
            more["eta"] = 0.0
        for step, timestep in enumerate(schedule.timesteps):
            spans = windows(count, swapped=step % 2 == 1)
            parts = []
            for start_of, end in spans:
                yield Progress(STAGE, 0, count)
                parts.append(self._noise_of(clip, state, timestep, start_of, end))
            # Leading the noise over is leading the latents over: a step is linear in it.
            told = cross_faded(count, spans, parts)
            state = schedule.step(told, timestep, state, **more).prev_sample
        return state

    @torch.no_grad()
    def _noise_of(self, clip: _Clip, state: Tensor, timestep: Tensor, start: int, end: int) -> Tensor:
        window = state[start:end].to(self._dtype)
        text = self._text.expand(len(window), -1, -1)
        condition = torch.cat([clip.masked[start:end], clip.known[start:end]], 1).to(self._dtype)
        features = self._brushnet(window, timestep, text, condition)
        return denoise(self._unet, window, timestep, text, features).float()


def _inwards(hidden: Bool) -> Float32:
    """Weights (H, W) that rise from 0 at the rim of a hole to 1 inside, and are 0 outside."""
    blurred = cv2.GaussianBlur(hidden.astype(np.float32), (_FEATHER_PX, _FEATHER_PX), 0)
    return np.asarray((2 * blurred - 1).clip(0, 1) * hidden, np.float32)


def load_published(weights: WeightsFolder) -> PublishedDiffusion:
    """The published networks of a complete weights folder, on the CPU.

    Raises:
        InputError: a file does not fit its settings; the sentence names it.
        MissingBackendError: diffusers or transformers is not installed.
    """
    autoencoder = load_autoencoder(weights)
    text = empty_prompt(weights)
    brush_settings, unet_settings = "settings of BrushNet", "settings of the motion UNet"
    brushnet = built(lambda: BrushNet(weights.settings(brush_settings)), weights.file(brush_settings).path)
    brush_file = weights.file("BrushNet with cross attention").path
    fill(brushnet, weights.tensors("BrushNet with cross attention"), brush_file)
    unet = built(lambda: make_motion_unet(weights.settings(unet_settings)), weights.file(unet_settings).path)
    adapter = weights.tensors("motion adapter") if weights.has("motion adapter") else None
    fill(unet, with_motion(weights.tensors("motion UNet"), adapter), weights.file("motion UNet").path)
    few_steps = weights.file("few-step LoRA").path
    merge(unet, weights.tensors("few-step LoRA"), few_steps)
    schedule, steps = _schedule(weights.settings("noise schedule"), few_steps)
    for network in (brushnet, unet):
        network.eval().requires_grad_(False)
    return PublishedDiffusion(autoencoder, brushnet, unet, text, schedule, steps)


def _schedule(settings: dict[str, Any], few_steps: str) -> tuple[Any, int]:
    """The few-step scheduler and its number of steps, as the file's name says."""
    diffusers = package("diffusers")
    shared = {
        "num_train_timesteps": int(settings.get("num_train_timesteps", 1000)),
        "beta_start": float(settings.get("beta_start", 0.00085)),
        "beta_end": float(settings.get("beta_end", 0.012)),
        "beta_schedule": str(settings.get("beta_schedule", "scaled_linear")),
    }
    named = _STEPS_IN_NAME.search(few_steps)
    if named is None:
        return diffusers.LCMScheduler(**shared), _LCM_STEPS
    return diffusers.TCDScheduler(**shared, timestep_spacing="trailing"), int(named[1])

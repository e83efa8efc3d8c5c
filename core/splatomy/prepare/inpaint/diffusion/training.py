"""Training of the clip's own network."""

from __future__ import annotations

import copy
import math
import time

import torch
from torch import Tensor

from splatomy.events import Notice, Progress, Task
from splatomy.prepare.inpaint.diffusion.examples import Examples
from splatomy.prepare.inpaint.diffusion.network import (
    MULTIPLE_PX,
    ClipDiffusionConfig,
    ClipNetwork,
    noisy_state,
)

STAGE = "learn the clip"
_REPORT_EVERY_S = 0.1
_WARM_UP_STEPS = 50
_AVERAGE_DECAY = 0.995
_SHARE_OF_START = 0.5
"""Share of the pictures trained on at level 1, where sampling starts."""


class _Crops:
    """Random pictures out of the examples, turned and mirrored at random."""

    def __init__(
        self, examples: Examples, config: ClipDiffusionConfig, device: torch.device, seed: int
    ) -> None:
        self._planes = torch.from_numpy(examples.planes).to(device)
        self._truth = torch.from_numpy(examples.truth).to(device)
        self._known = torch.from_numpy(examples.known).to(device)
        height, width = examples.known.shape[1:]
        self._side = min(config.crop_px, height, width) // MULTIPLE_PX * MULTIPLE_PX
        self._batch = config.batch
        # Drawn on the host, so that every device sees the same crops.
        self._generator = torch.Generator().manual_seed(seed)
        # A fixed number of places per example keeps small holes as likely as large ones.
        places = [torch.from_numpy(known).nonzero() for known in examples.known]
        self._places = [(n, place) for n, place in enumerate(places) if len(place)]

    def __bool__(self) -> bool:
        return bool(self._places) and self._side >= 2 * MULTIPLE_PX

    def _draw(self, limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=self._generator))

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Planes (B, 6, s, s), truth (B, 3, s, s) and where it is known (B, s, s)."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        height, width = self._known.shape[1:]
        for _ in range(self._batch):
            example, places = self._places[self._draw(len(self._places))]
            row, column = places[self._draw(len(places))].tolist()
            top = min(max(row - self._draw(self._side), 0), height - self._side)
            left = min(max(column - self._draw(self._side), 0), width - self._side)
            box = (..., slice(top, top + self._side), slice(left, left + self._side))
            turns, mirrored = self._draw(4), self._draw(2)
            turned = [
                torch.rot90(part.flip(-1) if mirrored else part, turns, (-2, -1))
                for part in (
                    self._planes[example][box],
                    self._truth[example][box],
                    self._known[example][box],
                )
            ]
            parts.append((turned[0], turned[1], turned[2]))
        planes, truth, known = (torch.stack(stack) for stack in zip(*parts, strict=True))
        return planes.float(), truth.float(), known


def trained(
    examples: Examples, config: ClipDiffusionConfig, device: torch.device, seed: int
) -> Task[ClipNetwork]:
    """The network with averaged weights, in evaluation mode.

    The same seed gives the same result on a CPU.

    Raises:
        MissingBackendError: diffusers is not installed.
        ValueError: the examples hold no known pixel.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ClipNetwork(config.channels)
    network = network.to(device)
    averaged = copy.deepcopy(network).eval().requires_grad_(False)
    crops = _Crops(examples, config, device, seed)
    if not crops:
        raise ValueError("training needs transplanted holes, in pictures of at least 16 px")
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    noise = torch.Generator(device).manual_seed(seed)
    started = told = time.monotonic()
    squared = 0.0
    for step in range(config.steps):
        elapsed = time.monotonic() - started
        if elapsed > config.time_limit_s:
            text = f"Learning the clip was ended after {elapsed:.0f} s, at step {step} of {config.steps}."
            yield Notice("warning", "clip-diffusion-time", text)
            break
        rate = min(1.0, (step + 1) / _WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * max(rate, 0.01)
        loss = _step(network, optimiser, crops.batch(), noise)
        _average(averaged, network, step)
        now = time.monotonic()
        if now - told > _REPORT_EVERY_S:
            told, squared = now, float(loss)
            yield Progress(STAGE, step + 1, config.steps, {"error": math.sqrt(squared)})
    yield Progress(STAGE, config.steps, config.steps, {"error": math.sqrt(squared)})
    return averaged


def _step(
    network: ClipNetwork,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor],
    noise: torch.Generator,
) -> Tensor:
    """One step of training; the mean squared colour error of the known pixels."""
    planes, truth, known = batch
    level = torch.rand(len(planes), generator=noise, device=planes.device)
    start = torch.rand(len(planes), generator=noise, device=planes.device) < _SHARE_OF_START
    level = torch.where(start, 1.0, level.clamp(min=0.05))
    state = noisy_state(truth, planes, known, level, noise)
    optimiser.zero_grad(set_to_none=True)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        with torch.autocast(planes.device.type, torch.bfloat16, enabled=planes.device.type == "cuda"):
            told = network(state, planes, level)
        error = ((told - truth) ** 2).mean(1)
        loss = (error * known).sum() / known.sum().clamp(min=1)
        # The loss is of the order of 1e-3; without the factor AdamW's epsilon would count.
        (loss * 1000).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss.detach()


@torch.no_grad()
def _average(averaged: ClipNetwork, network: ClipNetwork, step: int) -> None:
    decay = min(_AVERAGE_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)

"""A step of several views follows the mean of their gradients and gathers the statistics of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.events import finish
from splatomy.methods.dynamic_tissue import method as tissue
from splatomy.methods.dynamic_tissue.config import Config as TissueConfig
from splatomy.methods.dynamic_tissue.footage import Footage
from splatomy.methods.dynamic_tissue.tracking import track
from splatomy.methods.dynamic_vessels import method as vessels
from splatomy.methods.dynamic_vessels.config import Config as VesselConfig
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.replicas.group import Replicas

CPU = torch.device("cpu")
FRAMES = (2, 5, 7)
Found = tuple[dict[str, torch.Tensor], torch.Tensor, float]
"""Gradients by name, statistics and loss."""


def of_vessels(capture: Capture, frames: tuple[int, ...]) -> Found:
    config = VesselConfig(steps=100, num_start=400, views_per_step=len(frames))
    trainer = vessels._Trainer(capture, config, CPU, Replicas())
    finish(trainer.start())
    with torch.no_grad():
        # Round Gaussians, as all are at the start, have no gradient of their rotation.
        trainer.store["log_scales"].add_(torch.tensor([0.3, 0.0, -0.3]))
    sums = trainer.steps.begin()
    for frame in frames:
        trainer.steps.add_view(trainer.views.at(frame, 4), float(capture.times_s[frame]), 0)
    gradients = {k: p.grad for k, p in trainer.store.parameters.items() if p.grad is not None}
    return gradients, torch.cat([sums.seen, sums.peak[:, None]], 1), float(sums.loss)


def of_tissue(capture: Capture, frames: tuple[int, ...]) -> Found:
    config = TissueConfig(steps=100, spacing_px=4.0, track_start=False, frames_per_step=len(frames))
    footage = Footage(capture, config, CPU)
    trainer = tissue._Trainer(footage, config, CPU, Replicas())
    finish(trainer.start(finish(track(footage, config.node_spacing, config.track_start))))
    sums = trainer.steps.begin()
    for frame in frames:
        trainer.steps.add_view(footage.view(frame), 0.0)
    gradients = {k: p.grad for k, p in trainer.store.parameters.items() if p.grad is not None}
    assert isinstance(trainer.deformation, tissue.NodeDeformation)
    motion = trainer.deformation.coefficients.grad
    assert motion is not None
    return {**gradients, "motion": motion}, torch.cat([sums.pull, sums.seen], 1), float(sums.loss)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for the rounding of a few float32 sums."""
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


@pytest.fixture(scope="module")
def tiny_tissue() -> Capture:
    p = finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 0))
    known = {"cameras": p.cameras, "occluded": p.occluded, "depth_mm": p.observed_depth_mm}
    return Capture(Modality.COLOUR, p.images, p.times_s, **known)


def test_views_of_vessels_are_averaged(tiny_capture: Capture) -> None:
    together, statistics, loss = of_vessels(tiny_capture, FRAMES)
    apart = [of_vessels(tiny_capture, (frame,)) for frame in FRAMES]
    for name, gradient in together.items():
        assert close(gradient, torch.stack([g[name] for g, _, _ in apart]).mean(0)), name
    each = torch.stack([s for _, s, _ in apart])
    assert close(statistics[:, 0], each[..., 0].mean(0))
    assert close(statistics[:, 1:3], each[..., 1:3].sum(0))
    assert torch.equal(statistics[:, 3], each[..., 3].amax(0))
    assert loss == pytest.approx(np.mean([one for _, _, one in apart]), rel=1e-5)


def test_frames_of_tissue_are_averaged(tiny_tissue: Capture) -> None:
    together, statistics, loss = of_tissue(tiny_tissue, FRAMES)
    apart = [of_tissue(tiny_tissue, (frame,)) for frame in FRAMES]
    for name, gradient in together.items():
        assert close(gradient, torch.stack([g[name] for g, _, _ in apart]).mean(0)), name
    each = torch.stack([s for _, s, _ in apart])
    assert close(statistics[:, 0], each[..., 0].mean(0))
    assert close(statistics[:, 1:], each[..., 1:].sum(0))
    assert loss == pytest.approx(np.mean([one for _, _, one in apart]), rel=1e-5)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_each_round_shows_every_frame_once(count: int, tiny_capture: Capture) -> None:
    """Whatever the step's size, also when it holds more views than there are."""
    config = VesselConfig(steps=100, num_start=100, views_per_step=count)
    trainer = vessels._Trainer(tiny_capture, config, CPU, Replicas())
    finish(trainer.start())
    size = len(tiny_capture)
    drawn = [frame for _ in range(-(-size // count)) for frame, _ in trainer._next_views()]
    for first in range(0, len(drawn) - size + 1, size):
        assert sorted(drawn[first : first + size]) == list(range(size))

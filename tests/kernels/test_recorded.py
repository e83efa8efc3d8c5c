"""Recorded steps on CUDA: the same results as the steps done one by one; runs where there is a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from splatomy.capture import Capture, Modality
from splatomy.events import finish
from splatomy.gaussians.adam import Adam
from splatomy.gaussians.gathering import blended, rows_of
from splatomy.gaussians.recorded import Recorded
from splatomy.gaussians.store import GaussianStore
from splatomy.methods.dynamic_tissue import method as tissue
from splatomy.methods.dynamic_tissue.config import Config as TissueConfig
from splatomy.methods.dynamic_tissue.footage import Footage
from splatomy.methods.dynamic_tissue.tracking import track
from splatomy.methods.pulled_surface import method as surface
from splatomy.methods.pulled_surface.config import Config as SurfaceConfig
from splatomy.methods.pulled_surface.disks import first_disks
from splatomy.methods.pulled_surface.views import Pictures
from splatomy.phantoms.object import PRESETS as OBJECTS
from splatomy.phantoms.object import make_object
from splatomy.phantoms.tissue import PRESETS, make_tissue
from splatomy.replicas.group import Replicas

CUDA = torch.device("cuda")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = [torch.device("cpu"), pytest.param(CUDA, marks=on_gpu)]


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_work_is_done_once_for_every_call(device: torch.device) -> None:
    total, calls = torch.zeros(3, device=device), 0

    def add(inputs: Any) -> None:
        nonlocal calls
        calls += 1
        total.add_(inputs["row"] * inputs["factor"])

    recorded = Recorded(add, device)
    for n in range(6):
        recorded("a", {"row": torch.full((3,), float(n), device=device), "factor": 2.0})
    for _ in range(3):
        recorded("b", {"row": torch.ones(3, device=device), "factor": 1.0})
    assert total.tolist() == [33.0] * 3
    assert calls == (9 if device.type == "cpu" else 4)


@on_gpu
def test_what_cannot_be_recorded_is_done_as_it_is() -> None:
    total = torch.zeros(1, device=CUDA)
    recorded = Recorded(lambda t: total.add_(float(t["one"])), CUDA)  # type: ignore[arg-type, return-value]
    with pytest.warns(RuntimeWarning, match="slower way"):
        for _ in range(5):
            recorded("a", {"one": torch.ones((), device=CUDA)})
    assert total.item() == 5


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_rates_may_change_between_steps(device: torch.device) -> None:
    parameter = torch.zeros(4, device=device, requires_grad=True)
    optimiser = Adam([{"params": [parameter], "lr": 0.1}])

    def step(_: Any) -> None:
        parameter.sum().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=device.type == "cpu")

    recorded = Recorded(step, device)
    for rate in (0.1, 0.1, 0.1, 0.0, 0.0):
        optimiser.set_rates([rate])
        recorded("a")
    assert parameter.detach().cpu().numpy() == pytest.approx(np.full(4, -0.3), abs=1e-5)


@on_gpu
def test_gathered_rows_have_the_gradients_of_the_cpu() -> None:
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(50, 8, generator=draw)
    index = torch.randint(0, 50, (3000, 6), generator=draw)
    share, weight = torch.rand(3000, 6, generator=draw), torch.randn(3000, 8, generator=draw)
    found = []
    for device in (torch.device("cpu"), CUDA):
        own = table.detach().clone().to(device).requires_grad_()
        sums = blended(own, index.to(device), share.to(device)) + rows_of(own, index[:, 0].to(device))
        (sums * weight.to(device)).sum().backward()
        assert own.grad is not None
        found.append((sums.detach().cpu(), own.grad.cpu()))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)


def _trained(recorded: bool) -> tuple[dict[str, torch.Tensor], float]:
    p = finish(make_tissue(replace(PRESETS["tiny"], baseline_mm=0.0), 0))
    known = {"cameras": p.cameras, "occluded": p.occluded, "depth_mm": p.observed_depth_mm}
    capture = Capture(Modality.COLOUR, p.images, p.times_s, **known)
    config = TissueConfig(steps=60, grow_every=20, spacing_px=3.0, track_start=False)
    footage = Footage(capture, config, CUDA)
    trainer = tissue._Trainer(footage, config, CUDA, Replicas())
    finish(trainer.start(finish(track(footage, config.node_spacing, config.track_start))))
    if not recorded:
        for part in (trainer.steps._adding, trainer.steps._moving, trainer.steps._whole):
            part._replay = False
    losses = [float(trainer.train_step()) for _ in range(15)]
    store: GaussianStore = trainer.store
    return {k: v.detach().cpu() for k, v in store.parameters.items()}, losses[-1]


@on_gpu
def test_a_recorded_training_comes_to_the_same_scene() -> None:
    plain, loss = _trained(False)
    replayed, replayed_loss = _trained(True)
    assert replayed_loss == pytest.approx(loss, rel=1e-3)
    for name, value in plain.items():
        # Atomic sums round in no fixed order, and Adam makes whole steps of the smallest gradients.
        assert float((value - replayed[name]).abs().median()) < 1e-3 * float(value.abs().max()), name


def _pulled(recorded: bool) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Disks and field after steps of every kind, and the loss of each step."""
    p = finish(make_object(OBJECTS["tiny"], 0))
    known = {"cameras": p.cameras, "target": p.target}
    capture = Capture(Modality.COLOUR, p.images, np.zeros(len(p.images)), **known)
    config = SurfaceConfig(splat_steps=30, joint_steps=30, finish_steps=20, grow_every=15, start_points=3000)
    pictures = Pictures(capture, config, CUDA)
    trainer = surface._Trainer(pictures, config, finish(first_disks(pictures, config, CUDA)), CUDA)
    losses: list[float] = []
    while trainer.step < 80:
        if trainer.needs_space:
            finish(trainer.look_around())
        for kind in trainer.steps._kinds.values():
            kind._replay &= recorded
        losses.append(float(trainer.train_step()))
    assert any(kind._graph is not None for kind in trainer.steps._kinds.values()) == recorded
    rows = {**trainer.store.parameters, **dict(trainer.puller.field.named_parameters())}
    return {k: v.detach().cpu() for k, v in rows.items()}, losses


@on_gpu
def test_a_recorded_pull_comes_to_the_same_surface() -> None:
    plain, losses = _pulled(False)
    replayed, replayed_losses = _pulled(True)
    assert replayed_losses == pytest.approx(losses, rel=0.02)
    for name, value in plain.items():
        # Atomic sums round in no fixed order, and Adam makes whole steps of the smallest gradients.
        assert value.shape == replayed[name].shape, name
        assert float((value - replayed[name]).abs().median()) < 5e-3 * float(value.abs().max()), name

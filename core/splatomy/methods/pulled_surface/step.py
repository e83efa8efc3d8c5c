"""What a training step does with tensors alone, so that a GPU can record and replay it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from splatomy.gaussians.recorded import Recorded
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.surfel import resolve_backend
from splatomy.methods.pulled_surface import objective
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.model import draw
from splatomy.methods.pulled_surface.pulling import Puller
from splatomy.methods.pulled_surface.views import HALF, View

_LEAST_SIZE, _MOST_SIZE, _MOST_THICKNESS = 0.15, 6.0, 2.0
"""Limits of a disk, in spacings."""
_LEAST_THICKNESS = 1e-4 * HALF


@dataclass(frozen=True)
class Drawing:
    """How pictures are made and judged: the least depth, a usual one, what lies behind the object.

    degree: harmonics of the colours. finishing: pictures alone move the disks, and the field rests.
    """

    near: float
    typical: float
    background: float | None
    degree: int
    finishing: bool


class PulledSteps:
    """Moves one store and the field; gradients begin and end as none, so what a step has no use for rests.

    Steps of three kinds alternate, each recorded for itself: pictures, pulling, and both.
    """

    def __init__(self, store: GaussianStore, puller: Puller, config: Config) -> None:
        self.store, self.puller, self.config = store, puller, config
        replay = resolve_backend("auto", store["means_mm"]) == "gpu"
        # Under it lists are as long as they are, which the host must ask for.
        replay &= not torch.are_deterministic_algorithms_enabled()
        self.loss = torch.zeros((), device=puller.device)
        self._drawing: Drawing
        self._kinds = {
            kind: Recorded(partial(self._move, *kind), puller.device, replay)
            for kind in ((False, True), (True, False), (True, True))
        }

    def move(self, inputs: Mapping[str, Tensor], drawing: Drawing) -> Tensor:
        """One step; its loss (), which the next step replaces.

        inputs: the puller's ``samples``, or ``tensors`` of a view, or both; ``teaching``, where the pulled
        disks are to be drawn: see ``Puller.pulled``.
        """
        self._drawing = drawing
        shapes = tuple((name, *tensor.shape) for name, tensor in inputs.items())
        kind = "queries" in inputs, "image" in inputs
        self._kinds[kind]((self.store.generation, drawing, shapes), inputs)
        return self.loss

    def _move(self, pulls: bool, shows: bool, inputs: Mapping[str, Tensor]) -> None:
        store, means, loss = self.store, self.store["means_mm"], torch.zeros_like(self.loss)
        if pulls:
            loss = self.puller.loss(store, inputs)
        if "teaching" in inputs:
            means = self.puller.pulled(means, inputs["teaching"])
        if shows:
            loss = loss + self._picture_loss(means, View.of(inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        store.optimiser.step()
        store.optimiser.zero_grad(set_to_none=True)
        if pulls:
            self.puller.step()
        spacing = self.puller.spacing
        with torch.no_grad():
            store["log_scales"].clamp_(math.log(_LEAST_SIZE * spacing), math.log(_MOST_SIZE * spacing))
            store["log_thickness"].clamp_(math.log(_LEAST_THICKNESS), math.log(_MOST_THICKNESS * spacing))
            self.loss.copy_(loss)

    def _picture_loss(self, means: Tensor, view: View) -> Tensor:
        store, how, config = self.store, self._drawing, self.config
        if how.finishing:
            config = replace(config, distortion_weight=0.0)
        background = None if view.target is None else how.background
        pull = store.side["pull"]
        render = draw(store.parameters, means, view.camera, how.near, background, how.degree, pull)
        return objective.view_loss(render, view, config, how.typical)

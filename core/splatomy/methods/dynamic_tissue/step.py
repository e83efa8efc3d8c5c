"""What a training step does with tensors alone, so that a GPU can record and replay it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splatomy.gaussians.adam import Adam
from splatomy.gaussians.deform import NodeDeformation
from splatomy.gaussians.recorded import Steps
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.surfel import resolve_backend
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.methods.dynamic_tissue.footage import View, visibility
from splatomy.methods.dynamic_tissue.model import Deformation, draw, moved_surfels
from splatomy.methods.dynamic_tissue.objective import fallen_weight, frame_loss

_MIN_FOOTPRINT, _MAX_FOOTPRINT = 0.15, 10.0
"""Limits of a surfel's standard deviations, in pixels at the typical depth."""


@dataclass(frozen=True)
class Lengths:
    """What a scene is measured in: the typical depth, a pixel there, and how near the camera anything is."""

    typical_mm: float
    pixel_mm: float
    near_mm: float


@dataclass
class Sums:
    """What the frames of one step add up to.

    loss, last_loss (1,): of this step and of the one before. pull (N, 2): the gradient on the screen, and the
    frames that show a surfel. seen (N, 2): see ``visibility``.
    """

    loss: Tensor
    last_loss: Tensor
    pull: Tensor
    seen: Tensor

    @staticmethod
    def blank(count: int, device: torch.device) -> Sums:
        """Zeros for so many surfels."""
        sizes: tuple[tuple[int, ...], ...] = ((1,), (1,), (count, 2), (count, 2))
        return Sums(*(torch.zeros(size, device=device) for size in sizes))


class TissueSteps(Steps[Sums]):
    """The steps of tissue; the optimisers also move the shared motion."""

    def __init__(
        self,
        store: GaussianStore,
        deformation: Deformation,
        optimisers: Sequence[Adam],
        config: Config,
        lengths: Lengths,
    ) -> None:
        self.deformation, self.config, self.lengths = deformation, config, lengths
        self._moments: dict[float, Tensor] = {}
        self._view: View
        self._degree = 0
        replay = resolve_backend("auto", store["means_mm"]) == "gpu"
        super().__init__(store, optimisers, Sums.blank, replay)

    def add_view(self, view: View, share: float, is_all: bool = False) -> None:
        """Adds one frame's part of the step's gradients and sums.

        share: of the steps, which are done. is_all: the step ends with this frame.
        """
        config = self.config
        self._view = view
        self._degree = min(config.sh_degree, int(share * 4 * max(config.sh_degree, 1)))
        if view.time_s not in self._moments:
            # Made anew, the host would wait each time until the device has it.
            self._moments[view.time_s] = self.deformation.moment(view.time_s)
        weight = fallen_weight(config.depth_weight, share)
        inputs: dict[str, Tensor | float] = {**view.tensors(), "moment": self._moments[view.time_s]}
        inputs["fallen_weight"] = weight
        self.add((view.width_px, view.height_px, self._degree), inputs, is_all)

    def _add(self, inputs: Mapping[str, Tensor]) -> None:
        config, sums, near_mm = self.config, self.sums, self.lengths.near_mm
        view = self._view.with_tensors(inputs)
        tensors = {**self.store.parameters, **self.store.side}
        moved = moved_surfels(tensors, self.deformation, inputs["moment"])
        camera = (view.intrinsics, view.camera_from_world, view.width_px, view.height_px)
        render = draw(moved, tensors, camera, near_mm, self._degree, screen_gradient=sums.pull)
        loss = frame_loss(render, view, config, inputs["fallen_weight"], self.lengths.typical_mm)
        if isinstance(self.deformation, NodeDeformation):
            loss = loss + config.roughness * self.deformation.roughness()
            loss = loss + config.rigidity * self.deformation.rigidity()
        loss = loss / config.frames_per_step
        loss.backward()
        with torch.no_grad():
            sums.loss.add_(loss.detach())
            sums.seen.add_(visibility(moved.means_mm, view, near_mm))

    def _gather(self) -> None:
        store, sums = self.store, self.sums
        low, high = (math.log(f * self.lengths.pixel_mm) for f in (_MIN_FOOTPRINT, _MAX_FOOTPRINT))
        store["log_scales"].clamp_(low, high)
        store.side["pull"] += sums.pull
        store.side["seen"] += sums.seen
        sums.pull.zero_()
        sums.seen.zero_()

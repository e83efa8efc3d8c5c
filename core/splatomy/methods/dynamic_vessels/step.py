"""What a training step does with tensors alone, so that a GPU can record and replay it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splatomy.fields.attenuation import CurveField, GridField
from splatomy.gaussians.adam import Adam
from splatomy.gaussians.recorded import Steps
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.xray import resolve_backend, splat
from splatomy.methods.dynamic_vessels.config import Config
from splatomy.methods.dynamic_vessels.kinship import neighbour
from splatomy.methods.dynamic_vessels.objective import view_loss
from splatomy.methods.dynamic_vessels.views import View

_GATHERED = ("gradient", "seen", "attenuation")


@dataclass
class Sums:
    """What the views of one step add up to.

    loss, last_loss (1,): of this step and of the one before. seen (N, 3): the gradient on the screen, the
    views that show a Gaussian, and its attenuation summed over them. peak (N,): its largest attenuation.
    """

    loss: Tensor
    last_loss: Tensor
    seen: Tensor
    peak: Tensor

    @staticmethod
    def blank(count: int, device: torch.device) -> Sums:
        """Zeros for so many Gaussians."""
        sizes: tuple[tuple[int, ...], ...] = ((1,), (1,), (count, 3), (count,))
        return Sums(*(torch.zeros(size, device=device) for size in sizes))


class VesselSteps(Steps[Sums]):
    """The steps of vessels. log_limits: of the standard deviations, log mm."""

    def __init__(
        self,
        store: GaussianStore,
        field: CurveField | GridField,
        optimisers: Sequence[Adam],
        config: Config,
        log_limits: tuple[float, float],
    ) -> None:
        self.field, self.config, self._log_limits = field, config, log_limits
        self._moments: dict[float, Tensor] = {}
        self._view: View
        # The network's random times come from the host.
        replay = isinstance(field, CurveField) and resolve_backend("auto", store["means_mm"]) == "gpu"
        super().__init__(store, optimisers, Sums.blank, replay)

    def add_view(self, view: View, time_s: float, step: int, is_all: bool = False) -> None:
        """Adds one view's part of the step's gradients and sums; is_all: the step ends with it."""
        self._view = view
        inputs = {**view.tensors(), "moment": self._moment(time_s)}
        if self.config.kinship and isinstance(self.field, CurveField):
            inputs["others"] = neighbour(self.store, step)
        self.add((view.width_px, view.height_px), inputs, is_all)

    def forget(self) -> None:
        """Begins to gather anew."""
        for name in (*_GATHERED, "peak"):
            self.store.side[name].zero_()

    def _moment(self, time_s: float) -> Tensor:
        if not isinstance(self.field, CurveField):
            return self.field.moment(time_s, self.device)
        if time_s not in self._moments:
            # Made anew, the host would wait each time until the device has it.
            self._moments[time_s] = self.field.moment(time_s, self.device)
        return self._moments[time_s]

    def _add(self, inputs: Mapping[str, Tensor]) -> None:
        store, sums = self.store, self.sums
        view = self._view.with_tensors(inputs)
        density = self.field.density(store["curve"], store["means_mm"], inputs["moment"])
        statistics = torch.zeros(len(store), 2, device=density.device)
        image = splat(
            store["means_mm"],
            store["quats_wxyz"],
            store["log_scales"].exp(),
            density,
            view.intrinsics,
            view.camera_from_world,
            view.width_px,
            view.height_px,
            pixel_average=True,
            screen_gradient=statistics,
        )
        loss = view_loss(image, view, store, self.field, self.config, inputs.get("others"))
        loss = loss / self.config.views_per_step
        loss.backward()
        with torch.no_grad():
            sums.loss.add_(loss.detach())
            sums.seen[:, :2] += statistics
            sums.seen[:, 2] += density * statistics[:, 1]
            torch.maximum(sums.peak, density, out=sums.peak)

    def _gather(self) -> None:
        store, sums, side = self.store, self.sums, self.store.side
        store["log_scales"].clamp_(*self._log_limits)
        if "gradient" not in side:
            side |= {name: torch.zeros_like(sums.peak) for name in (*_GATHERED, "peak")}
        for name, column in zip(_GATHERED, sums.seen.unbind(1), strict=True):
            side[name] += column
        torch.maximum(side["peak"], sums.peak, out=side["peak"])
        sums.seen.zero_()
        sums.peak.zero_()

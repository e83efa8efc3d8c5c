"""How bright each Gaussian is over time: two fields behind one interface."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn

from splatomy.fields.encodings import HashGrid


class AttenuationField(Protocol):
    """Density of Gaussians at a time."""

    def moment(self, time_s: float, device: torch.device) -> torch.Tensor:
        """What the field needs to know of a time, as a tensor on a device."""

    def density(
        self, curve: torch.Tensor, means_mm: torch.Tensor, time: float | torch.Tensor
    ) -> torch.Tensor:
        """Attenuation (N,) in 1/mm of Gaussians with curve parameters (N, K) at means (N, 3).

        time: in s, or the ``moment`` of one.
        """

    def parameters(self) -> list[torch.Tensor]:
        """Shared trainable tensors (besides the Gaussians' own)."""


class TimeBasis:
    """K uniform cubic B-splines over a time range; they sum to one at every time inside."""

    def __init__(self, start_s: float, end_s: float, size: int) -> None:
        if size < 4 or not end_s >= start_s:
            raise ValueError(f"a cubic basis needs 4 splines or more and a range, got {size}")
        self.start_s, self.size = start_s, size
        self.step_s = max(end_s - start_s, 1e-6) / (size - 3)

    def weights(self, time_s: float, device: torch.device | None = None) -> torch.Tensor:
        """The value of each spline at a time, (K,); times outside are clamped to the range."""
        place = min(max((time_s - self.start_s) / self.step_s, 0.0), self.size - 3 - 1e-6)
        first = int(place)
        u = place - first
        local = [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3]
        out = torch.zeros(self.size, device=device)
        out[first : first + 4] = torch.tensor(local, device=device) / 6
        return out


class CurveField:
    """Per-Gaussian time curves: softplus of a B-spline.

    The unit of a curve parameter is ``unit_per_mm``, a typical density, so that one learning rate
    fits every scanner's calibration.
    """

    def __init__(self, basis: TimeBasis, unit_per_mm: float) -> None:
        self.basis, self.unit_per_mm = basis, unit_per_mm

    def moment(self, time_s: float, device: torch.device) -> torch.Tensor:
        """The weights of the splines, (K,)."""
        return self.basis.weights(time_s, device)

    def density(
        self, curve: torch.Tensor, means_mm: torch.Tensor, time: float | torch.Tensor
    ) -> torch.Tensor:
        """See ``AttenuationField``."""
        moment = time if isinstance(time, torch.Tensor) else self.moment(time, curve.device)
        raw = curve @ moment.to(curve.dtype)
        # Sharp softplus: linear over a tenth of the unit, and its gradient never dies.
        return self.unit_per_mm * nn.functional.softplus(raw, beta=10.0)

    def start(self, density_per_mm: torch.Tensor) -> torch.Tensor:
        """Constant curves (N, K) of the given densities (N,)."""
        value = (density_per_mm / self.unit_per_mm).clamp(min=1e-3)
        raw = value + torch.log(-torch.expm1(-10 * value)) / 10
        return raw[:, None].expand(-1, self.basis.size).contiguous()

    def roughness(self, curve: torch.Tensor) -> torch.Tensor:
        """Mean squared second difference of the curves."""
        return (curve[:, 2:] - 2 * curve[:, 1:-1] + curve[:, :-2]).square().mean()

    def parameters(self) -> list[torch.Tensor]:
        """None are shared."""
        return []


class GridField(nn.Module):
    """The paper's field: static and dynamic hash grids and a small MLP.

    Source: 4DRGS (IPMI 2025), dynamic neural attenuation field; single precision, and a softplus in
    place of the output ReLU, which can die.
    """

    low_mm: torch.Tensor
    size_mm: torch.Tensor

    def __init__(
        self,
        low_mm: torch.Tensor,
        size_mm: torch.Tensor,
        start_s: float,
        end_s: float,
        unit_per_mm: float,
        log2_table: int,
    ) -> None:
        super().__init__()
        self.register_buffer("low_mm", low_mm)
        self.register_buffer("size_mm", size_mm)
        self.start_s, self.duration_s = start_s, max(end_s - start_s, 1e-6)
        self.unit_per_mm = unit_per_mm
        self.static = HashGrid(3, 12, log2_table, 8, 1.45)
        self.dynamic = HashGrid(4, 12, log2_table, 2, 1.40)
        last = nn.Linear(64, 1)
        # Start near the typical density rather than at zero.
        nn.init.constant_(last.bias, math.log(math.expm1(0.5)))
        self.mlp = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), last)

    def moment(self, time_s: float, device: torch.device) -> torch.Tensor:
        """The share of the run, ()."""
        share = min(max((time_s - self.start_s) / self.duration_s, 0.0), 1.0)
        return torch.tensor(share, device=device)

    def density(
        self, curve: torch.Tensor, means_mm: torch.Tensor, time: float | torch.Tensor
    ) -> torch.Tensor:
        """See ``AttenuationField``; ``curve`` is not used."""
        place = ((means_mm - self.low_mm) / self.size_mm).clamp(0, 1)
        moment = time if isinstance(time, torch.Tensor) else self.moment(time, place.device)
        with_time = torch.cat([place, moment.to(place).expand(len(place), 1)], 1)
        features = torch.cat([self.static(place), self.dynamic(with_time)], 1)
        return self.unit_per_mm * nn.functional.softplus(self.mlp(features)[:, 0])

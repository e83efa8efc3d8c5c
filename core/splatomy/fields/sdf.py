"""Signed distance fields: a hash grid with a small network, and the deep network of GS-Pull.

Both answer in their own cube: points in [-1, 1]^3, distances in the same unit, negative inside.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from splatomy.fields.encodings import HashGrid

FieldKind = Literal["hash", "mlp"]

_TETRAHEDRON = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))


class HashSdf(nn.Module):
    """A sphere plus what a hash grid and a small network add to it.

    ``active_levels``, a tensor (), is a number of levels that may be fractional: finer ones are silent, so
    that the coarse shape is found first. Set it in place, by ``fill_``: a recorded step reads it.

    Source: Mueller et al. 2022 (encoding); Li et al., Neuralangelo, 2023 (coarse to fine).
    """

    active_levels: Tensor

    def __init__(self, levels: int = 10, log2_table: int = 17, radius: float = 0.5) -> None:
        super().__init__()
        self.radius = radius
        self.grid = HashGrid(3, levels, log2_table, 8, 1.5)
        self.register_buffer("active_levels", torch.tensor(float(levels)), persistent=False)
        first = nn.Linear(2 * levels + 3, 64)
        last = nn.Linear(64, 1)
        # At the start the sphere alone speaks.
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(first, nn.Softplus(beta=100), nn.Linear(64, 64), nn.Softplus(beta=100), last)

    def forward(self, points: Tensor) -> Tensor:
        """Distances (N,) at points (N, 3)."""
        features = self.grid((0.5 * (points + 1)).clamp(0, 1))
        level = torch.arange(len(self.grid.resolutions), device=points.device)
        share = (self.active_levels - level).clamp(0, 1)
        features = features * share[:, None].expand(-1, 2).flatten()
        inner = self.mlp(torch.cat([points, features], 1))[:, 0]
        return points.norm(dim=1) - self.radius + inner


class MlpSdf(nn.Module):
    """The network of GS-Pull: 8 hidden layers of 256, one skip, started as a sphere.

    Source: sheet gs-pull, section 3 (Zhang et al. 2024), after Atzmon and Lipman 2020.
    """

    def __init__(self, width: int = 256, hidden: int = 8, radius: float = 0.5) -> None:
        super().__init__()
        self.skip = hidden // 2
        layers = []
        for number in range(hidden + 1):
            wide_in = 3 if number == 0 else width
            wide_out = 1 if number == hidden else width - 3 if number + 1 == self.skip else width
            layer = nn.Linear(wide_in, wide_out)
            if number == hidden:
                nn.init.normal_(layer.weight, math.sqrt(math.pi) / math.sqrt(wide_in), 1e-4)
                nn.init.constant_(layer.bias, -radius)
            else:
                nn.init.normal_(layer.weight, 0.0, math.sqrt(2) / math.sqrt(wide_out))
                nn.init.zeros_(layer.bias)
            layers.append(nn.utils.parametrizations.weight_norm(layer))
        self.layers = nn.ModuleList(layers)

    def forward(self, points: Tensor) -> Tensor:
        """Distances (N,) at points (N, 3)."""
        x = points
        for number, layer in enumerate(self.layers):
            if number == self.skip:
                x = torch.cat([x, points], 1) / math.sqrt(2)
            x = layer(x)
            if number + 1 < len(self.layers):
                x = torch.relu(x)
        return x[:, 0]


def make_sdf(kind: FieldKind, levels: int, log2_table: int, radius: float) -> HashSdf | MlpSdf:
    """A new field of that kind whose zero set is a sphere."""
    return HashSdf(levels, log2_table, radius) if kind == "hash" else MlpSdf(radius=radius)


@cache
def _corners(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The tetrahedron (4, 3); kept, since a recorded step cannot wait for values from the host."""
    return torch.tensor(_TETRAHEDRON, dtype=dtype, device=device)


def value_and_gradient(field: nn.Module, points: Tensor, step: float | Tensor) -> tuple[Tensor, Tensor]:
    """Values (N,) and gradients (N, 3) from four values at the corners of a tetrahedron of that size.

    Differentiable by the field's parameters, with one backward pass, whatever the encoding.
    """
    corners = _corners(points.dtype, points.device)
    places = (points[:, None] + step * corners).reshape(-1, 3)
    values = field(places).reshape(-1, 4)
    return values.mean(1), (values @ corners) / (4 * step)


def pulled(points: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Points (N, 3) moved along the gradient onto the zero set: x - f(x) grad f / |grad f|.

    Source: GS-Pull, equation of the pulling operation.
    """
    direction = nn.functional.normalize(gradient, dim=1, eps=1e-6)
    return points - value[:, None] * direction

"""The two distance fields of the object, one smooth and one detailed, and its colour.

Everything lives in the unit sphere about the object; distances have the same unit, negative inside.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from splatomy.fields.encodings import HashGrid

FEATURES = 16
_WIDTH = 64
_COARSE_BANDS, _VIEW_BANDS = 3, 2
_COARSEST_CELLS, _GROWTH = 12, 1.5


def waves(values: Tensor, bands: int) -> Tensor:
    """The values (N, D) and sines and cosines of them, 1, 2, 4, ... times as fast: (N, D (1 + 2 bands))."""
    angles = torch.cat([values * (math.pi * 2.0**band) for band in range(bands)], 1)
    return torch.cat([values, angles.sin(), angles.cos()], 1)


class CascadedSdf(nn.Module):
    """A coarse network of low frequencies, and a fine one that is added to it.

    While ``detailed`` is False the coarse part answers alone.

    Source: O2-Recon, section "cascaded network architecture"; the fine part is a hash grid
    (Mueller et al. 2022) where the paper has a second network of six frequencies.
    """

    def __init__(self, levels: int, log2_table: int, radius: float = 0.6) -> None:
        super().__init__()
        self.detailed = False
        wide = 3 * (1 + 2 * _COARSE_BANDS)
        sizes = [wide, _WIDTH, _WIDTH, _WIDTH, 1 + FEATURES]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer in layers[:-1]:
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / _WIDTH))
            nn.init.zeros_(layer.bias)
        # Waves are silent at the start, and the first output is the distance to a sphere.
        nn.init.zeros_(layers[0].weight[:, 3:])
        nn.init.normal_(layers[-1].weight[:1], math.sqrt(math.pi / _WIDTH), 1e-4)
        nn.init.constant_(layers[-1].bias[:1], -radius)
        self.coarse = nn.ModuleList(layers)
        self.grid = HashGrid(3, levels, log2_table, _COARSEST_CELLS, _GROWTH)
        first = nn.Linear(2 * levels + 3 + FEATURES, _WIDTH)
        last = nn.Linear(_WIDTH, 1 + FEATURES)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.fine = nn.Sequential(first, nn.Softplus(beta=100), last)

    def full(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (N,) and features (N, FEATURES) at points (N, 3)."""
        x = waves(points, _COARSE_BANDS)
        for layer in self.coarse[:-1]:
            x = nn.functional.softplus(layer(x), beta=100)
        out = self.coarse[-1](x)
        if self.detailed:
            detail = self.grid((0.5 * (points + 1)).clamp(0, 1))
            out = out + self.fine(torch.cat([points, detail, out[:, 1:]], 1))
        return out[:, 0], out[:, 1:]

    def forward(self, points: Tensor) -> Tensor:
        """Distances (N,) at points (N, 3)."""
        return self.full(points)[0]


class ColourField(nn.Module):
    """Colour of a place, seen from somewhere.

    Source: IDR (Yariv et al. 2020) as used by O2-Recon, without the normal among its inputs: it would cost
    four more values of the field at every sample.
    """

    def __init__(self) -> None:
        super().__init__()
        wide = 3 + FEATURES + 3 * (1 + 2 * _VIEW_BANDS)
        self.layers = nn.Sequential(
            nn.Linear(wide, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 3)
        )

    def forward(self, points: Tensor, features: Tensor, directions: Tensor | None) -> Tensor:
        """sRGB (N, 3) in [0, 1] at points (N, 3); directions: (N, 3) of the rays, None = from anywhere."""
        seen = waves(torch.zeros_like(points) if directions is None else directions, _VIEW_BANDS)
        if directions is None:
            # Cosines of nothing are one: all inputs of the direction are silent, not the first rows.
            seen = torch.zeros_like(seen)
        return torch.sigmoid(self.layers(torch.cat([points, features, seen], 1)))

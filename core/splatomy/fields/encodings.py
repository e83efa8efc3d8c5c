"""Multi-resolution hash encoding in plain torch."""

from __future__ import annotations

import torch
from torch import nn

# Primes that spread grid indices over the table; the first axis is left as it is.
_PRIMES = (1, 2654435761, 805459861, 3674653429)


class HashGrid(nn.Module):
    """Features of points in [0, 1]^D from ``levels`` grids, each a hashed table, linearly interpolated.

    Source: Mueller et al., Instant Neural Graphics Primitives (2022), section 3.
    """

    corners: torch.Tensor
    primes: torch.Tensor

    def __init__(
        self, dims: int, levels: int, features: int, log2_table: int, base: int, growth: float
    ) -> None:
        super().__init__()
        self.dims, self.size = dims, 1 << log2_table
        self.resolutions = [int(base * growth**level) for level in range(levels)]
        self.table = nn.Parameter((torch.rand(levels, self.size, features) * 2 - 1) * 1e-4)
        corners = torch.cartesian_prod(*[torch.arange(2)] * dims)
        self.register_buffer("corners", corners, persistent=False)
        self.register_buffer("primes", torch.tensor(_PRIMES[:dims]), persistent=False)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Features (N, levels * features) of points (N, D)."""
        out = []
        for level, resolution in enumerate(self.resolutions):
            scaled = points * resolution
            low = scaled.detach().floor().clamp(0, resolution - 1)
            fraction = scaled - low
            index = low.long()[:, None] + self.corners
            if (resolution + 1) ** self.dims <= self.size:
                strides = (resolution + 1) ** torch.arange(self.dims, device=points.device)
                slot = (index * strides).sum(-1)
            else:
                hashed = index * self.primes
                slot = hashed[..., 0]
                for axis in range(1, self.dims):
                    slot = slot ^ hashed[..., axis]
                slot = slot & (self.size - 1)
            weights = torch.where(self.corners.bool(), fraction[:, None], 1 - fraction[:, None]).prod(-1)
            out.append((self.table[level][slot] * weights[..., None]).sum(1))
        return torch.cat(out, 1)

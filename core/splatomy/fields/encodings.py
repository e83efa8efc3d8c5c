"""Multi-resolution hash encoding: plain torch anywhere, Numba on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from splatomy.kernels.xray import Backend, resolve_backend

# Primes that spread grid indices over the table; the first axis is left as it is.
_PRIMES = (1, 2654435761, 805459861, 3674653429)


class HashGrid(nn.Module):
    """Features of points in [0, 1]^D, two from each of ``levels`` hashed grids, linearly interpolated.

    Source: Mueller et al., Instant Neural Graphics Primitives (2022), section 3.
    """

    sizes: torch.Tensor
    strides: torch.Tensor

    def __init__(self, dims: int, levels: int, log2_table: int, base: int, growth: float) -> None:
        super().__init__()
        self.dims, self.size = dims, 1 << log2_table
        self.resolutions = [int(base * growth**level) for level in range(levels)]
        self.is_hashed = [(r + 1) ** dims > self.size for r in self.resolutions]
        self.table = nn.Parameter((torch.rand(levels, self.size, 2) * 2 - 1) * 1e-4)
        strides = [
            _PRIMES[:dims] if hashed else [(resolution + 1) ** axis for axis in range(dims)]
            for resolution, hashed in zip(self.resolutions, self.is_hashed, strict=True)
        ]
        self.register_buffer("sizes", torch.tensor(self.resolutions), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    def forward(self, points: torch.Tensor, backend: Backend = "auto") -> torch.Tensor:
        """Features (N, 2 levels) of points (N, D).

        Torch is the reference. Numba, taken for float32 on the CPU, gives the same values and gradients
        for any number of threads.

        Raises:
            ValueError: the backend is unknown, or numba was asked for other tensors.
        """
        if resolve_backend(backend, points) == "numba":
            return self._compiled(points)
        # All levels at once: a GPU does a few large steps at the price of as many small ones.
        size = self.sizes.to(points)[:, None, None]
        scaled = points * size
        low = scaled.detach().floor().clamp_min(0).minimum(size - 1)
        fraction = scaled - low
        # 32 bits wrap round as those of the hash do, and of a product only the last bits matter.
        first, strides = low.to(torch.int32), self.strides.to(torch.int32)
        hashed = added = first.new_zeros((*first.shape[:2], 1))
        weights = fraction.new_ones(hashed.shape)
        for axis in range(self.dims):
            ends = torch.stack([first[..., axis], first[..., axis] + 1], -1) * strides[:, axis, None, None]
            hashed = (hashed[..., None] ^ ends[:, :, None]).flatten(2)
            added = (added[..., None] + ends[:, :, None]).flatten(2)
            share = torch.stack([1 - fraction[..., axis], fraction[..., axis]], -1)
            weights = (weights[..., None] * share[:, :, None]).flatten(2)
        levels = torch.arange(len(self.sizes), dtype=torch.int32, device=points.device)
        many = (self.sizes + 1) ** self.dims > self.size
        slot = torch.where(many[:, None, None], hashed & (self.size - 1), added)
        slot = slot + levels[:, None, None] * self.size
        values = self.table.reshape(-1, 2).index_select(0, slot.flatten()).reshape(*slot.shape, 2)
        return (values * weights[..., None]).sum(2).transpose(0, 1).flatten(1)

    def _compiled(self, points: torch.Tensor) -> torch.Tensor:
        # Imported on use: Numba takes a second to load, and a GPU run never needs it.
        from splatomy.kernels._numba_hash import Encode

        masks = np.where(self.is_hashed, self.size - 1, -1)
        features: torch.Tensor = Encode.apply(
            points, self.table, np.array(self.resolutions), self.strides.numpy(), masks
        )
        return features

"""The voxeliser on CUDA: bricks of 8^3 voxels sum lists of Gaussians; see ``_gpu_xray`` for how.

Backward: each Gaussian gathers ten moments of the volume's gradient in its box, one warp to one Gaussian,
so the gradients never depend on an order; under ``torch.use_deterministic_algorithms`` the volume does not
either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime
from splatomy.kernels._gpu_lists import blocks_of, capacity_of, demand_of, make_lists

PARTS = ("shared", "tiles", "voxels", "voxels_back")
BRICK = 8
MAX_SIZE = 65535
_BLOCK = 128
_ITEM = 512
_GROUP = 4
_MOMENTS = 16


class Voxelize(torch.autograd.Function):
    """Volumes (C, I, J, K) of float32 tensors on one device; the affine gets no gradient.

    density_per_mm: (N, C). affine_mm: (4, 4) float64 on the host.
    """

    @staticmethod
    def forward(
        ctx: Any,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        scales_mm: Tensor,
        density_per_mm: Tensor,
        shape: tuple[int, int, int],
        affine_mm: Tensor,
        cutoff_sigma: float,
        cell_variance: float,
    ) -> Tensor:
        device, (num, columns) = means_mm.device, density_per_mm.shape
        parameters = [t.contiguous() for t in (means_mm, quats_wxyz, scales_mm, density_per_mm)]
        host = affine_mm.numpy()
        inverse = np.linalg.inv(host[:3, :3]).ravel()
        grid = torch.from_numpy(np.concatenate([inverse, host[:3, 3]])).to(device, non_blocking=True)
        tiles = blocks_of(shape[0], BRICK) * blocks_of(shape[1], BRICK) * blocks_of(shape[2], BRICK)
        with _gpu_runtime.program(PARTS, device).current() as program:
            # Two 64-bit totals, then the bricks' counts.
            head = torch.zeros(4 + tiles, dtype=torch.int32, device=device)
            volumes = torch.zeros(columns, *shape, device=device)
            records = torch.empty(num, 16, device=device)
            counts, blocks = head.data_ptr() + 16, (blocks_of(num, _BLOCK), 1)
            launch: list[Any] = [*parameters, num, columns, grid, *shape, cutoff_sigma, cell_variance]
            program.launch("place_voxels", blocks, _BLOCK, *launch, records, counts)
            demand, exact = demand_of("voxels", device), torch.are_deterministic_algorithms_enabled()
            capacity = max(int(head[4:].sum()), 1) if exact else capacity_of(int(demand), num)
            lists = make_lists(tiles, capacity, capacity if exact else _ITEM, device)
            listed = (capacity, lists.item_size, head, lists.cursors, lists.memory)
            program.launch("allocate_tiles", (blocks_of(tiles, 256), 1), 256, counts, tiles, *listed)
            launch = [records, parameters[3], num, columns, *shape, capacity, head, lists.cursors]
            program.launch("fill_voxels", blocks, _BLOCK, *launch, lists.members, volumes, demand)
            items = (lists.memory, head)
            if exact:
                program.launch("sort_voxels", (lists.num_items, 1), 256, *items, lists.members)
            name, group = _variant("sum_voxels", columns)
            launch = [records, lists.members, parameters[3], columns, *items, *shape, volumes]
            program.launch(name, (lists.num_items, blocks_of(columns, group)), 64, *launch)
        ctx.save_for_backward(*parameters, grid, records)
        ctx.rest = (shape, cell_variance)
        return volumes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *parameters, grid, records = ctx.saved_tensors
        (shape, cell_variance), (num, columns) = ctx.rest, parameters[3].shape
        with _gpu_runtime.program(PARTS, records.device).current() as program:
            name, group = _variant("gather_voxels", columns)
            groups = blocks_of(columns, group)
            moments = torch.empty(groups, num, _MOMENTS, device=records.device)
            launch: list[Any] = [records, parameters[3], num, columns, *shape, grads[0].contiguous(), moments]
            program.launch(name, (blocks_of(num, 4), groups), _BLOCK, *launch)
            out = [torch.empty_like(t) for t in parameters]
            launch = [*parameters[:3], num, columns, group, grid, cell_variance, records, moments, *out]
            program.launch("chain_voxels", (blocks_of(num, _BLOCK), 1), _BLOCK, *launch)
        return *out, *(None,) * 4


def _variant(name: str, columns: int) -> tuple[str, int]:
    """The kernel for a number of columns, and how many of them it takes at once."""
    return (name, 1) if columns == 1 else (f"{name}_by_four", _GROUP)

"""The X-ray splatter on CUDA: projection, tile lists, sums and gradients of all views in one launch each.

Forward: Gaussians are projected (float64) and counted per tile, the tiles get their parts of one array, the
Gaussians are listed in them and each tile sums its list. The host waits for nothing: the room for the lists
is guessed from the last call, and what does not fit is drawn without a list. Backward: as the image is a
plain sum, each Gaussian gathers six moments of the image's gradient under its footprint, one warp to one
Gaussian, so no two threads add to the same place, and nothing depends on an order.

Under ``torch.use_deterministic_algorithms`` the lists are sorted and the image is the same bit by bit too;
the host then waits once for the length of the lists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime
from splatomy.kernels._gpu_lists import blocks_of, capacity_of, demand_of, make_lists

PARTS = ("shared", "tiles", "xray", "xray_back")
TILE_PX = 16
MAX_SIZE_PX = 65535
_BLOCK = 128
_ITEM = 512
_CAMERA = 17
_MOST_RECORDS, _MOST_VIEWS = 1 << 26, 65535


def views_at_once(num: int) -> int:
    """How many views of ``num`` Gaussians one call takes: their records fill 4 GiB at most."""
    return max(1, min(_MOST_VIEWS, _MOST_RECORDS // max(num, 1)))


class Splat(torch.autograd.Function):
    """Images (V, H, W), or (H, W) for cameras without V, of float32 tensors on one device.

    density_per_mm: (V, N) or (N,). intrinsics, camera_from_world: float64 on the Gaussians' device.
    """

    @staticmethod
    def forward(
        ctx: Any,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        scales_mm: Tensor,
        density_per_mm: Tensor,
        intrinsics: Tensor,
        camera_from_world: Tensor,
        width_px: int,
        height_px: int,
        cutoff_sigma: float,
        cell_variance: float,
        screen_gradient: Tensor | None,
    ) -> Tensor:
        device, num = means_mm.device, len(means_mm)
        parameters = [t.contiguous() for t in (means_mm, quats_wxyz, scales_mm, density_per_mm)]
        camera = [intrinsics.contiguous(), camera_from_world.contiguous()]
        num_views = 1 if intrinsics.ndim == 2 else len(intrinsics)
        num_records, size = num_views * num, (width_px, height_px)
        tiles = num_views * blocks_of(width_px, TILE_PX) * blocks_of(height_px, TILE_PX)
        with _gpu_runtime.program(PARTS, device).current() as program:
            # Two 64-bit totals, then the tiles' counts.
            head = torch.zeros(4 + tiles, dtype=torch.int32, device=device)
            images = torch.zeros(*intrinsics.shape[:-2], height_px, width_px, device=device)
            records = torch.empty(num_records, 8, device=device)
            counts = head.data_ptr() + 16
            grid = (blocks_of(num, _BLOCK), num_views)
            launch: list[Any] = [*parameters, *camera, num, *size, cutoff_sigma, cell_variance]
            program.launch("project_xray", grid, _BLOCK, *launch, records, counts)
            demand, exact = demand_of("xray", device), torch.are_deterministic_algorithms_enabled()
            capacity = max(int(head[4:].sum()), 1) if exact else capacity_of(int(demand), num_records)
            lists = make_lists(tiles, capacity, capacity if exact else _ITEM, device)
            listed = (capacity, lists.item_size, head, lists.cursors, lists.memory)
            program.launch("allocate_tiles", (blocks_of(tiles, 256), 1), 256, counts, tiles, *listed)
            launch = [records, num_records, num, *size, capacity, head, lists.cursors, lists.members]
            program.launch("fill_xray", (blocks_of(num_records, _BLOCK), 1), _BLOCK, *launch, images, demand)
            items = (lists.memory, head)
            if exact:
                program.launch("sort_xray", (lists.num_items, 1), 256, *items, lists.members)
            launch = [records, lists.members, *items, *size, images]
            program.launch("sum_xray", (lists.num_items, 1), 64, *launch)
        ctx.save_for_backward(*parameters, *camera, records)
        ctx.rest = (num_views, size, cell_variance, screen_gradient)
        return images

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *saved, records = ctx.saved_tensors
        num_views, size, cell_variance, screen_gradient = ctx.rest
        device, num = records.device, len(saved[0])
        with _gpu_runtime.program(PARTS, device).current() as program:
            moments = torch.empty_like(records)
            launch: list[Any] = [records, len(records), num, *size, grads[0].contiguous(), moments]
            program.launch("gather_xray", (blocks_of(len(records), 4), 1), _BLOCK, *launch)
            out = [torch.empty_like(t) for t in saved[:4]]
            blocks, cameras = blocks_of(num, _BLOCK), None
            if ctx.needs_input_grad[4] or ctx.needs_input_grad[5]:
                warps = blocks * (_BLOCK // 32)
                cameras = torch.empty(num_views, warps, _CAMERA, dtype=torch.float64, device=device)
            launch = [*saved, num, num_views, *size, cell_variance, records, moments, *out, cameras]
            program.launch("chain_xray", (blocks, 1), _BLOCK, *launch, screen_gradient)
        if cameras is None:
            return *out, *(None,) * 7
        return *out, *camera_gradients(cameras.sum(1), saved[4].shape[:-2]), *(None,) * 5


def camera_gradients(sums: Tensor, views: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Gradients of intrinsics (*views, 3, 3) and poses (*views, 4, 4) from the kernels' 17 sums a view."""
    intrinsics, poses = sums.new_zeros(len(sums), 3, 3), sums.new_zeros(len(sums), 4, 4)
    poses[:, :3] = sums[:, :12].reshape(-1, 3, 4)
    intrinsics[:, 0], intrinsics[:, 1, 1:] = sums[:, 12:15], sums[:, 15:17]
    return intrinsics.reshape(*views, 3, 3), poses.reshape(*views, 4, 4)

"""The surfel splatter on CUDA: projection, tile lists sorted by depth, blending and the way back.

The outputs are finished in the kernels: depths from the sums of inverse depths, and their gradients, cost
no further pass over the image. The room for the lists is guessed from the last call; while the image is
being blended the host looks whether it was enough, and if not draws again. Inside a CUDA graph it cannot
look: there the room is 4.5 times the last demand, and what does not fit would be left out.

Backward: each warp reduces the gradients of a surfel over its patch of 8 x 4 pixels before it adds them
atomically; under ``torch.use_deterministic_algorithms`` it stores them, and they are added in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime
from splatomy.kernels._gpu_lists import LIST_LIMIT, Lists, blocks_of, capacity_of, demand_of, make_lists

PARTS = ("shared", "tiles", "surfels", "surfels_blend", "surfels_unblend", "surfels_chain")
TILE_PX = 16
MAX_SURFELS = 1 << 24
"""The sort key has 24 bits for a surfel's index."""
_BLOCK = 128
_PIXELS = 256
_VALUES = 8
_SUMS = 24
_SURFEL_FLOATS = 20
_PATCHES = 8


class Splat(torch.autograd.Function):
    """Colour (H, W, C), alpha, depth, median depth (H, W), normal (H, W, 3), distortion (H, W), radius (N,).

    All of float32 CUDA tensors on one device; intrinsics (3, 3) and camera_from_world (4, 4) are float64, and
    the intrinsics get no gradient. background: (C,) or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        scales_mm: Tensor,
        opacity: Tensor,
        colours: Tensor,
        background: Tensor | None,
        camera_from_world: Tensor,
        intrinsics: Tensor,
        size: tuple[int, int],
        depth_range_mm: tuple[float, float],
        screen_gradient: Tensor | None,
    ) -> tuple[Tensor, ...]:
        device, (num, channels), (width, height) = means_mm.device, colours.shape, size
        if num > MAX_SURFELS:
            raise ValueError(f"the gpu backend draws at most {MAX_SURFELS} surfels, got {num}")
        inputs = (means_mm, quats_wxyz, scales_mm, opacity, colours)
        surfels = [t.contiguous() for t in inputs]
        camera = [intrinsics.contiguous(), camera_from_world.contiguous()]
        behind = None if background is None else background.contiguous()
        with _gpu_runtime.program(PARTS, device).current() as program:
            options: dict[str, Any] = {"dtype": torch.float32, "device": device}
            footprints = torch.empty(num, _SURFEL_FLOATS, **options)
            boxes = torch.empty(num, 4, dtype=torch.int32, device=device)
            radius = torch.empty(num, **options)
            image, normal, states = (torch.empty(height, width, c, **options) for c in (channels, 3, 4))
            alpha, depth, median, distortion = torch.empty(4, height, width, **options).unbind(0)
            places = (footprints, boxes, radius)
            images = (image, alpha, depth, median, normal, distortion, states)
            head, lists = _draw(program, surfels, camera, behind, size, depth_range_mm, places, images)
        ctx.save_for_backward(*surfels, *camera, head, lists.memory, footprints, boxes, states, image, normal)
        ctx.rest = (size, depth_range_mm, screen_gradient, behind, lists._replace(memory=head[:0]))
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radius)
        return image, alpha, depth, median, normal, distortion, radius

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, head, _, footprints, boxes, states, image, normal = ctx.saved_tensors
        surfels, (intrinsics, pose) = saved[:5], saved[5:]
        size, depth_range_mm, screen_gradient, behind, lists = ctx.rest
        device, (num, channels) = footprints.device, surfels[4].shape
        groups, tiles = blocks_of(channels + 3, _VALUES), len(head) - 4
        d_image, d_alpha, d_depth, d_median, d_normal, d_distortion = (
            None if g is None else g.contiguous() for g in grads[:6]
        )
        with _gpu_runtime.program(PARTS, device).current() as program:
            exact, parts = torch.are_deterministic_algorithms_enabled(), None
            if exact:
                shape = (groups, lists.capacity, _PATCHES, _SUMS)
                parts = torch.zeros(shape, dtype=torch.float32, device=device)
            sums = torch.zeros(groups, num, _SUMS, dtype=torch.float32, device=device)
            where = [lists.members, head.data_ptr() + 16, lists.cursors, lists.capacity]
            launch: list[Any] = [
                footprints,
                *where,
                surfels[4],
                num,
                channels,
                behind,
                *depth_range_mm,
                *size,
            ]
            launch += [states, d_image, d_alpha, d_depth, d_median, d_normal, d_distortion, image, normal]
            program.launch("unblend_surfels", (tiles, groups), _PIXELS, *launch, sums, parts)
            if exact:
                launch = [footprints, boxes, *where, num, size[0], parts, sums]
                program.launch("add_parts", (blocks_of(num, 4), groups), _BLOCK, *launch)
            out = [torch.empty_like(t) for t in surfels]
            blocks, poses, d_pose = blocks_of(num, _BLOCK), None, None
            if ctx.needs_input_grad[6]:
                warps = blocks * (_BLOCK // 32)
                poses = torch.empty(warps, 12, dtype=torch.float64, device=device)
            launch = [*surfels[:3], intrinsics, pose, num, channels, groups, *size, boxes, sums, *out]
            program.launch("chain_surfels", (blocks, 1), _BLOCK, *launch, poses, screen_gradient)
        if poses is not None:
            d_pose = poses.new_zeros(4, 4)
            d_pose[:3] = poses.sum(0).reshape(3, 4)
        d_behind = None
        if ctx.needs_input_grad[5] and d_image is not None:
            d_behind = torch.einsum("hwc,hw->c", d_image, states[..., 0])
        return *out, d_behind, d_pose, *(None,) * 4


def _draw(
    program: _gpu_runtime.Launcher,
    surfels: list[Tensor],
    camera: list[Tensor],
    background: Tensor | None,
    size: tuple[int, int],
    depth_range_mm: tuple[float, float],
    places: tuple[Tensor, ...],
    images: tuple[Tensor, ...],
) -> tuple[Tensor, Lists]:
    """Fills the surfels' places and the images; the tiles' totals and counts, and their lists."""
    (num, channels), device = surfels[4].shape, surfels[4].device
    tiles = blocks_of(size[0], TILE_PX) * blocks_of(size[1], TILE_PX)
    demand, room = demand_of("surfels", device), 0
    while True:
        # Two 64-bit totals, then the tiles' counts.
        head = torch.zeros(4 + tiles, dtype=torch.int32, device=device)
        counts = head.data_ptr() + 16
        launch: list[Any] = [*surfels, *camera, num, channels, depth_range_mm[0], *size, *places, counts]
        program.launch("project_surfels", (blocks_of(num, _BLOCK), 1), _BLOCK, *launch)
        lists, filled = _list(program, head, places[0], places[1], demand, tiles, size[0], room)
        where = [lists.members, counts, lists.cursors, lists.capacity]
        launch = [places[0], *where, surfels[4], channels, background, *depth_range_mm, *size, *images]
        program.launch("blend_surfels", (tiles, blocks_of(channels + 3, _VALUES)), _PIXELS, *launch)
        if filled is None:
            return head, lists
        filled.synchronize()
        room = int(demand)
        if room <= lists.capacity and room < LIST_LIMIT:
            return head, lists
        if room >= LIST_LIMIT:
            raise ValueError(f"the surfels meet {LIST_LIMIT} tiles or more; draw fewer or a smaller image")


def _list(
    program: _gpu_runtime.Launcher,
    head: Tensor,
    footprints: Tensor,
    boxes: Tensor,
    demand: Tensor,
    tiles: int,
    width: int,
    room: int,
) -> tuple[Lists, torch.cuda.Event | None]:
    """The tiles' lists of surfels, sorted by depth, with at least ``room``; the event after their demand."""
    device, num = head.device, len(boxes)
    asked = max(int(demand), room)
    if program.capturing():
        asked *= 3
    capacity = capacity_of(asked, num, LIST_LIMIT)
    # One item to a tile: a list is sorted as a whole.
    lists = make_lists(tiles, capacity, capacity, device, words=2)
    listed = (capacity, lists.item_size, head, lists.cursors, lists.memory)
    program.launch("allocate_tiles", (blocks_of(tiles, 256), 1), 256, head.data_ptr() + 16, tiles, *listed)
    launch = [footprints, boxes, num, width, capacity, head, lists.cursors, lists.members, demand]
    program.launch("fill_surfels", (max(1, blocks_of(num, _BLOCK)), 1), _BLOCK, *launch)
    filled = program.mark()
    program.launch("sort_surfels", (tiles, 1), 256, lists.memory, head, lists.members)
    return lists, filled

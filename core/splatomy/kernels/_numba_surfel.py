"""The surfel splatter on the CPU: projection, tiles and gradients compiled by Numba.

Forward: surfels are projected (float64), sorted by depth and listed in the 16 x 16 tiles they meet; each
tile is blended from near to far by one thread. Backward: each tile walks its list from far to near and
writes one record per surfel and tile; a surfel's records are summed in the order of the tiles, and
``_numba_surfel_chain`` takes them to its parameters. Nothing depends on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from splatomy.kernels._numba_shared import LANES, LAUNCH_LOCK, arrays
from splatomy.kernels._numba_surfel_chain import chain_all, project_all
from splatomy.kernels._numba_surfel_rows import (
    BACK_LAST_AT,
    BACK_LIGHT,
    BACK_MEDIAN_AT,
    BEHIND,
    D_FIRST,
    D_MEDIAN,
    D_SECOND,
    D_VALUES,
    FIRST,
    FOOTPRINT,
    GRADIENTS,
    LAST_AT,
    LIGHT,
    MEDIAN,
    MEDIAN_AT,
    PIXELS,
    SECOND,
    VALUES,
    Q,
    blend_surfel,
    gather_surfel,
)
from splatomy.kernels._torch_surfel import TILE_PX, Sums

_STATE_PLANES = 3
_CHECK_EVERY = 8


@njit(cache=True)
def _list_tiles(order, boxes, columns, rows):
    """Members of each tile near to far, with starts (T + 1,); each surfel's entries, with starts (N + 1,)."""
    starts = np.zeros(columns * rows + 1, np.int64)
    entry_starts = np.zeros(len(boxes) + 1, np.int64)
    for i in range(len(boxes)):
        entry_starts[i + 1] = entry_starts[i]
        if boxes[i, 1] > boxes[i, 0] and boxes[i, 3] > boxes[i, 2]:
            x0, x1 = boxes[i, 0] // TILE_PX, (boxes[i, 1] - 1) // TILE_PX + 1
            y0, y1 = boxes[i, 2] // TILE_PX, (boxes[i, 3] - 1) // TILE_PX + 1
            entry_starts[i + 1] += (x1 - x0) * (y1 - y0)
            for y in range(y0, y1):
                for x in range(x0, x1):
                    starts[y * columns + x + 1] += 1
    starts = np.cumsum(starts)
    members = np.empty(starts[-1], np.int32)
    entries = np.empty(starts[-1], np.int64)
    cursor = starts[:-1].copy()
    for i in order:
        at = entry_starts[i]
        for y in range(boxes[i, 2] // TILE_PX, (boxes[i, 3] - 1) // TILE_PX + 1):
            for x in range(boxes[i, 0] // TILE_PX, (boxes[i, 1] - 1) // TILE_PX + 1):
                tile = y * columns + x
                members[cursor[tile]] = i
                entries[at] = cursor[tile]
                cursor[tile] += 1
                at += 1
    return starts, members, entry_starts, entries


@njit(cache=True)
def _any_light(tile):
    most = np.float32(0)
    for pixel in range(PIXELS):
        most = max(most, tile[LIGHT * PIXELS + pixel])
    return most > 0


@njit(cache=True)
def _placement(i, x, y, centres, boxes):
    """The offset of a tile's corner (x, y) from a surfel's centre, and the rows of the tile in its box."""
    dx, dy = np.float32(x - centres[i, 0]), np.float32(y - centres[i, 1])
    return dx, dy, max(boxes[i, 2] - y, 0), min(boxes[i, 3] - y, TILE_PX)


@njit(parallel=True, cache=True)
def _blend_tiles(
    size,
    centres,
    footprints,
    values,
    boxes,
    starts,
    members,
    limits,
    image,
    alpha,
    sums,
    state,
    ends,
    threads,
):
    """Blend all tiles into image (K, H, W), alpha (H, W) and sums (3, H, W): first, second, median.

    state: transmittance, median and last place of each tile, (T, 3, 256); ends: (T,) entries walked.
    """
    width, height = size
    columns = (width + TILE_PX - 1) // TILE_PX
    num_values = values.shape[1]
    flat_footprints, flat_values = footprints.reshape(-1), values.reshape(-1)
    for thread in prange(threads):
        tile = np.empty((VALUES + num_values) * PIXELS, np.float32)
        # Tiles are dealt out in turn, as surfels crowd some parts of an image.
        for t in range(thread, len(starts) - 1, threads):
            x, y = t % columns * TILE_PX, t // columns * TILE_PX
            shown, rows = min(TILE_PX, width - x), min(TILE_PX, height - y)
            tile[:] = 0
            for row in range(rows):
                start = LIGHT * PIXELS + row * TILE_PX
                tile[start : start + shown] = 1
            ends[t] = starts[t + 1]
            for entry in range(starts[t], starts[t + 1]):
                place = entry - starts[t]
                if place % _CHECK_EVERY == 0 and not _any_light(tile):
                    ends[t] = entry
                    break
                i = members[entry]
                dx, dy, first_row, end_row = _placement(i, x, y, centres, boxes)
                blend_surfel(
                    *(tile, flat_footprints, i * FOOTPRINT, flat_values, i * num_values, num_values),
                    *(first_row, end_row, dx, dy, limits[0], limits[1], np.float32(place + 1)),
                )
            for k, plane in enumerate((LIGHT, MEDIAN_AT, LAST_AT)):
                state[t, k] = np.abs(tile[plane * PIXELS : (plane + 1) * PIXELS])
            for row in range(rows):
                start = row * TILE_PX
                alpha[y + row, x : x + shown] = 1 - state[t, 0, start : start + shown]
                for k, plane in enumerate((FIRST, SECOND, MEDIAN)):
                    at = plane * PIXELS + start
                    sums[k, y + row, x : x + shown] = tile[at : at + shown]
                for k in range(num_values):
                    at = (VALUES + k) * PIXELS + start
                    image[k, y + row, x : x + shown] = tile[at : at + shown]


@njit(parallel=True, cache=True)
def _gather_tiles(
    size,
    centres,
    footprints,
    values,
    boxes,
    starts,
    members,
    limits,
    d_image,
    d_alpha,
    d_sums,
    state,
    ends,
    records,
    threads,
):
    """The gradient records (E, GRADIENTS + K) of all entries from those of image, alpha and sums."""
    width, height = size
    columns = (width + TILE_PX - 1) // TILE_PX
    num_values, num_all = len(d_image), values.shape[1]
    flat_footprints, flat_values, flat_records = (
        footprints.reshape(-1),
        values.reshape(-1),
        records.reshape(-1),
    )
    for thread in prange(threads):
        tile = np.empty((D_VALUES + num_values) * PIXELS, np.float32)
        lanes = np.empty(num_values * LANES + LANES, np.float32)
        for t in range(thread, len(starts) - 1, threads):
            x, y = t % columns * TILE_PX, t // columns * TILE_PX
            shown, rows = min(TILE_PX, width - x), min(TILE_PX, height - y)
            tile[:] = 0
            for k, plane in enumerate((BACK_LIGHT, BACK_MEDIAN_AT, BACK_LAST_AT)):
                tile[plane * PIXELS : (plane + 1) * PIXELS] = state[t, k]
            for row in range(rows):
                start = row * TILE_PX
                for column in range(shown):
                    # alpha = 1 - light: what is left of the light counts as a last value of -1.
                    light = state[t, 0, start + column]
                    tile[BEHIND * PIXELS + start + column] = -light * d_alpha[y + row, x + column]
                for k, plane in enumerate((D_FIRST, D_SECOND, D_MEDIAN)):
                    at = plane * PIXELS + start
                    tile[at : at + shown] = d_sums[k, y + row, x : x + shown]
                for k in range(num_values):
                    at = (D_VALUES + k) * PIXELS + start
                    tile[at : at + shown] = d_image[k, y + row, x : x + shown]
            for entry in range(ends[t] - 1, starts[t] - 1, -1):
                i = members[entry]
                dx, dy, first_row, end_row = _placement(i, x, y, centres, boxes)
                gather_surfel(
                    *(tile, flat_footprints, i * FOOTPRINT, flat_values, i * num_all, num_values),
                    *(first_row, end_row, dx, dy, limits[0], limits[1], np.float32(entry - starts[t] + 1)),
                    *(lanes, flat_records, entry * records.shape[1]),
                )


class _Splat(torch.autograd.Function):
    """Colour (C, H, W), normal (3, H, W), alpha (H, W) and sums (3, H, W) of float32 CPU tensors."""

    @staticmethod
    def forward(
        ctx: Any,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        scales_mm: Tensor,
        opacity: Tensor,
        colours: Tensor,
        camera_from_world: Tensor,
        intrinsics: Tensor,
        size: tuple[int, int],
        near_mm: float,
        screen_gradient: Tensor | None,
    ) -> tuple[Tensor, ...]:
        surfels = arrays(means_mm, quats_wxyz, scales_mm, opacity, colours)
        camera = arrays(intrinsics.double(), camera_from_world.double())
        num, channels = colours.shape
        centres, radius = np.zeros((num, 2)), np.zeros(num, np.float32)
        footprints = np.zeros((num, FOOTPRINT), np.float32)
        values = np.zeros((num, channels + 3), np.float32)
        boxes, depths = np.zeros((num, 4), np.int64), np.zeros(num)
        (width, height), threads = size, numba.get_num_threads()
        columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
        image = np.empty((channels + 3, height, width), np.float32)
        alpha, sums = np.empty((height, width), np.float32), np.empty((3, height, width), np.float32)
        state = np.empty((columns * rows, _STATE_PLANES, PIXELS), np.float32)
        ends = np.empty(columns * rows, np.int64)
        launch: list[Any] = [size, centres, footprints, values, boxes]
        with LAUNCH_LOCK:
            project_all(*[*surfels, *camera, near_mm, *launch, depths, radius, threads])
            drawn = np.flatnonzero(depths)
            order = drawn[np.argsort(depths[drawn], kind="stable")]
            reference = float(1 / depths[order[(len(order) - 1) // 2]]) if len(order) else 0.0
            footprints[:, Q] = 0
            footprints[drawn, Q] = 1 / depths[drawn] - reference
            limits = np.array([-reference, 1 / near_mm - reference], np.float32)
            starts, members, *entries = _list_tiles(order, boxes, columns, rows)
            launch += [starts, members, limits]
            _blend_tiles(*[*launch, image, alpha, sums, state, ends, threads])
        ctx.save_for_backward(means_mm, quats_wxyz, scales_mm, opacity, colours)
        ctx.rest = (camera, launch, entries, state, ends, screen_gradient)
        ctx.pose_type = camera_from_world.dtype
        ctx.set_materialize_grads(False)
        out = [torch.from_numpy(a) for a in (image[:channels], image[channels:], alpha, sums, radius)]
        out.append(torch.tensor(reference, dtype=torch.float64))
        ctx.mark_non_differentiable(*out[4:])
        return tuple(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        camera, launch, entries, state, ends, screen_gradient = ctx.rest
        surfels = arrays(*ctx.saved_tensors)
        geometry, (num, channels) = surfels[:3], surfels[4].shape
        width, height = launch[0]
        d_colour, d_normal, d_alpha, d_sums = (
            np.zeros(shape, np.float32) if g is None else np.ascontiguousarray(g.numpy())
            for g, shape in zip(
                grads[:4],
                ((channels, height, width), (3, height, width), (height, width), (3, height, width)),
                strict=True,
            )
        )
        # Normals seldom take part in the loss, and are half of the values then.
        d_image = d_colour if grads[1] is None else np.concatenate([d_colour, d_normal])
        records = np.zeros((len(launch[6]), GRADIENTS + len(d_image)), np.float32)
        out = [np.zeros_like(a) for a in surfels]
        d_pose, d_centres = np.zeros((4, 4)), np.zeros((num, 2), np.float32)
        with LAUNCH_LOCK:
            threads = numba.get_num_threads()
            _gather_tiles(*[*launch, d_image, d_alpha, d_sums, state, ends, records, threads])
            linked = [*geometry, *camera, *entries, records, launch[2]]
            chain_all(*[*linked, *out, d_pose, d_centres, threads])
        if screen_gradient is not None:
            # Normalised device coordinates: a pixel is 2/W and 2/H of them wide and high.
            ndc = np.hypot(d_centres[:, 0] * (width / 2), d_centres[:, 1] * (height / 2))
            screen_gradient[:, 0] += torch.from_numpy(ndc)
            screen_gradient[:, 1] += torch.from_numpy((np.diff(entries[0]) > 0).astype(np.float32))
        pose = torch.from_numpy(d_pose).to(ctx.pose_type)
        return *(torch.from_numpy(g) for g in out), pose, *(None,) * 4


def splat(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    opacity: Tensor,
    colours: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    near_mm: float,
    screen_gradient: Tensor | None,
) -> Sums:
    """The sums of an image; see ``kernels.surfel.splat_surfels``."""
    colour, normal, alpha, sums, radius, reference = _Splat.apply(
        *(means_mm, quats_wxyz, scales_mm, opacity, colours, camera_from_world, intrinsics),
        *((width_px, height_px), near_mm, screen_gradient),
    )
    first, second, median = sums.unbind(0)
    picture = (colour.permute(1, 2, 0), normal.permute(1, 2, 0), alpha, first, second, median)
    return Sums(*picture, float(reference), radius)

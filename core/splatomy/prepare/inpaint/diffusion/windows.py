"""A clip in windows that overlap, whose results are led over into each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LENGTH = 22
OVERLAP = LENGTH // 4
SWAP = LENGTH // 2
"""Frames by which the windows of every other step are shifted, so that seams move."""


def windows(count: int, swapped: bool) -> list[tuple[int, int]]:
    """First and last-but-one frame of each window over ``count`` frames; the last is flush with the end.

    Source: sheet endo-dynamic-2dgs, section 1.4.
    """
    if count <= LENGTH:
        return [(0, count)]
    step = LENGTH - OVERLAP
    starts = list(range(SWAP, count - LENGTH, step)) if swapped else list(range(0, count - LENGTH, step))
    starts = sorted({0, *starts, count - LENGTH})
    return [(start, start + LENGTH) for start in starts]


def cross_faded(count: int, spans: Sequence[tuple[int, int]], parts: Sequence[Tensor]) -> Tensor:
    """The windows' results (F, ...) as one of ``count`` frames, linear from one to the next in overlaps."""
    whole = torch.zeros((count, *parts[0].shape[1:]), dtype=parts[0].dtype, device=parts[0].device)
    done = 0
    for (start, end), part in zip(spans, parts, strict=True):
        shared = max(0, done - start)
        if shared:
            ramp = torch.arange(1, shared + 1, device=part.device, dtype=part.dtype) / (shared + 1)
            ramp = ramp.view(-1, *[1] * (part.dim() - 1))
            whole[start:done] = (1 - ramp) * whole[start:done] + ramp * part[:shared]
        whole[start + shared : end] = part[shared:]
        done = end
    return whole


def reflected(count: int, wanted: int) -> list[int]:
    """Numbers of ``wanted`` frames that go to and fro through ``count``; each once when there are enough."""
    if count == 1:
        return [0] * wanted
    period = 2 * (count - 1)
    return [min(n % period, period - n % period) for n in range(wanted)]


def spread_frames(count: int) -> list[int]:
    """The frames that are solved first, as one window, of a clip longer than two windows; else none."""
    return [n * count // LENGTH for n in range(LENGTH)] if count > 2 * LENGTH else []

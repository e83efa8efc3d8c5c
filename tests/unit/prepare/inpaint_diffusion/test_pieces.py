"""Tiles and windows: nothing is left out, nothing jumps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from splatomy.prepare.inpaint.diffusion.latents import grown_hole, working_size
from splatomy.prepare.inpaint.diffusion.tiling import assembled, tiles
from splatomy.prepare.inpaint.diffusion.windows import (
    LENGTH,
    OVERLAP,
    cross_faded,
    reflected,
    spread_frames,
    windows,
)


@pytest.mark.parametrize("seed", range(6))
def test_tiles_cover_every_wanted_pixel_and_give_the_picture_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(40, 200, 2))
    wanted = np.zeros((height, width), bool)
    top, left = int(rng.integers(height)), int(rng.integers(width))
    wanted[top : top + int(rng.integers(1, 150)), left : left + int(rng.integers(1, 150))] = True
    picture = rng.uniform(0, 1, (height, width, 3)).astype(np.float32)
    boxes = tiles(wanted, 32, 8)
    covered = np.zeros_like(wanted)
    for box in boxes:
        assert covered[box].shape == (32, 32)
        covered[box] = True
    assert covered[wanted].all()
    made = assembled((height, width), boxes, [picture[box] for box in boxes], 8)
    assert np.allclose(made[wanted], picture[wanted], atol=1e-5)


def test_nothing_wanted_needs_no_tile() -> None:
    assert tiles(np.zeros((50, 60), bool), 32, 8) == []


@pytest.mark.parametrize("count", [1, 21, 22, 23, 39, 40, 45, 64, 200])
@pytest.mark.parametrize("swapped", [False, True])
def test_windows_cover_a_clip_and_end_flush(count: int, swapped: bool) -> None:
    spans = windows(count, swapped)
    assert spans[0][0] == 0 and spans[-1][1] == count
    assert all(end - start == min(count, LENGTH) for start, end in spans)
    shared = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
    assert all(frames >= OVERLAP for frames in shared)


def test_windows_of_the_two_kinds_have_their_seams_elsewhere() -> None:
    assert [start for start, _ in windows(73, False)] == [0, 17, 34, 51]
    assert [start for start, _ in windows(73, True)] == [0, 11, 28, 45, 51]


def test_windows_that_agree_give_the_clip_and_others_fade() -> None:
    count = 50
    clip = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 3)
    spans = windows(count, False)
    assert torch.allclose(cross_faded(count, spans, [clip[a:b] for a, b in spans]), clip, atol=1e-5)
    levels = [torch.full((b - a, 1), float(n)) for n, (a, b) in enumerate(spans)]
    made = cross_faded(count, spans, levels)[:, 0]
    steps = (made[1:] - made[:-1]).abs()
    assert steps.max() <= 1 / (OVERLAP + 1) + 1e-5


def test_short_clips_go_to_and_fro_and_long_ones_are_spread() -> None:
    assert reflected(3, 7) == [0, 1, 2, 1, 0, 1, 2]
    assert reflected(1, 3) == [0, 0, 0]
    assert reflected(30, 30) == list(range(30))
    assert spread_frames(44) == []
    chosen = spread_frames(64)
    assert len(set(chosen)) == LENGTH and chosen[0] == 0 and chosen[-1] < 64


@pytest.mark.parametrize("size", [(48, 50), (512, 640), (1080, 1920), (2160, 3840), (20, 1000)])
def test_working_sizes_are_multiples_of_8_within_limits(size: tuple[int, int]) -> None:
    height, width = working_size(*size)
    assert height % 8 == width % 8 == 0
    assert min(height, width) >= 64
    assert max(height, width) <= 960 or min(size) < 64


def test_holes_lose_specks_and_gain_a_rim() -> None:
    hidden = np.zeros((64, 64), bool)
    hidden[5, 5] = True
    hidden[30:40, 30:40] = True
    grown = grown_hole(hidden, 64, 64)
    assert not grown[:12, :12].any()
    assert grown[23:47, 23:47].all() and not grown[22].any()

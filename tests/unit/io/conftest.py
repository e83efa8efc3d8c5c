"""Small runs shared by the reader tests."""

from dataclasses import dataclass

import numpy as np
import pytest

from splatomy.capture import Grid


@dataclass(frozen=True)
class TinyRun:
    mask: np.ndarray
    fill: np.ndarray
    times_s: np.ndarray
    primary_rad: np.ndarray
    secondary_rad: np.ndarray
    sad: float
    sid: float
    pixel_mm: tuple[float, float]
    grid: Grid


@pytest.fixture
def tiny() -> TinyRun:
    rng = np.random.default_rng(3)
    frames, height, width = 12, 10, 14
    mask = rng.uniform(500, 1000, (frames, height, width)).astype(np.float32)
    fill = (mask * rng.uniform(0.4, 1, mask.shape)).astype(np.float32)
    times = np.cumsum(rng.uniform(0.03, 0.05, frames))
    return TinyRun(
        mask,
        fill,
        times - times[0],
        np.linspace(-1.7, 1.9, frames),
        np.linspace(-0.1, 0.1, frames),
        750.0,
        1200.0,
        (0.6, 0.5),
        Grid.centred((8, 9, 10), (1.0, 1.5, 2.0)),
    )

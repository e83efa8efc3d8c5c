"""Time bases and fields."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from splatomy.fields.attenuation import CurveField, GridField, TimeBasis
from splatomy.fields.encodings import HashGrid


@given(st.floats(-5, 15), st.integers(4, 30))
def test_splines_are_positive_and_sum_to_one(time_s: float, size: int) -> None:
    weights = TimeBasis(0.0, 10.0, size).weights(time_s)
    assert (weights >= 0).all() and abs(float(weights.sum()) - 1) < 1e-5


def test_a_curve_starts_at_the_given_density() -> None:
    field = CurveField(TimeBasis(0.0, 4.5, 20), 0.01)
    wanted = torch.tensor([0.001, 0.01, 0.03])
    curve = field.start(wanted)
    for time_s in (0.0, 1.7, 4.5):
        assert torch.allclose(field.density(curve, torch.zeros(3, 3), time_s), wanted, rtol=1e-3)
    assert float(field.roughness(curve)) < 1e-10


def test_the_hash_grid_interpolates_linearly_and_has_gradients() -> None:
    torch.manual_seed(0)
    grid = HashGrid(3, 1, 10, 4, 1.5)
    ends = torch.tensor([[0.25, 0.5, 0.5], [0.5, 0.5, 0.5]])
    middle = ends.mean(0, keepdim=True)
    assert torch.allclose(grid(middle), grid(ends).mean(0, keepdim=True), atol=1e-8)
    points = torch.rand(7, 3, requires_grad=True)
    grid(points).sum().backward()
    assert points.grad is not None and np.isfinite(points.grad.numpy()).all()


def test_the_papers_field_is_positive_everywhere() -> None:
    torch.manual_seed(0)
    field = GridField(torch.zeros(3), torch.ones(3), 0.0, 1.0, 0.01, 10)
    density = field.density(torch.zeros(50, 1), torch.rand(50, 3) * 2 - 0.5, 0.3)
    assert density.shape == (50,) and (density > 0).all()

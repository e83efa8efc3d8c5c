"""Conformance of the hash encoding: numba against torch, torch against finite differences."""

from __future__ import annotations

import numba
import pytest
import torch
from torch import Tensor

from splatomy.fields.attenuation import GridField
from splatomy.fields.encodings import HashGrid


def grid_and_points(dims: int, num: int = 400) -> tuple[HashGrid, Tensor]:
    """Levels with a row per corner and hashed ones, and points that also lie on the box's faces."""
    torch.manual_seed(dims)
    grid = HashGrid(dims, 6, 9, 2, 1.7)
    assert len(set(grid.is_hashed)) == 2
    with torch.no_grad():
        grid.table.uniform_(-1, 1)
    points = torch.rand(num, dims)
    points[0], points[1], points[2, 0] = 0.0, 1.0, 0.5
    return grid, points


def encoded(grid: HashGrid, points: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Features, and the gradients of the points and the tables for a fixed random loss."""
    leaf = points.clone().requires_grad_()
    grid.table.grad = None
    features = grid(leaf, backend)
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(7))
    (features * weights).sum().backward()
    assert leaf.grad is not None and grid.table.grad is not None
    return features.detach(), leaf.grad, grid.table.grad


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_numba_agrees_with_torch_in_values_and_gradients(dims: int) -> None:
    grid, points = grid_and_points(dims)
    for got, wanted in zip(encoded(grid, points, "numba"), encoded(grid, points, "torch"), strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("dims", [3, 4])
def test_the_gradient_of_the_points_is_the_slope(dims: int) -> None:
    grid, points = grid_and_points(dims, 50)
    grid = grid.double()
    # Away from the faces of cells, where the slope jumps.
    inner = points[3:].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: grid(p, "torch"), inner, eps=1e-7, atol=1e-4)


def test_the_number_of_threads_changes_nothing() -> None:
    grid, points = grid_and_points(4)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = encoded(grid, points, "numba")
        numba.set_num_threads(before)
        for a, b in zip(one, encoded(grid, points, "numba"), strict=True):
            assert torch.equal(a, b)
    finally:
        numba.set_num_threads(before)


def test_points_that_are_not_finite_or_outside_harm_no_other() -> None:
    grid, points = grid_and_points(3)
    whole, _, _ = encoded(grid, points, "numba")
    broken = points.clone()
    broken[4], broken[5], broken[6] = float("nan"), float("inf"), -3e9
    features = grid(broken, "numba")
    kept = [n for n in range(len(points)) if n not in (4, 5, 6)]
    assert torch.equal(features[kept], whole[kept])


def test_no_points_give_no_features() -> None:
    grid, _ = grid_and_points(3)
    points = torch.zeros(0, 3, requires_grad=True)
    features = grid(points, "numba")
    features.sum().backward()
    assert features.shape == (0, 12) and points.grad is not None and points.grad.shape == (0, 3)


def test_both_backends_train_the_papers_field_alike() -> None:
    """The same steps from the same start reach the same density."""
    target = 0.02 * torch.rand(300, generator=torch.Generator().manual_seed(1))
    places = torch.rand(300, 3, generator=torch.Generator().manual_seed(2))
    ends: list[float] = []
    first = 0.0
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(3)
        field = GridField(torch.zeros(3), torch.ones(3), 0.0, 1.0, 0.01, 9).to(dtype)
        optimiser = torch.optim.Adam(field.parameters(), 1e-3, eps=1e-15)
        means = places.to(dtype)
        for step in range(20):
            density = field.density(torch.zeros(300, 1), means, 0.25 * (step % 4))
            loss = (100 * (density - target.to(dtype))).square().mean()
            first = float(loss.detach()) if step == 0 else first
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        ends.append(float(loss.detach()))
    # Float64 is torch's.
    assert ends[0] == pytest.approx(ends[1], rel=0.01) and ends[0] < 0.9 * first

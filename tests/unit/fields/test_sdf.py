"""Distance fields: their start, their slopes, and the pull onto the zero set."""

from __future__ import annotations

import pytest
import torch

from splatomy.fields.sdf import HashSdf, make_sdf, pulled, value_and_gradient


def _points(count: int = 200) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8


class _Ball(torch.nn.Module):
    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=1) - 0.5


@pytest.mark.parametrize("kind", ["hash", "mlp"])
def test_a_new_field_is_about_a_sphere(kind) -> None:
    torch.manual_seed(0)
    field = make_sdf(kind, 6, 12, 0.5)
    assert field(torch.zeros(1, 3)).item() < 0
    far = 0.95 * torch.nn.functional.normalize(_points(), dim=1)
    assert bool((field(far) > 0).all())
    # Outwards, every ray crosses the zero set once.
    shells = torch.stack([field(far * share) for share in torch.linspace(0.05, 1, 12)])
    assert bool((shells.diff(dim=0) > 0).all())


def test_values_and_slopes_by_a_tetrahedron() -> None:
    points = _points()
    # At the middle of the ball the slope has no direction.
    points = points[points.norm(dim=1) > 0.2]
    value, slope = value_and_gradient(_Ball(), points, 5e-3)
    torch.testing.assert_close(value, points.norm(dim=1) - 0.5, atol=3e-3, rtol=0)
    torch.testing.assert_close(slope, points / points.norm(dim=1, keepdim=True), atol=2e-2, rtol=0)


def test_pulled_points_lie_on_the_zero_set() -> None:
    points = _points()
    there = pulled(points, *value_and_gradient(_Ball(), points, 1e-3))
    torch.testing.assert_close(there.norm(dim=1), torch.full((len(points),), 0.5), atol=2e-3, rtol=0)


def test_a_hash_field_learns_another_shape() -> None:
    """A few steps on distances of a box move the zero set there."""
    torch.manual_seed(0)
    field = HashSdf(6, 12, 0.5)
    optimiser = torch.optim.Adam(field.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(150):
        points = torch.rand(2048, 3, generator=generator) * 2 - 1
        exact = points.abs().amax(1) - 0.6
        loss = (field(points) - exact).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.03


def test_silent_levels_do_not_speak() -> None:
    torch.manual_seed(0)
    field = HashSdf(6, 12, 0.5)
    with torch.no_grad():
        field.grid.table.normal_()
        field.mlp[-1].weight.normal_()
        field.active_levels.fill_(3.0)
        coarse = field(_points())
        field.grid.table[4:] += 1.0
        torch.testing.assert_close(field(_points()), coarse)
        field.active_levels.fill_(6.0)
        assert float((field(_points()) - coarse).abs().max()) > 1e-3

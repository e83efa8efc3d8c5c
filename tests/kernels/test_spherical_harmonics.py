"""Spherical harmonics against SciPy's complex ones, their orthogonality and their gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from splatomy.kernels.spherical_harmonics import basis, colours_from_sh, num_coefficients, sh_from_colours


def directions(num: int) -> torch.Tensor:
    return torch.randn(num, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_equal_to_scipy() -> None:
    """sqrt(2) times the real (m > 0) and imaginary (m < 0) parts of Y_l^|m|, whatever the length."""
    vectors = directions(200)
    unit = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    polar, azimuth = np.arccos(unit[:, 2]), np.arctan2(unit[:, 1], unit[:, 0])
    got = basis(vectors, 3).numpy()
    column = 0
    for degree in range(4):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), polar, azimuth)
            wanted = value.real if m == 0 else math.sqrt(2) * (value.real if m > 0 else value.imag)
            assert np.abs(got[:, column] - wanted).max() < 1e-12
            column += 1
    for degree in range(4):
        assert torch.equal(basis(vectors, degree), basis(vectors, 3)[:, : num_coefficients(degree)])


def test_gradients() -> None:
    g = torch.Generator().manual_seed(1)
    coefficients = 0.1 * torch.randn(6, 16, 3, generator=g, dtype=torch.float64)
    inputs = (coefficients.requires_grad_(), directions(6).requires_grad_())
    assert torch.autograd.gradcheck(colours_from_sh, inputs)


def test_colours() -> None:
    """Constant coefficients give a colour from every side; a sum below 0 is clamped; zero directions pass."""
    colours = torch.tensor([[0.2, 0.7], [0.9, 0.0]])
    coefficients = torch.cat([sh_from_colours(colours)[:, None], torch.zeros(2, 15, 2)], 1)
    seen = colours_from_sh(coefficients, torch.tensor([[0.0, 0, 0], [1, 2, 3]]))
    assert torch.allclose(seen, colours, atol=1e-6)
    assert (colours_from_sh(-10 * torch.ones(2, 1, 2), torch.ones(2, 3)) == 0).all()
    ahead = torch.zeros(2, 3, requires_grad=True)
    colours_from_sh(torch.ones(2, 9, 2), ahead).sum().backward()
    assert ahead.grad is not None and ahead.grad.isfinite().all()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="degree"):
        num_coefficients(4)
    with pytest.raises(ValueError, match="1, 4, 9 or 16"):
        colours_from_sh(torch.ones(2, 5, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="needs 9"):
        colours_from_sh(torch.ones(2, 4, 3), torch.ones(2, 3), degree=2)

"""Conformance of the GPU's spherical harmonics: on a CUDA device, and with the kernels run on the host."""

from __future__ import annotations

import pytest
import torch
from test_gpu_xray import on_both, running_on

from splatomy.kernels import _gpu_harmonics
from splatomy.kernels.spherical_harmonics import colours_from_sh, num_coefficients


@on_both
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gpu_equals_torch(degree: int, channels: int, device: str) -> None:
    """Colours and gradients to float32 rounding; rows above the degree get zeros, a zero direction none.

    Five channels of 18 rows are more than what is staged in shared memory.
    """
    g = torch.Generator().manual_seed(degree)
    rows = num_coefficients(degree) + 2
    coefficients = torch.randn(150, rows, channels, generator=g)
    directions = torch.randn(150, 3, generator=g) * torch.rand(150, 1, generator=g) * 10
    directions[7] = 0
    weights = torch.randn(150, channels, generator=g)
    exact = [t.double().requires_grad_() for t in (coefficients, directions)]
    wanted = colours_from_sh(*exact, degree)
    (wanted * weights).sum().backward()
    leaves = [t.to(device).requires_grad_() for t in (coefficients, directions)]
    with running_on(device):
        got = _gpu_harmonics.Shade.apply(*leaves, degree)
        (got * weights.to(device)).sum().backward()
    assert (got.cpu() - wanted).abs().max() < 1e-5
    for leaf, reference in zip(leaves, exact, strict=True):
        assert leaf.grad is not None
        # At degree 0 the directions take no part.
        slope = torch.zeros_like(reference) if reference.grad is None else reference.grad
        assert (leaf.grad.cpu() - slope).abs().max() < 1e-5 * max(1.0, float(slope.abs().max()))

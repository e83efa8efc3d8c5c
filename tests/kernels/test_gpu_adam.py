"""Conformance of the GPU's Adam: on a CUDA device, and with the kernel run on the host."""

from __future__ import annotations

import torch
from test_gpu_xray import on_both, running_on

from splatomy.gaussians.adam import Adam
from splatomy.kernels import _gpu_adam


@on_both
def test_gpu_equals_torch(device: str) -> None:
    """Values after each of many steps, with gradients of all sizes and none."""
    g = torch.Generator().manual_seed(0)
    wanted = torch.randn(700, 3, generator=g).requires_grad_()
    got = wanted.detach().clone().to(device).requires_grad_()
    optimiser = Adam([{"params": [wanted], "lr": 0.02}])
    first, second = torch.zeros_like(got), torch.zeros_like(got)
    size = 10 ** torch.linspace(-20, 3, 700)[:, None]
    size[5] = 0
    for step in range(1, 41):
        gradient = torch.randn(700, 3, generator=g) * size
        wanted.grad, got.grad = gradient.clone(), gradient.to(device)
        optimiser.step()
        with running_on(device), torch.no_grad():
            steps, rate = torch.tensor(float(step), device=device), torch.tensor(0.02, device=device)
            _gpu_adam.move(got, first, second, steps, rate)
        assert torch.allclose(got.detach().cpu(), wanted.detach(), rtol=1e-5, atol=1e-6), step

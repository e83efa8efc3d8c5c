"""Losses between rendered and measured images."""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d


def robust_loss(residual: torch.Tensor, noise_std: torch.Tensor, knee: float) -> torch.Tensor:
    """The mean pseudo-Huber loss of residuals (H, W) measured in their own noise (H, W).

    Quadratic (the likelihood of Gaussian noise) under ``knee`` standard deviations, linear above.
    """
    scaled = residual / (knee * noise_std)
    return knee**2 * (torch.sqrt(1 + scaled.square()) - 1).mean()


def _gaussian_window(radius: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    x = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    window = torch.exp(-0.5 * (x / sigma) ** 2)
    return window / window.sum()


def dssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """1 - SSIM of two images (H, W), Gaussian window of 11 px with sigma 1.5.

    Source: Wang et al., IEEE TIP 13 (2004), with C1 = 0.01^2 and C2 = 0.03^2 as in 4DRGS.
    """
    window = _gaussian_window(5, 1.5, a)
    stack = torch.stack([a, b, a * a, b * b, a * b])[:, None]
    stack = conv2d(stack, window[None, None, None, :], padding=(0, 5))
    stack = conv2d(stack, window[None, None, :, None], padding=(5, 0))[:, 0]
    mean_a, mean_b = stack[0], stack[1]
    var_a, var_b = stack[2] - mean_a**2, stack[3] - mean_b**2
    covariance = stack[4] - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return 1 - (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()

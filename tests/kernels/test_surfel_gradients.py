"""Finite differences of the surfel oracle in float64, for every input."""

from __future__ import annotations

import numpy as np
import torch
from surfel_scenes import camera, loss_of
from torch import Tensor

from splatomy.kernels.surfel import splat_surfels

WIDTH, HEIGHT = 24, 18


def hand_placed() -> list[Tensor]:
    """Three overlapping surfels: a wide tilted one, a small one before it, and one thinner than a pixel."""
    values = (
        [[0.0, 0.5, 40], [1.0, -1.0, 36], [-2.0, 2.0, 44]],
        [[1.0, 0.2, -0.1, 0.3], [0.9, -0.3, 0.2, 0.1], [0.5, 0.6, 0.1, -0.2]],
        [[4.0, 3.0], [1.0, 1.5], [0.1, 2.5]],
        [0.8, 0.6, 0.7],
        [[0.2, 0.9], [0.7, -0.4], [1.3, 0.5]],
    )
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def test_finite_differences() -> None:
    """Central differences by the surfels, pose, intrinsics and background, of everything that is rendered.

    The image jumps where an alpha crosses its cut-off of 1/255; with a step of 1e-6 no pixel is there.
    """
    k, pose = camera(WIDTH, HEIGHT, 60.0)
    background = torch.tensor([0.3, 0.8], dtype=torch.float64)
    inputs = [*hand_placed(), k, pose, background]
    for t in inputs:
        t.requires_grad_()

    def loss(*values: Tensor) -> Tensor:
        *surfels, intrinsics, camera_from_world, behind = values
        arguments = (*surfels, intrinsics, camera_from_world, WIDTH, HEIGHT)
        return loss_of(splat_surfels(*arguments, background=behind))

    gradients = torch.autograd.grad(loss(*inputs), inputs)
    for which, gradient in enumerate(gradients):
        for entry in np.ndindex(*gradient.shape):
            step, values = 1e-6, []
            for sign in (1, -1):
                moved = [t.detach().clone() for t in inputs]
                moved[which][entry] += sign * step
                with torch.no_grad():
                    values.append(float(loss(*moved)))
            slope = (values[0] - values[1]) / (2 * step)
            limit = 1e-5 * abs(slope) + 1e-6 * float(gradient.abs().max())
            assert abs(float(gradient[entry]) - slope) <= limit, (which, entry, float(gradient[entry]), slope)

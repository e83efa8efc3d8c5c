"""The terms of an X-ray training's loss on CUDA, each with its gradient in one kernel.

In torch they are some eighty kernels of a microsecond each, and between two the device waits as long again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime
from splatomy.kernels._gpu_lists import blocks_of

PARTS = ("shared", "objective")
_BLOCK = 256


def fits(tensor: Tensor) -> bool:
    """Whether the terms below can be had of a tensor; the order in which they add up is not fixed."""
    if not tensor.is_cuda or torch.are_deterministic_algorithms_enabled():
        return False
    return tensor.dtype == torch.float32 and _gpu_runtime.problem(PARTS, tensor.device) is None


class _Term(torch.autograd.Function):
    """A term whose gradient by its first input is made together with its value; the others get none."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], *[None] * (len(ctx.needs_input_grad) - 1)


def _kept(ctx: Any, gradient: Tensor, sums: Tensor) -> Tensor:
    """The value of a term from its blocks' sums; its gradient is kept."""
    ctx.save_for_backward(gradient)
    return sums.sum()


class PixelLoss(_Term):
    """``robust`` times the mean pseudo-Huber loss of a picture, and ``sparsity`` times its mean in its noise.

    image, wanted, noise, weight: (H, W); only the image gets a gradient. knee: see ``losses.robust_loss``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        wanted: Tensor,
        noise: Tensor,
        weight: Tensor,
        knee: float,
        robust: float,
        sparsity: float,
    ) -> Tensor:
        count = image.numel()
        given = [t.contiguous() for t in (image, wanted, noise, weight)]
        blocks = blocks_of(count, _BLOCK)
        with _gpu_runtime.program(PARTS, image.device).current() as program:
            gradient, sums = torch.empty_like(given[0]), torch.empty(blocks, device=image.device)
            shares = (knee, robust / count, sparsity / count)
            program.launch("compare_pixels", (blocks, 1), _BLOCK, *given, count, *shares, gradient, sums)
        return _kept(ctx, gradient, sums)


class CurveLoss(_Term):
    """``rough`` times the mean squared second difference of curves, ``kin`` times their distance from others.

    curves: (N, K), K > 2. others: (N,) int64, whose curve each one is compared with; None: with none. same:
    distances below it hardly count.
    """

    @staticmethod
    def forward(
        ctx: Any, curves: Tensor, others: Tensor | None, rough: float, kin: float, same: float
    ) -> Tensor:
        num, size = curves.shape
        own = curves.contiguous()
        blocks = blocks_of(own.numel(), _BLOCK)
        with _gpu_runtime.program(PARTS, curves.device).current() as program:
            gradient, sums = torch.zeros_like(own), torch.empty(blocks, device=curves.device)
            shares = (rough / (num * (size - 2)), kin / (num * size) if others is not None else 0.0, same)
            index = own if others is None else others.contiguous()
            launch = (own, index, own.numel(), size, *shares, gradient, sums)
            program.launch("relate_curves", (blocks, 1), _BLOCK, *launch)
        return _kept(ctx, gradient, sums)

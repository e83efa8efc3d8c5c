"""Colours by spherical harmonics on CUDA, in one kernel each way; see ``spherical_harmonics``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime
from splatomy.kernels._gpu_lists import blocks_of

PARTS = ("shared", "harmonics")
_BLOCK = 128


class Shade(torch.autograd.Function):
    """Colours (N, C) of coefficients (N, K, C) seen along directions (N, 3), float32 on one device."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, directions: Tensor, degree: int) -> Tensor:
        num, rows, channels = coefficients.shape
        saved = (coefficients.contiguous(), directions.contiguous())
        with _gpu_runtime.program(PARTS, coefficients.device).current() as program:
            colours = torch.empty(num, channels, device=coefficients.device)
            launch: list[Any] = [*saved, num, rows, channels, degree, colours]
            program.launch("shade", (blocks_of(num, _BLOCK), 1), _BLOCK, *launch)
        ctx.save_for_backward(*saved)
        ctx.degree = degree
        return colours

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, (num, rows, channels) = ctx.saved_tensors, ctx.saved_tensors[0].shape
        with _gpu_runtime.program(PARTS, saved[0].device).current() as program:
            out = [torch.empty_like(t) for t in saved]
            launch: list[Any] = [*saved, num, rows, channels, ctx.degree, grads[0].contiguous(), *out]
            program.launch("unshade", (blocks_of(num, _BLOCK), 1), _BLOCK, *launch)
        return *out, None

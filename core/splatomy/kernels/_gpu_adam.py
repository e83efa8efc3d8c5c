"""A step of Adam on CUDA, in one kernel for each tensor; see ``gaussians.adam``.

The fused pass of torch gives 65,536 numbers to each block of threads, so that the few that a small scene has
keep a handful of the device's processors busy: 26 us for a tensor that needs 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from splatomy.kernels import _gpu_runtime
from splatomy.kernels._gpu_lists import blocks_of

PARTS = ("adam",)
_BLOCK = 256


def fits(parameter: Tensor, rate: float | Tensor) -> bool:
    """Whether ``move`` can move a parameter at a rate, on its device."""
    if not (parameter.is_cuda and isinstance(rate, Tensor) and rate.is_cuda):
        return False
    plain = parameter.dtype == torch.float32 and parameter.is_contiguous() and parameter.numel() < 2**31
    return plain and _gpu_runtime.problem(PARTS, parameter.device) is None


def move(parameter: Tensor, first: Tensor, second: Tensor, steps: Tensor, rate: Tensor) -> None:
    """Moves a parameter by its gradient and updates both moments, all of one shape and float32.

    steps, rate: (); the steps count this one.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """
    if parameter.grad is None:
        raise ValueError("a parameter without a gradient cannot be moved")
    count = parameter.numel()
    gradient = parameter.grad.contiguous()
    with _gpu_runtime.program(PARTS, parameter.device).current() as program:
        moved = (parameter, gradient, first, second, steps, rate, count)
        program.launch("move_adam", (blocks_of(count, _BLOCK), 1), _BLOCK, *moved)

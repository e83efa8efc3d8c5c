"""Surfel scenes and the comparison of their renders, shared by the surfel tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatomy.geometry.rigid import rotation_from_quat
from splatomy.kernels.surfel import SurfelRender, splat_surfels

PARAMETERS = ("means_mm", "quats_wxyz", "scales_mm", "opacity", "colours")
LOSS_WEIGHTS = {
    **{"colour": 1.0, "alpha": 1.0, "depth_mm": 0.05, "median_depth_mm": 0.05, "normal": 1.0},
    "distortion": 3e3,
}
"""Factors that bring the entries of a render to about the same size."""


def camera(width: int, height: int, focal_px: float = 120.0, skew: float = 1.5) -> tuple[Tensor, Tensor]:
    """Intrinsics with the principal point off the middle, and a turned and shifted pose; float64."""
    k = [[focal_px, skew, 0.4 * width], [0, 1.1 * focal_px, 0.6 * height], [0, 0, 1]]
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(rotation_from_quat(torch.tensor([1.0, 0.04, -0.05, 0.025]).numpy()))
    pose[:3, 3] = torch.tensor([1.0, -2.0, 3.0])
    return torch.tensor(k, dtype=torch.float64), pose


def scene(
    num: int, width: int, height: int, seed: int, scales_mm: tuple[float, float] = (0.3, 3.0)
) -> list[Tensor]:
    """Random surfels at depths of 30 to 70 mm in and around the frame of ``camera``, with 5 colours."""
    g = torch.Generator().manual_seed(seed)
    k, pose = camera(width, height)
    z = 30 + 40 * torch.rand(num, generator=g, dtype=torch.float64)
    pixel = torch.rand(num, 2, generator=g, dtype=torch.float64) * 1.2 - 0.1
    pixel = torch.cat([pixel * torch.tensor([width, height]), torch.ones(num, 1)], 1)
    means = (pixel @ torch.linalg.inv(k).T * z[:, None] - pose[:3, 3]) @ pose[:3, :3]
    quats = torch.randn(num, 4, generator=g)
    low, high = scales_mm
    scales = low + (high - low) * torch.rand(num, 2, generator=g)
    opacity = torch.rand(num, generator=g)
    return [means.float(), quats, scales, opacity, torch.randn(num, 5, generator=g)]


def loss_of(render: SurfelRender, seed: int = 3) -> Tensor:
    """A fixed random linear function of all that a render holds."""
    g = torch.Generator().manual_seed(seed)
    total = render.alpha.new_zeros(())
    for name, factor in LOSS_WEIGHTS.items():
        value = getattr(render, name)
        total = total + factor * (value * torch.randn(value.shape, generator=g).to(value)).sum()
    return total


def render_with_gradients(
    parameters: list[Tensor],
    view: tuple[Tensor, Tensor, int, int],
    backend: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **options: Any,
) -> dict[str, Tensor]:
    """The render, the gradients of ``loss_of`` by the surfels and by the pose, and the screen gradient."""
    leaves = [p.detach().to(device, dtype).clone().requires_grad_() for p in parameters]
    k, pose, width, height = view
    pose = pose.to(device).clone().requires_grad_()
    screen = torch.zeros(len(leaves[0]), 2, device=device)
    background = torch.linspace(0, 1, leaves[4].shape[1]).to(device, dtype)
    render = splat_surfels(
        *(*leaves, k, pose, width, height),
        background=background,
        backend=backend,  # type: ignore[arg-type]
        screen_gradient=screen,
        **options,
    )
    loss_of(render).backward()
    out = {name: value.detach().cpu() for name, value in render._asdict().items()}
    gradients = {}
    for name, leaf in zip((*PARAMETERS, "pose"), (*leaves, pose), strict=True):
        assert leaf.grad is not None
        gradients[f"d_{name}"] = leaf.grad.cpu()
    return {**out, **gradients, "screen": screen.cpu()}


def error_of(got: Tensor, wanted: Tensor) -> Tensor:
    """Absolute errors as shares of the largest wanted value."""
    return (got.double() - wanted.double()).abs() / wanted.double().abs().max().clamp_min(1e-30)

"""Conformance of the loss terms on CUDA: on a device, and with the kernels run on the host."""

from __future__ import annotations

import pytest
import torch
from test_gpu_xray import on_both, running_on
from torch import Tensor

from splatomy.fields.attenuation import CurveField, TimeBasis
from splatomy.kernels import _gpu_objective
from splatomy.methods.dynamic_vessels.config import Config
from splatomy.methods.dynamic_vessels.kinship import SAME
from splatomy.methods.dynamic_vessels.objective import curve_loss, pixel_loss
from splatomy.methods.dynamic_vessels.views import View


def gradient_of(loss: Tensor, leaf: Tensor) -> Tensor:
    (3 * loss).backward()
    assert leaf.grad is not None
    return leaf.grad.cpu()


@on_both
def test_pixels_equal_torch(device: str) -> None:
    g = torch.Generator().manual_seed(0)
    image, wanted, noise = (torch.rand(37, 53, generator=g) for _ in range(3))
    noise = 0.01 + 0.05 * noise
    wanted[3] = image[3]
    weight = (torch.rand(37, 53, generator=g) > 0.2).float()
    view = View(wanted, noise, weight, torch.eye(3), torch.eye(4), 53, 37, 0.0)
    config = Config(robust_weight=0.7, robust_knee=2.0, sparsity=0.05)
    exact = image.clone().requires_grad_()
    loss = pixel_loss(exact, view, config)
    reference = gradient_of(loss, exact)
    leaf = image.to(device).requires_grad_()
    with running_on(device):
        given = [t.to(device) for t in (wanted, noise, weight)]
        got = _gpu_objective.PixelLoss.apply(leaf, *given, 2.0, 0.7, 0.05)
        slope = gradient_of(got, leaf)
    assert got.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(slope, reference, rtol=1e-4, atol=1e-6 * float(reference.abs().max()))


@on_both
@pytest.mark.parametrize("size", [4, 9, 300])
@pytest.mark.parametrize("kinship", [0.0, 0.3])
def test_curves_equal_torch(kinship: float, size: int, device: str) -> None:
    g = torch.Generator().manual_seed(1)
    curves = torch.randn(130, size, generator=g)
    others = torch.randint(0, 130, (130,), generator=g)
    field = CurveField(TimeBasis(0.0, 1.0, size), 1.0)
    exact = curves.clone().requires_grad_()
    loss = curve_loss(exact, field, Config(roughness=0.05, kinship=kinship), others)
    reference = gradient_of(loss, exact)
    leaf = curves.to(device).requires_grad_()
    with running_on(device):
        index = others.to(device) if kinship else None
        got = _gpu_objective.CurveLoss.apply(leaf, index, 0.05, kinship, SAME)
        slope = gradient_of(got, leaf)
    assert got.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(slope, reference, rtol=1e-4, atol=1e-6 * float(reference.abs().max()))

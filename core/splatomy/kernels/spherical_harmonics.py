"""View-dependent colour by real spherical harmonics of degree 0 to 3, differentiable by autograd."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splatomy.checks import check_shapes
from splatomy.kernels import _gpu_harmonics, _gpu_runtime

MAX_DEGREE = 3
C0 = 0.5 / math.sqrt(math.pi)
"""The constant harmonic."""
_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = (math.sqrt(15 / (4 * math.pi)), math.sqrt(5 / (16 * math.pi)), math.sqrt(15 / (16 * math.pi)))
_C3 = (
    math.sqrt(35 / (32 * math.pi)),
    math.sqrt(105 / (4 * math.pi)),
    math.sqrt(21 / (32 * math.pi)),
    math.sqrt(7 / (16 * math.pi)),
    math.sqrt(105 / (16 * math.pi)),
)


def num_coefficients(degree: int) -> int:
    """How many harmonics there are up to a degree, (degree + 1)^2.

    Raises:
        ValueError: the degree is not 0, 1, 2 or 3.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"the degree of the spherical harmonics must be 0 to {MAX_DEGREE}, got {degree}")
    return (degree + 1) ** 2


def basis(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics of directions (N, 3) up to a degree, (N, (degree + 1)^2).

    directions: of any length but 0, normalised here (a zero gives the value at z). The order is that of
    the 3DGS files: degree by degree, m = -l .. l, with the Condon-Shortley phase.

    Raises:
        ValueError: the degree is not 0, 1, 2 or 3.
    """
    count = num_coefficients(degree)
    length = directions.norm(dim=1, keepdim=True)
    zenith = torch.tensor([0, 0, 1], dtype=directions.dtype, device=directions.device)
    unit = torch.where(length > 0, directions / torch.where(length > 0, length, 1.0), zenith)
    x, y, z = unit.unbind(1)
    columns = [torch.full_like(x, C0)]
    if degree > 0:
        columns += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree > 1:
        columns += [_C2[0] * x * y, -_C2[0] * y * z, _C2[1] * (3 * z * z - 1)]
        columns += [-_C2[0] * x * z, _C2[2] * (x * x - y * y)]
    if degree > 2:
        columns += [-_C3[0] * y * (3 * x * x - y * y), _C3[1] * x * y * z, -_C3[2] * y * (5 * z * z - 1)]
        columns += [_C3[3] * z * (5 * z * z - 3), -_C3[2] * x * (5 * z * z - 1)]
        columns += [_C3[4] * z * (x * x - y * y), -_C3[0] * x * (x * x - 3 * y * y)]
    return torch.stack(columns[:count], 1)


def colours_from_sh(coefficients: Tensor, directions: Tensor, degree: int | None = None) -> Tensor:
    """Colours (N, C) seen along directions: max(0, 0.5 + the sum of the harmonics).

    coefficients: (N, K, C), K at least (degree + 1)^2; those above are not used.
    directions: from the camera's centre to the Gaussians, (N, 3), of any length.
    degree: 0 to 3; None uses all K, which must then be 1, 4, 9 or 16.

    Raises:
        ValueError: the shapes disagree, or there are too few coefficients for the degree.

    Source: 3DGS (Kerbl et al. 2023), with its offset of 0.5 and its clamp at 0.
    """
    check_shapes(coefficients=(coefficients, "N K C"), directions=(directions, "N 3"))
    if degree is None:
        degree = math.isqrt(coefficients.shape[1]) - 1
        if num_coefficients(degree) != coefficients.shape[1]:
            raise ValueError(f"coefficients must have 1, 4, 9 or 16 rows, got {coefficients.shape[1]}")
    count = num_coefficients(degree)
    if coefficients.shape[1] < count:
        raise ValueError(f"degree {degree} needs {count} coefficients, got {coefficients.shape[1]}")
    if (
        coefficients.device.type == "cuda"
        and coefficients.device == directions.device
        and coefficients.dtype == directions.dtype == torch.float32
        and _gpu_runtime.usable(_gpu_harmonics.PARTS, coefficients.device)
    ):
        colours: Tensor = _gpu_harmonics.Shade.apply(coefficients, directions, degree)
        return colours
    summed = torch.einsum("nk,nkc->nc", basis(directions, degree), coefficients[:, :count])
    return (summed + 0.5).clamp_min(0.0)


def sh_from_colours(colours: Tensor) -> Tensor:
    """The constant coefficients (N, C) that give colours (N, C) from every side."""
    return (colours - 0.5) / C0

"""X-ray splatting: images of line integrals through 3-D Gaussians.

The attenuation is ``sum_i density_i exp(-(x - mean_i)^T Sigma_i^-1 (x - mean_i) / 2)`` in 1/mm, so an
image is dimensionless, -ln(I/I0). It is a plain sum: no sorting and no blending.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from splatomy.checks import check_shapes
from splatomy.kernels import _torch

Backend = Literal["auto", "torch", "numba"]
CUTOFF_SIGMA = _torch.CUTOFF_SIGMA


def resolve_backend(backend: Backend, reference: Tensor, camera_gradient: bool = False) -> str:
    """ "torch" or "numba": for "auto", numba for float32 CPU tensors that need no camera gradient.

    Raises:
        ValueError: the backend is unknown, or numba was asked for what it cannot do.
    """
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f'backend must be "auto", "torch" or "numba", got {backend!r}')
    fits = reference.device.type == "cpu" and reference.dtype == torch.float32 and not camera_gradient
    if backend == "numba" and not fits:
        raise ValueError(
            "the numba backend needs float32 CPU tensors and gives no camera gradient, got "
            f"{reference.dtype} on {reference.device}"
            + (" with a camera gradient" if camera_gradient else "")
        )
    return "numba" if backend != "torch" and fits else "torch"


def check_alike(reference: Tensor, **named: Tensor) -> None:
    """Raise ValueError unless all tensors are floating, of the reference's type and on its device."""
    if not reference.is_floating_point():
        raise ValueError(f"means_mm must be floating, got {reference.dtype}")
    for name, tensor in named.items():
        if tensor.dtype != reference.dtype or tensor.device != reference.device:
            raise ValueError(
                f"{name} must be {reference.dtype} on {reference.device} as means_mm is, "
                f"got {tensor.dtype} on {tensor.device}"
            )


def splat(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    *,
    backend: Backend = "auto",
    pixel_average: bool = False,
    cutoff_sigma: float = CUTOFF_SIGMA,
    screen_gradient: Tensor | None = None,
) -> Tensor:
    """Image of line integrals, (H, W), dimensionless.

    means_mm: Gaussian centres in the world, (N, 3).
    quats_wxyz: rotations, (N, 4), normalised here; Sigma = R diag(scales^2) R^T.
    scales_mm: standard deviations, (N, 3).
    density_per_mm: attenuation at the centres, (N,), any sign.
    intrinsics: (3, 3) px, upper triangular, pixel centres at integers. camera_from_world: (4, 4) rigid,
        mm, OpenCV axes. Both on any device and of any floating type; computed in float64.
    pixel_average: approximate the mean over each pixel instead of the value at its centre. The exact
        point value, the default, is right for what a fit compares, but a Gaussian with a standard
        deviation below about 0.4 px on the detector then falls between the pixel centres: its brightness
        depends on where it lies, below 0.1 px it may vanish altogether. Averaging adds a square pixel's
        second moment, I/12, to its footprint and scales that to keep the image's sum.
    cutoff_sigma: half size in standard deviations of the footprint's axis-aligned box.
    screen_gradient: (N, 2), float32, for density control; each backward pass adds the norm of the
        gradient of the image mean, in normalised device coordinates, to column 0, and 1 to column 1
        where the Gaussian's box meets the image.

    Gaussians at depths of 0.2 mm or less, and those with a parameter that is not finite or outside
    the limits of ``_torch``, are skipped and get zero gradients. The torch backend also gives
    gradients of the camera; the numba backend is float32 and the same for any number of threads.

    Raises:
        ValueError: shapes, types or devices disagree, or the camera is not finite.

    Source: sheet dsa-4drgs, section 5 (R2-Gaussian, 4DRGS), without its 3-sigma circle, its 1e-5 floor
    and its clamp of the Jacobian to the field of view.
    """
    _check_gaussians(means_mm, quats_wxyz, scales_mm)
    check_shapes(
        means_mm=(means_mm, "N 3"),
        density_per_mm=(density_per_mm, "N"),
        intrinsics=(intrinsics, "3 3"),
        camera_from_world=(camera_from_world, "4 4"),
    )
    check_alike(means_mm, density_per_mm=density_per_mm)
    _check_camera(intrinsics, camera_from_world, width_px, height_px, cutoff_sigma)
    if screen_gradient is not None:
        check_shapes(means_mm=(means_mm, "N 3"), screen_gradient=(screen_gradient, "N 2"))
        if screen_gradient.device != means_mm.device or screen_gradient.requires_grad:
            raise ValueError("screen_gradient must be a plain buffer on the Gaussians' device")
    camera_gradient = torch.is_grad_enabled() and (
        intrinsics.requires_grad or camera_from_world.requires_grad
    )
    chosen = resolve_backend(backend, means_mm, camera_gradient)
    device = means_mm.device if chosen == "torch" else torch.device("cpu")
    arguments = (
        *(
            means_mm,
            quats_wxyz,
            scales_mm,
            density_per_mm,
            intrinsics.to(device),
            camera_from_world.to(device),
        ),
        *(width_px, height_px, cutoff_sigma, 1 / 12 if pixel_average else 0.0, screen_gradient),
    )
    if chosen == "torch":
        return _torch.splat(*arguments)
    # Imported on use: Numba takes a second to load, and a GPU run never needs it.
    from splatomy.kernels._numba_xray import Splat

    image: Tensor = Splat.apply(*arguments)
    return image


def splat_many(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    *,
    backend: Backend = "auto",
    pixel_average: bool = False,
    cutoff_sigma: float = CUTOFF_SIGMA,
    screen_gradient: Tensor | None = None,
) -> Tensor:
    """Images of line integrals, (C, H, W), of C cameras.

    density_per_mm: one per camera and Gaussian, (C, N). intrinsics: (C, 3, 3).
    camera_from_world: (C, 4, 4). screen_gradient: (N, 2), adds up over the cameras. The rest is as in
    ``splat``, of which this is the stack.
    """
    check_shapes(
        means_mm=(means_mm, "N 3"),
        density_per_mm=(density_per_mm, "C N"),
        intrinsics=(intrinsics, "C 3 3"),
        camera_from_world=(camera_from_world, "C 4 4"),
    )
    if len(intrinsics) == 0:
        return means_mm.new_zeros(0, height_px, width_px)
    images = [
        splat(
            *(means_mm, quats_wxyz, scales_mm, density, k, pose, width_px, height_px),
            backend=backend,
            pixel_average=pixel_average,
            cutoff_sigma=cutoff_sigma,
            screen_gradient=screen_gradient,
        )
        for density, k, pose in zip(density_per_mm, intrinsics, camera_from_world, strict=True)
    ]
    return torch.stack(images)


def _check_gaussians(means_mm: Tensor, quats_wxyz: Tensor, scales_mm: Tensor) -> None:
    check_shapes(means_mm=(means_mm, "N 3"), quats_wxyz=(quats_wxyz, "N 4"), scales_mm=(scales_mm, "N 3"))
    check_alike(means_mm, quats_wxyz=quats_wxyz, scales_mm=scales_mm)


def _check_camera(
    intrinsics: Tensor, camera_from_world: Tensor, width_px: int, height_px: int, cutoff_sigma: float
) -> None:
    if not (torch.isfinite(intrinsics).all() and torch.isfinite(camera_from_world).all()):
        raise ValueError("the camera holds NaN or infinity")
    if width_px < 1 or height_px < 1:
        raise ValueError(f"the image must have pixels, got {width_px} x {height_px}")
    if not 0 < cutoff_sigma < 1e3:
        raise ValueError(f"cutoff_sigma must lie in (0, 1000), got {cutoff_sigma}")

"""X-ray splatting: images of line integrals through 3-D Gaussians.

The attenuation is ``sum_i density_i exp(-(x - mean_i)^T Sigma_i^-1 (x - mean_i) / 2)`` in 1/mm, so an
image is dimensionless, -ln(I/I0). It is a plain sum: no sorting and no blending.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from splatomy.checks import check_shapes
from splatomy.kernels import _gpu_runtime, _gpu_xray, _torch

Backend = Literal["auto", "torch", "numba", "gpu"]
CUTOFF_SIGMA = _torch.CUTOFF_SIGMA


def resolve_backend(
    backend: Backend,
    reference: Tensor,
    camera_gradient: bool = False,
    gpu_parts: tuple[str, ...] = _gpu_xray.PARTS,
) -> Literal["torch", "numba", "gpu"]:
    """The backend to use; "auto": numba for float32 on the CPU and gpu for that on CUDA, else torch.

    camera_gradient: whether that is needed, which numba cannot give. gpu_parts: the sources of the gpu
    program; where they cannot be used, a warning says why, once, and "auto" takes torch.

    Raises:
        ValueError: the backend is unknown, or was asked for what it cannot do.
        MissingBackendError: "gpu" was asked for, and its program cannot be compiled or loaded.
    """
    if backend not in ("auto", "torch", "numba", "gpu"):
        raise ValueError(f'backend must be "auto", "torch", "numba" or "gpu", got {backend!r}')
    fits = reference.dtype == torch.float32 and not (camera_gradient and reference.device.type == "cpu")
    kind = {"cpu": "numba", "cuda": "gpu"}.get(reference.device.type) if fits else None
    if backend in ("numba", "gpu") and backend != kind:
        raise ValueError(
            (
                "the numba backend needs float32 CPU tensors and gives no camera gradient"
                if backend == "numba"
                else "the gpu backend needs float32 CUDA tensors"
            )
            + f", got {reference.dtype} on {reference.device}"
            + (" with a camera gradient" if camera_gradient else "")
        )
    if backend == "gpu":
        _gpu_runtime.program(gpu_parts, reference.device)
        return "gpu"
    if backend == "auto" and kind == "gpu":
        return "gpu" if _gpu_runtime.usable(gpu_parts, reference.device) else "torch"
    return "numba" if backend != "torch" and kind == "numba" else "torch"


def gpu_problem(device: torch.device) -> str | None:
    """Why our own GPU kernels cannot run on a CUDA device, in one sentence for a notice, or None."""
    return _gpu_runtime.problem(_gpu_xray.PARTS, device)


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
    the limits of ``_torch``, are skipped and get zero gradients. The torch and gpu backends also give
    gradients of the camera; the numba backend is float32 and the same for any number of threads. The gpu
    backend adds up an image in no fixed order, unless under ``torch.use_deterministic_algorithms``; its
    gradients have a fixed one. It draws nothing with a camera on the device that is not finite.

    Raises:
        ValueError: shapes, types or devices disagree, or the camera, if on the host, is not finite.
        MissingBackendError: the gpu backend was asked for and cannot be used here.

    Source: sheet dsa-4drgs, section 5 (R2-Gaussian, 4DRGS), without its 3-sigma circle, its 1e-5 floor
    and its clamp of the Jacobian to the field of view.
    """
    if (density_per_mm.shape, intrinsics.shape, camera_from_world.shape) != (
        means_mm.shape[:1],
        (3, 3),
        (4, 4),
    ):
        check_shapes(
            means_mm=(means_mm, "N 3"),
            density_per_mm=(density_per_mm, "N"),
            intrinsics=(intrinsics, "3 3"),
            camera_from_world=(camera_from_world, "4 4"),
        )
    arguments = (means_mm, quats_wxyz, scales_mm, density_per_mm, intrinsics, camera_from_world)
    size = (width_px, height_px)
    _check(*arguments, *size, cutoff_sigma, screen_gradient)
    camera_gradient = torch.is_grad_enabled() and (
        intrinsics.requires_grad or camera_from_world.requires_grad
    )
    chosen = resolve_backend(backend, means_mm, camera_gradient)
    cell_variance = 1 / 12 if pixel_average else 0.0
    return _splat(chosen, *arguments, *size, cutoff_sigma, cell_variance, screen_gradient)


def _splat(
    chosen: str,
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    *rest: Any,
) -> Tensor:
    """``splat`` of checked arguments by one backend; gpu also takes many cameras."""
    device = torch.device("cpu") if chosen == "numba" else means_mm.device
    camera = (
        t.double().to(device, non_blocking=True) if t.device != device else t.double()
        for t in (intrinsics, camera_from_world)
    )
    arguments = (means_mm, quats_wxyz, scales_mm, density_per_mm, *camera, *rest)
    if chosen == "torch":
        return _torch.splat(*arguments)
    if chosen == "gpu":
        images: Tensor = _gpu_xray.Splat.apply(*arguments)
        return images
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
    ``splat``, of which this is the stack; the gpu backend draws it at one go.
    """
    check_shapes(
        means_mm=(means_mm, "N 3"),
        density_per_mm=(density_per_mm, "C N"),
        intrinsics=(intrinsics, "C 3 3"),
        camera_from_world=(camera_from_world, "C 4 4"),
    )
    if len(intrinsics) == 0:
        return means_mm.new_zeros(0, height_px, width_px)
    size = (width_px, height_px)
    arguments = (means_mm, quats_wxyz, scales_mm, density_per_mm, intrinsics, camera_from_world)
    _check(*arguments, *size, cutoff_sigma, screen_gradient)
    camera_gradient = torch.is_grad_enabled() and (
        intrinsics.requires_grad or camera_from_world.requires_grad
    )
    chosen = resolve_backend(backend, means_mm, camera_gradient)
    rest = (*size, cutoff_sigma, 1 / 12 if pixel_average else 0.0, screen_gradient)
    gaussians = (means_mm, quats_wxyz, scales_mm)
    if chosen == "gpu":
        most = _gpu_xray.views_at_once(len(means_mm))
        if len(intrinsics) <= most:
            return _splat(chosen, *arguments, *rest)
        parts = zip(*[t.split(most) for t in arguments[3:]], strict=True)
        return torch.cat([_splat(chosen, *gaussians, *views, *rest) for views in parts])
    views = zip(density_per_mm, intrinsics, camera_from_world, strict=True)
    return torch.stack([_splat(chosen, *gaussians, *view, *rest) for view in views])


def _check(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    density_per_mm: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    cutoff_sigma: float,
    screen_gradient: Tensor | None,
) -> None:
    """Raise ValueError unless the arguments of ``splat`` and ``splat_many`` can be drawn."""
    if not means_mm.shape == scales_mm.shape == (len(quats_wxyz), 3) or quats_wxyz.shape[1:] != (4,):
        check_shapes(means_mm=(means_mm, "N 3"), quats_wxyz=(quats_wxyz, "N 4"), scales_mm=(scales_mm, "N 3"))
    check_alike(means_mm, quats_wxyz=quats_wxyz, scales_mm=scales_mm, density_per_mm=density_per_mm)
    for tensor in (intrinsics, camera_from_world):
        # To look at one on a device would make the host wait for it.
        if tensor.device.type == "cpu" and not torch.isfinite(tensor).all():
            raise ValueError("the camera holds NaN or infinity")
    if not (1 <= width_px <= _gpu_xray.MAX_SIZE_PX and 1 <= height_px <= _gpu_xray.MAX_SIZE_PX):
        raise ValueError(
            f"the image must have 1 to {_gpu_xray.MAX_SIZE_PX} pixels a side, got {width_px} x {height_px}"
        )
    if not 0 < cutoff_sigma < 1e3:
        raise ValueError(f"cutoff_sigma must lie in (0, 1000), got {cutoff_sigma}")
    if screen_gradient is not None:
        check_shapes(means_mm=(means_mm, "N 3"), screen_gradient=(screen_gradient, "N 2"))
        if screen_gradient.device != means_mm.device or screen_gradient.requires_grad:
            raise ValueError("screen_gradient must be a plain buffer on the Gaussians' device")

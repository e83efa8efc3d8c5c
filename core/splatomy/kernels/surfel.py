"""Surfel splatting: images of flat, opaque Gaussian discs, blended from near to far.

A surfel is a plane with a Gaussian opacity. Its image is found where each pixel's ray meets that plane,
so depths and normals are those of the surface itself.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from splatomy.checks import check_shapes
from splatomy.kernels import _gpu_runtime, _gpu_surfel, _torch_surfel
from splatomy.kernels._torch_surfel import Sums
from splatomy.kernels.xray import check_alike

Backend = Literal["auto", "torch", "numba", "gpu", "gsplat"]
MIN_ALPHA = _torch_surfel.MIN_ALPHA
MAX_DEPTH_MM = 1e7


class SurfelRender(NamedTuple):
    """One image; every entry is finite, and differentiable but for ``radius_px``."""

    colour: Tensor
    """(H, W, C): blended colours, with the background behind them."""
    alpha: Tensor
    """(H, W): share of the light that the surfels take, in [0, 1 - 1e-4]; 0 or at least 1/255."""
    depth_mm: Tensor
    """(H, W): inverse of the mean inverse depth of the hits; 0 where alpha is 0."""
    median_depth_mm: Tensor
    """(H, W): depth of the last hit that more than half of the light reached; 0 where alpha is 0."""
    normal: Tensor
    """(H, W, 3): sum of the weighted unit normals that face the camera, in the camera's frame."""
    distortion: Tensor
    """(H, W): sum over pairs of hits of w_i w_j (1/z_i - 1/z_j)^2, 1/mm^2; times a typical depth squared it
    has no unit, times (near far / (far - near))^2 it is that of 2DGS."""
    radius_px: Tensor
    """(N,): half the larger side of each surfel's box in the image, at most the image's; 0 when not drawn."""


def resolve_backend(
    backend: Backend, reference: Tensor, intrinsics_gradient: bool = False
) -> Literal["torch", "numba", "gpu", "gsplat"]:
    """The backend to use; for "auto": numba for float32 on the CPU, gpu for that on CUDA, else torch.

    Where our own CUDA kernels cannot be compiled or loaded, a warning says why, once, and "auto" takes
    gsplat.

    Raises:
        ValueError: the backend is unknown, or was asked for what it cannot do.
        MissingBackendError: "gpu" was asked for, and its program cannot be compiled or loaded.
    """
    if backend not in ("auto", "torch", "numba", "gpu", "gsplat"):
        raise ValueError(f'backend must be "auto", "torch", "numba", "gpu" or "gsplat", got {backend!r}')
    kind = reference.device.type
    fast = reference.dtype == torch.float32 and not intrinsics_gradient
    if backend in ("numba", "gpu", "gsplat"):
        wanted = "cpu" if backend == "numba" else "cuda"
        if not fast or kind != wanted:
            raise ValueError(
                f"the {backend} backend needs float32 {wanted} tensors and gives no gradient of the "
                f"intrinsics, got {reference.dtype} on {reference.device}"
                + (" with such a gradient" if intrinsics_gradient else "")
            )
        if backend == "gpu":
            _gpu_runtime.program(_gpu_surfel.PARTS, reference.device)
        return backend
    if backend == "auto" and fast and kind in ("cpu", "cuda"):
        if kind == "cpu":
            return "numba"
        return "gpu" if _gpu_runtime.usable(_gpu_surfel.PARTS, reference.device) else "gsplat"
    return "torch"


def splat_surfels(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    opacity: Tensor,
    colours: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    *,
    background: Tensor | None = None,
    near_mm: float = 1.0,
    backend: Backend = "auto",
    screen_gradient: Tensor | None = None,
) -> SurfelRender:
    """One view of N surfels.

    means_mm: centres in the world, (N, 3).
    quats_wxyz: rotations, (N, 4), normalised here; the columns of R are the two axes and the normal.
    scales_mm: standard deviations along the two axes, (N, 2).
    opacity: at the centres, (N,) in [0, 1].
    colours: any number C of values to blend, (N, C): colour, and further shares such as evidence.
    intrinsics: (3, 3) px, upper triangular, pixel centres at integers. camera_from_world: (4, 4) rigid,
        mm, OpenCV axes. Both on any device and of any floating type; computed in float64.
    background: (C,) or None for black.
    near_mm: surfels whose centres are not beyond this depth are skipped, and so is any nearer hit.
    screen_gradient: (N, 2), float32, for density control; each backward pass adds the norm of the
        gradient of the projected centre, in normalised device coordinates, to column 0, and 1 to
        column 1 where the surfel's box meets the image.

    A hit's alpha is opacity exp(-min(u^2 + v^2, 2 d^2) / 2) for the plane's (u, v) in standard deviations
    and the distance d to the projected centre in px, at most 0.999; below 1/255 it is dropped, and a
    pixel ends before the hit that would leave 1e-4 of its light or less. A surfel seen at a grazing
    angle, cosine below 0.05, has the depth of its centre. Surfels with a parameter that is not finite or
    outside the limits of ``_torch`` or of [0, 1] are skipped and get zero gradients.

    All backends give the gradients of the surfels and of the pose, the torch backend those of the
    intrinsics too. The numba backend is the same for any number of threads. The gpu backend's image is always
    the same; its gradients are so under ``torch.use_deterministic_algorithms``, and it draws nothing with a
    camera on the device that is not finite. The gsplat backend skips a surfel that reaches nearer than
    near_mm as a whole and needs intrinsics without skew.

    Raises:
        ValueError: shapes, types or devices disagree, or the camera, if on the host, is not finite.
        MissingBackendError: gpu or gsplat is to be used and cannot be.

    Source: 2DGS (Huang et al. 2024), as in sheet endo-dynamic-2dgs, sections 2.3 and 2.4. The low-pass is
    centred on the projected centre, as in the paper; the depth is the mean in 1/z, which a tilted
    surfel's own plane makes exact.
    """
    count = (len(means_mm),)
    shapes = (means_mm.shape, quats_wxyz.shape, scales_mm.shape, opacity.shape, colours.shape[:-1])
    if shapes != ((*count, 3), (*count, 4), (*count, 2), count, count) or (
        intrinsics.shape != (3, 3) or camera_from_world.shape != (4, 4)
    ):
        check_shapes(
            means_mm=(means_mm, "N 3"),
            quats_wxyz=(quats_wxyz, "N 4"),
            scales_mm=(scales_mm, "N 2"),
            opacity=(opacity, "N"),
            colours=(colours, "N C"),
            intrinsics=(intrinsics, "3 3"),
            camera_from_world=(camera_from_world, "4 4"),
        )
    alike = {"quats_wxyz": quats_wxyz, "scales_mm": scales_mm, "opacity": opacity, "colours": colours}
    if background is not None:
        check_shapes(colours=(colours, "N C"), background=(background, "C"))
        alike["background"] = background
    check_alike(means_mm, **alike)
    _check_view(intrinsics, camera_from_world, width_px, height_px, near_mm)
    if screen_gradient is not None:
        check_shapes(means_mm=(means_mm, "N 3"), screen_gradient=(screen_gradient, "N 2"))
        if screen_gradient.device != means_mm.device or screen_gradient.requires_grad:
            raise ValueError("screen_gradient must be a plain buffer on the surfels' device")
    intrinsics_gradient = torch.is_grad_enabled() and intrinsics.requires_grad
    chosen = resolve_backend(backend, means_mm, intrinsics_gradient)
    camera = (intrinsics.to(means_mm.device), camera_from_world.to(means_mm.device))
    surfels = (means_mm, quats_wxyz, scales_mm, opacity, colours)
    if chosen == "gpu":
        view = (camera[1].double(), camera[0].detach().double(), (width_px, height_px))
        rest = (background, *view, (near_mm, MAX_DEPTH_MM), screen_gradient)
        return SurfelRender(*_gpu_surfel.Splat.apply(*surfels, *rest))
    arguments: list[Any] = [*surfels, *camera, width_px, height_px, near_mm, screen_gradient]
    # Imported on use: Numba takes a second to load, and gsplat exists only next to CUDA.
    if chosen == "numba":
        from splatomy.kernels._numba_surfel import splat
    elif chosen == "gsplat":
        from splatomy.kernels._gsplat import splat
    else:
        from splatomy.kernels._torch_surfel import splat
    return _finish(splat(*arguments), background, near_mm)


def _finish(sums: Sums, background: Tensor | None, near_mm: float) -> SurfelRender:
    hit = sums.alpha > 0
    share = torch.where(hit, sums.alpha, 1.0)
    nearest, farthest = 1 / near_mm, 1 / MAX_DEPTH_MM
    inverse = (sums.first / share + sums.reference).clamp(farthest, nearest)
    median = (sums.median + sums.reference).clamp(farthest, nearest)
    colour = sums.colour
    if background is not None:
        colour = colour + (1 - sums.alpha)[..., None] * background
    return SurfelRender(
        colour,
        sums.alpha,
        torch.where(hit, 1 / inverse, 0.0),
        torch.where(hit, 1 / median, 0.0),
        sums.normal,
        (sums.alpha * sums.second - sums.first**2).clamp_min(0.0),
        sums.radius_px,
    )


def _check_view(
    intrinsics: Tensor, camera_from_world: Tensor, width_px: int, height_px: int, near_mm: float
) -> None:
    # To look at a camera on a device would make the host wait for it.
    if camera_from_world.device.type == "cpu" and not torch.isfinite(camera_from_world).all():
        raise ValueError("the camera holds NaN or infinity")
    if intrinsics.device.type == "cpu":
        if not torch.isfinite(intrinsics).all():
            raise ValueError("the camera holds NaN or infinity")
        if not (intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0):
            raise ValueError("the focal lengths must be positive")
    if width_px < 1 or height_px < 1:
        raise ValueError(f"the image must have pixels, got {width_px} x {height_px}")
    if not 0 < near_mm < MAX_DEPTH_MM:
        raise ValueError(f"near_mm must lie in (0, {MAX_DEPTH_MM:g}), got {near_mm}")

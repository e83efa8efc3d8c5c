"""The surfel splatter on CUDA: gsplat's ``rasterization_2dgs``, with depths made exact.

gsplat blends the depth of a surfel's centre, which gives tilted tissue steps. On the plane of a surfel the
inverse depth is affine in the pixel, so its three coefficients, blended as colours, give the blended inverse
depth of every pixel exactly, and six products give that of its square. The last channel, of which
gsplat returns the median hit's value, is the surfel's number: it leads to the exact median depth.

Source: sheet endo-dynamic-2dgs, section 2.4. Read for gsplat 1.5.3: pixel centres lie at + 0.5; channel
counts other than powers of two are padded with memory that was never written, which may hold NaN, so
they are padded here; its ``gradient_2dgs`` is written by all tiles of a surfel without order, so the
screen gradient is taken from the ray transforms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatomy.errors import MissingBackendError
from splatomy.kernels._torch import _screen_gradient_hook
from splatomy.kernels._torch_surfel import MIN_ALPHA, Footprints, Sums, drawable, project

MAX_CHANNELS = 512
_PLANE, _SQUARE, _NUMBER = 3, 6, 1
_HINT = "install it with: pip install 'splatomy[gpu]' (it compiles with the CUDA toolkit on first use)"


def _load() -> Any:
    """gsplat's surfel rasteriser.

    Raises:
        MissingBackendError: gsplat or its compiled part is missing.
    """
    try:
        from gsplat import rasterization_2dgs
        from gsplat.cuda._backend import _C
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingBackendError(f"surfels on CUDA need gsplat, which did not load; {_HINT}") from error
    if _C is None:
        raise MissingBackendError(f"gsplat is installed without its CUDA part; {_HINT}")
    return rasterization_2dgs


def splat(
    means_mm: Tensor,
    quats_wxyz: Tensor,
    scales_mm: Tensor,
    opacity: Tensor,
    colours: Tensor,
    intrinsics: Tensor,
    camera_from_world: Tensor,
    width_px: int,
    height_px: int,
    near_mm: float,
    screen_gradient: Tensor | None,
) -> Sums:
    """The sums of an image; see ``kernels.surfel.splat_surfels``.

    Raises:
        MissingBackendError: gsplat is not installed.
        ValueError: the intrinsics have skew, or there are too many colours.
    """
    rasterise = _load()
    channels = colours.shape[1]
    padded = 1 << (channels + _PLANE + _SQUARE + _NUMBER - 1).bit_length()
    if padded > MAX_CHANNELS:
        raise ValueError(f"the gsplat backend blends at most {MAX_CHANNELS - 10} colours, got {channels}")
    if intrinsics[0, 1] != 0:
        raise ValueError("the gsplat backend needs intrinsics without skew")
    k, pose = intrinsics.double(), camera_from_world.double()
    geometry = (means_mm, quats_wxyz, scales_mm)
    with torch.no_grad():
        index = drawable(*geometry, opacity, colours, pose, near_mm)
        index = index[opacity[index] >= MIN_ALPHA]
        seen = project(means_mm[index], quats_wxyz[index], scales_mm[index], k, pose)
        index = index[_clear_of(near_mm, seen, opacity[index])]
        radius = torch.zeros(len(means_mm), device=means_mm.device)
    if len(index) == 0:
        # Keep the graph, so that backward() of an empty image gives zeros instead of an error.
        zero = 0 * (sum(t[index].sum() for t in (*geometry, opacity, colours)) + pose.sum().to(means_mm))
        blank = means_mm.new_zeros(height_px, width_px) + zero
        image = blank[..., None].expand(-1, -1, channels)
        return Sums(image, blank[..., None].expand(-1, -1, 3), *(blank,) * 4, 0.0, radius)
    # Only surfels that are drawn enter the graph, so that no NaN of another reaches a gradient.
    means, quats, scales = (t[index] for t in geometry)
    seen = project(means, quats, scales, k, pose)
    reference = float((1 / seen.depth.detach()).median())
    planes = _inverse_planes(seen, reference, width_px, height_px).to(means_mm.dtype)
    number = torch.arange(len(index), dtype=means_mm.dtype, device=means_mm.device)
    blank = means.new_zeros(len(index), padded - channels - _PLANE - _SQUARE - _NUMBER)
    values = torch.cat([colours[index], planes, _squares(planes), blank, number[:, None]], 1)
    shifted = k.clone()
    shifted[:2, 2] += 0.5
    discs = torch.cat([scales, torch.ones_like(scales[:, :1])], 1)
    # gsplat makes one of its buffers on the current device.
    with torch.cuda.device(means_mm.device):
        image, alpha, normal, _, _, median, meta = rasterise(
            *(means, quats, discs, opacity[index], values[None]),
            *(pose.to(means.dtype)[None], shifted.to(means.dtype)[None], width_px, height_px),
            near_plane=near_mm,
            packed=False,
        )
    visible = (meta["radii"][0] > 0).all(1)
    radius[index] = torch.where(visible, meta["radii"][0].amax(1), 0).to(radius.dtype)
    if screen_gradient is not None and torch.is_grad_enabled() and meta["ray_transforms"].requires_grad:
        _watch_centres(meta, visible, _screen_gradient_hook(
            screen_gradient, index[visible], torch.tensor([width_px, height_px], device=index.device)
        ))  # fmt: skip
    coordinates = _coordinates(width_px, height_px, means)
    hit = planes[median[0, ..., 0].detach().round().long()]
    image = image[0]
    return Sums(
        image[..., :channels],
        torch.einsum("ij,hwj->hwi", pose[:3, :3].to(means.dtype), normal[0]),
        alpha[0, ..., 0],
        (image[..., channels : channels + _PLANE] * coordinates).sum(-1),
        (image[..., channels + _PLANE : channels + _PLANE + _SQUARE] * _products(coordinates)).sum(-1),
        (hit * coordinates).sum(-1),
        reference,
        radius,
    )


def _clear_of(near_mm: float, seen: Footprints, opacity: Tensor) -> Tensor:
    """Which surfels lie beyond near_mm with all of their visible disc, (N,): gsplat's boxes need that."""
    cutoff2 = 2 * torch.log(opacity.double() / MIN_ALPHA)
    return seen.depth - (cutoff2 * seen.extent[:, 2].square().sum(1)).sqrt() > near_mm


def _inverse_planes(seen: Footprints, reference: float, width_px: int, height_px: int) -> Tensor:
    """Coefficients (N, 3) of inverse depth - reference in ``_coordinates``."""
    half = max(width_px, height_px) / 2
    middle = torch.tensor([(width_px - 1) / 2, (height_px - 1) / 2], device=seen.centre.device)
    slope = seen.inverse[:, 1:]
    constant = seen.inverse[:, 0] - reference + (slope * (middle - seen.centre)).sum(1)
    return torch.cat([constant[:, None], slope * half], 1)


def _coordinates(width_px: int, height_px: int, like: Tensor) -> Tensor:
    """1 and the pixels' offsets from the image's middle over half its larger side, (H, W, 3)."""
    half = max(width_px, height_px) / 2
    x = (torch.arange(width_px, device=like.device) - (width_px - 1) / 2) / half
    y = (torch.arange(height_px, device=like.device) - (height_px - 1) / 2) / half
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.ones_like(rows), columns, rows], -1).to(like.dtype)


def _squares(planes: Tensor) -> Tensor:
    """Coefficients (N, 6) of the squares of planes (N, 3), in the order of ``_products``."""
    a, b, c = planes.unbind(-1)
    return torch.stack([a * a, b * b, c * c, 2 * a * b, 2 * a * c, 2 * b * c], -1)


def _products(coordinates: Tensor) -> Tensor:
    a, b, c = coordinates.unbind(-1)
    return torch.stack([a * a, b * b, c * c, a * b, a * c, b * c], -1)


def _watch_centres(meta: dict[str, Any], visible: Tensor, accumulate: Any) -> None:
    """Call ``accumulate`` with the gradient (V, 2) px of the visible centres in each backward pass.

    A shift of the centre by 1 px moves the third column of the ray transform by the depth, and the centre
    of the low-pass by 1 px.
    """
    depth = meta["depths"][0].detach()[visible, None]

    def hook(gradients: Any) -> None:
        rays, centres = gradients
        total = torch.zeros_like(depth).expand(-1, 2)
        if rays is not None:
            total = total + rays[0][visible][:, :2, 2] * depth
        if centres is not None:
            total = total + centres[0][visible]
        accumulate(total)

    torch.autograd.graph.register_multi_grad_hook((meta["ray_transforms"], meta["means2d"]), hook)

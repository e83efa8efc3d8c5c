"""Density control: which Gaussians to drop, copy or split."""

from __future__ import annotations

import torch

from splatomy.gaussians.store import GaussianStore


def rotate(quats_wxyz: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (N, 3) turned by quaternions (N, 4), which need not be normalised."""
    q = torch.nn.functional.normalize(quats_wxyz, dim=-1)
    axis = q[:, 1:]
    cross = 2 * torch.linalg.cross(axis, vectors)
    return vectors + q[:, :1] * cross + torch.linalg.cross(axis, cross)


@torch.no_grad()
def grow_and_prune(
    store: GaussianStore,
    keep: torch.Tensor,
    grow: torch.Tensor,
    split_above_mm: float,
    generator: torch.Generator,
    halves: tuple[str, ...] = (),
) -> tuple[int, int]:
    """Drops what is not in ``keep`` (N,), doubles what is in ``grow`` (N,); returns both counts.

    A growing Gaussian larger than ``split_above_mm`` is replaced by two drawn from it, 1.6 times
    smaller; a small one is copied. halves: parameters divided between the copies of a clone.

    Source: adaptive density control of 3DGS (Kerbl et al. 2023) as used by 4DRGS.
    """
    grow = grow & keep
    if keep.all() and not grow.any():
        return 0, 0
    large = store["log_scales"].detach().amax(1).exp() > split_above_mm
    split, clone = grow & large, grow & ~large
    index = torch.arange(len(store), device=keep.device)
    stay = index[keep & ~split]
    parents = torch.cat([stay, index[clone], index[split], index[split]])
    num_split = int(split.sum())
    means = store["means_mm"].detach()[parents]
    scales = store["log_scales"].detach()[parents]
    if num_split:
        tail = parents[-2 * num_split :]
        spread = torch.randn(2 * num_split, scales.shape[1], generator=generator).to(means)
        offsets = spread * store["log_scales"].detach()[tail].exp()
        # A surfel has two scales: it is split within its plane.
        offsets = torch.nn.functional.pad(offsets, (0, 3 - scales.shape[1]))
        means[-2 * num_split :] += rotate(store["quats_wxyz"].detach()[tail], offsets)
        scales[-2 * num_split :] -= torch.log(torch.tensor(1.6))
    overrides = {"means_mm": means, "log_scales": scales}
    store.reindex(parents, **overrides)
    return int((~keep).sum()), int(grow.sum())

"""Neighbouring Gaussians have like curves: blood that passes one place passes the next.

What noise makes of a single Gaussian is shared by none of its neighbours. The paper's field, a smooth
function of space, has this built in; curves of their own need it said.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from splatomy.gaussians.gathering import rows_of
from splatomy.gaussians.store import GaussianStore

NEIGHBOURS = 8
SAME = 0.02
"""In typical densities: smaller differences hardly count."""


def neighbour(store: GaussianStore, step: int) -> torch.Tensor:
    """The index (N,) of one neighbour of each Gaussian, another one in every step.

    The neighbours are kept as the side tensor "neighbours" (N, 8) until the topology changes.
    """
    if "neighbours" not in store.side:
        store.side["neighbours"] = _neighbours(store["means_mm"].detach())
    return store.side["neighbours"][:, step % NEIGHBOURS]


def strangeness(curve: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Mean distance of the curves (N, K) from those of one neighbour each (N,).

    A plain distance, not its square, lets the wall of a vessel stay a wall.
    """
    return torch.sqrt((curve - rows_of(curve, others)).square() + SAME**2).mean()


def _neighbours(means_mm: torch.Tensor) -> torch.Tensor:
    """Indices (N, 8) of the nearest other Gaussians, repeated where there are fewer."""
    means = means_mm.cpu().numpy()
    count = min(NEIGHBOURS + 1, len(means))
    _, index = cKDTree(means).query(means, k=count, workers=-1)
    others = np.asarray(index).reshape(len(means), count)[:, min(1, count - 1) :]
    chosen = np.arange(NEIGHBOURS) % others.shape[1]
    return torch.as_tensor(others[:, chosen], dtype=torch.int64, device=means_mm.device)

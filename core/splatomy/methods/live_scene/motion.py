"""The deforming profile: shared control nodes that carry the surfels of the moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize, pad

from splatomy.gaussians.deform import multiply, quats_from_vectors

CHANNELS = 6
"""Displacement 3, rotation vector 3."""
NUM_NEIGHBOURS = 4
_ANGLE_RAD = 0.02
_CHUNK = 65_536


class NodeMotion:
    """Control nodes at rest (M, 3) and their change now (M, 6), in units of ``unit_mm`` and 0.02 rad.

    Source: embedded deformation (Sumner et al. 2007) with one state that every frame starts from, as in the
    sheet online-incremental, 7.
    """

    def __init__(self, spacing_mm: float, unit_mm: float, device: torch.device) -> None:
        self.spacing_mm, self.unit_mm, self.device = spacing_mm, unit_mm, device
        self.nodes_mm = torch.zeros(0, 3, device=device)
        self.changes = torch.zeros(0, CHANNELS, device=device)
        self._near = torch.zeros(0, NUM_NEIGHBOURS, dtype=torch.long, device=device)
        self._share = torch.zeros(0, NUM_NEIGHBOURS, device=device)

    @property
    def scale(self) -> Tensor:
        """Units of the six channels, (6,)."""
        units = [self.unit_mm] * 3 + [_ANGLE_RAD] * 3
        return torch.tensor(units, dtype=torch.float32, device=self.device)

    def at(self, changes: Tensor) -> NodeMotion:
        """The same nodes in another state (K, 6) of the past; nodes that came later rest in it."""
        out = NodeMotion(self.spacing_mm, self.unit_mm, self.device)
        out.nodes_mm, out._near, out._share = self.nodes_mm, self._near, self._share
        blank = torch.zeros(len(self.nodes_mm) - len(changes), CHANNELS, device=self.device)
        out.changes = torch.cat([changes.to(self.device), blank])
        return out

    @torch.no_grad()
    def cover(self, points_mm: Tensor) -> int:
        """New nodes where points (N, 3) lie beyond 1.5 spacings from any; they move as the nearest."""
        far = points_mm
        if len(self.nodes_mm):
            near, _ = nearest(points_mm, self.nodes_mm, 1)
            far = points_mm[near[:, 0] > 1.5 * self.spacing_mm]
        if not len(far):
            return 0
        cell = torch.round(far / self.spacing_mm).long()
        _, inverse = torch.unique(cell, dim=0, return_inverse=True)
        total = torch.zeros(int(inverse.max()) + 1, 4, device=self.device)
        total.index_add_(0, inverse, torch.cat([far, torch.ones_like(far[:, :1])], 1))
        new = total[:, :3] / total[:, 3:]
        change = torch.zeros(len(new), CHANNELS, device=self.device)
        if len(self.nodes_mm):
            _, parent = nearest(new, self.nodes_mm, 1)
            change = self.changes[parent[:, 0]]
            new = new - change[:, :3] * self.unit_mm
        nodes, changes = torch.cat([self.nodes_mm, new]), torch.cat([self.changes, change])
        near, share = self._bound(nodes, nodes)
        # All at once: memory may have ended before.
        self.nodes_mm, self.changes, self._near, self._share = nodes, changes, near, share
        return len(new)

    def bind(self, points_mm: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes (N, 4) that carry resting points (N, 3), and their shares (N, 4), which sum to one."""
        return self._bound(points_mm, self.nodes_mm)

    def _bound(self, points_mm: Tensor, nodes_mm: Tensor) -> tuple[Tensor, Tensor]:
        count = min(NUM_NEIGHBOURS, len(nodes_mm))
        distance, index = nearest(points_mm, nodes_mm, count)
        share = torch.exp(-distance.square() / (2 * self.spacing_mm**2)) + 1e-9
        share = share / share.sum(1, keepdim=True)
        missing = (0, NUM_NEIGHBOURS - count)
        return pad(index, missing), pad(share, missing)

    def moved(self, means_mm: Tensor, quats: Tensor, nodes: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Places (N, 3) and rotations (N, 4) of bound surfels now."""
        if not len(self.nodes_mm):
            return means_mm, quats
        change = embedding_bag(nodes, self.changes * self.scale, per_sample_weights=shares, mode="sum")
        return means_mm + change[:, :3], multiply(quats_from_vectors(change[:, 3:]), normalize(quats, dim=1))

    @torch.no_grad()
    def at_rest(self, points_mm: Tensor, rounds: int = 3) -> Tensor:
        """Where points (N, 3) that are seen now rest: the fixed point of p = x - d(p)."""
        rest = points_mm
        for _ in range(rounds if len(self.nodes_mm) else 0):
            nodes, shares = self.bind(rest)
            change = embedding_bag(nodes, self.changes * self.scale, per_sample_weights=shares, mode="sum")
            rest = points_mm - change[:, :3]
        return rest

    def unlikeness(self, chosen: Tensor) -> Tensor:
        """The matrix (A, A) that takes shifts of chosen nodes (A,) to how they differ from their neighbours'.

        Neighbours that were not chosen count as if they did not exist.
        """
        number = torch.full((len(self.nodes_mm),), -1, dtype=torch.long, device=self.device)
        number[chosen] = torch.arange(len(chosen), device=self.device)
        near, share = number[self._near[chosen]], self._share[chosen]
        share = torch.where((near >= 0) & (self._near[chosen] != chosen[:, None]), share, 0.0)
        alone = share.sum(1) <= 0
        share = share / share.sum(1, keepdim=True).clamp_min(1e-9)
        out = torch.diag((~alone).to(share.dtype))
        rows = torch.arange(len(chosen), device=self.device)[:, None].expand_as(near)
        return out.index_put_((rows, near.clamp_min(0)), -share, accumulate=True)

    @torch.no_grad()
    def turn_with_neighbours(self) -> None:
        """Gives every node the turn that its neighbours' shifts about it make.

        Source: the local step of as-rigid-as-possible surfaces (Sorkine and Alexa 2007), for small turns.
        """
        apart = self.nodes_mm[self._near] - self.nodes_mm[:, None]
        shift = self.changes[:, :3] * self.unit_mm
        unlike = shift[self._near] - shift[:, None]
        share = self._share[..., None]
        eye = torch.eye(3, device=self.device)
        square = (share * apart.square()).sum((1, 2))[:, None, None] * eye
        square = square - torch.einsum("mk,mki,mkj->mij", self._share, apart, apart)
        moment = (share * torch.linalg.cross(apart, unlike)).sum(1)
        turn = torch.linalg.solve(square + 0.05 * self.spacing_mm**2 * eye, moment)
        self.changes[:, 3:] = turn / _ANGLE_RAD

    def state(self) -> dict[str, NDArray[Any]]:
        """Nodes and their present change."""
        return {
            "nodes_mm": self.nodes_mm.cpu().numpy().copy(),
            "changes": self.changes.detach().cpu().numpy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes over what ``state`` gave."""
        self.nodes_mm = torch.as_tensor(np.array(arrays["nodes_mm"]), device=self.device)
        self.changes = torch.as_tensor(np.array(arrays["changes"]), device=self.device)
        if len(self.nodes_mm):
            self._near, self._share = self.bind(self.nodes_mm)


@torch.no_grad()
def nearest(points_mm: Tensor, nodes_mm: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances (N, count) of points (N, 3) from their nearest nodes (M, 3), and which they are."""
    if points_mm.device.type == "cpu":
        tree = cKDTree(nodes_mm.numpy())
        distance, index = tree.query(points_mm.numpy(), k=[*range(1, count + 1)])
        return torch.as_tensor(distance.astype(np.float32)), torch.as_tensor(index)
    found = []
    for points in points_mm.split(_CHUNK):
        apart = torch.cdist(points, nodes_mm, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(apart.topk(count, largest=False))
    if not found:
        return points_mm.new_zeros(0, count), torch.zeros(0, count, dtype=torch.long, device=points_mm.device)
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])

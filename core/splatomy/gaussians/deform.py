"""How Gaussians move over time: shared control nodes, or a curve of the paper for each Gaussian.

Both are the identity until they are started or trained. Times are seconds; only the bases normalise them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import normalize

from splatomy.checks import check_shapes
from splatomy.fields.attenuation import TimeBasis
from splatomy.gaussians.gathering import blended

NODE_CHANNELS = 8
"""Position 3, rotation vector 3, log stretch 1, log brightness 1."""
CURVE_CHANNELS = 9
"""Position 3, quaternion 4, log scales 2."""
NUM_NEIGHBOURS = 6
_ANGLE_RAD = 0.02
_LOG_SHARE = 0.02
_WIDTH_FLOOR = 1e-4
_RIDGE = 1e-3
_CURVE_RIDGE = 1e-5
_MANY_POINTS = 4096
"""From so many on several threads look for the nodes next to points."""


@dataclass(frozen=True)
class Moved:
    """Surfels at a time: means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 2), gain (N, 1) of colours."""

    means_mm: Tensor
    quats_wxyz: Tensor
    log_scales: Tensor
    gain: Tensor | None = None


class NodeDeformation:
    """Motion shared by control nodes: cubic B-splines in time at each node, blended between nodes.

    nodes_mm: (M, 3). coefficients: (M, K, 8), in units of ``unit_mm`` for positions, 0.02 rad for
    rotations and 0.02 for the logarithms, so that one learning rate fits all.

    Source: embedded deformation (Sumner et al. 2007) in place of the 459 coefficients that each surfel has
    in Deform3DGS and Diff2DGS; the brightness follows the light that comes with the camera.
    """

    def __init__(self, nodes_mm: Tensor, basis: TimeBasis, unit_mm: float) -> None:
        check_shapes(nodes_mm=(nodes_mm, "M 3"))
        self.nodes_mm, self.basis, self.unit_mm = nodes_mm, basis, unit_mm
        size = (len(nodes_mm), basis.size, NODE_CHANNELS)
        self.coefficients = torch.zeros(size, device=nodes_mm.device).requires_grad_(True)
        scale = [unit_mm] * 3 + [_ANGLE_RAD] * 3 + [_LOG_SHARE] * 2
        self._scale = torch.tensor(scale, device=nodes_mm.device)
        self._near, self._share = self.bind(nodes_mm)

    def bind(self, points_mm: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes (N, k) that move points (N, 3), and their shares (N, k), which sum to one.

        A share falls to zero where the next node takes its place, so that the field has no jumps.
        """
        count = min(NUM_NEIGHBOURS + 1, len(self.nodes_mm))
        tree = cKDTree(self.nodes_mm.detach().cpu().numpy())
        workers = -1 if len(points_mm) > _MANY_POINTS else 1
        points = points_mm.detach().cpu().numpy()
        distance, index = tree.query(points, k=[*range(1, count + 1)], workers=workers)
        if count > 1:
            distance, index, last = distance[:, :-1], index[:, :-1], distance[:, -1:]
            share = (1 - distance / np.maximum(last, 1e-12)).clip(1e-6) ** 2
        else:
            share = np.ones_like(distance)
        share /= share.sum(1, keepdims=True)
        device = self.nodes_mm.device
        return torch.as_tensor(index, device=device), torch.as_tensor(share.astype(np.float32), device=device)

    def moment(self, time_s: float) -> Tensor:
        """What the motion needs to know of a time: the weights of the splines, (K,)."""
        return self.basis.weights(time_s, self.coefficients.device)

    def changes(self, index: Tensor, share: Tensor, time: float | Tensor) -> Tensor:
        """Changes (N, 8) of bound points at a time (s, or its ``moment``), in mm, rad and logarithms."""
        moment = time if isinstance(time, Tensor) else self.moment(time)
        table = torch.einsum("mkc,k->mc", self.coefficients, moment) * self._scale
        return blended(table, index, share)

    def moved(
        self,
        means_mm: Tensor,
        quats_wxyz: Tensor,
        log_scales: Tensor,
        index: Tensor,
        share: Tensor,
        time: float | Tensor,
    ) -> Moved:
        """Bound surfels at a time (s, or its ``moment``)."""
        change = self.changes(index, share, time)
        turned = multiply(quats_from_vectors(change[:, 3:6]), normalize(quats_wxyz, dim=1))
        return Moved(means_mm + change[:, :3], turned, log_scales + change[:, 6:7], torch.exp(change[:, 7:]))

    def canonical(self, points_mm: Tensor, time_s: float, rounds: int = 4) -> Tensor:
        """Where points (N, 3) that were seen at a time rest: the fixed point of p = x - d(p, t)."""
        with torch.no_grad():
            rest = points_mm
            for _ in range(rounds):
                rest = points_mm - self.changes(*self.bind(rest), time_s)[:, :3]
        return rest

    def start_from(
        self,
        times_s: NDArray[np.floating],
        displacement_mm: NDArray[np.floating],
        weight: NDArray[np.floating],
        smoothness: float,
    ) -> None:
        """Sets the positions to smooth curves through displacements (M, T, 3) with weights (M, T)."""
        check_shapes(
            times_s=(times_s, "T"), displacement_mm=(displacement_mm, "M T 3"), weight=(weight, "M T")
        )
        basis = np.stack([self.basis.weights(float(t)).numpy() for t in times_s]).astype(np.float64)
        bend = np.diff(np.eye(self.basis.size), 2, axis=0)
        normal = np.einsum("mt,tk,tl->mkl", weight, basis, basis, optimize=True)
        normal += smoothness * bend.T @ bend + _RIDGE * smoothness * np.eye(self.basis.size)
        right = np.einsum("mt,tk,mtc->mkc", weight, basis, displacement_mm, optimize=True)
        found = np.linalg.solve(normal, right) / self.unit_mm
        with torch.no_grad():
            self.coefficients[..., :3] = torch.as_tensor(found, dtype=torch.float32)

    @torch.no_grad()
    def add_nodes(self, points_mm: Tensor, spacing_mm: float) -> int:
        """Nodes where points (N, 3) lie beyond 1.5 spacings from any, moving as the nearest; their number."""
        near, _ = cKDTree(self.nodes_mm.cpu().numpy()).query(points_mm.cpu().numpy())
        far = points_mm[torch.as_tensor(near > 1.5 * spacing_mm, device=points_mm.device)]
        if not len(far):
            return 0
        cell = torch.round(far / spacing_mm).long()
        _, inverse = torch.unique(cell, dim=0, return_inverse=True)
        total = torch.zeros(int(inverse.max()) + 1, 4, device=far.device)
        total.index_add_(0, inverse, torch.cat([far, torch.ones_like(far[:, :1])], 1))
        new = total[:, :3] / total[:, 3:]
        _, parent = cKDTree(self.nodes_mm.cpu().numpy()).query(new.cpu().numpy())
        grown = torch.cat([self.coefficients, self.coefficients[torch.as_tensor(parent)]])
        self.nodes_mm = torch.cat([self.nodes_mm, new])
        self.coefficients = grown.detach().requires_grad_(True)
        self._near, self._share = self.bind(self.nodes_mm)
        return len(new)

    def roughness(self) -> Tensor:
        """Mean squared second difference of the curves over time."""
        c = self.coefficients
        return (c[:, 2:] - 2 * c[:, 1:-1] + c[:, :-2]).square().mean()

    def rigidity(self) -> Tensor:
        """Mean squared difference of each node from the blend of its neighbours."""
        flat = self.coefficients.flatten(1)
        # Its own share is the first and the largest: what is left says how much the neighbours differ.
        blend = blended(flat, self._near, self._share)
        return (flat - blend).square().mean()


class CurveDeformation:
    """The learnable deformation model of the paper: 9 channels x 17 bump functions for every surfel.

    e = (t - centre)^2 / (width^2 + 1e-4), change = sum of weight exp(-e^2), t = share of the clip. The
    parameters (N, 9, 3, B) hold weights, centres and widths; weights of positions are in ``unit_mm``.

    Source: Deform3DGS and Diff2DGS, released code (sheet endo-dynamic-2dgs, 2.2): exp(-e^2) as there,
    not the plain Gaussian of the paper's text.
    """

    def __init__(
        self, start_s: float, end_s: float, num_bases: int, width: float, unit_mm: float, device: torch.device
    ) -> None:
        self.start_s, self.duration_s = start_s, max(end_s - start_s, 1e-6)
        self.width, self.unit_mm = width, unit_mm
        self.centres = torch.linspace(0, 1, num_bases, device=device)
        self._scale = torch.tensor([unit_mm] * 3 + [1.0] * 6, device=device)

    def start(self, count: int) -> Tensor:
        """Parameters (N, 9, 3, B) of surfels that do not move."""
        curves = torch.zeros(count, CURVE_CHANNELS, 3, len(self.centres), device=self.centres.device)
        curves[:, :, 1], curves[:, :, 2] = self.centres, self.width
        return curves

    def started_from(
        self, curves: Tensor, times_s: NDArray[np.floating], displacement_mm: NDArray[np.floating]
    ) -> Tensor:
        """The parameters with positions fitted to displacements (N, T, 3); centres and widths stay."""
        shares = (np.asarray(times_s) - self.start_s) / self.duration_s
        centres = self.centres.cpu().numpy().astype(np.float64)
        e = (shares[:, None] - centres) ** 2 / (self.width**2 + _WIDTH_FLOOR)
        bumps = np.exp(-(e**2))
        normal = bumps.T @ bumps + _CURVE_RIDGE * len(shares) * np.eye(len(centres))
        weights = np.einsum("bt,ntc->ncb", np.linalg.solve(normal, bumps.T), displacement_mm) / self.unit_mm
        out = curves.clone()
        out[:, :3, 0] = torch.as_tensor(weights, dtype=curves.dtype, device=curves.device)
        return out

    def moment(self, time_s: float) -> Tensor:
        """What the motion needs to know of a time: the share of the clip, ()."""
        return torch.tensor((time_s - self.start_s) / self.duration_s, device=self.centres.device)

    def changes(self, curves: Tensor, time: float | Tensor) -> Tensor:
        """Changes (N, 9) at a time (s, or its ``moment``)."""
        weight, centre, width = curves.unbind(2)
        moment = time if isinstance(time, Tensor) else self.moment(time)
        e = (moment - centre).square() / (width.square() + _WIDTH_FLOOR)
        return (weight * torch.exp(-e.square())).sum(2) * self._scale

    def moved(
        self, means_mm: Tensor, quats_wxyz: Tensor, log_scales: Tensor, curves: Tensor, time: float | Tensor
    ) -> Moved:
        """Surfels at a time (s, or its ``moment``)."""
        change = self.changes(curves, time)
        quats = normalize(quats_wxyz, dim=1) + change[:, 3:7]
        return Moved(means_mm + change[:, :3], quats, log_scales + change[:, 7:9])


def quats_from_vectors(vectors_rad: Tensor) -> Tensor:
    """Unit quaternions (N, 4), w first, of rotation vectors (N, 3); smooth at zero."""
    half = 0.5 * torch.sqrt(vectors_rad.square().sum(1, keepdim=True) + 1e-12)
    return torch.cat([torch.cos(half), 0.5 * vectors_rad * torch.sinc(half / torch.pi)], 1)


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """The quaternions (N, 4) of turning by ``second`` and then by ``first``."""
    w1, v1, w2, v2 = first[:, :1], first[:, 1:], second[:, :1], second[:, 1:]
    w = w1 * w2 - (v1 * v2).sum(1, keepdim=True)
    return torch.cat([w, w1 * v2 + w2 * v1 + torch.linalg.cross(v1, v2)], 1)

"""The distance field, and the pull between it and the disks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from splatomy.fields.sdf import HashSdf, make_sdf, pulled, value_and_gradient
from splatomy.gaussians.adam import Adam
from splatomy.gaussians.gathering import rows_of
from splatomy.gaussians.store import GaussianStore
from splatomy.methods.pulled_surface import objective
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.disks import axes_of, normals_of
from splatomy.methods.pulled_surface.space import CELL, Space
from splatomy.methods.pulled_surface.views import HALF

_COARSEST_LEVELS = 4.0
_LEVELS_BY = 0.6
"""Share of the joint steps after which the field has all its levels and slopes their finest step."""
_SIGNED_RADIUS, _UNSIGNED_RADIUS = 0.6, -0.05
"""A field without sides starts positive everywhere, so that no side is inside."""
_POOL = 16
"""Batches of queries that are drawn at a time."""
_SOLID_OPACITY = 0.3
_SOLID_WEIGHT = 0.3
_FARTHEST_PULL = 4.0
"""In spacings: disks farther from the zero set are not moved that far at once."""
_EMPTY_MARGIN = 0.3
_TEACHING = 4
"""Of so many disks one passes the gradient of its picture on to the field."""
_LAST_GUIDANCE = 0.1


class Puller:
    """The field, its optimiser, and the queries that it draws about the disks of a store.

    The store has the rows of ``disks.Rows`` and the side tensor ``outward`` (N, 1), 1 where a disk's normal
    points out of the object and -1 where it points into it.
    """

    def __init__(self, config: Config, spacing: float, device: torch.device) -> None:
        self.config, self.spacing, self.device = config, spacing, device
        self.rng = np.random.default_rng([config.seed, 5])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            radius = _SIGNED_RADIUS if config.signed else _UNSIGNED_RADIUS
            self.field = make_sdf(config.field, config.levels, config.log2_table, radius).to(device)
        self.optimiser = Adam([{"params": self.field.parameters(), "lr": config.field_rate}])
        # Set in place, since recorded steps read them: weight of the disks, step of slopes, least thickness.
        self._guidance, self._slope_step, self._floor = torch.zeros(3, device=device).unbind()
        self.advance(0.0)
        self.queries = np.zeros((0, 3), np.float32)
        self.nearest = np.zeros(0, np.int64)

    def advance(self, share: float) -> None:
        """Sets what depends on the share of the joint steps that are done."""
        config, fineness = self.config, min(1.0, share / _LEVELS_BY)
        self.optimiser.set_rates([config.field_rate * 0.1**share])
        if isinstance(self.field, HashSdf):
            self.field.active_levels.fill_(_COARSEST_LEVELS + fineness * (config.levels - _COARSEST_LEVELS))
        # The disks' centres shape the field at first; its last touch is the pictures'.
        self._guidance.fill_(1.0 if not config.surface_weight else 1.0 - (1 - _LAST_GUIDANCE) * fineness)
        # Half the size of the tetrahedron that slopes are measured with, in units of HALF.
        self._slope_step.fill_(8 ** (1 - fineness) / config.mesh_resolution)
        # At the start the disks' thickness is no measure: the floor falls from a spacing to a tenth.
        self._floor.fill_(self.spacing * 10.0**-fineness)

    def step(self) -> None:
        """Moves the field along its gradients."""
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def value_and_slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The field (N,) in units of HALF and its slope (N, 3) at working points; unsigned without sign."""
        value, slope = value_and_gradient(self.field, points / HALF, self._slope_step)
        if self.config.signed:
            return value, slope
        return value.abs(), slope * torch.sign(value.detach())[:, None]

    def evaluate(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The field at working points (N, 3), in working units; unsigned without sign."""
        with torch.no_grad():
            value = self.field(torch.as_tensor(points, device=self.device) / HALF) * HALF
            return (value if self.config.signed else value.abs()).cpu().numpy().astype(np.float32)

    def pulled(self, means: Tensor, teaching: Tensor | None = None) -> Tensor:
        """Centres (N, 3) on the zero set; the way there teaches the field.

        teaching: (M,) rows whose gradient the field gets, which costs most; see ``drawn_rows``.

        Source: GS-Pull; its released code renders unpulled centres and gives the field no such gradient.
        """
        with torch.no_grad():
            offset = self._offset(means.detach())
        if teaching is not None:
            offset = offset.index_copy(0, teaching, self._offset(means.detach()[teaching]))
        return means - offset

    def drawn_rows(self, count: int) -> Tensor:
        """A quarter of so many rows, drawn anew each time: always as many."""
        few = count // _TEACHING
        first = int(self.rng.integers(0, _TEACHING + count - few * _TEACHING)) if few else 0
        return torch.arange(few, device=self.device) * _TEACHING + first

    def _offset(self, points: Tensor) -> Tensor:
        """(N, 3) from the zero set to points, at most a few spacings long."""
        value, slope = self.value_and_slope(points)
        reach = _FARTHEST_PULL * self.spacing
        return points - pulled(points, (HALF * value).clamp(-reach, reach), slope)

    # -- losses --------------------------------------------------------------------------------

    def loss(self, store: GaussianStore, samples: Mapping[str, Tensor]) -> Tensor:
        """Queries pulled to disks, disks pulled to the zero set, slopes of one, and empty space."""
        config = self.config
        disks = self._disks(store, samples["nearest"])
        value, slope = self.value_and_slope(samples["queries"])
        there = pulled(samples["queries"], HALF * value, slope)
        off = objective.pull_loss(there, disks, self.spacing, self._floor, config.constant_disk)
        loss = self._guidance * config.pull_weight * off
        if config.set_weight:
            loss = loss + config.set_weight * objective.set_loss(there, disks.centres)
        aligned = objective.alignment(disks.normals.detach(), slope, config.signed)
        loss = loss + config.orthogonal_weight * aligned.mean()
        loss = loss + config.eikonal_weight * (slope.norm(dim=1) - 1).square().mean()
        loss = loss + self._disk_loss(store, samples["disks"])
        if config.thin_weight:
            loss = loss + config.thin_weight * store["log_thickness"].exp().mean() / HALF
        for name, sign, weight in (("free", 1.0, 1.0), ("solid", -1.0, _SOLID_WEIGHT)):
            if name in samples:
                loss = loss + self._space_loss(samples[name], sign, weight)
        if "surface" in samples:
            loss = loss + self._surface_loss(samples["surface"], samples["surface_normals"])
        return loss

    def _disks(self, store: GaussianStore, index: Tensor) -> objective.Disks:
        """Disks as queries see them: of their rows, only the thickness learns from it."""
        axes = axes_of(store["quats_wxyz"].detach()[index])
        outward = store.side["outward"][index][:, None]
        axes = torch.cat([axes[:, :, :2], axes[:, :, 2:] * outward], 2)
        thickness = rows_of(store["log_thickness"], index).exp()
        sizes = torch.cat([store["log_scales"].detach()[index].exp(), thickness], 1)
        return objective.Disks(store["means_mm"].detach()[index], axes, sizes)

    def _disk_loss(self, store: GaussianStore, pick: Tensor) -> Tensor:
        """Gaussians on the zero set and tangent to it."""
        config = self.config
        means, quats = rows_of(store["means_mm"], pick), rows_of(store["quats_wxyz"], pick)
        value, slope = self.value_and_slope(means.detach())
        weight = torch.sigmoid(store["opacity_logit"].detach()[pick])
        off = (HALF * value / self.spacing).abs().clamp_max(_FARTHEST_PULL)
        there = pulled(means, HALF * value, slope).detach()
        move = (means - there).norm(dim=1).clamp_max(_FARTHEST_PULL * self.spacing) / self.spacing
        if not config.render_pulled:
            slope = slope.detach()
        aligned = objective.alignment(normals_of(quats) * store.side["outward"][pick], slope, config.signed)
        total = self._guidance * config.zero_weight * off + config.centre_weight * move
        total = total + config.tangent_weight * aligned
        return (weight * total).mean()

    def _space_loss(self, points: Tensor, sign: float, weight: float) -> Tensor:
        """Matter where cameras look through (sign 1), or emptiness where none can see (-1)."""
        config = self.config
        value, slope = self.value_and_slope(points)
        margin = _EMPTY_MARGIN * CELL / HALF
        wrong = torch.relu(margin - sign * value) / margin
        loss = config.space_weight * weight * wrong.clamp_max(10.0).mean()
        return loss + config.eikonal_weight * (slope.norm(dim=1) - 1).square().mean()

    def _surface_loss(self, points: Tensor, normals: Tensor) -> Tensor:
        """The zero set where pictures see the surface.

        Rendered depth is that of the disks in front, on which the others that shine through lie behind: their
        centres alone would draw the zero set inwards.
        """
        config = self.config
        value, slope = self.value_and_slope(points)
        off = (HALF * value / self.spacing).abs().clamp_max(_FARTHEST_PULL).mean()
        aligned = objective.alignment(normals, slope, config.signed).mean()
        return config.surface_weight * (off + config.orthogonal_weight * aligned)

    # -- queries -------------------------------------------------------------------------------

    def forget_queries(self) -> None:
        """Has the next batch drawn about the disks as they are then."""
        self.queries, self.nearest = self.queries[:0], self.nearest[:0]

    def samples(self, store: GaussianStore, space: Space | None) -> dict[str, Tensor]:
        """What the next step's ``loss`` is asked about.

        queries (Q, 3) and nearest (Q,), the rows of the disks nearest to them; disks (M,), rows to be pulled
        themselves; free, solid (P, 3), points in such cells; surface, surface_normals (P, 3), on the rendered
        surface. What space does not tell is left out.

        Source: GS-Pull, queries about the Gaussians with the spread of their neighbourhood.
        """
        config, count = self.config, self.config.queries
        if len(self.queries) < count:
            self._draw(store, _POOL * count)
        found: dict[str, NDArray[Any]] = {"queries": self.queries[:count], "nearest": self.nearest[:count]}
        self.queries, self.nearest = self.queries[count:], self.nearest[count:]
        own = min(len(store), max(64, count // 4))
        found["disks"] = self.rng.choice(len(store), own, replace=False)
        if space is not None:
            for name, cells in (("free", space.free), ("solid", space.solid if config.signed else ())):
                if len(cells):
                    middles = space.centres(cells[self.rng.integers(0, len(cells), count // 4)])
                    jitter = self.rng.uniform(-0.5, 0.5, middles.shape).astype(np.float32)
                    found[name] = middles + jitter * CELL
            if len(space.points) and config.surface_weight:
                rows = self.rng.integers(0, len(space.points), count // 2)
                found |= {"surface": space.points[rows], "surface_normals": space.normals[rows]}
        return {name: torch.as_tensor(array, device=self.device) for name, array in found.items()}

    def _draw(self, store: GaussianStore, count: int) -> None:
        means = store["means_mm"].detach().cpu().numpy()
        opacity = torch.sigmoid(store["opacity_logit"]).detach().cpu().numpy()
        solid = np.flatnonzero(opacity > _SOLID_OPACITY)
        if len(solid) < 100:
            solid = np.arange(len(means))
        origin = solid[self.rng.integers(0, len(solid), count)]
        # Most queries near the disks, some a few spacings away.
        spread = self.spacing * np.where(self.rng.uniform(size=count) < 0.75, 0.6, 2.5)[:, None]
        self.queries = (means[origin] + spread * self.rng.normal(size=(count, 3))).astype(np.float32)
        _, nearest = cKDTree(means[solid]).query(self.queries, workers=-1)
        self.nearest = solid[nearest].astype(np.int64)

    # -- checkpoints ---------------------------------------------------------------------------

    def state_arrays(self) -> dict[str, NDArray[Any]]:
        """The field, its optimiser and the queries that are left, for a checkpoint."""
        arrays: dict[str, NDArray[Any]] = {"queries": self.queries.copy(), "nearest": self.nearest.copy()}
        for name, tensor in self.field.state_dict().items():
            arrays[f"field.{name}"] = tensor.detach().cpu().numpy().copy()
        for number, parameter in enumerate(self.field.parameters()):
            for moment, tensor in self.optimiser.state.get(parameter, {}).items():
                arrays[f"field_{moment}.{number}"] = np.atleast_1d(tensor.detach().cpu().numpy().copy())
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]], rng_state: Mapping[str, Any]) -> None:
        """Goes on from ``state_arrays`` and the state of ``rng``."""
        self.queries, self.nearest = np.array(arrays["queries"]), np.array(arrays["nearest"])
        self.rng.bit_generator.state = rng_state
        field = {k.removeprefix("field."): v for k, v in arrays.items() if k.startswith("field.")}
        self.field.load_state_dict({k: torch.as_tensor(np.array(v)) for k, v in field.items()})
        for number, parameter in enumerate(self.field.parameters()):
            state = {
                moment: torch.as_tensor(np.array(arrays[f"field_{moment}.{number}"]), device=self.device)
                for moment in ("exp_avg", "exp_avg_sq", "step")
                if f"field_{moment}.{number}" in arrays
            }
            if state:
                self.optimiser.restore(parameter, state)

"""A whole object from views that each show a part of it: a smooth and a detailed distance field, rendered.

Reads like the paper: first the smooth field alone, then both; in each step a batch of rays is rendered and
compared with colours, outlines and depth, each weighted by where its pixel came from; last, the mesh, whose
``evidence`` tells what was seen from what was completed. The hidden parts themselves are completed in the
pictures before (``engine.completing``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.capture import Capture
from splatomy.events import Checkpoint, Notice, Progress, Snapshot, Task
from splatomy.fields.sdf import value_and_gradient
from splatomy.gaussians.adam import Adam
from splatomy.kernels.ready import hash_kernel, made_ready
from splatomy.methods.completed_object import objective
from splatomy.methods.completed_object.config import Config
from splatomy.methods.completed_object.consistency import Critic, photometric_loss
from splatomy.methods.completed_object.fields import CascadedSdf, ColourField
from splatomy.methods.completed_object.meshing import object_mesh, preview_mesh
from splatomy.methods.completed_object.mirroring import Mirrored, find_mirrored
from splatomy.methods.completed_object.model import CompletedScene
from splatomy.methods.completed_object.rendering import Traced, grid_points, place_samples, trace
from splatomy.methods.completed_object.views import Rays, Views
from splatomy.scene import Mesh, Scene

_GRID = 48
_GRID_EVERY = 50
_LEAST_RATE = 0.05
_WARM_UP = 20
_SLOPES_AT = 256
_PREVIEW_CELLS = 32


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """A scene of the object's distance field and its mesh.

    Raises:
        InputError: cameras or masks of the object are missing, or nothing of it is seen.

    Source: O2-Recon (Hu et al., AAAI 2024); differences, each with its reason, in README.md.
    """
    capture = next(c for c in captures if c is not None)
    views = Views(capture, config.longest_side_px, config.synthetic_weight, device)
    yield from made_ready(*([hash_kernel] if device.type == "cpu" else []))
    critic = yield from Critic.of(capture, views, config, device)
    mirrored = None
    if config.symmetry_weight and views.hides:
        mirrored = yield from find_mirrored(views)
        if mirrored is not None:
            yield Notice("info", "symmetry", mirrored.told())
    trainer = _Trainer(views, config, critic, mirrored)
    if resume is not None:
        trainer.restore(resume)
    total = config.coarse_steps + config.fine_steps
    yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    published, reported = time.monotonic(), 0.0
    while trainer.step < total:
        loss = trainer.train_step()
        now = time.monotonic()
        if now - reported > 0.3 or trainer.step == total:
            reported = now
            yield Progress("train", trainer.step, total, {"loss": float(loss)})
        if now - published > config.snapshot_every_s:
            published = now
            yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    mesh = yield from object_mesh(trainer.field, trainer.colours, views, config, mirrored)
    if not len(mesh.faces):
        yield Notice(
            "warning", "empty-surface",
            "The field has no surface inside the sphere: train longer, or check poses and masks.",
        )  # fmt: skip
    scene = trainer.scene(mesh)
    yield Snapshot("mesh", trainer.step, scene, trainer.checkpoint())
    return scene


class _Trainer:
    """The state between two steps."""

    def __init__(
        self, views: Views, config: Config, critic: Critic | None, mirrored: Mirrored | None
    ) -> None:
        self.views, self.config, self.critic, self.mirrored = views, config, critic, mirrored
        self.device = views.device
        self.rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.field = CascadedSdf(config.levels, config.log2_table).to(self.device)
            self.colours = ColourField().to(self.device)
        table = self.field.grid.table
        networks = [p for p in (*self.field.parameters(), *self.colours.parameters()) if p is not table]
        rates = ((networks, config.rate), ([table], config.table_rate))
        self.optimiser = Adam({"params": params, "lr": rate, "base": rate} for params, rate in rates)
        self.grid: Tensor

    @property
    def total(self) -> int:
        """Steps of both stages."""
        return self.config.coarse_steps + self.config.fine_steps

    @property
    def sharpness(self) -> float:
        """Steepness of the logistic function; a schedule, for a learnt one is slow to rise in few steps."""
        first, last = self.config.first_sharpness, self.config.last_sharpness
        return float(first * (last / first) ** (self.step / self.total))

    @property
    def slope_step(self) -> float:
        """Size of the tetrahedron for slopes: shrinks to the cells of the finest level."""
        finest = 1.0 / self.field.grid.resolutions[-1]
        share = min(1.0, max(0.0, self.step / self.config.coarse_steps - 1.0) / 2)
        return float(0.04 * (1 - share) + max(finest, 0.006) * share)

    def train_step(self) -> Tensor:
        """One step; returns the loss (), still on the device: the host need not wait for it."""
        config = self.config
        self.field.detailed = self.step >= config.coarse_steps
        if self.step % _GRID_EVERY == 0:
            self._refresh_grid()
        self._set_rates()
        rays = self.views.drawn(config.rays, self.rng)
        loss = self._rays_loss(rays)
        if self.mirrored is not None:
            loss = loss + config.symmetry_weight * self._mirrored_loss(self.mirrored)
        if self.critic is not None and self.field.detailed and self.step % config.semantic_every == 0:
            loss = loss + config.semantic_weight * self.critic.loss(
                self.field, self.colours, self.grid, self.sharpness, self.rng
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1
        return loss.detach()

    def _rays_loss(self, rays: Rays) -> Tensor:
        config, views = self.config, self.views
        on = rays.member > 0.5
        traced = self._traced(rays)
        loss = objective.ray_loss(traced, rays, config)
        surface = rays.origins + traced.reach[:, None] * rays.directions
        solid = (on & (traced.opacity.detach() > 0.5)).float() * rays.weight
        if config.photometric_weight and self.critic is None and self.field.detailed:
            other = int(torch.randint(len(views), (1,), generator=self.rng))
            loss = loss + config.photometric_weight * photometric_loss(surface, solid, rays, views, other)
        return loss + self._slopes_loss(surface.detach(), solid, rays)

    def _traced(self, rays: Rays) -> Traced:
        """What the rays meet in the field as it stands."""
        config = self.config
        draws = torch.rand((len(rays), config.samples), generator=self.rng).to(self.device)
        on = rays.member > 0.5
        distances = place_samples(
            rays.origins, rays.directions, rays.measured * on, self.grid, config.samples,
            self.sharpness, 0.3 * config.band, draws,
        )  # fmt: skip
        until = None
        if not self.views.outlines_certain:
            something_else = ~on & (rays.measured > 0)
            until = torch.where(something_else, rays.measured, torch.full_like(rays.measured, torch.inf))
        return trace(
            self.field, self.colours, rays.origins, rays.directions, distances, self.sharpness, until
        )

    def _mirrored_loss(self, mirrored: Mirrored) -> Tensor:
        """The shape that the symmetry asks for where no view looks; colours need not be symmetric."""
        rays = mirrored.drawn(self.views, max(2, self.config.rays // 3), self.rng)
        return objective.ray_loss(self._traced(rays), rays, replace(self.config, colour_weight=0.0))

    def _slopes_loss(self, surface: Tensor, solid: Tensor, rays: Rays) -> Tensor:
        """Eikonal and smoothness at the surface and anywhere in the sphere; given normals."""
        config, step = self.config, self.slope_step
        anywhere = (2 * torch.rand((_SLOPES_AT, 3), generator=self.rng) - 1).to(self.device)
        chosen = torch.multinomial(solid.cpu() + 1e-6, min(_SLOPES_AT, len(solid)), generator=self.rng)
        chosen = chosen.to(self.device)
        places = surface[chosen]
        jitter = 0.03 * torch.randn((len(places), 3), generator=self.rng).to(self.device)
        asked = torch.cat([places, places + jitter, anywhere])
        value, gradient = value_and_gradient(self.field, asked, step)
        loss = config.eikonal_weight * objective.slope_loss(gradient)
        count = len(places)
        if self.views.support is not None:
            normal, level = self.views.support
            beyond = (asked @ normal < level).float()
            loss = loss + config.free_weight * objective.matter_loss(value, beyond)
        if config.smooth_weight:
            bend = objective.bend_loss(gradient[:count], gradient[count : 2 * count])
            loss = loss + config.smooth_weight * bend
        if config.normal_weight and rays.normal is not None:
            turn = self.views.poses[rays.view[chosen], :3, :3].transpose(1, 2)
            given = (turn @ rays.normal[chosen][..., None])[..., 0]
            known = (given.norm(dim=1) > 0.5).float() * solid[chosen]
            ramp = min(1.0, self.step / max(self.config.coarse_steps, 1))
            loss = loss + ramp * config.normal_weight * objective.normal_loss(gradient[:count], given, known)
        return loss

    def _set_rates(self) -> None:
        share = self.step / self.total
        level = _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + float(np.cos(np.pi * share)))
        warm = min(1.0, (self.step + 1) / _WARM_UP)
        self.optimiser.set_rates([group["base"] * level * warm for group in self.optimiser.param_groups])

    @torch.no_grad()
    def _refresh_grid(self) -> None:
        """The field on a coarse grid, which tells where samples are worth their price."""
        points = grid_points(_GRID, self.device)
        values = torch.cat([self.field(part) for part in points.split(1 << 15)])
        self.grid = values.reshape(_GRID, _GRID, _GRID)

    def scene(self, mesh: Mesh | None = None) -> CompletedScene:
        """An immutable copy of the present state; without a mesh, with a coarse one."""
        if mesh is None:
            mesh = preview_mesh(self.field, self.views.frame, _PREVIEW_CELLS)
        networks = {
            f"{part}.{name}": tensor.detach().cpu().numpy().copy()
            for part, module in (("field", self.field), ("colours", self.colours))
            for name, tensor in module.state_dict().items()
        }
        return CompletedScene(
            networks, self.views.frame.centre, self.views.frame.scale, mesh, self.config.levels,
            self.config.log2_table, self.field.detailed, self.views.metric,
            "" if self.mirrored is None else self.mirrored.told(),
        )  # fmt: skip

    def checkpoint(self) -> Checkpoint:
        """Everything that a later process needs to go on from here."""
        arrays: dict[str, NDArray[Any]] = {"rng": self.rng.get_state().numpy().copy()}
        for part, module in (("field", self.field), ("colours", self.colours)):
            for name, tensor in module.state_dict().items():
                arrays[f"{part}.{name}"] = tensor.detach().cpu().numpy().copy()
        if hasattr(self, "grid"):
            arrays["grid"] = self.grid.cpu().numpy().copy()
        for number, parameter in enumerate(self.optimiser.parameters):
            for moment, tensor in self.optimiser.state.get(parameter, {}).items():
                arrays[f"{moment}.{number}"] = np.atleast_1d(tensor.detach().cpu().numpy().copy())
        return Checkpoint(arrays, {"step": self.step})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint."""
        arrays = checkpoint.arrays
        self.step = int(checkpoint.values["step"])
        self.field.detailed = self.step > self.config.coarse_steps
        self.rng.set_state(torch.from_numpy(np.array(arrays["rng"], np.uint8)))
        for part, module in (("field", self.field), ("colours", self.colours)):
            module.load_state_dict(
                {name: torch.from_numpy(np.array(arrays[f"{part}.{name}"])) for name in module.state_dict()}
            )
        if "grid" in arrays:
            self.grid = torch.from_numpy(np.array(arrays["grid"])).to(self.device)
        for number, parameter in enumerate(self.optimiser.parameters):
            state = {
                moment: torch.from_numpy(np.array(arrays[f"{moment}.{number}"]))
                for moment in ("exp_avg", "exp_avg_sq", "step")
                if f"{moment}.{number}" in arrays
            }
            if state:
                self.optimiser.restore(parameter, state)

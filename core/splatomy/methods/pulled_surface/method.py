"""A surface from pictures: Gaussians first, then Gaussians and a distance field pulled onto each other.

Reads like the paper: fit Gaussian disks to the pictures; then in each step pull queries onto the nearest
disk with the field's slope, pull the disks onto the field's zero set, and render the pulled disks, so that
the pictures teach the field as well; last, the mesh is the field's zero set.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.events import Checkpoint, Progress, Snapshot, Task
from splatomy.gaussians.density import grow_and_prune
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.ready import hash_kernel, made_ready, on, surfel_kernels
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.disks import Start, first_disks, normals_of
from splatomy.methods.pulled_surface.meshing import surface_mesh
from splatomy.methods.pulled_surface.model import PulledScene, draw
from splatomy.methods.pulled_surface.pulling import Puller
from splatomy.methods.pulled_surface.space import Space, rendered_points, seen_space
from splatomy.methods.pulled_surface.step import Drawing, PulledSteps
from splatomy.methods.pulled_surface.views import Frame, Pictures, View
from splatomy.scene import Mesh, Scene

_GROW_UNTIL = 0.7
_SPACE_AT = (0.0, 0.35, 0.7)
_SURFACE_POINTS = 200_000
_SOLID_ALPHA = 0.8
_REPORT_EVERY_S = 0.3
_GROW_FREED_UNTIL, _FADE_UNTIL = 0.35, 0.3
"""Shares of the last steps."""
_SOLID_AGAIN = 100
"""Steps in which a faint disk can become solid."""
_FAINT_LOGIT = math.log(0.1 / 0.9)
_SETTLED = 0.005
"""The positions' rate at the end of the last steps, in that of their start."""


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """A scene of Gaussian disks and the mesh of the field that they were pulled onto.

    The capture's details may hold ``gaussians``, a user's own GaussianCloud in its world, to start from.

    Raises:
        InputError: cameras are unknown, or nothing tells where the scene is.

    Source: GS-Pull (NeurIPS 2024); differences, each with its reason, in README.md.
    """
    capture = next(c for c in captures if c is not None)
    pictures = yield from beside("views", 0, 1, lambda: Pictures(capture, config, device))
    hashing = [hash_kernel] if device.type == "cpu" else []
    yield from made_ready(*on(device, surfel_kernels), *hashing)
    first = yield from first_disks(pictures, config, device)
    trainer = _Trainer(pictures, config, first, device)
    if resume is not None:
        trainer.restore(resume)
    yield from trainer.train()
    mesh = yield from trainer.mesh()
    scene = trainer.scene(mesh)
    yield Snapshot("mesh", trainer.step, scene, trainer.checkpoint())
    return scene


class _Trainer:
    """The state between two steps."""

    def __init__(self, pictures: Pictures, config: Config, first: Start, device: torch.device) -> None:
        self.pictures, self.config, self.first, self.device = pictures, config, first, device
        self.rng = np.random.default_rng(config.seed)
        self.torch_rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.order: list[int] = []
        self.space: Space | None = None
        self.looked = 0
        self._place(first.frame, first.spacing)
        self._begin()

    def _begin(self) -> None:
        """Takes the first disks."""
        store = GaussianStore(self.first.rows, self._rates())
        store.side["pull"] = torch.zeros(len(store), 2, device=self.device)
        self._take(store)

    def _take(self, store: GaussianStore) -> None:
        self.store, self.steps = store, PulledSteps(store, self.puller, self.config)

    def _place(self, frame: Frame, spacing: float) -> None:
        self.frame, self.spacing = frame, spacing
        self.cameras = frame.cameras(self.pictures.cameras)
        depth = np.linalg.norm(self.cameras.centres_mm, axis=1)
        self.typical = float(np.median(depth))
        self.near = max(0.02 * float(depth.min()), 0.05)
        self.puller = Puller(self.config, spacing, self.device)

    def _rates(self) -> dict[str, float]:
        """Learning rates at this step: each decays tenfold, exponentially."""
        c = self.config
        decay, moving = 0.1 ** (self.step / (c.splat_steps + c.joint_steps)), c.position_rate
        if self.finishing:
            decay = 0.1**self.finished
            moving = c.position_rate if self.first.near else c.freed_rate * _SETTLED**self.finished / decay
        rates = {
            "means_mm": 0.01 * moving * self.spacing,
            "quats_wxyz": 2e-3,
            "log_scales": 5e-3,
            "log_thickness": 5e-3,
            "opacity_logit": 0.03,
            "sh": 5e-3,
        }
        return {name: rate * decay for name, rate in rates.items()}

    # -- training ------------------------------------------------------------------------------

    def train(self) -> Task[None]:
        """All steps that are left."""
        total = self.config.splat_steps + self.config.joint_steps + self.config.finish_steps
        yield Snapshot("train", self.step, self.scene(), self.checkpoint())
        published, reported = time.monotonic(), 0.0
        while self.step < total:
            if self.needs_space:
                yield from self.look_around()
            loss = self.train_step()
            now = time.monotonic()
            if now - reported > _REPORT_EVERY_S or self.step == total:
                reported = now
                metrics = {"loss": float(loss), "surfels": float(len(self.store))}
                yield Progress("train", self.step, total, metrics)
            if now - published > self.config.snapshot_every_s:
                published = now
                yield Snapshot("train", self.step, self.scene(), self.checkpoint())
        yield Snapshot("train", self.step, self.scene(), self.checkpoint())

    @property
    def joint(self) -> int:
        """Joint steps done; negative while Gaussians are alone."""
        return self.step - self.config.splat_steps

    @property
    def share(self) -> float:
        """Share of the joint steps that are done."""
        return min(1.0, max(0.0, self.joint / self.config.joint_steps))

    @property
    def finishing(self) -> bool:
        """True in the last steps, in which pictures alone move the disks, and the field rests."""
        return self.joint >= self.config.joint_steps and self.config.finish_steps > 0

    @property
    def finished(self) -> float:
        """Share of the last steps that are done."""
        return max(0, self.joint - self.config.joint_steps) / max(self.config.finish_steps, 1)

    def train_step(self) -> Tensor:
        """Moves everything once; the loss."""
        config = self.config
        inputs: dict[str, Tensor] = {}
        if self.finishing and self.joint == config.joint_steps:
            self._free()
        store = self.store
        store.set_learning_rates(self._rates())
        pulls = self.joint >= 0 and not self.finishing
        if pulls:
            self.puller.advance(self.share)
            inputs |= self.puller.samples(store, self.space)
        shows = not pulls or self.joint % config.render_every == 0
        if shows:
            inputs |= self._next_view().tensors()
        if pulls and shows and config.render_pulled:
            inputs["teaching"] = self.puller.drawn_rows(len(store))
        degree = min(config.sh_degree, int(4 * self.step / max(config.splat_steps, 1)))
        background = self.pictures.background
        loss = self.steps.move(inputs, Drawing(self.near, self.typical, background, degree, self.finishing))
        self.step += 1
        if (self.joint <= 0 or self.finishing) and self.step % config.grow_every == 0:
            self._control()
        if self._is_fading():
            with torch.no_grad():
                store["opacity_logit"].clamp_(max=_FAINT_LOGIT)
        return loss

    def _free(self) -> None:
        """Begins the last steps.

        The surface needs disks that stay near it; those of a hull that stood before a hollow never came loose
        from there, and hide what the pictures show. Without them, views of such objects are sharper.
        """
        if not self.first.near:
            self._begin()
            return
        with torch.no_grad():
            self.store["means_mm"].copy_(torch.as_tensor(self._final_means(), device=self.device))

    def _is_fading(self) -> bool:
        """True at a few of the last steps: all disks are made faint, and what hides the surface stays so.

        Never in a run so short that disks could not become solid again.

        Source: 3DGS (Kerbl et al. 2023), its opacity resets.
        """
        config, done = self.config, self.joint - self.config.joint_steps
        times = 0 if self.first.near else config.fadings
        interval = int(_FADE_UNTIL * config.finish_steps / (times + 1)) if times else 0
        return interval >= _SOLID_AGAIN and done % interval == 0 and done // interval in range(1, times + 1)

    def _next_view(self) -> View:
        if not self.order:
            self.order = [int(v) for v in self.rng.permutation(len(self.pictures))]
        view = self.pictures.view(self.order.pop(), self.frame)
        return dataclasses.replace(view, weight=view.shown) if self.finishing else view

    @torch.no_grad()
    def _control(self) -> None:
        """Drops faint disks; splits those on which the pictures pull hardest."""
        config, store = self.config, self.store
        keep = torch.sigmoid(store["opacity_logit"]) > config.prune_opacity
        keep &= torch.isfinite(store["means_mm"]).all(1)
        pull = store.side["pull"]
        gradient = pull[:, 0] / pull[:, 1].clamp(min=1)
        grow = torch.zeros_like(keep)
        count = min(int(config.grow_share * len(store)), config.max_surfels - len(store))
        share = self.step / config.splat_steps / _GROW_UNTIL
        if self.finishing:
            share = self.finished / _GROW_FREED_UNTIL
        if share < 1 and count > 0:
            grow[torch.topk(gradient, count).indices] = True
        if not keep.any():
            keep[store["opacity_logit"].argmax()] = True
        grow_and_prune(store, keep, grow, 0.0, self.torch_rng)
        # Where it lies: a recorded step adds to it.
        store.side["pull"].zero_()

    # -- what the disks say of space -----------------------------------------------------------

    @property
    def needs_space(self) -> bool:
        """True when the views are to be rendered again for what they say of space."""
        return self.joint >= 0 and sum(self.share >= at for at in _SPACE_AT) > self.looked

    def look_around(self) -> Task[None]:
        """Renders all views once: which space is free, and which way the disks face."""
        depths, points, normals = [], [], []
        towards = torch.zeros(len(self.store), device=self.device)
        means = torch.as_tensor(self._final_means(), device=self.device)
        each = _SURFACE_POINTS // len(self.pictures)
        for t in range(len(self.pictures)):
            view = self.pictures.view(t, self.frame, whole=True)
            with torch.no_grad():
                render = draw(self.store.parameters, means, view.camera, self.near, None, 0)
                middle = torch.where(render.alpha > 0.5, render.median_depth_mm, 0.0)
                towards += self._facing(middle, view.camera_from_world, view.intrinsics)
                solid = (render.alpha > _SOLID_ALPHA) & (view.weight > 0)
                shown = torch.where(solid, render.depth_mm, 0.0).cpu().numpy()
                found = rendered_points(shown, render.normal.cpu().numpy(), self.cameras[t], each, self.rng)
            points.append(found[0])
            normals.append(found[1])
            depths.append(middle.cpu().numpy().astype(np.float32))
            yield Progress("look around", t + 1, len(self.pictures))
        if self.space is None:
            surface = (np.concatenate(points), np.concatenate(normals))
        else:
            # Later the disks lie where the field has put them: what they show would only repeat it.
            surface = (self.space.points, self.space.normals)
        p = self.pictures
        self.space = yield from seen_space(
            self.cameras, np.stack(depths), *surface, p.weight, p.target, p.has_target
        )
        # Where it lies, once it does: a recorded step reads it.
        outward = self.store.side.setdefault("outward", torch.empty_like(towards)[:, None])
        outward.copy_(torch.where(towards >= 0, 1.0, -1.0)[:, None])
        self.looked = sum(self.share >= at for at in _SPACE_AT)
        self.puller.forget_queries()

    def _facing(self, depth: Tensor, pose: Tensor, intrinsics: Tensor) -> Tensor:
        """(N,) cosine of each disk's normal and the direction to a camera that sees it, else 0."""
        means, normals = self.store["means_mm"].detach(), normals_of(self.store["quats_wxyz"].detach())
        pose = pose.to(means)
        place = means @ pose[:3, :3].T + pose[:3, 3]
        ahead = place / place[:, 2:].clamp_min(self.near)
        x, y = torch.round(ahead @ intrinsics.to(means).T)[:, :2].long().unbind(1)
        inside = (x >= 0) & (x < depth.shape[1]) & (y >= 0) & (y < depth.shape[0]) & (place[:, 2] > self.near)
        x, y = x * inside, y * inside
        seen = inside & ((place[:, 2] - depth[y, x]).abs() < 3 * self.spacing)
        centre = -(pose[:3, :3].T @ pose[:3, 3])
        direction = torch.nn.functional.normalize(centre - means, dim=1)
        return (normals * direction).sum(1) * seen

    # -- publishing ----------------------------------------------------------------------------

    def _final_means(self) -> NDArray[np.float32]:
        """Centres as they are rendered: in joint steps on the zero set, from which the last steps begin."""
        means = self.store["means_mm"].detach()
        if 0 < self.joint <= self.config.joint_steps and self.config.render_pulled:
            with torch.no_grad():
                means = self.puller.pulled(means)
        return means.cpu().numpy().copy()

    def mesh(self) -> Task[Mesh]:
        """The zero set in the world, trimmed and coloured."""
        return (yield from surface_mesh(self.puller, self.store.snapshot(), self.frame, self.pictures))

    def scene(self, mesh: Mesh | None = None) -> PulledScene:
        """An immutable copy of the present state."""
        return PulledScene(
            {**self.store.snapshot(), "means_mm": self._final_means()},
            self.frame.centre,
            self.frame.scale,
            mesh,
            self.near,
            self.pictures.background,
            self.pictures.capture.metric,
        )

    def checkpoint(self) -> Checkpoint:
        """Everything that a later process needs to go on from here, to the same end."""
        arrays: dict[str, NDArray[Any]] = {**self.store.state_arrays(), **self.puller.state_arrays()}
        arrays["centre"] = self.frame.centre.copy()
        arrays["torch_rng"] = self.torch_rng.get_state().numpy().copy()
        if self.space is not None:
            arrays |= {f"space.{f.name}": getattr(self.space, f.name) for f in dataclasses.fields(Space)}
        values = {
            "step": self.step,
            "looked": self.looked,
            "scale": self.frame.scale,
            "spacing": self.spacing,
            "order": list(self.order),
            "rng": self.rng.bit_generator.state,
            "puller_rng": self.puller.rng.bit_generator.state,
        }
        return Checkpoint(arrays, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint."""
        arrays, values = checkpoint.arrays, checkpoint.values
        frame = Frame(np.asarray(arrays["centre"], np.float64), float(values["scale"]))
        self._place(frame, float(values["spacing"]))
        self.step, self.looked = int(values["step"]), int(values["looked"])
        self.order = [int(v) for v in values["order"]]
        self.rng.bit_generator.state = values["rng"]
        self.torch_rng.set_state(torch.as_tensor(np.array(arrays["torch_rng"])))
        self._take(GaussianStore.from_state(arrays, self._rates(), self.device))
        self.puller.restore(arrays, values["puller_rng"])
        if self.joint > 0:
            # As the last step left it: what comes before the next one sees the field as it was then.
            self.puller.advance((min(self.joint, self.config.joint_steps) - 1) / self.config.joint_steps)
        if "space.free" in arrays:
            self.space = Space(*(np.array(arrays[f"space.{f.name}"]) for f in dataclasses.fields(Space)))

"""Deforming 2D Gaussian surfels, trained on the frames of one endoscopic clip.

Reads like the paper: surfels from depth, then steps of {deform to the frame's time - splat - compare what
may be trusted - Adam}, with density control in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.capture import Capture
from splatomy.events import Checkpoint, Notice, Progress, Snapshot, Task
from splatomy.fields.attenuation import TimeBasis
from splatomy.gaussians.adam import Adam
from splatomy.gaussians.deform import CurveDeformation, NodeDeformation
from splatomy.gaussians.density import grow_and_prune
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.ready import begin, made_ready, on, surfel_kernels
from splatomy.kernels.spherical_harmonics import num_coefficients, sh_from_colours
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.methods.dynamic_tissue.footage import Footage, View
from splatomy.methods.dynamic_tissue.model import Deformation, TissueScene, draw, moved_surfels
from splatomy.methods.dynamic_tissue.motion_state import motion_arrays, restore_motion
from splatomy.methods.dynamic_tissue.seeding import Seeds, seed
from splatomy.methods.dynamic_tissue.step import Lengths, TissueSteps
from splatomy.methods.dynamic_tissue.tracking import Tracks, track
from splatomy.replicas.group import Replicas
from splatomy.scene import Scene

_CHECKPOINT_WITHIN_S = 25.0
_COVERED_ALPHA = 0.5
_NEAR_SHARE = 0.02
_REST_MARGIN = 0.15
"""Tissue that other frames show beyond the reference picture belongs to the mesh, within this share."""
_EVIDENCE_PRIOR = 0.1
_TRACK_SMOOTHNESS = 0.05

_Rows = dict[str, Tensor]
"""Parameters, evidence and bindings of surfels by name, each (N, ...)."""


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
    replicas: Replicas | None = None,
) -> Task[Scene]:
    """A scene of surfels that move with the tissue.

    replicas: processes that run ``follow`` on the same, led by this one.

    Raises:
        InputError: no visible tissue of known depth, or no colour images.

    Source: Diff2DGS (RA-L 2026), second stage. Differences, each with its reason in README.md: oriented
    start, motion from flow, shared control nodes, provenance weights, bare-tissue depths.
    """
    capture = next(c for c in captures if c is not None)
    # Loaded while the processor looks at the footage.
    parts = on(device, surfel_kernels)
    begin(*parts)
    footage = Footage(capture, config, device)
    if capture.cameras is None:
        text = (
            f"No camera is known: a fixed one with a focal length of {config.default_focal:g} image widths "
            "was assumed."
        )
        yield Notice("warning", "assumed-camera", text)
    replicas = replicas or Replicas()
    trainer = _Trainer(footage, config, device, replicas)
    if resume is None:
        tracks = yield from track(footage, config.node_spacing, config.track_start)
        yield from made_ready(*parts)
        yield from trainer.start(tracks)
    else:
        yield from made_ready(*parts)
        trainer.restore(resume)
    replicas.adopt(trainer)
    # At once: a stop must keep something.
    yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    published = time.monotonic()
    reported = 0.0
    while trainer.step < config.steps:
        loss = trainer.train_step()
        now = time.monotonic()
        if now - reported > 0.3 or trainer.step == config.steps:
            reported = now
            metrics = {"loss": float(loss), "surfels": float(len(trainer.store)), **replicas.figures()}
            yield Progress("train", trainer.step, config.steps, metrics)
        if now - published > min(config.snapshot_every_s, _CHECKPOINT_WITHIN_S):
            published = now
            yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    scene = trainer.scene()
    yield Snapshot("train", trainer.step, scene, trainer.checkpoint())
    return scene


def follow(captures: Iterable[Capture], config: Config, device: torch.device, replicas: Replicas) -> None:
    """One replica's part of a reconstruction that another process leads."""
    trainer = _Trainer(Footage(next(iter(captures)), config, device), config, device, replicas)
    replicas.adopt(trainer)
    while trainer.step < config.steps:
        trainer.train_step()


class _Trainer:
    """The state between two steps."""

    def __init__(self, footage: Footage, config: Config, device: torch.device, replicas: Replicas) -> None:
        self.footage, self.config, self.device, self.replicas = footage, config, device, replicas
        self.times_s = footage.capture.times_s
        focal = float(footage.cameras.intrinsics[0, 0, 0])
        self.pixel_mm = footage.typical_mm / focal
        """Size of a pixel on the tissue: the length that all rates and limits are measured in."""
        self.near_mm = _NEAR_SHARE * footage.typical_mm
        self.rng = np.random.default_rng(config.seed)
        self.torch_rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.reference = 0
        self.order: list[int] = []
        self.store: GaussianStore
        self.steps: TissueSteps
        self.deformation: Deformation
        self.motion_optimiser: Adam | None = None
        self._beside = ThreadPoolExecutor(1)
        self._coming: dict[tuple[int, int], Future[View]] = {}

    # -- start ---------------------------------------------------------------------------------

    def start(self, tracks: Tracks) -> Task[None]:
        """Motion from flow and depth, then surfels from every frame, those nearest the reference first."""
        config, footage = self.config, self.footage
        self.reference = tracks.reference
        nodes = self._nodes(torch.as_tensor(tracks.nodes_mm, device=self.device))
        nodes.start_from(self.times_s, tracks.displacement_mm, tracks.weight, _TRACK_SMOOTHNESS)
        order = sorted(range(len(footage)), key=lambda t: (abs(t - tracks.reference), t))
        rows: _Rows = {}
        for hidden in (False, True):
            for done, frame in enumerate(order):
                carried = self._carried(nodes, rows, frame)
                new = seed(footage, frame, carried, config.spacing_px, hidden)
                if len(new.means_mm):
                    means = torch.as_tensor(new.means_mm, device=self.device)
                    rest = nodes.canonical(means, float(self.times_s[frame]))
                    nodes.add_nodes(rest, tracks.spacing_mm)
                    more = self._rows(rest, new, nodes)
                    rows = {name: torch.cat([rows[name], more[name]]) for name in more} if rows else more
                yield Progress("seed", done + len(order) * hidden, 2 * len(order))
        self._adopt(nodes, rows)

    def _nodes(self, nodes_mm: Tensor) -> NodeDeformation:
        size = max(4, math.ceil(len(self.times_s) / self.config.frames_per_spline) + 3)
        basis = TimeBasis(float(self.times_s.min()), float(self.times_s.max()), size)
        return NodeDeformation(nodes_mm, basis, self.pixel_mm)

    def _curves(self) -> CurveDeformation:
        start, end = float(self.times_s.min()), float(self.times_s.max())
        config = self.config
        return CurveDeformation(start, end, config.num_bases, config.curve_width, self.pixel_mm, self.device)

    def _carried(self, nodes: NodeDeformation, rows: _Rows, frame: int) -> NDArray[np.float32]:
        """Depths (H, W) mm of the surfels so far in the frame, 0 where they do not cover it."""
        height, width = self.footage.height_px, self.footage.width_px
        if not rows:
            return np.zeros((height, width), np.float32)
        factor = 1 if min(height, width) < 128 else 2
        camera = self.footage.cameras[frame].resized(factor)
        with torch.no_grad():
            moved = moved_surfels(rows, nodes, float(self.times_s[frame]))
            pose = (torch.as_tensor(camera.intrinsics[0]), torch.as_tensor(camera.camera_from_world[0]))
            picture = draw(moved, rows, (*pose, camera.width_px, camera.height_px), self.near_mm)
            depth = torch.where(picture.alpha > _COVERED_ALPHA, picture.depth_mm, 0.0).cpu().numpy()
        down, right = (
            np.minimum(np.arange(size) // factor, small - 1)
            for size, small in zip((height, width), depth.shape, strict=True)
        )
        return np.asarray(depth[np.ix_(down, right)], np.float32)

    def _rows(self, rest_mm: Tensor, seeds: Seeds, nodes: NodeDeformation) -> _Rows:
        """New surfels at resting places (N, 3)."""

        def tensor(array: NDArray[np.float32]) -> Tensor:
            return torch.as_tensor(array, device=self.device)

        count = len(rest_mm)
        sh = torch.zeros(count, num_coefficients(self.config.sh_degree), 3, device=self.device)
        sh[:, 0] = sh_from_colours(tensor(seeds.colours))
        opacity = self.config.opacity_start
        index, shares = nodes.bind(rest_mm)
        return {
            "means_mm": rest_mm.float(),
            "quats_wxyz": tensor(seeds.quats_wxyz),
            "log_scales": tensor(seeds.log_scales),
            "opacity_logit": torch.full((count,), math.log(opacity / (1 - opacity)), device=self.device),
            "sh": sh,
            "evidence": tensor(seeds.evidence),
            "nodes": index,
            "shares": shares,
        }

    def _adopt(self, nodes: NodeDeformation, rows: _Rows) -> None:
        evidence = rows.pop("evidence")
        del rows["nodes"], rows["shares"]
        # Nodes that came later may be nearer than those a surfel was bound to.
        index, shares = nodes.bind(rows["means_mm"])
        if self.config.deformation == "curves":
            curves = self._curves()
            self.deformation = curves
            start = curves.start(len(evidence))
            with torch.no_grad():
                paths = [nodes.changes(index, shares, float(t))[:, :3].cpu().numpy() for t in self.times_s]
            if self.config.track_start:
                start = curves.started_from(start, self.times_s, np.stack(paths, 1))
            rows["curves"] = start
        else:
            self.deformation = nodes
        self.store = GaussianStore(rows, self._rates())
        if isinstance(self.deformation, NodeDeformation):
            self.store.side |= {"nodes": index, "shares": shares}
            self._make_motion_optimiser()
        # Two columns: weight in which a surfel was really seen, and in which it was in the picture.
        self.store.side["seen"] = _EVIDENCE_PRIOR * torch.stack([evidence, torch.ones_like(evidence)], 1)
        self._clear_statistics()
        self._make_steps()

    def _make_motion_optimiser(self) -> None:
        if isinstance(self.deformation, NodeDeformation):
            groups = [{"params": [self.deformation.coefficients], "lr": self.config.motion_rate}]
            self.motion_optimiser = Adam(groups)

    def _clear_statistics(self) -> None:
        self.store.side["pull"] = torch.zeros(len(self.store), 2, device=self.device)

    def _rates(self) -> dict[str, float]:
        """Learning rates at this step: each decays tenfold, exponentially."""
        decay = 0.1 ** (self.step / self.config.steps)
        c = self.config
        rates = {
            "means_mm": c.position_rate * self.pixel_mm,
            "quats_wxyz": c.rotation_rate,
            "log_scales": c.scale_rate,
            "opacity_logit": c.opacity_rate,
            "sh": c.colour_rate,
            "curves": c.rotation_rate,
        }
        return {name: rate * decay for name, rate in rates.items()}

    def _set_rates(self) -> None:
        """This step's learning rates."""
        self.store.set_learning_rates(self._rates())
        if self.motion_optimiser is not None:
            self.motion_optimiser.set_rates(
                [self.config.motion_rate * 0.1 ** (self.step / self.config.steps)]
            )

    def _make_steps(self) -> None:
        optimisers = [self.store.optimiser, *([self.motion_optimiser] if self.motion_optimiser else [])]
        lengths = Lengths(self.footage.typical_mm, self.pixel_mm, self.near_mm)
        self.steps = TissueSteps(self.store, self.deformation, optimisers, self.config, lengths)

    # -- one step ------------------------------------------------------------------------------

    def train_step(self) -> Tensor:
        """Renders some frames at their times, compares, and moves everything; the mean loss."""
        steps, share = self.steps, self.step / self.config.steps
        self._set_rates()
        sums = steps.begin()
        is_all = self.config.frames_per_step == self.replicas.count == 1
        for view in self._own_views():
            steps.add_view(view, share, is_all)
        if not is_all:
            gradients = [p.grad for p in steps.parameters() if p.grad is not None]
            self.replicas.add_up([*gradients, sums.pull, sums.seen, sums.loss])
            steps.end()
        self.step += 1
        if self.step % self.config.grow_every == 0:
            self._control()
        self.replicas.compare(self.step, [*self.store.parameters.values()])
        return sums.last_loss[0]

    def _own_views(self) -> Iterator[View]:
        """This replica's of the step's frames, while that of the frame after each is made beside."""
        config, rank = self.config, self.replicas.rank
        large = min(self.footage.height_px, self.footage.width_px) >= 64 * config.finest_bin
        coarse = self.step / config.steps < config.coarse_share and large
        factor = config.finest_bin * (2 if coarse else 1)
        while len(self.order) < config.frames_per_step:
            # Frames are taken from the end: those of the round before come first.
            self.order = [int(v) for v in self.rng.permutation(len(self.footage))] + self.order
        own = self.replicas.own([self.order.pop() for _ in range(config.frames_per_step)])
        coming = [*own[1:], *self.order[::-1][rank : rank + 1]]
        # One thread makes all views, so that no two look into the footage at a time.
        begin, view = self._beside.submit, self.footage.view
        for place, frame in enumerate(own):
            made = self._coming.pop((frame, factor), None) or begin(view, frame, factor)
            self._coming = {(n, factor): begin(view, n, factor) for n in coming[place : place + 1]}
            yield made.result()

    # -- density control -----------------------------------------------------------------------

    @torch.no_grad()
    def _control(self) -> None:
        """Drops faint surfels; splits those on which the pictures pull hardest."""
        config, store = self.config, self.store
        pull = store.side["pull"]
        keep = torch.sigmoid(store["opacity_logit"]) > config.prune_opacity
        keep &= torch.isfinite(store["means_mm"]).all(1)
        gradient = pull[:, 0] / pull[:, 1].clamp(min=1)
        grow = torch.zeros_like(keep)
        growing = 0.08 * config.steps < self.step < config.grow_until * config.steps
        count = min(int(config.grow_share * len(store)), config.max_surfels - len(store))
        if growing and count > 0:
            # Opaque discs that are copied in place would hide each other: all are split.
            grow[torch.topk(gradient, count).indices] = True
        if not keep.any():
            keep[store["opacity_logit"].argmax()] = True
        self.replicas.obey(keep, grow)
        if any(grow_and_prune(store, keep, grow, 0.0, self.torch_rng)):
            self._clear_statistics()
        else:
            # Where it lies: a recorded step adds to it.
            store.side["pull"].zero_()

    # -- publishing ----------------------------------------------------------------------------

    def scene(self) -> TissueScene:
        """An immutable copy of the present state."""
        arrays: dict[str, NDArray[Any]] = dict(self.store.snapshot())
        seen = self.store.side["seen"].cpu().numpy()
        arrays["evidence"] = seen[:, 0] / seen[:, 1]
        motion: dict[str, NDArray[Any]] = {}
        if isinstance(self.deformation, NodeDeformation):
            motion = {
                "nodes_mm": self.deformation.nodes_mm.cpu().numpy().copy(),
                "coefficients": self.deformation.coefficients.detach().cpu().numpy().copy(),
                "nodes": self.store.side["nodes"].cpu().numpy().copy(),
                "shares": self.store.side["shares"].cpu().numpy().copy(),
            }
        return TissueScene(
            arrays,
            motion,
            self.times_s,
            self.pixel_mm,
            self.near_mm,
            self.footage.padded_camera(self.reference, _REST_MARGIN),
            float(self.times_s[self.reference]),
            self.footage.capture.metric,
        )

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on bit by bit from here."""
        arrays: dict[str, Any] = self.store.state_arrays()
        arrays["torch_rng"] = self.torch_rng.get_state().numpy().copy()
        if isinstance(self.deformation, NodeDeformation) and self.motion_optimiser is not None:
            arrays |= motion_arrays(self.deformation, self.motion_optimiser)
        values = {
            "step": self.step,
            "order": list(self.order),
            "reference": self.reference,
            "rng": self.rng.bit_generator.state,
        }
        return Checkpoint(arrays, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to a checkpoint."""
        values: Mapping[str, Any] = checkpoint.values
        self.step, self.order = int(values["step"]), [int(v) for v in values["order"]]
        self.reference = int(values["reference"])
        self.rng.bit_generator.state = values["rng"]
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in checkpoint.arrays.items()}
        self.torch_rng.set_state(tensors["torch_rng"])
        own = {k: v for k, v in checkpoint.arrays.items() if not k.startswith(("motion", "torch_rng"))}
        self.store = GaussianStore.from_state(own, self._rates(), self.device)
        if "motion.nodes_mm" not in tensors:
            self.deformation = self._curves()
            self._make_steps()
            return
        self.deformation = self._nodes(tensors["motion.nodes_mm"].to(self.device))
        self._make_motion_optimiser()
        if self.motion_optimiser is not None:
            restore_motion(self.deformation, self.motion_optimiser, tensors)
        self._make_steps()

"""Deforming 2D Gaussian surfels, trained on the frames of one endoscopic clip.

Reads like the paper: surfels from depth, then steps of {deform to the frame's time - splat - compare what
may be trusted - Adam}, with density control in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.capture import Capture
from splatomy.events import Checkpoint, Notice, Progress, Snapshot, Task
from splatomy.fields.attenuation import TimeBasis
from splatomy.gaussians.deform import CurveDeformation, Moved, NodeDeformation
from splatomy.gaussians.density import grow_and_prune
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.spherical_harmonics import num_coefficients, sh_from_colours
from splatomy.methods.dynamic_tissue.config import Config
from splatomy.methods.dynamic_tissue.footage import Footage, View
from splatomy.methods.dynamic_tissue.model import Deformation, TissueScene, draw, moved_surfels
from splatomy.methods.dynamic_tissue.objective import frame_loss
from splatomy.methods.dynamic_tissue.seeding import Seeds, seed
from splatomy.methods.dynamic_tissue.tracking import track
from splatomy.scene import Scene

_CHECKPOINT_WITHIN_S = 25.0
_COVERED_ALPHA = 0.5
_NEAR_SHARE = 0.02
_REST_MARGIN = 0.15
"""Tissue that other frames show beyond the reference picture belongs to the mesh, within this share."""
_MIN_FOOTPRINT, _MAX_FOOTPRINT = 0.15, 10.0
"""Limits of a surfel's standard deviations, in pixels at the typical depth."""
_EVIDENCE_PRIOR = 0.1
_TRACK_SMOOTHNESS = 0.05

_Bound = tuple[Tensor, Seeds, Tensor, Tensor]
"""Resting places (N, 3) of seeds, and the nodes and shares (N, k) that move them."""


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
) -> Task[Scene]:
    """A scene of surfels that move with the tissue.

    Raises:
        InputError: no visible tissue of known depth, or no colour images.

    Source: Diff2DGS (RA-L 2026), second stage. Differences, each with its reason in README.md: oriented
    start, motion from flow, shared control nodes, provenance weights, bare-tissue depths.
    """
    capture = next(c for c in captures if c is not None)
    footage = Footage(capture, config, device)
    if capture.cameras is None:
        text = (
            f"No camera is known: a fixed one with a focal length of {config.default_focal:g} image widths "
            "was assumed."
        )
        yield Notice("warning", "assumed-camera", text)
    trainer = _Trainer(footage, config, device)
    if resume is None:
        yield from trainer.start()
    else:
        trainer.restore(resume)
    # At once: the first training step may compile kernels for a while, and a stop must keep something.
    yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    published = time.monotonic()
    reported = 0.0
    while trainer.step < config.steps:
        loss = trainer.train_step()
        now = time.monotonic()
        if now - reported > 0.3 or trainer.step == config.steps:
            reported = now
            metrics = {"loss": float(loss), "surfels": float(len(trainer.store))}
            yield Progress("train", trainer.step, config.steps, metrics)
        if now - published > min(config.snapshot_every_s, _CHECKPOINT_WITHIN_S):
            published = now
            yield Snapshot("train", trainer.step, trainer.scene(), trainer.checkpoint())
    scene = trainer.scene()
    yield Snapshot("train", trainer.step, scene, trainer.checkpoint())
    return scene


class _Trainer:
    """The state between two steps."""

    def __init__(self, footage: Footage, config: Config, device: torch.device) -> None:
        self.footage, self.config, self.device = footage, config, device
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
        self.deformation: Deformation
        self.motion_optimiser: torch.optim.Optimizer | None = None

    # -- start ---------------------------------------------------------------------------------

    def start(self) -> Task[None]:
        """Motion from flow and depth, then surfels from every frame, those nearest the reference first."""
        config, footage = self.config, self.footage
        tracks = yield from track(footage, config.node_spacing, config.track_start)
        self.reference = tracks.reference
        nodes = self._nodes(torch.as_tensor(tracks.nodes_mm, device=self.device))
        nodes.start_from(self.times_s, tracks.displacement_mm, tracks.weight, _TRACK_SMOOTHNESS)
        order = sorted(range(len(footage)), key=lambda t: (abs(t - tracks.reference), t))
        found: list[_Bound] = []
        for hidden in (False, True):
            for done, frame in enumerate(order):
                covered = self._covered(nodes, found, frame)
                new = seed(footage, frame, covered, config.spacing_px, hidden)
                if len(new.means_mm):
                    means = torch.as_tensor(new.means_mm, device=self.device)
                    rest = nodes.canonical(means, float(self.times_s[frame]))
                    nodes.add_nodes(rest, tracks.spacing_mm)
                    found.append((rest, new, *nodes.bind(rest)))
                yield Progress("seed", done + len(order) * hidden, 2 * len(order))
        self._adopt(nodes, torch.cat([part[0] for part in found]), _joined(found))

    def _nodes(self, nodes_mm: Tensor) -> NodeDeformation:
        size = max(4, math.ceil(len(self.times_s) / self.config.frames_per_spline) + 3)
        basis = TimeBasis(float(self.times_s.min()), float(self.times_s.max()), size)
        return NodeDeformation(nodes_mm, basis, self.pixel_mm)

    def _curves(self) -> CurveDeformation:
        start, end = float(self.times_s.min()), float(self.times_s.max())
        config = self.config
        return CurveDeformation(start, end, config.num_bases, config.curve_width, self.pixel_mm, self.device)

    def _covered(self, nodes: NodeDeformation, found: list[_Bound], frame: int) -> NDArray[np.bool_]:
        """Where (H, W) the surfels so far already cover the frame."""
        size = (self.footage.height_px, self.footage.width_px)
        if not found:
            return np.zeros(size, bool)
        rests, _, indices, parts = zip(*found, strict=True)
        rest, index, shares = torch.cat(rests), torch.cat(indices), torch.cat(parts)
        camera = self.footage.cameras[frame].resized(1 if min(size) < 128 else 2)
        with torch.no_grad():
            tensors = {**self._rows(rest, _joined(found)), "nodes": index, "shares": shares}
            moved = moved_surfels(tensors, nodes, float(self.times_s[frame]))
            pose = (torch.as_tensor(camera.intrinsics[0]), torch.as_tensor(camera.camera_from_world[0]))
            place = (*pose, camera.width_px, camera.height_px)
            alpha = draw(moved, tensors, place, self.near_mm).alpha.cpu().numpy()
        factor = -(-size[0] // camera.height_px)
        large = np.repeat(np.repeat(alpha > _COVERED_ALPHA, factor, 0), factor, 1)
        grown = np.pad(large, ((0, 1), (0, 1)), mode="edge")
        return np.ascontiguousarray(grown[: size[0], : size[1]])

    def _rows(self, rest_mm: Tensor, seeds: Seeds) -> dict[str, Tensor]:
        """Parameters of new surfels, without their motion."""

        def tensor(array: NDArray[np.float32]) -> Tensor:
            return torch.as_tensor(array, device=self.device)

        count = len(rest_mm)
        sh = torch.zeros(count, num_coefficients(self.config.sh_degree), 3, device=self.device)
        sh[:, 0] = sh_from_colours(tensor(seeds.colours))
        opacity = self.config.opacity_start
        return {
            "means_mm": rest_mm.float(),
            "quats_wxyz": tensor(seeds.quats_wxyz),
            "log_scales": tensor(seeds.log_scales),
            "opacity_logit": torch.full((count,), math.log(opacity / (1 - opacity)), device=self.device),
            "sh": sh,
        }

    def _adopt(self, nodes: NodeDeformation, rest_mm: Tensor, seeds: Seeds) -> None:
        rows = self._rows(rest_mm, seeds)
        index, shares = nodes.bind(rest_mm)
        evidence = torch.as_tensor(seeds.evidence, device=self.device)
        if self.config.deformation == "curves":
            curves = self._curves()
            self.deformation = curves
            start = curves.start(len(rest_mm))
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

    def _make_motion_optimiser(self) -> None:
        if isinstance(self.deformation, NodeDeformation):
            self.motion_optimiser = torch.optim.Adam(
                [self.deformation.coefficients], self.config.motion_rate, eps=1e-15
            )

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

    # -- one step ------------------------------------------------------------------------------

    def train_step(self) -> Tensor:
        """Renders one frame at its time, compares, and moves everything; the loss."""
        config, store = self.config, self.store
        share = self.step / config.steps
        if not self.order:
            self.order = [int(v) for v in self.rng.permutation(len(self.footage))]
        large = min(self.footage.height_px, self.footage.width_px) >= 64
        view = self.footage.view(self.order.pop(), 2 if share < config.coarse_share and large else 1)
        store.set_learning_rates(self._rates())
        tensors = {**store.parameters, **store.side}
        moved = moved_surfels(tensors, self.deformation, view.time_s)
        camera = (view.intrinsics, view.camera_from_world, view.width_px, view.height_px)
        degree = min(config.sh_degree, int(share * 4 * max(config.sh_degree, 1)))
        pull = store.side["pull"]
        render = draw(moved, tensors, camera, self.near_mm, degree, screen_gradient=pull)
        loss = frame_loss(render, view, config, share, self.footage.typical_mm)
        if isinstance(self.deformation, NodeDeformation):
            loss = loss + config.roughness * self.deformation.roughness()
            loss = loss + config.rigidity * self.deformation.rigidity()
        loss.backward()
        store.optimiser.step()
        store.optimiser.zero_grad(set_to_none=True)
        if self.motion_optimiser is not None:
            for group in self.motion_optimiser.param_groups:
                group["lr"] = config.motion_rate * 0.1**share
            self.motion_optimiser.step()
            self.motion_optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            low, high = (math.log(f * self.pixel_mm) for f in (_MIN_FOOTPRINT, _MAX_FOOTPRINT))
            store["log_scales"].clamp_(low, high)
            self._gather_evidence(moved, view)
        self.step += 1
        if self.step % config.grow_every == 0:
            self._control()
        return loss.detach()

    def _gather_evidence(self, moved: Moved, view: View) -> None:
        """Adds whether each surfel's centre lies on tissue that the frame really shows."""
        pose = view.camera_from_world.to(moved.means_mm)
        place = moved.means_mm @ pose[:3, :3].T + pose[:3, 3]
        k = view.intrinsics.to(moved.means_mm)
        pixel = torch.round((place / place[:, 2:].clamp_min(self.near_mm)) @ k.T)[:, :2].long()
        size = torch.tensor([view.width_px, view.height_px], device=self.device)
        inside = ((pixel >= 0) & (pixel < size)).all(1) & (place[:, 2] > self.near_mm)
        x, y = (pixel * inside[:, None]).unbind(1)
        visible = (1 - view.hidden[y, x]) * inside
        self.store.side["seen"] += torch.stack([visible, inside.float()], 1)

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
        grow_and_prune(store, keep, grow, 0.0, self.torch_rng)
        if isinstance(self.deformation, NodeDeformation):
            store.side["nodes"], store.side["shares"] = self.deformation.bind(store["means_mm"])
        self._clear_statistics()

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
            arrays["motion.nodes_mm"] = self.deformation.nodes_mm.cpu().numpy().copy()
            arrays["motion.coefficients"] = self.deformation.coefficients.detach().cpu().numpy().copy()
            for state in self.motion_optimiser.state_dict()["state"].values():
                for key, value in state.items():
                    arrays[f"motion_moment.{key}"] = np.atleast_1d(value.cpu().numpy().copy())
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
            return
        self.deformation = self._nodes(tensors["motion.nodes_mm"].to(self.device))
        with torch.no_grad():
            self.deformation.coefficients.copy_(tensors["motion.coefficients"])
        self._make_motion_optimiser()
        moments = {k.removeprefix("motion_moment."): v for k, v in tensors.items() if "_moment." in k}
        if moments and self.motion_optimiser is not None:
            description = self.motion_optimiser.state_dict()
            description["state"][0] = {k: v[0] if k == "step" else v for k, v in moments.items()}
            self.motion_optimiser.load_state_dict(description)


def _joined(parts: list[_Bound]) -> Seeds:
    """All seeds, in order."""
    names = ("means_mm", "quats_wxyz", "log_scales", "colours", "evidence")
    return Seeds(*(np.concatenate([getattr(part[1], name) for part in parts]) for name in names))

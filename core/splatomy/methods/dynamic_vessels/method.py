"""4D radiative Gaussians, trained on the frames of one DSA run.

Reads like the paper: filtered back-projection, Gaussians drawn from it, then steps of
{density at the frame's time - splat - loss - Adam}, with density control in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Checkpoint, Notice, Progress, Snapshot, Task
from splatomy.fields.attenuation import CurveField, GridField, TimeBasis
from splatomy.gaussians.adam import Adam
from splatomy.gaussians.density import grow_and_prune
from splatomy.gaussians.init import neighbour_distance_mm, noise_level, sample_bright_voxels
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.ready import hash_kernel, made_ready, on, xray_kernels
from splatomy.kernels.xray import splat
from splatomy.methods.dynamic_vessels.config import Config
from splatomy.methods.dynamic_vessels.field_state import field_arrays, restore_field
from splatomy.methods.dynamic_vessels.model import VesselScene
from splatomy.methods.dynamic_vessels.residuals import missing_volume
from splatomy.methods.dynamic_vessels.step import VesselSteps
from splatomy.methods.dynamic_vessels.views import Views, binning_at
from splatomy.prepare.fdk import fdk
from splatomy.prepare.hull import has_few_directions, shadow_hull
from splatomy.replicas.group import Replicas
from splatomy.scene import Scene

_TABLE_SIZE = 64
# Reading the network out at one time takes as long as a training step.
_NETWORK_TABLE_SIZE = 24
_START_GRID = 140
_SEED_SIGMA = 3.0
_CHECKPOINT_WITHIN_S = 25.0
_SPLINES = 200
"""Of a curve, at most, however long the run is."""


def reconstruct(
    captures: Iterable[Capture | None],
    config: Config,
    device: torch.device,
    resume: Checkpoint | None = None,
    replicas: Replicas | None = None,
) -> Task[Scene]:
    """A scene of radiative Gaussians with smooth densities over time.

    replicas: processes that run ``follow`` on the same, led by this one.

    Raises:
        InputError: nothing in the run is brighter than its noise.

    Source: 4DRGS (IPMI 2025). Differences, each with its reason in README.md: noise-aware loss,
    curves instead of a network, negative residuals kept, residual seeding, real seconds.
    """
    capture = next(c for c in captures if c is not None)
    kernels = [*on(device, xray_kernels), *([hash_kernel] if config.field == "grid" else [])]
    yield from made_ready(*kernels)
    replicas = replicas or Replicas()
    trainer = _Trainer(capture, config, device, replicas)
    if resume is None:
        yield from trainer.start()
    else:
        trainer.restore(resume)
    replicas.adopt(trainer)
    # At once: a stop must keep something.
    yield Snapshot("train", trainer.step, (yield from trainer.scene()), trainer.checkpoint())
    published, pause_s = time.monotonic(), config.snapshot_every_s
    reported = 0.0
    while trainer.step < config.steps:
        loss = trainer.train_step()
        if trainer.is_seeding_due():
            yield from trainer.add_from_residuals()
            replicas.adopt(trainer)
        now = time.monotonic()
        if now - reported > 0.3 or trainer.step == config.steps:
            reported = now
            metrics = {"loss": float(loss), "gaussians": float(len(trainer.store)), **replicas.figures()}
            yield Progress("train", trainer.step, config.steps, metrics)
        if now - published > pause_s:
            scene = yield from trainer.scene()
            snapshot = Snapshot("train", trainer.step, scene, trainer.checkpoint())
            published = time.monotonic()
            # A network takes long to read out: that may cost a tenth of the time, but no checkpoint.
            pause_s = max(config.snapshot_every_s, 9 * (published - now))
            pause_s = min(pause_s, _CHECKPOINT_WITHIN_S)
            yield snapshot
    scene = yield from trainer.scene()
    yield Snapshot("train", trainer.step, scene, trainer.checkpoint())
    return scene


def follow(captures: Iterable[Capture], config: Config, device: torch.device, replicas: Replicas) -> None:
    """One replica's part of a reconstruction that another process leads."""
    trainer = _Trainer(next(iter(captures)), config, device, replicas)
    replicas.adopt(trainer)
    while trainer.step < config.steps:
        trainer.train_step()
        if trainer.is_seeding_due():
            replicas.adopt(trainer)


class _Trainer:
    """The state between two steps."""

    def __init__(self, capture: Capture, config: Config, device: torch.device, replicas: Replicas) -> None:
        if capture.grid is None or capture.cameras is None:
            raise ValueError("dynamic_vessels needs cameras and grid")
        self.capture, self.config, self.device, self.replicas = capture, config, device, replicas
        self.grid = capture.grid
        self.has_few_directions = has_few_directions(capture)
        self.voxel_mm = float(self.grid.spacing_mm.min())
        self.extent_mm = self.grid.bounds_mm
        self.size_mm = float((self.extent_mm[1] - self.extent_mm[0]).max())
        self.views = Views(capture, device, config.coarsest_bin, config.finest_bin)
        self.rng = np.random.default_rng(config.seed)
        self.torch_rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.order: list[int] = []
        self.store: GaussianStore
        self.steps: VesselSteps
        self.field: CurveField | GridField
        self.field_optimiser: Adam | None = None
        self.unit_per_mm = 1.0

    # -- start ---------------------------------------------------------------------------------

    def start(self) -> Task[None]:
        """Gaussians from the filtered back-projection of the training views."""
        factor = max(1, round(max(self.grid.shape) / _START_GRID))
        images = self.capture.images
        if self.capture.occluded is not None:
            # Hidden pixels must not reach the start either; empty is the likeliest value of a pixel.
            images = np.where(self.capture.occluded[..., None], np.float32(0), images)
        visible = replace(self.capture, images=images)
        if self.has_few_directions:
            volume = yield from shadow_hull(visible, self.grid.binned(factor))
            floor = 0.0
        else:
            volume = yield from fdk(visible, grid=self.grid.binned(factor), device=self.device)
            floor = _SEED_SIGMA * noise_level(volume.values)
        means, values = sample_bright_voxels(volume, self.config.num_start, floor, self.rng)
        if len(means) < 10:
            raise InputError(
                f"Only {len(means)} voxels are brighter than the noise: expected vessels with contrast. "
                "Check the order of mask and fill run, the subtraction and the geometry."
            )
        if len(means) < self.config.num_start:
            text = f"The start has {len(means)} bright voxels, fewer than the {self.config.num_start} wanted."
            yield Notice("info", "few-candidates", text)
        self.unit_per_mm = float(np.quantile(values, 0.9))
        self._make_field()
        scale = neighbour_distance_mm(means).clip(self._min_mm, self._max_mm)
        self._adopt(GaussianStore(self._rows(means, scale, values), self._rates()))

    @property
    def _min_mm(self) -> float:
        return self.config.min_scale_voxels * self.voxel_mm

    @property
    def _max_mm(self) -> float:
        return self.config.max_scale_voxels * self.voxel_mm

    def _make_field(self) -> None:
        start, end = float(self.capture.times_s.min()), float(self.capture.times_s.max())
        if self.config.field == "curves":
            size = min(math.ceil((end - start) / self.config.spline_s) + 3, len(self.capture) + 3, _SPLINES)
            self.field = CurveField(TimeBasis(start, end, max(size, 4)), self.unit_per_mm)
            return
        torch.manual_seed(self.config.seed)
        low = torch.as_tensor(self.extent_mm[0], dtype=torch.float32)
        size_mm = torch.as_tensor(self.extent_mm[1] - self.extent_mm[0], dtype=torch.float32)
        field = GridField(low, size_mm, start, end, self.unit_per_mm, self.config.log2_table)
        self.field = field.to(self.device)
        self.field_optimiser = Adam([{"params": self.field.parameters(), "lr": self.config.grid_rate}])

    def _rows(self, means: np.ndarray, scale_mm: np.ndarray, density: np.ndarray) -> dict[str, torch.Tensor]:
        """Parameters of new isotropic Gaussians."""
        m = torch.as_tensor(means, device=self.device)
        rows = {
            "means_mm": m,
            "quats_wxyz": torch.tensor([1.0, 0, 0, 0], device=self.device).repeat(len(m), 1),
            "log_scales": torch.as_tensor(np.log(scale_mm), device=self.device)[:, None].repeat(1, 3),
        }
        if isinstance(self.field, CurveField):
            rows["curve"] = self.field.start(torch.as_tensor(density, device=self.device))
        else:
            rows["curve"] = torch.zeros(len(m), 1, device=self.device)
        return {name: tensor.float() for name, tensor in rows.items()}

    def _rates(self) -> dict[str, float]:
        """Learning rates at this step: each decays tenfold, exponentially."""
        decay = 0.1 ** (self.step / self.config.steps)
        c = self.config
        rates = {"means_mm": c.position_rate * self.size_mm, "quats_wxyz": c.rotation_rate}
        rates |= {"log_scales": c.scale_rate, "curve": c.curve_rate}
        return {name: rate * decay for name, rate in rates.items()}

    def _set_rates(self) -> None:
        """This step's learning rates."""
        self.store.set_learning_rates(self._rates())
        if self.field_optimiser is not None:
            self.field_optimiser.set_rates([self.config.grid_rate * 0.1 ** (self.step / self.config.steps)])

    def _adopt(self, store: GaussianStore) -> None:
        """Trains another store from here."""
        self.store = store
        optimisers = [store.optimiser, *([self.field_optimiser] if self.field_optimiser else [])]
        limits = math.log(self._min_mm), math.log(self._max_mm)
        self.steps = VesselSteps(store, self.field, optimisers, self.config, limits)

    # -- one step ------------------------------------------------------------------------------

    def train_step(self) -> torch.Tensor:
        """Renders some views at their times, compares, and moves everything; the mean loss."""
        store, steps = self.store, self.steps
        self._set_rates()
        sums = steps.begin()
        factor = binning_at(self.step / self.config.steps, self.config)
        is_all = self.config.views_per_step == self.replicas.count == 1
        for frame, time_s in self.replicas.own(self._next_views()):
            steps.add_view(self.views.at(frame, factor), time_s, self.step, is_all)
        if not is_all:
            gradients = [p.grad for p in steps.parameters() if p.grad is not None]
            self.replicas.add_up([*gradients, sums.seen, sums.loss])
            self.replicas.take_largest(sums.peak)
            steps.end()
        self.step += 1
        if self.step % self.config.grow_every == 0:
            self._control()
        self.replicas.compare(self.step, [*store.parameters.values(), *self.field.parameters()])
        return sums.last_loss[0]

    def _next_views(self) -> list[tuple[int, float]]:
        """Frame and time of each view of this step."""
        views: list[tuple[int, float]] = []
        for _ in range(self.config.views_per_step):
            if not self.order:
                self.order = [int(v) for v in self.rng.permutation(len(self.capture))]
            frame = self.order.pop()
            time_s = float(self.capture.times_s[frame])
            if isinstance(self.field, GridField) and self.config.time_jitter_views > 0:
                gap = np.ptp(self.capture.times_s) / max(len(self.capture) - 1, 1)
                time_s += float(self.rng.normal()) * gap * self.config.time_jitter_views
            views.append((frame, time_s))
        return views

    # -- density control -----------------------------------------------------------------------

    @torch.no_grad()
    def _control(self) -> None:
        """Prunes by accumulated attenuation and shadow; grows where the image still pulls hardest."""
        config, side, store = self.config, self.store.side, self.store
        means = store["means_mm"].detach()
        low, high = (torch.as_tensor(x, device=self.device) for x in self.extent_mm.astype(np.float32))
        inside = ((means > low) & (means < high)).all(1)
        accumulated = side["attenuation"] / side["seen"].clamp(min=1)
        thickness = store["log_scales"].detach().exp().amin(1) * math.sqrt(2 * math.pi)
        shadow = side["peak"] * thickness
        keep = inside & (accumulated > 1e-4 * self.unit_per_mm)
        keep &= (shadow > config.prune_snr * self.views.typical_noise) | (side["seen"] == 0)
        gradient = side["gradient"] / side["seen"].clamp(min=1)
        grow = torch.zeros_like(keep)
        growing = self.step < config.grow_until * config.steps and self.step > 0.08 * config.steps
        room = config.max_gaussians - len(store)
        count = min(int(config.grow_share * len(store)), room)
        if growing and count > 0:
            grow[torch.topk(gradient, count).indices] = True
        share = self.step / config.steps
        split_above = self.voxel_mm * 2.5 * (0.5 / 2.5) ** min(1.0, share / max(config.grow_until, 1e-6))
        if not keep.any():
            keep[shadow.argmax()] = True
        self.replicas.obey(keep, grow)
        if any(grow_and_prune(store, keep, grow, split_above, self.torch_rng)):
            store.side = {}
        else:
            self.steps.forget()

    # -- residual seeding ----------------------------------------------------------------------

    def is_seeding_due(self) -> bool:
        """True at a few moments spread over the growing part of the run."""
        times = 0 if self.has_few_directions else self.config.residual_seeds
        interval = int(self.config.grow_until * self.config.steps / (times + 1)) if times else 0
        return interval > 0 and self.step % interval == 0 and self.step // interval in range(1, times + 1)

    def add_from_residuals(self) -> Task[None]:
        """New Gaussians where the filtered back-projection of what is still missing is bright.

        Gradients only reach places near Gaussians; vessels that the start missed altogether are found so.
        """
        factor = max(1, round(max(self.grid.shape) / _START_GRID))
        told = Progress("train", self.step, self.config.steps)
        grid = self.grid.binned(factor)
        volume = yield from missing_volume(self.capture, self._drawn, grid, self.device, told)
        floor = 4.0 * noise_level(volume.values)
        room = min(self.config.num_start // 3, self.config.max_gaussians - len(self.store))
        means, values = sample_bright_voxels(volume, max(room, 0), floor, self.rng)
        if len(means):
            scale = np.full(len(means), max(0.6 * self.voxel_mm * factor, self._min_mm), np.float32)
            self.store.append(**self._rows(means, scale, 0.5 * values))
            self.store.side.pop("neighbours", None)
            self.store.side = {}

    @torch.no_grad()
    def _drawn(self, frame: int) -> np.ndarray:
        """The picture (H, W) of a frame as the Gaussians are now, at the detector's own resolution."""
        if self.capture.cameras is None:
            raise ValueError("dynamic_vessels needs cameras")
        camera, store = self.capture.cameras[frame], self.store
        density = self.field.density(store["curve"], store["means_mm"], float(self.capture.times_s[frame]))
        image = splat(
            store["means_mm"],
            store["quats_wxyz"],
            store["log_scales"].exp(),
            density,
            torch.from_numpy(camera.intrinsics[0]),
            torch.from_numpy(camera.camera_from_world[0]),
            camera.width_px,
            camera.height_px,
            pixel_average=True,
        )
        return image.cpu().numpy()

    # -- publishing ----------------------------------------------------------------------------

    def scene(self) -> Task[VesselScene]:
        """An immutable copy of the present state."""
        start, end = float(self.capture.times_s.min()), float(self.capture.times_s.max())
        table = np.linspace(
            start, end, _TABLE_SIZE if isinstance(self.field, CurveField) else _NETWORK_TABLE_SIZE
        )
        columns: list[np.ndarray] = []
        for time_s in table:
            with torch.no_grad():
                density = self.field.density(self.store["curve"], self.store["means_mm"], float(time_s))
            columns.append(density.cpu().numpy())
            if isinstance(self.field, GridField):
                yield Progress("train", self.step, self.config.steps)
        arrays = self.store.snapshot()
        return VesselScene(
            arrays["means_mm"],
            arrays["quats_wxyz"],
            arrays["log_scales"],
            np.stack(columns, 1),
            table,
            self.capture.times_s,
            self.extent_mm,
        )

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on bit by bit from here."""
        arrays: dict[str, Any] = self.store.state_arrays()
        arrays["torch_rng"] = self.torch_rng.get_state().numpy().copy()
        if isinstance(self.field, GridField) and self.field_optimiser is not None:
            arrays |= field_arrays(self.field, self.field_optimiser)
        values = {
            "step": self.step,
            "order": list(self.order),
            "unit_per_mm": self.unit_per_mm,
            "rng": self.rng.bit_generator.state,
        }
        return Checkpoint(arrays, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes back to a checkpoint."""
        values: Mapping[str, Any] = checkpoint.values
        self.step, self.order = int(values["step"]), [int(v) for v in values["order"]]
        self.unit_per_mm = float(values["unit_per_mm"])
        self.rng.bit_generator.state = values["rng"]
        self.torch_rng.set_state(torch.from_numpy(np.array(checkpoint.arrays["torch_rng"])))
        self._make_field()
        own = {k: v for k, v in checkpoint.arrays.items() if not k.startswith(("field", "torch_rng"))}
        self._adopt(GaussianStore.from_state(own, self._rates(), self.device))
        if isinstance(self.field, GridField) and self.field_optimiser is not None:
            restore_field(self.field, self.field_optimiser, checkpoint.arrays)

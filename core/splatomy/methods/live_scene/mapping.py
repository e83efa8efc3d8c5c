"""The map: surfels that grow where it explains nothing, learn, and go where frames see through them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.gaussians.losses import dssim
from splatomy.gaussians.store import GaussianStore
from splatomy.kernels.surfel import SurfelRender, splat_surfels
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float, Level
from splatomy.methods.live_scene.motion import NodeMotion
from splatomy.methods.live_scene.seeding import seeds_of
from splatomy.methods.live_scene.tracking import View

_SIDE = ("looks", "through", "born_s", "seen_s", "region")
PARAMETERS = ("means_mm", "quats_wxyz", "log_scales", "opacity_logit", "colours")
_OVERLAP = 0.75
_START_OPACITY = 0.7
_UNSEEN_ALPHA = 0.5
_SOLID = 0.5
_NEAR_SHARE = 0.05
_IN_FRONT = 8.0
"""Expected depth errors by which a surface must lie before the map's to be a new one."""
_SEEN_THROUGH = 6.0
_CARVED_AFTER = 3
_COLOUR_KNEE = 0.02
_LARGEST_PX = 8.0
_MARGIN = 0.1
_USUAL_PX = 160
_OPACITY_WEIGHT = 0.01


class SurfelMap:
    """The surfels, their optimiser and what is known of each.

    side: looks (how many keyframes saw it), through (how often a keyframe saw what is behind it), born_s and
    seen_s (stream times), region (number of the surgeon's region it lies in, positive = keep, negative =
    ignore, 0 = none); nodes and shares for the deforming
    profile.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.pixel_mm = 1.0
        self.near_mm = 1.0
        self.store: GaussianStore | None = None
        self._in_front: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.store is None else len(self.store)

    # -- looking ---------------------------------------------------------------------------------

    def draw(
        self,
        pose: Float,
        intrinsics: Tensor,
        size: tuple[int, int],
        motion: NodeMotion | None,
        rows: Tensor,
        trained: bool = True,
    ) -> SurfelRender:
        """The surfels of some rows (R,) as a camera (4, 4) sees them, with gradients where they are on.

        trained: False = the surfels themselves get none.
        """
        if self.store is None:
            raise ValueError("there is no map yet")
        known = self.store.parameters
        means, quats, log_scales, logit, colours = (
            (known[name] if trained else known[name].detach()).index_select(0, rows) for name in PARAMETERS
        )
        if motion is not None:
            side = self.store.side
            means, quats = motion.moved(means, quats, side["nodes"][rows], side["shares"][rows])
        return splat_surfels(
            means,
            quats,
            log_scales.exp(),
            torch.sigmoid(logit),
            colours,
            intrinsics,
            torch.as_tensor(pose, dtype=torch.float64),
            *size,
            near_mm=self.near_mm,
        )

    @torch.no_grad()
    def in_sight(self, pose: Float, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
        """The rows (R,) of surfels that a camera may see: what a step costs grows with these alone."""
        if self.store is None:
            raise ValueError("there is no map yet")
        p = torch.as_tensor(pose, dtype=torch.float32).to(self.device)
        local = self.store["means_mm"] @ p[:3, :3].T + p[:3, 3]
        z = local[:, 2].clamp_min(self.near_mm)
        # The margin holds what is large or bent into the picture.
        reach = _MARGIN * max(size)
        inside = local[:, 2] > self.near_mm
        for axis, length in enumerate(size):
            place = float(intrinsics[axis, axis]) * local[:, axis] / z + float(intrinsics[axis, 2])
            inside &= (place > -reach) & (place < length - 1 + reach)
        return inside.nonzero()[:, 0]

    @torch.no_grad()
    def view(self, pose: Float, level: Level, motion: NodeMotion | None) -> View:
        """The map as a camera sees it at the size of a level."""
        if self.store is None:
            width, height = level.size
            nothing = torch.zeros(height, width, device=self.device)
            return View(torch.zeros(height, width, 3, device=self.device), nothing, nothing)
        rows = self.in_sight(pose, level.intrinsics, level.size)
        drawn = self.draw(pose, level.intrinsics, level.size, motion, rows)
        share = drawn.alpha.clamp_min(1e-6)[..., None]
        return View(drawn.colour / share, drawn.alpha, drawn.depth_mm)

    # -- growing ---------------------------------------------------------------------------------

    @torch.no_grad()
    def grow(
        self,
        level: Level,
        pose: Float,
        time_s: float,
        motion: NodeMotion | None,
        most: int,
        gain: float = 1.0,
        view: View | None = None,
    ) -> tuple[int, float]:
        """Adds surfels where the map explains nothing; their number, and the share of such pixels.

        view: the map as it shows the frame, where that was drawn before.
        Never from pixels that are hidden or unusable: instruments do not get into the map. A surface before
        the map's must be there in two looks, since smoke and blood are gone in the next.

        Source: the candidate rules A and B of EndoGSLAM (sheet online-incremental, 6).
        """
        known = level.usable & (level.depth > 0)
        if self.store is None:
            self._start(level)
            unseen = known
        else:
            view = self.view(pose, level, motion) if view is None else view
            unseen = known & (view.alpha < _UNSEEN_ALPHA)
            sigma = self.config.depth_sigma * level.depth
            front = known & (view.alpha > _SOLID) & (view.depth - level.depth > _IN_FRONT * sigma)
            before = self._in_front
            self._in_front = front
            if before is not None and before.shape == front.shape:
                unseen = unseen | (front & before)
        share = float(unseen.float().sum() / known.float().sum().clamp_min(1))
        room = min(most, self.config.max_new_surfels, self.config.max_surfels - len(self))
        if room <= 0 or not unseen.any():
            return 0, share
        seeds = seeds_of(level, pose, unseen.cpu().numpy(), self._spacing(level), room)
        if not len(seeds["means_mm"]):
            return 0, share
        rows = {name: torch.as_tensor(array, device=self.device) for name, array in seeds.items()}
        opacity = math.log(_START_OPACITY / (1 - _START_OPACITY))
        rows["opacity_logit"] = torch.full((len(rows["means_mm"]),), opacity, device=self.device)
        rows["log_scales"] = rows["log_scales"] + math.log(_OVERLAP)
        # In the map's own light, not in this frame's exposure.
        rows["colours"] = (rows["colours"] / gain).clamp(0, 1)
        self._append(rows, time_s, motion)
        return len(rows["means_mm"]), share

    def _spacing(self, level: Level) -> float:
        """In px of a level: as the square root of the width, between the same on the tissue and in px."""
        width = level.size[0] * level.factor
        return max(1.0, self.config.spacing_px * math.sqrt(max(1.0, width / _USUAL_PX)) / level.factor)

    def _start(self, level: Level) -> None:
        """The lengths that rates and limits are measured in, from the first depths."""
        typical = float(level.depth[level.depth > 0].median())
        self.pixel_mm = typical / (float(level.intrinsics[0, 0]) * level.factor)
        self.near_mm = _NEAR_SHARE * typical

    def _append(
        self, rows: dict[str, Tensor], time_s: float, motion: NodeMotion | None, at_rest: bool = False
    ) -> None:
        if len(rows["means_mm"]):
            with self._all_or_nothing():
                self._appended(rows, time_s, motion, at_rest)

    def _appended(
        self, rows: dict[str, Tensor], time_s: float, motion: NodeMotion | None, at_rest: bool
    ) -> None:
        count, before, nodes = len(rows["means_mm"]), len(self), 0
        if motion is not None and not at_rest:
            nodes = motion.cover(rows["means_mm"])
            rows["means_mm"] = motion.at_rest(rows["means_mm"])
        if self.store is None:
            self.store = GaussianStore({name: rows[name] for name in PARAMETERS}, self._rates())
            zero = torch.zeros(count, device=self.device)
            self.store.side = {name: zero.clone() for name in _SIDE}
        else:
            self.store.append(**{name: rows[name] for name in PARAMETERS})
        self.store.side["born_s"][-count:] = time_s
        self.store.side["seen_s"][-count:] = time_s
        if motion is not None:
            # New nodes may be nearer than those a surfel was bound to.
            first = 0 if nodes else before
            bound = motion.bind(self.store["means_mm"].detach()[first:])
            for name, tensor in zip(("nodes", "shares"), bound, strict=True):
                old = [self.store.side[name][:first]] if first else []
                self.store.side[name] = torch.cat([*old, tensor])

    def put_back(self, rows: dict[str, Tensor], time_s: float, motion: NodeMotion | None) -> None:
        """Adds surfels (resting, all parameters) that were taken out before, as far as there is room."""
        room = self.config.max_surfels - len(self)
        if self.store is None or room <= 0:
            return
        with torch.no_grad():
            self._append({name: row[:room] for name, row in rows.items()}, time_s, motion, at_rest=True)

    def _rates(self) -> dict[str, float]:
        c = self.config
        return {
            "means_mm": c.position_rate * self.pixel_mm,
            "quats_wxyz": c.rotation_rate,
            "log_scales": c.scale_rate,
            "opacity_logit": c.opacity_rate,
            "colours": c.colour_rate,
        }

    # -- learning --------------------------------------------------------------------------------

    def learn(self, level: Level, pose: Float, gain: float, motion: NodeMotion | None) -> Tensor:
        """One step on one frame; the loss, on the device.

        Surfels that the frame does not show stay bit for bit. gain: of its brightness against the map's.

        Source: 0.8 L1 + depth L1 of the SplaTAM family (sheet online-incremental, 6), every term masked.
        """
        if self.store is None:
            return torch.zeros(())
        rows = self.in_sight(pose, level.intrinsics, level.size)
        drawn = self.draw(pose, level.intrinsics, level.size, motion, rows)
        loss = self._loss(drawn, level, gain)
        self.store.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        seen = torch.zeros(len(self), dtype=torch.bool, device=self.device)
        seen.index_copy_(0, rows, drawn.radius_px > 0)
        before = {name: p.detach().clone() for name, p in self.store.parameters.items()}
        with torch.no_grad():
            try:
                self.store.optimiser.step()
                for name, p in self.store.parameters.items():
                    p.copy_(torch.where(seen if p.ndim == 1 else seen[:, None], p, before[name]))
            except Exception:
                # Memory may end between two parameters: then nothing was learnt.
                for name, p in self.store.parameters.items():
                    p.copy_(before[name])
                raise
            limit = math.log(_LARGEST_PX * self.pixel_mm)
            self.store["log_scales"].clamp_(math.log(0.1 * self.pixel_mm), limit + 2.0)
        return loss.detach()

    def _loss(self, drawn: SurfelRender, level: Level, gain: float) -> Tensor:
        weight = level.weight
        total = weight.sum().clamp_min(1.0)
        picture = level.image.permute(1, 2, 0)
        shown = gain * drawn.colour
        error = torch.sqrt((shown - picture).square() + _COLOUR_KNEE**2) - _COLOUR_KNEE
        loss = (error.mean(2) * weight).sum() / total
        if self.config.dssim_weight:
            # Hidden pixels take the prediction's own values, so that no window sees the instrument.
            grey = shown.mean(2)
            other = torch.where(level.usable, picture.mean(2), grey.detach())
            loss = loss + self.config.dssim_weight * dssim(grey, other)
        deep = weight * (level.depth > 0) * (drawn.alpha.detach() > _SOLID)
        if self.config.depth_weight:
            true = level.depth.clamp_min(1e-3)
            # Steps are compared up to a bound: a surface in front is not reached by bending the one behind.
            relative = ((drawn.depth_mm - true) / true).abs().clamp_max(10 * self.config.depth_sigma)
            loss = loss + self.config.depth_weight * (relative * deep).sum() / deep.sum().clamp_min(1.0)
        # Everything that is seen is tissue: no ray should come through.
        return loss + _OPACITY_WEIGHT * ((1 - drawn.alpha) * weight).sum() / total

    # -- forgetting ------------------------------------------------------------------------------

    @torch.no_grad()
    def compare(self, level: Level, pose: Float, time_s: float, motion: NodeMotion | None) -> int:
        """Counts which surfels a keyframe confirms and which it sees through; removes the latter after three.

        Source: free-space carving of the sheet online-incremental, 6; the SplaTAM family removes nothing.
        """
        if self.store is None:
            return 0
        means = self.store["means_mm"]
        if motion is not None:
            means, _ = motion.moved(
                means, self.store["quats_wxyz"], self.store.side["nodes"], self.store.side["shares"]
            )
        p = torch.as_tensor(pose, dtype=torch.float32, device=self.device)
        local = means @ p[:3, :3].T + p[:3, 3]
        k = level.intrinsics
        z = local[:, 2].clamp_min(1e-3)
        x = (float(k[0, 0]) * local[:, 0] / z + float(k[0, 2])).round()
        y = (float(k[1, 1]) * local[:, 1] / z + float(k[1, 2])).round()
        width, height = level.size
        inside = (local[:, 2] > 1e-3) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
        row, column = y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()
        depth = level.depth[row, column]
        shown = inside & level.usable[row, column] & (depth > 0)
        gap = (depth - local[:, 2]) / (self.config.depth_sigma * depth.clamp_min(1e-3))
        side = self.store.side
        through = shown & (gap > _SEEN_THROUGH)
        agrees = shown & (gap.abs() < _SEEN_THROUGH / 2)
        side["through"] = torch.where(through, side["through"] + 1, side["through"])
        side["through"] = torch.where(agrees, (side["through"] - 1).clamp_min(0), side["through"])
        side["looks"] = torch.where(agrees, side["looks"] + 1, side["looks"])
        side["seen_s"] = torch.where(agrees, torch.full_like(side["seen_s"], time_s), side["seen_s"])
        return self.drop(side["through"] >= _CARVED_AFTER)

    @torch.no_grad()
    def thin(self) -> int:
        """Drops what is faint, too large or not finite, and, beyond the budget, what matters least."""
        if self.store is None:
            return 0
        opacity = torch.sigmoid(self.store["opacity_logit"])
        wrong = (opacity < self.config.prune_opacity) | ~torch.isfinite(self.store["means_mm"]).all(1)
        wrong |= self.store["log_scales"].amax(1) > math.log(_LARGEST_PX * self.pixel_mm)
        over = len(self) - int(wrong.sum()) - int(0.95 * self.config.max_surfels)
        if len(self) >= self.config.max_surfels and over > 0:
            score = _importance(self.store)
            score[wrong] = -1.0
            wrong[score.argsort(stable=True)[: over + int(wrong.sum())]] = True
        return self.drop(wrong)

    @torch.no_grad()
    def fit_budget(self) -> None:
        """Drops what matters least beyond the budget, by way of the host: the device may have no room."""
        if self.store is None:
            return
        self._in_front = None
        self.store = GaussianStore.from_state(self.store.state_arrays(), self._rates(), torch.device("cpu"))
        over = len(self) - self.config.max_surfels
        if over > 0:
            gone = torch.zeros(len(self), dtype=torch.bool)
            gone[_importance(self.store).argsort(stable=True)[:over]] = True
            self.drop(gone)
        # Left on the host where even this finds no room: with still smaller settings it is tried again.
        self.store = GaussianStore.from_state(self.store.state_arrays(), self._rates(), self.device)

    @torch.no_grad()
    def drop(self, gone: Tensor) -> int:
        """Removes the surfels of a mask (N,), but for those in regions to keep; their number."""
        if self.store is None:
            return 0
        gone = gone & (self.store.side["region"] <= 0)
        count = int(gone.sum())
        # Some must stay: the optimiser has no empty state.
        if count and count < len(self):
            with self._all_or_nothing():
                self.store.reindex((~gone).nonzero()[:, 0])
            return count
        return 0

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Within it rows change altogether or, where memory ends in between, not at all."""
        store = self.store
        try:
            with nullcontext() if store is None else store.all_or_nothing():
                yield
        except Exception:
            self.store = store
            raise

    @torch.no_grad()
    def apply_similarity(self, scale: float, b_from_a: Float) -> None:
        """Moves all surfels by a rigid motion (4, 4) after scaling lengths."""
        if self.store is None:
            return
        from_a = torch.as_tensor(b_from_a, dtype=torch.float32, device=self.device)
        means = scale * self.store["means_mm"] @ from_a[:3, :3].T + from_a[:3, 3]
        quats = turned(from_a[:3, :3], self.store["quats_wxyz"])
        # What needs memory is done: from here on all of it happens.
        self.store["means_mm"].copy_(means)
        self.store["quats_wxyz"].copy_(quats)
        self.store["log_scales"].add_(math.log(scale))
        self.pixel_mm *= scale
        self.near_mm *= scale
        self.store.set_learning_rates(self._rates())

    # -- keeping ---------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on."""
        arrays = {} if self.store is None else self.store.state_arrays()
        if self._in_front is not None:
            arrays["in_front"] = self._in_front.cpu().numpy()
        return arrays, {"pixel_mm": self.pixel_mm, "near_mm": self.near_mm}

    @staticmethod
    def restored(
        arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any], config: Config, device: torch.device
    ) -> SurfelMap:
        """The map that ``state`` described."""
        out = SurfelMap(config, device)
        out.pixel_mm, out.near_mm = float(values["pixel_mm"]), float(values["near_mm"])
        if "in_front" in arrays:
            out._in_front = torch.as_tensor(arrays["in_front"], device=device)
        if any(name.startswith("parameter.") for name in arrays):
            known = {name: array for name, array in arrays.items() if name != "in_front"}
            out.store = GaussianStore.from_state(known, out._rates(), device)
        return out


def _importance(store: GaussianStore) -> Tensor:
    """How much surfels matter (N,): what is faint or was seldom seen goes first, what is to be kept last."""
    opacity = torch.sigmoid(store["opacity_logit"])
    return opacity * (1 + store.side["looks"]).log1p() + 10 * (store.side["region"] > 0)


def turned(rotation: Tensor, quats_wxyz: Tensor) -> Tensor:
    """Quaternions (N, 4) after a further rotation (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation.double().cpu().numpy()).as_quat()
    first = torch.tensor([w, x, y, z], dtype=quats_wxyz.dtype, device=quats_wxyz.device)
    w2, v2 = quats_wxyz[:, :1], quats_wxyz[:, 1:]
    v1 = first[1:].expand_as(v2)
    scalar = first[0] * w2 - (v1 * v2).sum(1, keepdim=True)
    return torch.cat([scalar, first[0] * v2 + w2 * v1 + torch.linalg.cross(v1, v2)], 1)


def to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    """A float32 copy on the host."""
    return tensor.detach().float().cpu().numpy().copy()

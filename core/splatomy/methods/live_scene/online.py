"""The reconstruction while the frames arrive: its state really goes on from frame to frame."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.geometry.rigid import inverse, rigid, rotation_from_vector
from splatomy.methods.live_scene.bending import fit_nodes
from splatomy.methods.live_scene.breathing import Breathing
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float, Level, Observation, coarser, factor_for, levels_of
from splatomy.methods.live_scene.health import Gate, Health, State, is_good, is_possible, is_sure, looks_of
from splatomy.methods.live_scene.keyframes import (
    Keyframe,
    Keyframes,
    angle_between,
    centre_of,
    keyframe_of,
)
from splatomy.methods.live_scene.mapping import SurfelMap
from splatomy.methods.live_scene.motion import NodeMotion
from splatomy.methods.live_scene.outcome import Current, Outcome
from splatomy.methods.live_scene.parts import Part, parts_restored, parts_state
from splatomy.methods.live_scene.regions import Mark, weights_of
from splatomy.methods.live_scene.relocating import searched, seen_in
from splatomy.methods.live_scene.scoring import scores
from splatomy.methods.live_scene.tracking import Found, Tracker, View

_LIGHT_LIMITS = (0.4, 2.5)
_LIGHT_MEMORY = 0.02
_LEAST_DEPTH_SHARE = 0.1
_UNSEEN_ALPHA = 0.5
_MOST_PARTS = 8
"""Beyond these the map with the fewest keyframes is given up."""
_PLAIN = ("gap_s", "time_s", "index", "typical_mm", "depth_scale", "metric", "frozen", "usual_gain")
"""What a state keeps as it is."""


class Online:
    """The state of a session. ``observe`` finds the camera, ``learn`` changes the map.

    intrinsics: (3, 3) px of frames of width_px x height_px.
    """

    def __init__(
        self,
        config: Config,
        intrinsics: Float,
        width_px: int,
        height_px: int,
        metric: bool,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.intrinsics = np.asarray(intrinsics, np.float64)
        self.width_px, self.height_px, self.metric = width_px, height_px, metric
        self.tracker = Tracker(config)
        self.gate, self.health = Gate(), Health(config)
        self.rng = np.random.default_rng(config.seed)
        self._parts_begun = 0
        self.part = self._new_part()
        self.resting: list[Part] = []
        self.pose: Float = np.eye(4)
        self.before: Float = np.eye(4)
        self.gap_s = 0.0
        self.time_s = 0.0
        self.index = -1
        self.typical_mm = config.working_distance
        self.depth_scale = 1.0
        """Of the depths that come with frames: 1 until the surgeon told a length."""
        self.usual_gain = 1.0
        self.frozen = False
        self.tracks_fine = True
        """False leaves the finest picture out, when time is short."""
        self.marks: list[Mark] = []
        self.current: Current | None = None
        self._grow_again = False
        self._turn = 0
        """1 after a step on the newest frame, when a keyframe is next."""

    def _new_part(self) -> Part:
        self._parts_begun += 1
        return Part(self._parts_begun - 1, SurfelMap(self.config, self.device), Keyframes(self.config), None)

    def expect_depth_error(self, share: float) -> None:
        """Tells how far the depths to come may be off, as a share of the depth; never less than was set."""
        if share > self.config.depth_sigma:
            self._configure(replace(self.config, depth_sigma=share))

    def go_on_with(self, config: Config) -> None:
        """Takes smaller settings over, where memory ended in whatever was done last.

        The maps are brought into their budget; what stays of them stays as it is.
        """
        self._configure(config)
        # The frame may have been half done, and the tracker holds room for larger pictures.
        self.current, self.tracker = None, Tracker(config)
        for part in (self.part, *self.resting):
            part.surfels.fit_budget()

    def _configure(self, config: Config) -> None:
        self.config = self.tracker.config = config
        for part in (self.part, *self.resting):
            part.surfels.config = part.keyframes.config = config

    # -- finding the camera ------------------------------------------------------------------------

    def observe(self, observation: Observation) -> Outcome:
        """Finds the camera of a frame and decides what may be done with it; nothing is learnt yet."""
        observation = self._scaled(observation)
        looks = looks_of(observation)
        frames_since = max(1, observation.index - self.index)
        time_s = observation.time_s
        if not self.gate.is_open(looks):
            state = self.health.unusable_frame(time_s)
            self.current = None
            return Outcome(observation.index, time_s, state, self.place(), None, 0.0, False)
        levels, learnt = self._levels(observation)
        known = float((levels[-1].depth > 0).float().mean())
        if not len(self.part.surfels):
            return self._first(observation, levels, learnt, known)
        if observation.camera_from_world is not None:
            # Who knows the camera's place has nothing to tell apart: all else is the tissue's.
            self.part.breathing = None
        found, view = self._located(observation, levels, frames_since)
        step = float(np.linalg.norm(centre_of(found.camera_from_world) - centre_of(self.pose)))
        turn = angle_between(found.camera_from_world, self.pose)
        searching = self.health.is_searching
        good = is_sure(found) if searching else is_good(found)
        if self.config.poses == "given" and observation.camera_from_world is not None:
            # A given place is no matter of opinion; what is new in the picture must not put it into doubt.
            good = True
        elif not searching:
            good = good and is_possible(step, turn, self.typical_mm, frames_since)
        state = self.health.tracked(good, time_s)
        if not good:
            self.current = None
            self._maybe_new_part(observation, levels, learnt, known)
            return Outcome(observation.index, time_s, state, self.place(), found, 0.0, False)
        self.before = self.pose if state is State.OK else found.camera_from_world
        self.gap_s = max(time_s - self.time_s, 1e-6)
        self.pose = found.camera_from_world
        self.index, self.time_s = observation.index, time_s
        self.gate.learn(looks)
        self._measure(view)
        usable = levels[-1].usable & (levels[-1].depth > 0)
        unseen = usable & (view.alpha < _UNSEEN_ALPHA)
        new_share = float(unseen.float().sum() / usable.float().sum().clamp_min(1))
        steady = state is State.OK
        wanted = steady and self.part.keyframes.wants(
            observation.index, time_s, self.pose, self.typical_mm, new_share
        )
        outcome = Outcome(observation.index, time_s, state, self.place(), found, new_share, wanted)
        self.usual_gain *= (found.gain / self.usual_gain) ** _LIGHT_MEMORY
        self._take(outcome, learnt, levels[-1], self._gain(found))
        return outcome

    def place(self) -> Float:
        """The camera's pose (4, 4) in the world, where the last one was found."""
        return self.part.in_world(self.pose, self.time_s)

    @property
    def breath_period_s(self) -> float | None:
        """Of the breath that is told from the camera's motion in the present map; None = none is found."""
        return None if self.part.breathing is None else self.part.breathing.period_s

    def back_fill(self, observation: Observation, camera_from_world: Float) -> bool:
        """Takes an older frame, from about a pose, as a keyframe; True if it fits. The camera stays put."""
        if self.health.state is not State.OK or self.frozen:
            return False
        observation = self._scaled(observation)
        levels, level = self._levels(observation)
        part = self.part
        view = part.surfels.view(camera_from_world, levels[-1], part.motion)
        found = self.tracker.track(view, camera_from_world, levels, [camera_from_world])
        if not is_good(found):
            return False
        pose, gain = found.camera_from_world, self._gain(found)
        part.surfels.grow(level, pose, observation.time_s, part.motion, self.config.max_new_surfels, gain)
        changes = torch.zeros(0, 6) if part.motion is None else part.motion.changes
        part.keyframes.add(keyframe_of(observation.index, observation.time_s, level, pose, gain, changes))
        return True

    def _scaled(self, observation: Observation) -> Observation:
        if observation.depth_mm is None or self.depth_scale == 1.0:
            return observation
        scaled = (observation.depth_mm * self.depth_scale).astype(np.float32)
        return Observation(**{**observation.__dict__, "depth_mm": scaled})

    def _levels(self, observation: Observation) -> tuple[list[Level], Level]:
        """The frame from coarse to fine, the finest about ``track_px`` wide, and as it is learnt from."""
        finest = factor_for(self.width_px, self.config.track_px)
        sizes = (4 * finest, 2 * finest, finest) if self.tracks_fine else (4 * finest, 2 * finest)
        factors = [f for f in sizes if self.width_px // f >= 32] or [finest]
        learnt = factor_for(self.width_px, self.config.learn_px)
        made = levels_of(observation, self.intrinsics, [*factors, learnt], self.device)
        return [made[f] for f in factors], made[learnt]

    def _located(
        self, observation: Observation, levels: list[Level], frames_since: int
    ) -> tuple[Found, View]:
        """The pose of a frame, and the map as seen from about there."""
        prior = observation.camera_from_world
        if self.config.poses == "given" and prior is not None:
            view = self.part.surfels.view(prior, levels[-1], self.part.motion)
            return self.tracker.judged(view, prior, levels[-1]), view
        if self.health.is_searching:
            return self._searched(levels, prior)
        guess = self._predicted(observation.time_s) if prior is None else prior
        view = self.part.surfels.view(guess, levels[-1], self.part.motion)
        starts = [guess, self.pose] if prior is None else [prior, guess, self.pose]
        return self.tracker.track(view, guess, levels, starts, prior), view

    def _predicted(self, time_s: float) -> Float:
        """The pose if the camera goes on as it did."""
        last = self.pose @ inverse(self.before)
        share = float(np.clip((time_s - self.time_s) / self.gap_s, 0, 2)) if self.gap_s else 0.0
        turn = 0.5 * np.array([last[2, 1] - last[1, 2], last[0, 2] - last[2, 0], last[1, 0] - last[0, 1]])
        return rigid(rotation_from_vector(share * turn), share * last[:3, 3]) @ self.pose

    def _searched(self, levels: list[Level], prior: Float | None) -> tuple[Found, View]:
        """The pose of a frame that may be anywhere; an earlier map that shows it is taken up again."""
        places = [self.pose] if prior is None else [self.pose, prior]
        best = searched(self.tracker, self.part, levels, places)
        if is_sure(best[0]):
            return best
        again = seen_in(self.tracker, self.resting, levels)
        if again is None:
            return best
        number, found, view = again
        self.resting[number], self.part = self.part, self.resting[number]
        return found, view

    def _first(self, observation: Observation, levels: list[Level], learnt: Level, known: float) -> Outcome:
        """The first frame of a map: its camera is where it was given, or where the last one was."""
        if observation.camera_from_world is not None:
            self.pose = np.asarray(observation.camera_from_world, np.float64)
        self.before, self.index, self.time_s = self.pose, observation.index, observation.time_s
        enough = known > _LEAST_DEPTH_SHARE
        state = self.health.tracked(enough, observation.time_s)
        outcome = Outcome(
            observation.index, observation.time_s, state, self.pose, None, 1.0 if enough else 0.0, enough
        )
        if enough:
            self.gate.learn(looks_of(observation))
            self.typical_mm = float(levels[-1].depth[levels[-1].depth > 0].median())
            self._take(outcome, learnt, levels[-1], 1.0)
        else:
            self.current = None
        return outcome

    def _maybe_new_part(
        self, observation: Observation, levels: list[Level], learnt: Level, known: float
    ) -> None:
        """Begins a new map when the place stays unknown; the present one rests until it is seen again."""
        since = self.health.lost_since_s
        if since is None or observation.time_s - since < self.config.submap_after_s:
            return
        if known < _LEAST_DEPTH_SHARE or self.frozen:
            return
        # The new map is the world as it is at its beginning.
        self.pose = self.place()
        self.resting.append(self.part)
        if len(self.resting) >= _MOST_PARTS:
            self.resting.remove(min(self.resting, key=lambda part: len(part.keyframes)))
        self.part = self._new_part()
        self._first(observation, levels, learnt, known)

    def _gain(self, found: Found) -> float:
        """The frame's brightness against the map's to learn with: that over the usual one, within reason.

        A fit against a map that is noisy itself comes out a little too dim every time; were it taken as it
        is, the map would become brighter and brighter.
        """
        return float(np.clip(found.gain / self.usual_gain, *_LIGHT_LIMITS))

    def _measure(self, view: View) -> None:
        """The typical depth follows the picture slowly."""
        seen = view.depth[view.alpha > _UNSEEN_ALPHA]
        if len(seen):
            self.typical_mm += 0.1 * (float(seen.median()) - self.typical_mm)

    def _take(self, outcome: Outcome, level: Level, tracked: Level, gain: float) -> None:
        self.current = Current(outcome, self._weighted(level), self._weighted(tracked), gain)

    def _weighted(self, level: Level) -> Level:
        """A level with the weights of the surgeon's regions."""
        weights = weights_of(self.part.surfels, self.pose, level, self.config.keep_gain)
        if weights is None:
            return level
        return replace(level, weight=level.weight * weights, usable=level.usable & (weights > 0))

    def place_of(self, mark: Mark) -> Float:
        """Where a mark is now in the world, (3,)."""
        common = self.part.common(self.time_s)
        return np.asarray(common[:3, :3] @ mark.place_mm(self.part.motion) + common[:3, 3])

    # -- learning --------------------------------------------------------------------------------

    def score(self) -> dict[str, float]:
        """How well the map foretells the newest frame, before it is learnt: psnr, ssim, depth_residual."""
        if self.current is None or not len(self.part.surfels):
            return {}
        current = self.current
        current.foretold = self.part.surfels.view(self.pose, current.level, self.part.motion)
        return scores(current.foretold, current.level, current.gain)

    def learn(self, steps: int, bend: bool = True, until_s: float = math.inf) -> float:
        """Grows and trains the map on the newest frame and on keyframes; the last loss.

        until_s: of ``time.monotonic``, when no further step but the first may begin.
        """
        current, part = self.current, self.part
        if current is None or self.frozen:
            return 0.0
        outcome = current.outcome
        if self.config.profile == "deforming":
            if part.motion is None and not len(part.surfels):
                spacing = self.config.node_spacing * self.typical_mm
                part.motion = NodeMotion(spacing, float(self.typical_mm / self.intrinsics[0, 0]), self.device)
                if self.config.poses == "track":
                    ahead = inverse(self.pose) @ np.array([0.0, 0.0, self.typical_mm, 1.0])
                    part.breathing = Breathing(self.time_s, self.typical_mm, ahead[:3])
            if part.motion is not None and len(part.surfels) and bend:
                self._bend(current, part.motion)
        if outcome.is_keyframe or self._grow_again:
            part.surfels.grow(
                current.level,
                self.pose,
                outcome.time_s,
                part.motion,
                self.config.max_new_surfels,
                current.gain,
                current.foretold,
            )
            self._grow_again = outcome.is_keyframe
        current.foretold = None
        if outcome.is_keyframe:
            self._turn = 0
            changes = torch.zeros(0, 6) if part.motion is None else part.motion.changes
            part.keyframes.add(
                keyframe_of(outcome.index, outcome.time_s, current.level, self.pose, current.gain, changes)
            )
            part.surfels.compare(current.level, self.pose, outcome.time_s, part.motion)
            part.surfels.thin()
        loss = torch.zeros(())
        for step in range(steps if len(part.surfels) else 0):
            if step and time.monotonic() > until_s:
                break
            # Every second step, also where a frame has but one: a map that learns from the newest frames
            # alone takes over every error of their poses, and slides away with the camera.
            self._turn = 1 - self._turn
            if self._turn or not len(part.keyframes):
                loss = part.surfels.learn(current.level, self.pose, current.gain, part.motion)
            else:
                loss = self.replay(part.keyframes.drawn(self.rng, self.pose, self.typical_mm))
        return float(loss)

    def _bend(self, current: Current, motion: NodeMotion) -> None:
        """Brings the nodes to the newest frame, and takes what they tell of the tissue's breathing."""
        part = self.part
        is_known = part.breathing is None
        bent = fit_nodes(part.surfels, motion, current.tracked, self.pose, is_known, self.config)
        current.foretold = None
        if bent is None:
            return
        shown, self.pose = bent
        if part.breathing is not None and part.breathing.is_due(self.time_s):
            shifts = (motion.changes[:, :3] * motion.unit_mm).cpu().numpy()
            part.breathing.take(self.time_s, self.pose, shifts, shown.cpu().numpy())

    def replay(self, keyframe: Keyframe) -> Tensor:
        """One step on a keyframe; its loss, on the device."""
        part = self.part
        motion = None if part.motion is None else part.motion.at(torch.as_tensor(keyframe.changes))
        level = keyframe.level(self.device)
        # Where memory ended, older keyframes are larger than what is learnt from now.
        level = coarser(level, max(1, factor_for(self.width_px, self.config.learn_px) // level.factor))
        return part.surfels.learn(level, keyframe.camera_from_world, keyframe.gain, motion)

    # -- keeping ---------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on: arrays and JSON values."""
        arrays, parts = parts_state([self.part, *self.resting])
        arrays |= {"pose": self.pose.copy(), "before": self.before.copy()}
        values = {name: getattr(self, name) for name in _PLAIN}
        values |= {
            "parts": parts,
            "grow_again": self._grow_again,
            "turn": self._turn,
            "health": self.health.values(),
            "gate": [self.gate.saturation, self.gate.sharpness],
            "rng": self.rng.bit_generator.state,
            "marks": [mark.values() for mark in self.marks],
        }
        return arrays, values

    def restore(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Takes over what ``state`` gave."""
        parts = parts_restored(arrays, values["parts"], self.config, self.device)
        self.part, self.resting = parts[0], parts[1:]
        for part in parts:
            if len(part.surfels) > self.config.max_surfels:
                # The state may be from before memory ended.
                part.surfels.fit_budget()
        self._parts_begun = 1 + max(part.number for part in parts)
        self.pose, self.before = np.array(arrays["pose"]), np.array(arrays["before"])
        for name in _PLAIN:
            setattr(self, name, values[name])
        self._grow_again = bool(values["grow_again"])
        # Older states know none.
        self._turn = int(values.get("turn", 0))
        self.health.restore(values["health"])
        self.gate.saturation, self.gate.sharpness = values["gate"]
        self.rng.bit_generator.state = values["rng"]
        self.marks = [Mark(**known) for known in values["marks"]]
        self.current = None

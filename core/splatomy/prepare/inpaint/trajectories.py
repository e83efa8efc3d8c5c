"""Where the tissue that one frame shows is in all frames around it, also while an instrument hides it.

Tissue that breathes and is pulled moves along few patterns in time. A piece that is hidden for a while was
seen before or after and shares its patterns with its neighbours, which says more of its way behind the
instrument than the rim of the hole does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.prepare.inpaint.fields import Bool, Float32, composed, spread, squared_length, warped
from splatomy.prepare.inpaint.motion import Motion, SmallFrame, completed

Float64 = NDArray[np.float64]

_CELL_PX = 4
"""Spacing of the nodes, in pixels of the pictures in which motion is searched."""
_PATTERNS = 8
_ROUNDS = 6
_NOISE_PX = 0.3
"""Standard deviation of a measured displacement."""
_GUESSED, _NEVER_SHOWN = 0.01, 0.001
"""Weight of a displacement that was only guessed while hidden, and of a node that the key frame hides."""
_SMOOTH_NODES = 6.0
"""Range over which neighbours share their patterns."""
_OUTLIER_PX = 2.0


@dataclass(frozen=True)
class Trajectories:
    """Displacements of a key frame's tissue.

    first: number of the first frame. moved_px: (F, r, c, 2) on a grid of nodes over the key frame, pixels of
    the size at which motion is searched.
    """

    first: int
    moved_px: Float32

    def flow_from(self, frame: int, size: tuple[int, int]) -> Float32:
        """Flow (h, w, 2) px from ``frame`` to the key frame, at size (width, height)."""
        moved = cv2.resize(self.moved_px[frame - self.first], size, interpolation=cv2.INTER_LINEAR)
        flow = -moved
        # The fixed point x + flow(x) = where the tissue seen at x was; displacements change slowly in space.
        for _ in range(8):
            flow = -warped(moved, flow)
        return np.asarray(flow, np.float32)


@dataclass(frozen=True)
class Walk:
    """What was found along a walk. guess: (F, r, c, 2) everywhere; measured: likewise; seen: (F, r, c)."""

    guess: Float32
    measured: Float32
    seen: Bool


class Tracker:
    """Follows key frames through a clip.

    small: frame number -> SmallFrame of ``size`` (width, height). stopped: ends a call with CancelledError.
    """

    def __init__(
        self,
        small: Callable[[int], SmallFrame],
        motion: Motion,
        size: tuple[int, int],
        frames: int,
        reach: int,
        stopped: Event,
    ) -> None:
        self._small, self._motion, self._size = small, motion, size
        self._frames, self._reach, self._stopped = frames, reach, stopped
        self._nodes = (max(3, round(size[0] / _CELL_PX)), max(3, round(size[1] / _CELL_PX)))

    def __call__(self, key: int) -> Trajectories:
        """The trajectories of what frame ``key`` shows."""
        first, last = max(0, key - self._reach), min(self._frames - 1, key + self._reach)
        walk = self._walked(key, first, last)
        return Trajectories(first, completed_in_time(walk))

    def _walked(self, key: int, first: int, last: int) -> Walk:
        """Flow from the key frame to all others, frame by frame, each corrected against the key frame."""
        columns, rows = self._nodes
        guess = np.zeros((last - first + 1, rows, columns, 2), np.float32)
        measured, seen = np.zeros_like(guess), np.zeros(guess.shape[:3], np.bool_)
        seen[key - first] = self._at_nodes(self._small(key).clear) > 0.5
        for direction in (-1, 1):
            flow = np.zeros((self._size[1], self._size[0], 2), np.float32)
            for frame in range(key + direction, last + 1 if direction > 0 else first - 1, direction):
                if self._stopped.is_set():
                    raise CancelledError
                flow = composed(flow, self._motion.step((frame - direction, frame)))
                flow, share = self._motion.refined(key, frame, flow)
                place, mass = frame - first, self._at_nodes(share)
                guess[place] = self._at_nodes(flow)
                seen[place] = mass > 0.5
                measured[place] = self._at_nodes(flow * share[..., None]) / np.maximum(mass, 1e-6)[..., None]
        return Walk(guess, measured, seen)

    def _at_nodes(self, field: Float32) -> Float32:
        return np.asarray(cv2.resize(field, self._nodes, interpolation=cv2.INTER_AREA))


def completed_in_time(walk: Walk) -> Float32:
    """Displacements (F, r, c, 2): as measured where seen, else by few patterns in time.

    Source: matrix completion by alternating least squares with a spatially smooth prior (after Koren, Bell
    and Volinsky, Computer 2009); the prior and the faint trust in guesses are ours.
    """
    frames, rows, columns = walk.seen.shape
    if frames < 3:
        return np.where(walk.seen[..., None], walk.measured, walk.guess)
    weight = np.where(walk.seen, 1.0, _GUESSED)
    weight[:, ~walk.seen.any(0)] = _NEVER_SHOWN
    weight = weight.reshape(frames, -1).T
    # A guess may steer a node's shares, but no pattern is made up to suit guesses.
    measured = walk.seen.reshape(frames, -1).T.astype(np.float64)
    values = np.where(walk.seen[..., None], walk.measured, walk.guess)
    values = values.reshape(frames, -1, 2).transpose(1, 2, 0).astype(np.float64)
    num_patterns = min(_PATTERNS, frames - 1)
    flat = values.reshape(-1, frames)
    patterns = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :num_patterns] * np.sqrt(frames)
    shares = values @ patterns / frames
    known = weight.sum(1) / (weight.sum(1) + 5)
    known = known.reshape(rows, columns).astype(np.float32)
    for number in range(_ROUNDS):
        if number:
            patterns, shares = _patterns(values, measured, shares)
        shares = _shares(values, weight, patterns, shares, known)
    modelled = (shares @ patterns.T).transpose(2, 0, 1).reshape(frames, rows, columns, 2).astype(np.float32)
    each = zip(modelled, walk.measured, walk.seen, strict=True)
    return np.stack([_residual_kept(model, measured, seen) for model, measured, seen in each])


def _shares(values: Float64, weight: Float64, patterns: Float64, shares: Float64, known: Float32) -> Float64:
    """How much of each pattern (F, K) every node's way (N, 2, F) holds, (N, 2, K), near its neighbours'."""
    count, _, num_patterns = shares.shape
    field = shares.reshape(*known.shape, -1).astype(np.float32)
    typical, _ = spread(field, known, _SMOOTH_NODES)
    variance = ((field - typical) ** 2 * known[..., None]).sum((0, 1)) / max(float(known.sum()), 1e-6)
    variance = np.maximum(variance.reshape(2, num_patterns).mean(0), 1e-6)
    prior = np.diag(_NOISE_PX**2 / variance)
    products = (patterns[:, :, None] * patterns[:, None, :]).reshape(len(patterns), -1)
    system = (weight @ products).reshape(count, num_patterns, num_patterns) + prior
    moments = (values * weight[:, None]) @ patterns + typical.reshape(shares.shape).astype(np.float64) @ prior
    return np.asarray(np.linalg.solve(system[:, None], moments[..., None])[..., 0])


def _patterns(values: Float64, weight: Float64, shares: Float64) -> tuple[Float64, Float64]:
    """The patterns (F, K) that fit best with given shares (N, 2, K), made orthogonal; and shares to match."""
    frames, num_patterns = values.shape[-1], shares.shape[-1]
    products = np.einsum("nck,ncl->nkl", shares, shares).reshape(len(shares), -1)
    system = (weight.T @ products).reshape(frames, num_patterns, num_patterns) + 1e-3 * np.eye(num_patterns)
    moments = sum((values[:, axis] * weight).T @ shares[:, axis] for axis in (0, 1))
    found = np.linalg.solve(system, np.asarray(moments)[..., None])[..., 0]
    orthogonal, mixing = np.linalg.qr(found)
    return orthogonal * np.sqrt(frames), shares @ (mixing.T / np.sqrt(frames))


def _residual_kept(modelled: Float32, measured: Float32, seen: Bool) -> Float32:
    """The model (r, c, 2) of one frame plus what was measured beyond it, led on smoothly where unseen."""
    rest = (measured - modelled) * seen[..., None]
    typical, _ = spread(rest, seen.astype(np.float32), 4.0)
    kept = seen & (squared_length(rest - typical) < _OUTLIER_PX**2)
    if not kept.any():
        return modelled
    return np.asarray(modelled + completed(rest * kept[..., None], kept.astype(np.float32)), np.float32)

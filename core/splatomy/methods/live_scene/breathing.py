"""What all tissue in view does together, told from the camera's motion: it comes back with every breath."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from splatomy.geometry.rigid import inverse, rigid
from splatomy.methods.live_scene.frames import Bool, Float, Float32

_EVERY_S = 0.1
_MOST_SAMPLES = 200
_LONGEST_S = 40.0
_FIT_EVERY_S = 0.4
_FEWEST_SAMPLES = 8
_PERIODS_S = np.geomspace(2.0, 7.0, 41)
"""From 30 to 9 breaths a minute."""
_USUAL_PERIOD_S, _PERIOD_SPREAD = 3.8, 0.3
_FINER = 5
_SEEN_SHARE = 0.5
_ENOUGH_NODES = 40
_LEAST_EXPLAINED = 0.5
_LEAST_SHIFT = 0.004
"""Shifts of nodes below this share of the depth are noise."""
_KNOT_S = 1.0
_SIGMA, _JERK, _COMMON = 0.0015, 0.05, 0.03
"""Errors of tracked places, jerks of the camera per s^3, and shifts of all tissue, in median depths."""


@dataclass(frozen=True)
class Common:
    """What all tissue does together: twists (3, 6) of rest, cosine and sine about ``pivot_mm`` (3,).

    A twist is a shift in mm and a turn in rad; ``origin_s`` is where the cosine is one. After ``until_s`` the
    tissue stays as it was then: the breath is held.
    """

    period_s: float
    origin_s: float
    pivot_mm: Float
    twists: Float
    until_s: float = np.inf

    def at(self, time_s: float) -> Float:
        """The motion (4, 4) that brings the tissue, as the camera is tracked against it, into the world."""
        twist = self.twist(time_s)
        turn = Rotation.from_rotvec(twist[3:]).as_matrix()
        return rigid(turn, self.pivot_mm + twist[:3] - turn @ self.pivot_mm)

    def twist(self, time_s: float) -> Float:
        """The motion at a time as a twist (6,)."""
        angle = 2 * np.pi * (min(time_s, self.until_s) - self.origin_s) / self.period_s
        return np.asarray(np.array([1.0, np.cos(angle), np.sin(angle)]) @ self.twists)

    @property
    def is_held(self) -> bool:
        """True for tissue that stays as it is."""
        return bool(np.isfinite(self.until_s))

    def held(self, time_s: float) -> Common:
        """The same up to a time, from when on the tissue stays as it is."""
        return replace(self, until_s=min(time_s, self.until_s))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The motion as arrays: twists, pivot_mm, clock_s (3,) of period, origin and end."""
        clock = np.array([self.period_s, self.origin_s, self.until_s])
        return {"twists": self.twists.copy(), "pivot_mm": self.pivot_mm.copy(), "clock_s": clock}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Common:
        """The motion that ``arrays`` described."""
        clock = [float(t) for t in arrays["clock_s"]]
        # Older files know no end.
        until_s = clock[2] if len(clock) > 2 else np.inf
        return Common(clock[0], clock[1], np.array(arrays["pivot_mm"]), np.array(arrays["twists"]), until_s)

    def scaled(self, factor: float) -> Common:
        """The same with all lengths multiplied."""
        twists = self.twists * np.array([factor] * 3 + [1.0] * 3)
        return replace(self, pivot_mm=self.pivot_mm * factor, twists=twists)


class Breathing:
    """Finds what the tissue does as a whole from a camera path that was tracked against the tissue.

    A common motion of everything in view looks like one of the camera. But tissue never moves all alike:
    its bending, which no camera makes, tells the period. What of the path comes back with that period, beyond
    what a camera of little jerk does, is the tissue's.
    """

    def __init__(self, start_s: float, typical_mm: float, pivot_mm: Float) -> None:
        self.start_s, self.typical_mm = start_s, typical_mm
        self.pivot_mm = np.asarray(pivot_mm, np.float64)
        self.common: Common | None = None
        self._times: list[float] = []
        self._poses: list[Float] = []
        self._shifts: list[Float32] = []
        self._rest: Float | None = None
        self._whole = True
        """Whether no sample was dropped yet."""
        self._fitted_s = -np.inf

    @property
    def period_s(self) -> float | None:
        """Of the breath that is found at present, None = there is none."""
        return None if self.common is None or self.common.is_held else self.common.period_s

    @property
    def since_s(self) -> float:
        """The oldest time that the breath is told from."""
        return self._times[0] if self._times else -np.inf

    def motion(self, time_s: float) -> Float:
        """The common motion (4, 4) at a time: none at the start, and none as long as no breath is found."""
        return np.eye(4) if self.common is None else self.common.at(time_s)

    def is_due(self, time_s: float) -> bool:
        """Whether a frame of that time is wanted."""
        return not self._times or time_s - self._times[-1] >= _EVERY_S - 1e-6

    def take(self, time_s: float, camera_from_tissue: Float, shifts_mm: Float32, seen: Bool) -> None:
        """Takes a frame: its tracked pose (4, 4), and the nodes' shifts (M, 3) where they are seen (M,)."""
        self._times.append(time_s)
        self._poses.append(np.asarray(camera_from_tissue, np.float64).copy())
        self._shifts.append(np.where(seen[:, None], shifts_mm, np.nan).astype(np.float32))
        while len(self._times) > _MOST_SAMPLES or self._times[0] < time_s - _LONGEST_S:
            del self._times[0], self._poses[0], self._shifts[0]
            self._whole = False
        if len(self._times) >= _FEWEST_SAMPLES and time_s - self._fitted_s >= _FIT_EVERY_S:
            self._fitted_s = time_s
            self._fit()

    def _fit(self) -> None:
        times = np.array(self._times)
        period_s = breath_period(times, self._all_shifts(), _LEAST_SHIFT * self.typical_mm)
        if period_s is None:
            # A breath that is held leaves the tissue where it is.
            self.common = None if self.common is None else self.common.held(float(times[-1]))
            return
        origin_s = float(times[-1])
        angle = 2 * np.pi * (times - origin_s) / period_s
        waves = np.stack([np.cos(angle), np.sin(angle)], 1)
        # Seen from the tissue: what it does with the camera held is what the path does the other way.
        path = inverse(np.stack(self._poses))
        unit = self.typical_mm
        middle = Rotation.from_matrix(path[len(path) // 2, :3, :3])
        turns = (Rotation.from_matrix(path[:, :3, :3]) * middle.inv()).as_rotvec()
        turning = -coming_back(times, turns, waves, 1.0)
        centres = path[:, :3, 3]
        turned = np.cross(waves @ turning, centres - self.pivot_mm)
        shifting = -coming_back(times, (centres + turned) / unit, waves, 1.0) * unit
        swing = np.concatenate([shifting, turning], 1)
        if self._rest is None or self._whole:
            # Later the start is too long ago to tell at which part of a breath it was.
            began = 2 * np.pi * (self.start_s - origin_s) / period_s
            self._rest = -np.array([np.cos(began), np.sin(began)]) @ swing
        twists = np.concatenate([self._rest[None], swing])
        self.common = Common(period_s, origin_s, self.pivot_mm, twists)

    def _all_shifts(self) -> Float32:
        """The samples' shifts (N, M, 3), NaN where nodes were unseen or not there yet."""
        most = max(len(shifts) for shifts in self._shifts)
        out = np.full((len(self._shifts), most, 3), np.nan, np.float32)
        for n, shifts in enumerate(self._shifts):
            out[n, : len(shifts)] = shifts
        return out

    def scale(self, factor: float) -> None:
        """Multiplies every length."""
        self.typical_mm *= factor
        self.pivot_mm = self.pivot_mm * factor
        self.common = None if self.common is None else self.common.scaled(factor)
        self._rest = None if self._rest is None else self._rest * np.array([factor] * 3 + [1.0] * 3)
        self._shifts = [(shifts * factor).astype(np.float32) for shifts in self._shifts]
        for pose in self._poses:
            pose[:3, 3] *= factor

    # -- keeping ---------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on: arrays and JSON values."""
        arrays: dict[str, NDArray[Any]] = {"pivot_mm": self.pivot_mm.copy()}
        if self._times:
            arrays |= {"times": np.array(self._times), "poses": np.stack(self._poses)}
            arrays["shifts"] = self._all_shifts()
        if self.common is not None:
            arrays |= self.common.arrays()
        if self._rest is not None:
            arrays["rest"] = self._rest.copy()
        values = {
            "start_s": self.start_s,
            "typical_mm": self.typical_mm,
            "whole": self._whole,
            "fitted_s": None if np.isinf(self._fitted_s) else self._fitted_s,
        }
        return arrays, values

    @staticmethod
    def restored(arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> Breathing:
        """What ``state`` described."""
        out = Breathing(float(values["start_s"]), float(values["typical_mm"]), np.array(arrays["pivot_mm"]))
        if "times" in arrays:
            out._times = [float(t) for t in arrays["times"]]
            out._poses = [np.array(pose) for pose in arrays["poses"]]
            out._shifts = [np.array(shifts) for shifts in arrays["shifts"]]
        out._whole = bool(values.get("whole", False))
        out._fitted_s = -np.inf if values["fitted_s"] is None else float(values["fitted_s"])
        if "twists" in arrays:
            out.common = Common.of(arrays)
        out._rest = np.array(arrays["rest"]) if "rest" in arrays else None
        return out


def breath_period(times: Float, shifts_mm: Float32, least_mm: float) -> float | None:
    """The period in s that explains most of the nodes' shifts (N, M, 3), NaN = unseen; None without one.

    Source: least squares spectra (Lomb 1976) of all nodes together, with a prior about usual breaths.
    """
    known = np.isfinite(shifts_mm[..., 0])
    often = known.mean(0) > _SEEN_SHARE
    often = np.flatnonzero(often)[:: max(1, int(often.sum()) // _ENOUGH_NODES)]
    if not len(often):
        return None
    values = np.nan_to_num(shifts_mm[:, often]).astype(np.float64)
    known = known[:, often].astype(np.float64)
    count = known.sum(0)
    mean = values.sum(0) / count[:, None]
    total = float((np.square(values - mean) * known[..., None]).sum())
    if total < least_mm**2 * known.sum():
        return None

    def left(period_s: float) -> float:
        return _left_over(times, known, values, 2 * np.pi / period_s)

    def cost(period_s: float) -> float:
        prior = np.log(period_s / _USUAL_PERIOD_S) / _PERIOD_SPREAD
        return 0.5 * (len(times) * np.log(max(left(period_s), 1e-12) / total) + prior**2)

    best = float(min(_PERIODS_S, key=cost))
    step = float(_PERIODS_S[1] / _PERIODS_S[0])
    best = float(min(best * step ** np.linspace(-1, 1, 2 * _FINER + 1), key=cost))
    return best if 1 - left(best) / total > _LEAST_EXPLAINED else None


def _left_over(times: Float, known: Float, values: Float, frequency: float) -> float:
    """The squares that waves of a frequency (rad/s) leave of values (N, M, 3), known (N, M): 1 or 0."""
    angle = frequency * (times - times[-1])
    design = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], 1)
    weighted = values * known[..., None]
    pairs = (design[:, :, None] * design[:, None]).reshape(len(times), 9)
    normal = (known.T @ pairs).reshape(-1, 3, 3) + 1e-6 * np.eye(3)
    right = (weighted.reshape(len(times), -1).T @ design).reshape(-1, 3, 3).swapaxes(1, 2)
    return float(np.square(weighted).sum() - (right * np.linalg.solve(normal, right)).sum())


def coming_back(times: Float, path: Float, waves: Float, unit: float) -> Float:
    """How much of the waves (N, W) is in a path (N, D) in ``unit`` beside a smooth one: (W, D).

    Source: a cubic spline with penalised third differences (Eilers and Marx 1996).
    """
    spline = _splines(times)
    columns, num_waves = spline.shape[1], waves.shape[1]
    design = np.concatenate([spline, waves], 1) / (_SIGMA * unit)
    normal = design.T @ design
    jerk = np.diff(np.eye(columns), 3, axis=0) / _KNOT_S**2.5
    normal[:columns, :columns] += jerk.T @ jerk / (_JERK * unit) ** 2 + 1e-9 * np.eye(columns)
    normal[columns:, columns:] += np.eye(num_waves) / (_COMMON * unit) ** 2
    found = np.linalg.solve(normal, design.T @ (path / (_SIGMA * unit)))
    return np.asarray(found[columns:])


def _splines(times: Float) -> Float:
    """Cubic B-splines (N, K) of knots ``_KNOT_S`` apart at times."""
    place = (times - times[0]) / _KNOT_S
    number = place.astype(int)
    f = place - number
    out = np.zeros((len(times), int(number[-1]) + 4))
    parts = (1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3
    for n, part in enumerate(parts):
        out[np.arange(len(times)), number + n] = part / 6
    return out

"""A simulated live endoscope: an endless stream of frames over breathing tissue, with its exact truth.

Any frame can be asked for at any time and in any order, so that an hour needs no more memory than a
second. The renderer is that of the tissue phantom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.rigid import rigid, rotation_from_vector, transform_points
from splatomy.phantoms import _tissue_render as _render
from splatomy.phantoms._stream_disturbances import (
    SMOKE_HIDES,
    Disturbance,
    StreamState,
    disturbance_at,
    haze,
    haze_texture,
    outside_picture,
    with_smoke,
)
from splatomy.phantoms._tissue_instruments import Instrument
from splatomy.phantoms._tissue_shape import Pull, TissueShape, tissue_shape
from splatomy.phantoms._tissue_texture import tissue_texture
from splatomy.phantoms.tissue import srgb_from_linear
from splatomy.scene import Mesh

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_PATCH_MM = (200.0, 170.0)
_READ_NOISE, _SHOT_NOISE = 0.003, 0.00025
_VISIT_S = 9.0
"""Every instrument comes and goes once in this time."""

_USUAL = (
    Disturbance("smoke", 0.30, 0.40),
    Disturbance("black", 0.55, 0.63),
    Disturbance("outside", 0.80, 0.87),
)


@dataclass(frozen=True)
class StreamPreset:
    """Everything that defines a stream but its seed; change it with ``replace``.

    focal_px None = 0.89 times the width. node_mm: spacing of the tissue's vertices at rest.
    pan_mm: reach of the camera along x, y and z on a figure of eight that it passes in ``path_s``.
    breath_mm: typical displacement of the tissue at full inspiration; 0 = rigid.
    instrument_mm: diameter of both shafts; 0 = none. depth_noise: standard deviation over depth.
    disturbances: parts of every ``cycle_s``. baseline_mm: of the right eye where it is asked for.
    duration_s: how much is written to a folder; the stream itself has no end.
    """

    width_px: int = 640
    height_px: int = 512
    fps: float = 25.0
    duration_s: float = 20.0
    focal_px: float | None = None
    node_mm: float = 0.8
    texels_per_mm: float = 8.0
    distance_mm: float = 66.0
    pan_mm: tuple[float, float, float] = (24.0, 13.0, 7.0)
    path_s: float = 16.0
    breath_mm: float = 0.0
    breath_period_s: float = 3.6
    instrument_mm: float = 5.0
    baseline_mm: float = 4.4
    depth_noise: float = 0.003
    exposure: float = 0.17
    disturbances: tuple[Disturbance, ...] = _USUAL
    cycle_s: float = 20.0
    subrays: int = 2


PRESETS = {
    "tiny": StreamPreset(64, 52, 10.0, 6.0, node_mm=3.0, texels_per_mm=1.2, cycle_s=6.0, subrays=1),
    "small": StreamPreset(160, 128, 15.0, 20.0, node_mm=2.0, texels_per_mm=2.5, subrays=1),
    "cpu": StreamPreset(320, 256, 25.0, 20.0, node_mm=1.4, texels_per_mm=5.0),
    "standard": StreamPreset(),
    "breathing": StreamPreset(320, 256, 25.0, 20.0, node_mm=1.4, texels_per_mm=5.0, breath_mm=2.9),
}


@dataclass(frozen=True)
class StreamFrame:
    """One frame and its truth.

    image, right: (H, W, 3) noisy sRGB in [0, 1], multiples of 1/255; right only when asked for.
    depth_mm: (H, W) of whatever is nearest, as a depth camera measures it: noisy, NaN where it sees nothing.
    camera_from_world: (4, 4); the world is the first camera.
    state: whether tissue can be seen. smoke: mean share of smoke in the picture's light.
    occluded: (H, W), True = an instrument covers a part of the pixel.
    rgb: (H, W, 3) the bare tissue, without instruments, smoke or noise. tissue_depth_mm: (H, W) its depth,
        NaN for the rare pixel without any.
    """

    number: int
    time_s: float
    image: Float32
    right: Float32 | None
    depth_mm: Float32
    camera_from_world: Float
    state: StreamState
    smoke: float
    occluded: Bool
    rgb: Float32
    tissue_depth_mm: Float32


class StreamPhantom:
    """An endless stream; the same preset, seed and frame number give bit-equal frames."""

    def __init__(self, preset: str | StreamPreset = "small", seed: int = 0) -> None:
        """preset: a name in ``PRESETS`` or a preset of one's own.

        Raises:
            InputError: no such preset.
        """
        if not isinstance(preset, StreamPreset):
            if preset not in PRESETS:
                raise InputError(
                    f"There is no stream phantom {preset!r}; choose one of {', '.join(PRESETS)}."
                )
            preset = PRESETS[preset]
        self.preset, self.seed = preset, seed
        self._shape = _shape(preset, np.random.default_rng([seed, 1]))
        self._maps = tissue_texture(np.random.default_rng([seed, 3]), _PATCH_MM, preset.texels_per_mm)
        self._haze = haze_texture(np.random.default_rng([seed, 6]))
        self._roll = np.random.default_rng([seed, 7]).uniform(-0.5, 0.5, 2)
        focal = preset.focal_px or 0.89 * preset.width_px
        self.intrinsics = np.array(
            [[focal, 0, (preset.width_px - 1) / 2], [0, focal, (preset.height_px - 1) / 2], [0, 0, 1.0]]
        )
        self._gain = preset.exposure / float(np.median(self._bare(0.0, 1)[0].clean.mean(-1)))

    @property
    def num_frames(self) -> int:
        """Frames of the preset's duration."""
        return round(self.preset.duration_s * self.preset.fps)

    def frames(self, start: int = 0, stop: int | None = None, right: bool = False) -> Iterator[StreamFrame]:
        """Frames from ``start`` on, made one at a time, up to ``stop`` or without an end."""
        number = start
        while stop is None or number < stop:
            yield self.frame(number, right)
            number += 1

    def camera_from_world(self, time_s: float) -> Float:
        """The camera's pose (4, 4) at a time."""
        p, turn = self.preset, 2 * np.pi * time_s / self.preset.path_s
        reach = np.array([np.sin(turn), np.sin(2 * turn), 0.5 * (np.cos(turn) - 1)])
        centre = np.asarray(p.pan_mm) * reach
        # It turns a little against its shift, and rolls as a held scope does.
        tilt = 0.25 * np.array([-centre[1], centre[0], 0.0]) / p.distance_mm
        rotation = rotation_from_vector(tilt + np.array([0.0, 0.0, 0.08 * np.sin(turn)]))
        return rigid(rotation, -(rotation @ centre))

    def mesh(self, time_s: float) -> Mesh:
        """The tissue's surface at a time, in the world."""
        nodes = self._shape.nodes_mm(time_s).reshape(-1, 3)
        return Mesh(nodes.astype(np.float32), self._shape.faces, None, None)

    def state(self, number: int) -> StreamState:
        """What a frame shows, without making it."""
        p = self.preset
        one, there = disturbance_at(p.disturbances, number / p.fps, p.cycle_s)
        if one is None or (one.kind == "smoke" and there * one.strength < 0.25):
            return "tissue"
        return one.kind

    def frame(self, number: int, right: bool = False) -> StreamFrame:
        """One frame; ``right``: with the picture of the right eye."""
        p, time_s = self.preset, number / self.preset.fps
        view, tissue, nearest = self._bare(time_s, p.subrays)
        state = self.state(number)
        linear, smoke = self._disturbed(self._gain * view.seen, time_s)
        seen = np.isfinite(nearest) & (smoke < SMOKE_HIDES)
        if state in ("black", "outside"):
            seen[:] = False
        rng = np.random.default_rng([self.seed, 4, number])
        noisy = nearest * (1 + p.depth_noise * rng.standard_normal(nearest.shape, dtype=np.float32))
        other = None
        if right:
            beside = self._bare(time_s, p.subrays, p.baseline_mm)[0]
            other = _exposed(self._disturbed(self._gain * beside.seen, time_s)[0], rng)
        return StreamFrame(
            number=number,
            time_s=time_s,
            image=_exposed(linear, rng),
            right=other,
            depth_mm=np.where(seen, noisy, np.float32(np.nan)).astype(np.float32),
            camera_from_world=self.camera_from_world(time_s),
            state=state,
            smoke=float(smoke.mean()),
            occluded=view.covered,
            rgb=srgb_from_linear(self._gain * view.clean),
            # A ray between two triangles that rounding set apart hits none.
            tissue_depth_mm=np.where(np.isfinite(tissue), tissue, np.float32(np.nan)),
        )

    def _disturbed(self, linear: Float32, time_s: float) -> tuple[Float32, Float32]:
        """What the light (H, W, 3) becomes on its way, and the share of smoke in it (H, W)."""
        p = self.preset
        one, there = disturbance_at(p.disturbances, time_s, p.cycle_s)
        size = linear.shape[:2]
        nothing = np.zeros(size, np.float32)
        if one is None:
            return linear, nothing
        if one.kind == "black":
            return np.zeros_like(linear), nothing
        if one.kind == "outside":
            return outside_picture(self._haze, time_s, *size), nothing
        share = np.float32(there * one.strength) * haze(self._haze, time_s, *size)
        return with_smoke(linear, share), share

    def _bare(
        self, time_s: float, subrays: int, shift_mm: float = 0.0
    ) -> tuple[_render.View, Float32, Float32]:
        """The view of an eye ``shift_mm`` to the right, the tissue's depth and that of what is nearest."""
        p = self.preset
        pose = rigid(np.eye(3), np.array([-shift_mm, 0.0, 0.0])) @ self.camera_from_world(time_s)
        nodes = transform_points(pose, self._shape.nodes_mm(time_s))
        size = (p.width_px, p.height_px)
        hits = _render.cast_tissue(nodes, self.intrinsics, *size, subrays)
        cones, looks = self._instruments(time_s, pose)
        lamp = np.array([0.5 * p.baseline_mm - shift_mm, 0.0, 0.0])
        view = _render.shade(hits, nodes, p.node_mm, self._maps, self.intrinsics, lamp, cones, looks, subrays)
        centres = hits if subrays == 1 else _render.cast_tissue(nodes, self.intrinsics, *size, 1)
        nearest = _render.nearest_depth(centres.depth_mm, cones, self.intrinsics, view.covered)
        return view, centres.depth_mm, nearest

    def _instruments(self, time_s: float, camera_from_world: Float) -> tuple[Float, Float]:
        """Parts (E, 8) in the camera's frame and their looks (E, 5) at a time."""
        p = self.preset
        if p.instrument_mm <= 0:
            return np.zeros((0, 8)), np.zeros((0, 5))
        cones, looks = [], []
        for side, lag_s, roll in ((-1.0, 0.0, self._roll[0]), (1.0, 0.45 * _VISIT_S, self._roll[1])):
            instrument = self._instrument(time_s, side, lag_s, float(roll))
            parts, look = instrument.parts(0, 0.5 * p.instrument_mm)
            ends = parts.reshape(-1, 2, 4)
            moved = transform_points(camera_from_world, ends[..., :3])
            cones.append(np.concatenate([moved, ends[..., 3:]], -1).reshape(-1, 8))
            looks.append(look)
        return np.concatenate(cones), np.concatenate(looks)

    def _instrument(self, time_s: float, side: float, lag_s: float, roll: float) -> Instrument:
        """One instrument that works in what the camera looks at, for two thirds of every visit."""
        phase = 2 * np.pi * ((time_s + lag_s) % _VISIT_S) / _VISIT_S
        gone = np.clip(0.5 - 1.5 * np.cos(phase + np.pi), 0.0, 1.0)
        reach = np.asarray(self.preset.pan_mm)[:2]
        turn = 2 * np.pi * time_s / self.preset.path_s
        looked_at = reach * np.array([np.sin(turn), np.sin(2 * turn)])
        sweep = np.array([side * 5.0 + 8.0 * np.sin(1.3 * time_s + side), 5.0 + 6.0 * np.sin(0.9 * time_s)])
        place = self._shape.points_mm((looked_at + sweep)[None], time_s)[0]
        port = np.array([*looked_at, 0.0]) + np.array([64.0 * side, 30.0, self.preset.distance_mm - 26.0])
        tip = place + np.array([0.0, 0.0, -4.0]) + 0.9 * gone * (port - place)
        opening = np.array([0.35 + 0.3 * np.sin(3.1 * time_s + side)])
        return Instrument(tip[None], port, opening, roll)


def _shape(p: StreamPreset, rng: np.random.Generator) -> TissueShape:
    # Nobody pulls: a pull that never comes to an end would make every cycle another one.
    still = Pull(np.zeros(2), 12.0, np.zeros(3), 1.0, 2.0, 3.0, 4.0)
    return tissue_shape(rng, _PATCH_MM, p.node_mm, p.distance_mm, p.breath_mm, p.breath_period_s, still)


def _exposed(linear: Float32, rng: np.random.Generator) -> Float32:
    """What an 8-bit camera records of linear light, sRGB in [0, 1]."""
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    noise *= np.sqrt(_READ_NOISE**2 + _SHOT_NOISE * np.minimum(linear, 1.5), dtype=np.float32)
    return np.rint(srgb_from_linear(linear + noise) * np.float32(255)) / np.float32(255)

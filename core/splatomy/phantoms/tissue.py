"""A simulated endoscopic clip of breathing, pulled tissue behind moving instruments, with its exact truth.

Pictures come from a z-buffer of triangles and exact cuts of round cones, never from Gaussians, so that no
method of this package meets its own model in the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import rigid, rotation_from_vector, transform_points
from splatomy.phantoms import _tissue_render as _render
from splatomy.phantoms._tissue_instruments import Instrument, dissector, grasper
from splatomy.phantoms._tissue_shape import Pull, TissueShape, tissue_shape
from splatomy.phantoms._tissue_texture import tissue_texture
from splatomy.scene import Mesh

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_PATCH_MM = (156.0, 130.0)
"""Width and height of the tissue, wide enough that every camera of the presets looks past no edge."""
_NODE_SEEN_MM = 0.5
"""A node this far behind the visible surface at most counts as seen."""


@dataclass(frozen=True)
class TissuePreset:
    """Everything that defines a simulated clip but its seed; change it with ``replace``."""

    frames: int = 64
    duration_s: float = 6.4
    width_px: int = 640
    height_px: int = 512
    focal_px: float = 570.0
    node_mm: float = 0.55
    """Spacing of the mesh's vertices at rest."""
    texels_per_mm: float = 9.0
    distance_mm: float = 71.0
    """From the first camera to the tissue on the optical axis."""
    breath_mm: float = 2.9
    """Typical displacement of the tissue at full inspiration."""
    breath_period_s: float = 3.6
    pull_mm: float = 7.0
    """Displacement of the grasped place when fully pulled; 0 = nobody pulls."""
    camera_motion_mm: float = 0.0
    """Reach of the slow path of the camera; 0 = fixed."""
    baseline_mm: float = 4.4
    """Distance of the right camera; 0 = no stereo pair."""
    occlusion: float = 0.20
    """Wanted share of the left pictures behind instruments, which sets their diameter; 0 = none."""
    exposure: float = 0.17
    """Median linear brightness of the first picture without instruments."""
    read_noise: float = 0.003
    """Standard deviation of the sensor in the dark, linear."""
    shot_noise: float = 0.00025
    """Variance of the sensor per linear brightness."""
    subrays: int = 2
    """Rays per pixel and direction."""


PRESETS = {
    "demo": TissuePreset(
        frames=24, duration_s=3.6, width_px=256, height_px=208, focal_px=228.0, node_mm=1.0, texels_per_mm=4.0
    ),
    "tiny": TissuePreset(
        frames=8, duration_s=3.6, width_px=64, height_px=52, focal_px=57.0, node_mm=2.0, texels_per_mm=1.5
    ),
    "hard": TissuePreset(),
    "hard_moving": TissuePreset(camera_motion_mm=5.0),
}


@dataclass(frozen=True)
class TissuePhantom:
    """A simulated clip and its truth; world = first left camera with OpenCV axes, mm and seconds.

    images: (T, H, W, 3) noisy sRGB in [0, 1] of the left camera, multiples of 1/255. occluded: (T, H, W),
        True = an instrument covers any part of the pixel. cameras: the left ones. times_s: (T,).
    images_right, occluded_right, cameras_right: likewise, or None without stereo. The pair is rectified:
        one intrinsics, shifted along x by ``baseline_mm``.
    rgb: (T, H, W, 3) sRGB without instruments and without noise. depth_mm: (T, H, W) z depth of the tissue
        along the rays of the pixel centres, also behind instruments. observed_depth_mm: of whatever is
        nearest, instruments included.
    never_seen: (T, H, W), True = the tissue of this pixel is hidden in every frame of the left camera.
    vertices_mm: (T, V, 3) the surface in every frame. faces: (F, 3) int32, one topology. colours: (V, 3)
        sRGB of the tissue under even light. seen_frames: (V,) number of frames that show the vertex.
    instrument_diameter_mm: of both shafts, 0 = none. provenance: in order.
    """

    images: Float32
    occluded: Bool
    cameras: Cameras
    times_s: Float
    images_right: Float32 | None
    occluded_right: Bool | None
    cameras_right: Cameras | None
    baseline_mm: float
    rgb: Float32
    depth_mm: Float32
    observed_depth_mm: Float32
    never_seen: Bool
    vertices_mm: Float32
    faces: NDArray[np.int32]
    colours: Float32
    seen_frames: NDArray[np.int32]
    instrument_diameter_mm: float
    provenance: tuple[str, ...]

    @property
    def instrument_depth_mm(self) -> Float32:
        """z depth of the instruments, (T, H, W) mm, NaN where the pixel's centre shows tissue."""
        in_front = self.observed_depth_mm < self.depth_mm
        return np.where(in_front, self.observed_depth_mm, np.float32(np.nan))

    def mesh(self, frame: int) -> Mesh:
        """The tissue in one frame; evidence = 1 for vertices that any frame shows, else 0."""
        evidence = (self.seen_frames > 0).astype(np.float32)
        return Mesh(self.vertices_mm[frame], self.faces, self.colours, evidence)


def srgb_from_linear(linear: NDArray[np.floating]) -> Float32:
    """sRGB in [0, 1] of linear light, after a soft shoulder towards white.

    Source: IEC 61966-2-1; the shoulder from 0.7 on is ours.
    """
    x = np.maximum(np.asarray(linear, np.float32), 0)
    x = np.where(x < 0.7, x, 1 - np.float32(0.3) * np.exp(-(x - 0.7) / np.float32(0.3)))
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** np.float32(1 / 2.4) - 0.055).astype(np.float32)


def _left_cameras(p: TissuePreset, rng: np.random.Generator, times_s: Float) -> Cameras:
    intrinsics = np.array(
        [[p.focal_px, 0, (p.width_px - 1) / 2], [0, p.focal_px, (p.height_px - 1) / 2], [0, 0, 1.0]]
    )
    turn = 2 * np.pi * times_s / max(p.duration_s, 1e-9)
    phase = rng.uniform(0, 2 * np.pi, 3)
    path = np.stack([np.sin(f * turn + a) for f, a in zip((0.8, 0.6, 0.5), phase, strict=True)], -1)
    path = p.camera_motion_mm * (path - path[0]) * np.array([1.0, 0.7, 0.8])
    # The camera turns against its shift, so that it keeps looking at the same place.
    look = np.stack([-path[:, 1], path[:, 0], 0.5 * path[:, 0]], -1) * 0.6 / p.distance_mm
    rotation = rotation_from_vector(look)
    poses = rigid(rotation, -(rotation @ path[..., None])[..., 0])
    return Cameras(np.repeat(intrinsics[None], p.frames, 0), poses, p.width_px, p.height_px)


def _beside(cameras: Cameras, baseline_mm: float) -> Cameras:
    shift = rigid(np.eye(3), np.array([-baseline_mm, 0.0, 0.0]))
    return replace(cameras, camera_from_world=shift @ cameras.camera_from_world)


def _scene(p: TissuePreset, seed: int, times_s: Float) -> tuple[TissueShape, tuple[Instrument, ...]]:
    rng = np.random.default_rng([seed, 1])
    side = float(rng.choice([-1.0, 1.0]))
    reach = np.array([-0.45 * side, -0.25, -0.86]) + rng.normal(0, 0.08, 3)
    span = p.duration_s
    pull = Pull(
        centre_mm=np.array([rng.uniform(-17, -7) * side, rng.uniform(-13, -5)]),
        radius_mm=12.0,
        reach_mm=p.pull_mm * reach / np.linalg.norm(reach),
        grasp_s=0.24 * span,
        full_s=0.50 * span,
        ease_s=0.62 * span,
        release_s=0.80 * span,
    )
    shape = tissue_shape(rng, _PATCH_MM, p.node_mm, p.distance_mm, p.breath_mm, p.breath_period_s, pull)
    if p.occlusion <= 0:
        return shape, ()
    return shape, (grasper(rng, shape, times_s, side), dissector(rng, shape, times_s, -side))


def _parts(
    instruments: tuple[Instrument, ...], frame: int, radius_mm: float, camera_from_world: Float
) -> tuple[Float, Float]:
    """All parts (E, 8) in the camera's frame, mm, and their looks (E, 5)."""
    found = [instrument.parts(frame, radius_mm) for instrument in instruments]
    cones = np.concatenate([np.zeros((0, 8)), *(cones for cones, _ in found)])
    ends = transform_points(camera_from_world, cones.reshape(-1, 2, 4)[..., :3])
    moved = np.concatenate([ends, cones.reshape(-1, 2, 4)[..., 3:]], -1).reshape(-1, 8)
    return moved, np.concatenate([np.zeros((0, 5)), *(looks for _, looks in found)])


def _shaft_radius(p: TissuePreset, instruments: tuple[Instrument, ...], cameras: Cameras) -> float:
    """Radius in mm, between 1.5 and 8, with which the instruments cover the wanted share of the clip."""
    coarse = cameras.resized(max(1, p.width_px // 80))
    frames = np.unique(np.linspace(0, p.frames - 1, 12).astype(int))
    low, high = 1.5, 8.0
    if not instruments:
        return 0.0
    for _ in range(12):
        radius = 0.5 * (low + high)
        shares = []
        for frame in frames:
            cones, _ = _parts(instruments, int(frame), radius, cameras.camera_from_world[frame])
            shares.append(
                _render.covered_share(cones, coarse.intrinsics[frame], coarse.width_px, coarse.height_px)
            )
        low, high = (radius, high) if np.mean(shares) < p.occlusion else (low, radius)
    return 0.5 * (low + high)


def _expose(p: TissuePreset, linear: Float32, rng: np.random.Generator) -> Float32:
    """What an 8-bit camera records, sRGB in [0, 1]."""
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    noise *= np.sqrt(p.read_noise**2 + p.shot_noise * np.minimum(linear, 1.5), dtype=np.float32)
    return np.rint(srgb_from_linear(linear + noise) * np.float32(255)) / np.float32(255)


def _shown(nodes_mm: Float, camera: Cameras, depth_mm: Float32, covered: Bool) -> Bool:
    """Which vertices (V,) the picture of one camera shows."""
    pixels, z = camera.project(nodes_mm.reshape(-1, 3))
    column, row = np.rint(np.nan_to_num(pixels[0], nan=-9.0)).astype(int).T
    inside = (column >= 0) & (column < camera.width_px) & (row >= 0) & (row < camera.height_px)
    column, row = np.where(inside, column, 0), np.where(inside, row, 0)
    # A steep slope changes depth inside a pixel: the allowance grows with the pixel.
    slack = _NODE_SEEN_MM + 2.0 * z[0] / camera.intrinsics[0, 0, 0]
    return np.asarray(inside & (z[0] < depth_mm[row, column] + slack) & ~covered[row, column])


def _vertex_colours(shape: TissueShape, maps: Float32) -> Float32:
    rows, columns = shape.relief_mm.shape
    r = np.minimum((np.arange(rows) / (rows - 1) * maps.shape[0]).astype(int), maps.shape[0] - 1)
    c = np.minimum((np.arange(columns) / (columns - 1) * maps.shape[1]).astype(int), maps.shape[1] - 1)
    return srgb_from_linear(maps[r][:, c, :3]).reshape(-1, 3)


def _chosen(preset: str | TissuePreset) -> TissuePreset:
    if isinstance(preset, TissuePreset):
        return preset
    if preset not in PRESETS:
        raise InputError(f"There is no tissue phantom {preset!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[preset]


@dataclass(frozen=True)
class _Set:
    """Everything in front of the lens; lamp_mm is in the left camera's frame."""

    preset: TissuePreset
    seed: int
    times_s: Float
    shape: TissueShape
    maps: Float32
    instruments: tuple[Instrument, ...]
    radius_mm: float
    cameras: Cameras
    lamp_mm: Float

    def view(self, cameras: Cameras, frame: int, nodes_mm: Float, lamp_mm: Float) -> _render.View:
        """One picture of mesh nodes (R, C, 3) in the world; lamp_mm: in that camera's frame."""
        p, pose, intrinsics = self.preset, cameras.camera_from_world[frame], cameras.intrinsics[frame]
        local = transform_points(pose, nodes_mm)
        hits = _render.cast_tissue(local, intrinsics, p.width_px, p.height_px, p.subrays)
        cones, looks = _parts(self.instruments, frame, self.radius_mm, pose)
        return _render.shade(hits, local, p.node_mm, self.maps, intrinsics, lamp_mm, cones, looks, p.subrays)


def _built(p: TissuePreset, seed: int) -> Task[_Set]:
    yield Progress("grow", 0, 3)
    times_s = p.duration_s * np.arange(p.frames) / max(p.frames, 1)
    shape, instruments = yield from beside("grow", 0, 3, partial(_scene, p, seed, times_s))
    yield Progress("grow", 1, 3)
    cameras = _left_cameras(p, np.random.default_rng([seed, 2]), times_s)
    radius = yield from beside("grow", 1, 3, partial(_shaft_radius, p, instruments, cameras))
    yield Progress("grow", 2, 3)
    rng = np.random.default_rng([seed, 3])
    maps = yield from beside("grow", 2, 3, partial(tissue_texture, rng, _PATCH_MM, p.texels_per_mm))
    # One lamp between both eyes lights both pictures alike.
    lamp = np.array([0.5 * p.baseline_mm, 0.0, 0.0])
    return _Set(p, seed, times_s, shape, maps, instruments, radius, cameras, lamp)


@dataclass(frozen=True)
class _Film:
    """The left camera's pictures and truth, as in ``TissuePhantom``; gain: of the camera."""

    gain: float
    images: Float32
    rgb: Float32
    occluded: Bool
    depth_mm: Float32
    observed_depth_mm: Float32
    never_seen: Bool
    vertices_mm: Float32
    seen_frames: NDArray[np.int32]


def _film_left(s: _Set) -> Task[_Film]:
    p, cameras = s.preset, s.cameras
    size, num_nodes = (p.frames, p.height_px, p.width_px), s.shape.relief_mm.size
    images, rgb = np.empty((*size, 3), np.float32), np.empty((*size, 3), np.float32)
    occluded = np.zeros(size, np.bool_)
    depth, observed = np.empty(size, np.float32), np.empty(size, np.float32)
    vertices = np.empty((p.frames, num_nodes, 3), np.float32)
    nearest_node = np.empty(size, np.int32)
    seen_frames = np.zeros(num_nodes, np.int32)
    gain = 0.0
    for frame in range(p.frames):
        yield Progress("film", frame, p.frames)
        nodes = s.shape.nodes_mm(float(s.times_s[frame]))
        pose, intrinsics = cameras.camera_from_world[frame], cameras.intrinsics[frame]
        view = yield from beside("film", frame, p.frames, partial(s.view, cameras, frame, nodes, s.lamp_mm))
        if frame == 0:
            gain = p.exposure / float(np.median(view.clean.mean(-1)))
        centres = _render.cast_tissue(
            transform_points(pose, nodes), intrinsics, p.width_px, p.height_px, sub=1
        )
        cones, _ = _parts(s.instruments, frame, s.radius_mm, pose)
        vertices[frame] = nodes.reshape(-1, 3)
        depth[frame], occluded[frame] = centres.depth_mm, view.covered
        nearest = partial(_render.nearest_depth, centres.depth_mm, cones, intrinsics, view.covered)
        observed[frame] = yield from beside("film", frame, p.frames, nearest)
        nearest_node[frame] = np.rint(centres.row) * s.shape.relief_mm.shape[1] + np.rint(centres.column)
        seen_frames += _shown(nodes, cameras[frame], centres.depth_mm, view.covered)
        rgb[frame] = srgb_from_linear(gain * view.clean)
        images[frame] = _expose(p, gain * view.seen, np.random.default_rng([s.seed, 4, frame]))
    never_seen = occluded & (seen_frames[nearest_node] == 0)
    return _Film(gain, images, rgb, occluded, depth, observed, never_seen, vertices, seen_frames)


def _film_right(s: _Set, right: Cameras, gain: float) -> Task[tuple[Float32, Bool]]:
    """Pictures (T, H, W, 3) and masks (T, H, W) of the right camera."""
    p = s.preset
    images = np.empty((p.frames, p.height_px, p.width_px, 3), np.float32)
    occluded = np.zeros(images.shape[:3], np.bool_)
    lamp = s.lamp_mm - np.array([p.baseline_mm, 0.0, 0.0])
    for frame in range(p.frames):
        yield Progress("film right", frame, p.frames)
        view = s.view(right, frame, s.shape.nodes_mm(float(s.times_s[frame])), lamp)
        occluded[frame] = view.covered
        images[frame] = _expose(p, gain * view.seen, np.random.default_rng([s.seed, 5, frame]))
    return images, occluded


def make_tissue(preset: str | TissuePreset = "demo", seed: int = 0) -> Task[TissuePhantom]:
    """A simulated endoscopic clip and its truth.

    preset: a name in ``PRESETS`` or a preset of one's own.
    seed: the same preset and seed give bit-equal results.

    Raises:
        InputError: no such preset.
    """
    p = _chosen(preset)
    scene = yield from _built(p, seed)
    film = yield from _film_left(scene)
    images_right = occluded_right = right = None
    if p.baseline_mm > 0:
        right = _beside(scene.cameras, p.baseline_mm)
        images_right, occluded_right = yield from _film_right(scene, right, film.gain)
    return TissuePhantom(
        images=film.images,
        occluded=film.occluded,
        cameras=scene.cameras,
        times_s=scene.times_s,
        images_right=images_right,
        occluded_right=occluded_right,
        cameras_right=right,
        baseline_mm=p.baseline_mm,
        rgb=film.rgb,
        depth_mm=film.depth_mm,
        observed_depth_mm=film.observed_depth_mm,
        never_seen=film.never_seen,
        vertices_mm=film.vertices_mm,
        faces=scene.shape.faces,
        colours=_vertex_colours(scene.shape, scene.maps),
        seen_frames=film.seen_frames,
        instrument_diameter_mm=2 * scene.radius_mm,
        provenance=("simulated endoscopic clip", f"tissue phantom, seed {seed}"),
    )

"""A textured object on a table, seen from a ring or a hand-held path, with something standing before it.

Pictures come from a z-buffer of triangles, never from Gaussians or a distance field, so that no method of
this package meets its own model in the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.rigid import inverse, rotation_from_vector
from splatomy.geometry.visibility import first_hits
from splatomy.phantoms._object_shapes import SolidTexture, box, bumpy_body, bumpy_ring, fitted, joined
from splatomy.scene import Mesh

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

OBJECT, OCCLUDER, TABLE = 0, 1, 2
_SEEN_MM = 0.4
"""A vertex this far behind what a camera sees at most counts as seen."""
_AMBIENT = 0.35


@dataclass(frozen=True)
class ObjectPreset:
    """Everything that defines a simulated set of views but its seed; change it with ``replace``."""

    views: int = 48
    width_px: int = 640
    height_px: int = 480
    focal_px: float = 560.0
    shape: Literal["body", "ring"] = "body"
    radius_mm: float = 60.0
    distance_mm: float = 260.0
    path: Literal["ring", "handheld"] = "ring"
    arc_deg: float = 360.0
    """How far the camera goes round the object."""
    occluder: bool = False
    """A block before the object, which hides a part of it from every camera that looks there."""
    table: bool = True
    depth_noise: float = 4e-6
    """Standard deviation of the sensor's depth, 1/mm times depth squared; 0 = no depth sensor."""
    colour_noise: float = 0.008
    subrays: int = 2
    """Rays per pixel and direction."""


PRESETS = {
    "ring": ObjectPreset(),
    "occluded": ObjectPreset(views=36, path="handheld", arc_deg=200.0, occluder=True),
    "demo": ObjectPreset(views=24, width_px=256, height_px=192, focal_px=224.0, depth_noise=0.0),
    "demo_occluded": ObjectPreset(
        views=20, width_px=256, height_px=192, focal_px=224.0, path="handheld", arc_deg=200.0, occluder=True
    ),
    "small": ObjectPreset(views=16, width_px=160, height_px=120, focal_px=140.0, depth_noise=0.0),
    "tiny": ObjectPreset(views=8, width_px=64, height_px=48, focal_px=56.0, subrays=1),
}


@dataclass(frozen=True)
class ObjectPhantom:
    """Simulated views and their truth; lengths in mm, the world's z axis points up from the table.

    images: (T, H, W, 3) noisy sRGB in [0, 1], multiples of 1/255. depth_mm: (T, H, W) of the sensor, NaN =
        none, or None without one. cameras: one per view. target: True = the object is seen there.
        occluder: True = the block covers that pixel. rgb: (T, H, W, 3) and true_depth_mm (T, H, W), NaN =
        nothing there: the object alone, without block and noise.
    mesh: the object, with evidence = 1 for vertices that a view shows, else 0. provenance: in order.
    """

    images: NDArray[np.float32]
    depth_mm: NDArray[np.float32] | None
    cameras: Cameras
    target: Bool
    occluder: Bool
    rgb: NDArray[np.float32]
    true_depth_mm: NDArray[np.float32]
    mesh: Mesh
    provenance: tuple[str, ...]


def make_object(
    preset: str | ObjectPreset = "ring", seed: int = 0, mesh: Mesh | None = None
) -> Task[ObjectPhantom]:
    """The simulated views of one object.

    mesh: a shape of the user's own, of any unit; it is centred and scaled to the preset's radius.

    Raises:
        InputError: no such preset.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise InputError(f"There is no object preset {preset!r}: expected one of {', '.join(PRESETS)}.")
        preset = PRESETS[preset]
    rng = np.random.default_rng([seed, 7])
    parts, paints = _scene(preset, rng, mesh)
    cameras = _cameras(preset, rng)
    shape = (preset.views, preset.height_px, preset.width_px)
    images, rgb = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
    depth, true_depth = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    target, occluder = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    seen = np.zeros(len(parts[0].vertices_mm), np.bool_)
    light = _light(rng)
    whole, bare = _Surfaces(parts, paints), _Surfaces(parts[:1], paints[:1])
    for view in range(preset.views):
        camera = cameras[view]
        picture, hit_depth, part = _picture(whole, camera, light, preset.subrays)
        noisy = picture + rng.normal(0, preset.colour_noise, picture.shape)
        images[view] = np.rint(noisy.clip(0, 1) * 255) / 255
        target[view], occluder[view] = part == OBJECT, part == OCCLUDER
        if preset.depth_noise > 0:
            sigma = preset.depth_noise * hit_depth**2
            depth[view] = hit_depth + rng.normal(0, 1, hit_depth.shape) * np.nan_to_num(sigma)
        yield Progress("phantom", view, preset.views)
        alone, alone_depth, _ = _picture(bare, camera, light, preset.subrays)
        rgb[view], true_depth[view] = alone, alone_depth
        seen |= _seen(parts[0], camera, hit_depth, part)
        yield Progress("phantom", view + 1, preset.views)
    body = parts[0]
    colours = _srgb(paints[0](np.asarray(body.vertices_mm, np.float64))).astype(np.float32)
    truth = Mesh(body.vertices_mm, body.faces, colours, seen.astype(np.float32))
    note = f"simulated object ({preset.shape if mesh is None else 'given mesh'}), seed {seed}"
    return ObjectPhantom(
        images,
        depth if preset.depth_noise > 0 else None,
        cameras,
        target,
        occluder,
        rgb,
        true_depth,
        truth,
        (note,),
    )


def _scene(
    p: ObjectPreset, rng: np.random.Generator, mesh: Mesh | None
) -> tuple[list[Mesh], list[Callable[[Float], Float]]]:
    """The parts in the order OBJECT, OCCLUDER, TABLE (without those that are absent) and their textures."""
    if mesh is not None:
        body = fitted(mesh, p.radius_mm)
    else:
        body = (bumpy_body if p.shape == "body" else bumpy_ring)(rng, p.radius_mm)
    low = float(np.asarray(body.vertices_mm)[:, 2].min())
    palettes = rng.uniform(0.08, 0.85, (3, 3, 3))
    parts, paints = [body], [SolidTexture(rng, 0.9 * p.radius_mm, palettes[0])]
    reach = 1.05 * p.radius_mm
    if p.occluder:
        turn = rotation_from_vector(np.array([0, 0, rng.uniform(-0.3, 0.3)]))
        corner = np.array([reach, -0.75 * p.radius_mm, low])
        far = np.array([reach + 0.25 * p.radius_mm, 0.65 * p.radius_mm, low + 1.15 * p.radius_mm])
        parts.append(box(corner, far, turn))
    else:
        parts.append(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))
    paints.append(SolidTexture(rng, 0.5 * p.radius_mm, palettes[1]))
    if p.table:
        wide = 4.0 * p.radius_mm
        # Many small triangles, since one that reaches behind the camera is left out.
        parts.append(_plate(wide, low - 0.5, 24))
        paints.append(SolidTexture(rng, 0.7 * p.radius_mm, palettes[2]))
    return parts, list(paints)


def _plate(half_mm: float, height_mm: float, cells: int) -> Mesh:
    line = np.linspace(-half_mm, half_mm, cells + 1)
    x, y = np.meshgrid(line, line, indexing="ij")
    vertices = np.stack([x, y, np.full_like(x, height_mm)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij")
    a = i * (cells + 1) + j
    b, c, d = a + cells + 1, a + cells + 2, a + 1
    faces = np.concatenate([np.stack(f, -1).reshape(-1, 3) for f in ((a, b, c), (a, c, d))])
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def _cameras(p: ObjectPreset, rng: np.random.Generator) -> Cameras:
    """Cameras that look at the object; those of a hand-held path wander in height, distance and aim."""
    share = np.arange(p.views) / p.views if p.arc_deg >= 360 else np.linspace(0, 1, p.views)
    turn = np.radians(p.arc_deg) * (share - (0 if p.arc_deg >= 360 else 0.5))
    phase = rng.uniform(0, 2 * np.pi, 6)
    if p.path == "ring":
        lift = np.radians(np.where(np.arange(p.views) % 2, 22.0, 48.0))
        far, aim = np.full(p.views, p.distance_mm), np.zeros((p.views, 3))
    else:
        lift = np.radians(32 + 14 * np.sin(3 * turn + phase[0]) + 6 * np.sin(7 * turn + phase[1]))
        far = p.distance_mm * (1 + 0.12 * np.sin(2 * turn + phase[2]))
        waves = [np.sin((k + 2) * turn + phase[3 + k]) for k in range(3)]
        aim = 0.12 * p.radius_mm * np.stack(waves, -1)
    centre = far[:, None] * np.stack(
        [np.cos(lift) * np.cos(turn), np.cos(lift) * np.sin(turn), np.sin(lift)], -1
    )
    forward = aim - centre
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    world_from_camera = np.tile(np.eye(4), (p.views, 1, 1))
    world_from_camera[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], -1)
    world_from_camera[:, :3, 3] = centre
    k = np.array([[p.focal_px, 0, (p.width_px - 1) / 2], [0, p.focal_px, (p.height_px - 1) / 2], [0, 0, 1.0]])
    return Cameras(np.repeat(k[None], p.views, 0), inverse(world_from_camera), p.width_px, p.height_px)


def _light(rng: np.random.Generator) -> Float:
    """Unit vector towards a distant light above the table."""
    direction = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6), 1.0])
    return np.asarray(direction / np.linalg.norm(direction))


class _Surfaces:
    """Some parts as one mesh with normals and textures."""

    def __init__(self, parts: list[Mesh], paints: list[Callable[[Float], Float]]) -> None:
        self.vertices, self.faces, self.owner = joined(parts)
        self.normals = _normals(self.vertices, self.faces)
        self.paints = paints


def _picture(
    scene: _Surfaces, camera: Cameras, light: Float, subrays: int
) -> tuple[Float, Float, NDArray[np.int32]]:
    """sRGB (H, W, 3), depth (H, W) mm at pixel centres, NaN = nothing, and their part (-1 = nothing)."""
    vertices, faces, owner = scene.vertices, scene.faces, scene.owner
    linear = np.zeros((camera.height_px, camera.width_px, 3))
    height, width = camera.height_px, camera.width_px
    offsets = (np.arange(subrays) + 0.5) / subrays - 0.5
    for dy in offsets:
        for dx in offsets:
            k = camera.intrinsics[0].copy()
            k[:2, 2] -= (dx, dy)
            _, face, weights = first_hits(vertices, faces, k, camera.camera_from_world[0], height, width)
            hit = face >= 0
            corners = faces[face[hit]]
            share = weights[hit][..., None]
            points = (vertices[corners] * share).sum(1)
            normal = (scene.normals[corners] * share).sum(1)
            normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
            albedo = np.zeros_like(points)
            for number, paint in enumerate(scene.paints):
                mine = owner[face[hit]] == number
                if mine.any():
                    albedo[mine] = paint(points[mine])
            shade = _AMBIENT + (1 - _AMBIENT) * (normal @ light).clip(0)
            linear[hit] += albedo * shade[:, None]
    k, pose = camera.intrinsics[0], camera.camera_from_world[0]
    depth, face, _ = first_hits(vertices, faces, k, pose, height, width)
    part = np.where(face >= 0, owner[face], -1).astype(np.int32)
    return _srgb(linear / subrays**2), np.where(np.isfinite(depth), depth, np.nan), part


def _normals(vertices: Float, faces: NDArray[np.int32]) -> Float:
    """Unit vertex normals (V, 3), weighted by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, faces[:, i], cross)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12))


def _srgb(linear: Float) -> Float:
    """sRGB in [0, 1] of linear light. Source: IEC 61966-2-1."""
    x = np.clip(linear, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def _seen(body: Mesh, camera: Cameras, depth: Float, part: NDArray[np.int32]) -> Bool:
    """(V,) vertices of the object that this camera sees."""
    pixels, z = camera.project(np.asarray(body.vertices_mm, np.float64))
    pixels, z = pixels[0], z[0]
    inside = (z > 0) & (pixels > -0.5).all(1)
    inside &= (pixels[:, 0] < camera.width_px - 0.5) & (pixels[:, 1] < camera.height_px - 0.5)
    column, row = np.rint(np.where(inside[:, None], pixels, 0)).astype(int).T
    # The slope of the surface within a pixel may not hide a vertex from the ray through its centre.
    tolerance = _SEEN_MM + z / camera.intrinsics[0, 0, 0]
    near = np.abs(np.nan_to_num(depth[row, column], nan=-1e9) - z) < tolerance
    return np.asarray(inside & near & (part[row, column] == OBJECT))

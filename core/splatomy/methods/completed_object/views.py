"""The views in the form in which they train: binned, in the unit sphere, with what each pixel may teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_CERTAIN = 0.98
"""Share of a pixel that must be the object's before its depth and colour count as the object's."""
_ROOM = 1.25
"""The sphere about the object is this much larger than what was seen of it."""
_FEW_POINTS = 50
STEEPEST = 0.25
"""Cosine of incidence beyond which slopes are not told apart."""
_DRAWN_WEIGHT = 0.95
"""A user's outline is believed; below 1, for it is no observation."""


@dataclass(frozen=True)
class Frame:
    """The unit sphere about the object: world = centre + scale * unit."""

    centre: Float
    scale: float

    def to_world(self, points: NDArray[np.floating]) -> Float:
        """Points (N, 3) of the sphere in the world."""
        return np.asarray(np.asarray(points, np.float64) * self.scale + self.centre)

    def cameras(self, cameras: Cameras) -> Cameras:
        """The same cameras about the sphere."""
        pose = cameras.camera_from_world.copy()
        pose[:, :3, 3] = (pose[:, :3, :3] @ self.centre + pose[:, :3, 3]) / self.scale
        return Cameras(cameras.intrinsics, pose, cameras.width_px, cameras.height_px)


@dataclass(frozen=True)
class Rays:
    """Pixels as rays, R of them, in the unit sphere.

    view (R,), row (R,), column (R,): whole numbers. origins, directions: (R, 3), unit length. colour (R, 3).
    member: (R,) share of the object. weight: (R,) 1 = seen, less = invented. measured: (R,) distance ALONG
    THE RAY of known depth, 0 = unknown; on the object or, with ``member`` 0, on something else. facing: (R,)
    cosine of the surface's normal and the ray there. along: (R,) depth along the optical axis per distance.
    """

    view: Tensor
    row: Tensor
    column: Tensor
    origins: Tensor
    directions: Tensor
    colour: Tensor
    member: Tensor
    weight: Tensor
    measured: Tensor
    facing: Tensor
    along: Tensor
    normal: Tensor | None

    def __len__(self) -> int:
        return len(self.view)


def measured_surface(depth: Float32, known: Bool, intrinsics: Float) -> tuple[Float, Float, Bool]:
    """Points (H, W, 3) and unit normals (H, W, 3) of smoothed depth in camera axes, and where both hold.

    depth: (H, W) along the optical axis. known: (H, W) pixels that count.
    """
    height, width = depth.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
    rays = np.concatenate([grid, np.ones((height, width, 1))], -1) @ np.linalg.inv(intrinsics).T
    share = cv2.GaussianBlur(known.astype(np.float32), (5, 5), 0)
    smooth = cv2.GaussianBlur(depth * known, (5, 5), 0) / np.maximum(share, 1e-6)
    points = rays * smooth[..., None]
    across, down = np.zeros_like(points), np.zeros_like(points)
    across[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[1:-1] = points[2:] - points[:-2]
    normal = np.cross(across, down)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    whole = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return points, normal, whole


class Views:
    """All views of a capture as tensors on the device."""

    def __init__(
        self, capture: Capture, longest_side_px: int, synthetic_weight: float, device: torch.device
    ) -> None:
        """Raises InputError: cameras or masks of the object are missing, or nothing of it is seen."""
        if capture.cameras is None:
            raise InputError(
                "completed_object needs the cameras of all pictures, which are unknown here: give --poses "
                "and --calibration."
            )
        if capture.target is None:
            raise InputError(
                "completed_object needs masks of the object, which the input does not have: give a folder "
                "of masks with --target."
            )
        self.device = device
        longest = max(capture.cameras.width_px, capture.cameras.height_px)
        self.bin = max(1, round(longest / longest_side_px))
        self.cameras = capture.cameras.resized(self.bin)
        self.metric = capture.metric
        told = capture.details.get("inpainting")
        self.completed = told is not None
        self.hides = capture.occluded is not None or self.completed
        # Parts that a coarse shape carried into other views repeat its errors: they teach nothing.
        self._filling = list(capture.details.get("filling", ["invented"] * len(capture)))
        size = (self.cameras.height_px, self.cameras.width_px)
        count = len(capture)
        member, weight = np.zeros((count, *size), np.float32), np.zeros((count, *size), np.float32)
        images, depth = np.zeros((count, *size, 3), np.float32), np.zeros((count, *size), np.float32)
        invented = np.zeros((count, *size), np.bool_)
        has_target = np.asarray(capture.details.get("has_target", [True] * count), np.bool_)
        for t in range(count):
            images[t] = self._binned(capture.images[t])
            member[t] = self._binned(capture.target[t])
            invented[t] = self._invented(capture, t)
            weight[t] = self._weight(capture, t, invented[t], synthetic_weight) * has_target[t]
            if capture.depth_mm is not None:
                depth[t] = np.nan_to_num(self._middle(capture.depth_mm[t]), posinf=0.0)
            if self._filling[t] != "invented":
                depth[t][invented[t]] = 0.0
        depth[weight == 0] = 0.0
        kernel = np.ones((3, 3), np.uint8)
        # Without masks of what stands before it, a pixel of something else may hide the object.
        certain = capture.occluded is not None or capture.depth_mm is None
        self.outlines_certain = bool(capture.details.get("outlines_certain", certain))
        if self.outlines_certain:
            # Where the masks say what hides the object, a pixel of something else frees its whole ray.
            depth[member <= 0.5] = 0.0
        self.real = (weight == 1.0) & (member > _CERTAIN)
        self.invented = invented & has_target[:, None, None] & (member > _CERTAIN)
        # A pixel from the rim of something else may show the object.
        self.blank = np.stack(
            [
                cv2.erode(((m == 0) & (w == 1)).astype(np.uint8), kernel) > 0
                for m, w in zip(member, weight, strict=True)
            ]
        )
        self.host_depth = depth
        self.frame = self._framed(depth, member, weight)
        self.facing, self.facing_guessed = self._facing(depth, member)
        self.images, self.member, self.weight = (self._tensor(a) for a in (images, member, weight))
        self.depth = self._tensor(depth / self.frame.scale)
        self.facing_map = self._tensor(self.facing)
        self.normals = self._given_normals(capture.details)
        self.support = self._support(capture.details)
        # Away from rims: a colour between pixels must not mix in what hides the object.
        self.sound = torch.as_tensor(
            np.stack([cv2.erode(m.astype(np.uint8), kernel) > 0 for m in self.real]), device=self.device
        )
        self.placed = self.frame.cameras(self.cameras)
        self.intrinsics = self._tensor(self.placed.intrinsics)
        self.poses = self._tensor(self.placed.camera_from_world)
        self._choose_pixels()

    def __len__(self) -> int:
        return len(self.cameras)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float32), device=self.device)

    def _binned(self, picture: NDArray[Any]) -> Float32:
        height, width = self.cameras.height_px, self.cameras.width_px
        whole = np.ascontiguousarray(picture[: height * self.bin, : width * self.bin], np.float32)
        return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.float32)

    def _middle(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The middle pixel of every block: depths are never mixed."""
        half, height, width = self.bin // 2, self.cameras.height_px, self.cameras.width_px
        return np.asarray(picture[half :: self.bin, half :: self.bin][:height, :width])

    def _invented(self, capture: Capture, t: int) -> Bool:
        """Pixels that were made up or decided by a drawing."""
        if capture.synthetic is None:
            return np.zeros((self.cameras.height_px, self.cameras.width_px), np.bool_)
        return np.asarray(self._binned(capture.synthetic[t]) > 0)

    def _weight(self, capture: Capture, t: int, invented: Bool, synthetic_weight: float) -> Float32:
        """1 where the pixel was seen, less where it was invented, 0 where something hides what it shows."""
        seen = np.ones(invented.shape, np.bool_)
        if capture.occluded is not None:
            seen = self._binned(capture.occluded[t]) == 0
        synthetic_weight = {"drawn": _DRAWN_WEIGHT, "carried": 0.0}.get(self._filling[t], synthetic_weight)
        return np.where(invented, np.float32(synthetic_weight), seen.astype(np.float32))

    def _framed(self, depth: Float32, member: Float32, weight: Float32) -> Frame:
        """The sphere about all of the object that was seen or completed."""
        points = [np.zeros((0, 3))]
        for t in range(len(self)):
            row, column = np.nonzero((depth[t] > 0) & (member[t] > _CERTAIN))
            pixels = np.stack([column, row], 1).astype(np.float64)[None]
            points.append(self.cameras[t].unproject(pixels, depth[t][row, column][None])[0])
        cloud = np.concatenate(points)
        if len(cloud) < _FEW_POINTS:
            return self._framed_by_outlines(member, weight)
        low, high = np.quantile(cloud, [0.005, 0.995], axis=0)
        centre = (low + high) / 2
        radius = np.quantile(np.linalg.norm(cloud - centre, axis=1), 0.99)
        return Frame(centre, float(_ROOM * radius))

    def _framed_by_outlines(self, member: Float32, weight: Float32) -> Frame:
        """The place nearest to the rays through the middles of all masks, and the radius that they show."""
        normal, right, sizes = np.zeros((3, 3)), np.zeros(3), []
        for t in range(len(self)):
            row, column = np.nonzero((member[t] > 0.5) & (weight[t] > 0))
            if len(row) < 5:
                continue
            camera, centre = self.cameras[t], self.cameras.centres_mm[t]
            middle = np.array([[[column.mean(), row.mean()]]])
            ray = camera.unproject(middle, np.ones((1, 1)))[0, 0] - centre
            ray /= np.linalg.norm(ray)
            away = np.eye(3) - np.outer(ray, ray)
            normal += away
            right += away @ centre
            extent = 0.5 * max(np.ptp(column), np.ptp(row)) / camera.intrinsics[0, 0, 0]
            sizes.append((centre, extent))
        if len(sizes) < 2:
            raise InputError(
                "Fewer than two views show the object; expected its visible part as non-zero pixels in the "
                "masks: check them."
            )
        place = np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0], np.float64)
        radius = float(np.median([np.linalg.norm(place - c) * extent for c, extent in sizes]))
        return Frame(place, 1.3 * _ROOM * radius)

    def _facing(self, depth: Float32, member: Float32) -> tuple[Float32, Bool]:
        """(T, H, W) cosine of the measured surface's normal and the ray, 1 where nothing was measured, and
        where it is a guess: at the rims of what was measured."""
        facing, guessed = np.ones(depth.shape, np.float32), np.zeros(depth.shape, np.bool_)
        for t in range(len(depth)):
            known = (depth[t] > 0) & (member[t] > _CERTAIN)
            points, normal, whole = measured_surface(depth[t], known, self.cameras.intrinsics[t])
            length = np.linalg.norm(points, axis=-1)
            cosine = np.abs((normal * points).sum(-1)) / np.maximum(length, 1e-12)
            facing[t] = np.where(whole, cosine, np.where(known, 0.7, 1.0)).clip(STEEPEST, 1)
            guessed[t] = known & ~whole
        return facing, guessed

    def _given_normals(self, details: dict[str, Any]) -> Tensor | None:
        """(T, H, W, 3) normals in camera axes, 0 = unknown, of the pictures as they train."""
        given = details.get("normals")
        if given is None:
            return None
        return self._tensor(np.stack([np.nan_to_num(self._middle(given[t])) for t in range(len(self))]))

    def _support(self, details: dict[str, Any]) -> tuple[Tensor, float] | None:
        """Normal (3,) and level of the plane beyond which nothing of the object lies, in the sphere."""
        plane = details.get("support_plane")
        # Where outlines are certain, rays to the plane free the space beneath, and the plane on top of them
        # would lift a foot that no view shows (measured: by 2 to 5 mm on objects of 60 mm radius).
        if plane is None or self.outlines_certain:
            return None
        normal = np.asarray(plane[:3], np.float64)
        level = (float(plane[3]) - float(normal @ self.frame.centre)) / self.frame.scale
        return self._tensor(normal), level

    def _choose_pixels(self) -> None:
        """Lists the pixels that may teach: those of the object, and others whose rays meet the sphere."""
        inside, outside = [], []
        for t in range(len(self)):
            row, column = torch.nonzero(self.weight[t] > 0, as_tuple=True)
            origins, directions, _ = self._lines(torch.full_like(row, t), row, column)
            middle = (origins * directions).sum(1, keepdim=True)
            meets = (origins - middle * directions).norm(dim=1) < 1
            on = self.member[t][row, column] > 0.5
            place = torch.stack([torch.full_like(row, t), row, column], 1)
            inside.append(place[on & meets])
            outside.append(place[~on & meets])
        self.inside, self.outside = torch.cat(inside), torch.cat(outside)
        if len(self.inside) < _FEW_POINTS:
            raise InputError(
                "The masks leave almost nothing of the object in sight; expected its visible part as "
                "non-zero pixels: check them."
            )

    def _lines(self, view: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Origins and unit directions (R, 3) of pixels' rays, and depth per distance along them (R,)."""
        k, pose = self.intrinsics[view], self.poses[view]
        x = (column - k[:, 0, 2] - k[:, 0, 1] * (row - k[:, 1, 2]) / k[:, 1, 1]) / k[:, 0, 0]
        y = (row - k[:, 1, 2]) / k[:, 1, 1]
        local = torch.stack([x, y, torch.ones_like(x)], 1)
        length = local.norm(dim=1, keepdim=True)
        turned = (pose[:, :3, :3].transpose(1, 2) @ (local / length)[..., None])[..., 0]
        origins = -(pose[:, :3, :3].transpose(1, 2) @ pose[:, :3, 3:])[..., 0]
        return origins, turned, 1 / length[:, 0]

    def rays(self, places: Tensor) -> Rays:
        """The rays of pixels (R, 3): view, row, column."""
        view, row, column = places.unbind(1)
        origins, directions, along = self._lines(view, row, column)
        measured = self.depth[view, row, column] / along
        normal = None if self.normals is None else self.normals[view, row, column]
        return Rays(
            view,
            row,
            column,
            origins,
            directions,
            self.images[view, row, column],
            self.member[view, row, column],
            self.weight[view, row, column],
            measured,
            self.facing_map[view, row, column],
            along,
            normal,
        )

    def drawn(self, count: int, generator: torch.Generator) -> Rays:
        """A random batch, half of it on the object."""
        parts = []
        for pixels, number in ((self.inside, count - count // 2), (self.outside, count // 2)):
            if len(pixels):
                chosen = torch.randint(len(pixels), (number,), generator=generator)
                parts.append(pixels[chosen.to(pixels.device)])
        return self.rays(torch.cat(parts))

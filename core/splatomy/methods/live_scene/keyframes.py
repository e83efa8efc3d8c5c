"""Keyframes: when a frame becomes one, which are kept, which are learnt from again, and finding one again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.geometry.rigid import inverse
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import GREY, Bool, Float, Float32, Level

_THUMBNAIL = (32, 26)
_PROTECTED = 2
_LEAST_FRAMES = 5


@dataclass(frozen=True)
class Keyframe:
    """A frame that is kept, binned to the size of learning.

    codes: (h, w, 3) uint8. depth: (h, w) float16 mm, 0 = unknown. usable: (h, w). weight: (h, w) float16.
    gain: brightness against the map. changes: (K, 6) of the control nodes at that time.
    thumbnail: (26, 32) of zero mean and unit deviation where usable, 0 elsewhere.
    """

    index: int
    time_s: float
    codes: NDArray[np.uint8]
    depth: NDArray[np.float16]
    usable: Bool
    weight: NDArray[np.float16]
    factor: int
    intrinsics: Float
    camera_from_world: Float
    gain: float
    changes: Float32
    thumbnail: Float32
    pinned: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.codes.shape[1], self.codes.shape[0]

    def level(self, device: torch.device) -> Level:
        """The keyframe as a level to learn from."""
        image = torch.as_tensor(self.codes, device=device).permute(2, 0, 1).float() / 255
        grey = GREY[0] * image[0] + GREY[1] * image[1] + GREY[2] * image[2]
        return Level(
            self.factor,
            image.contiguous(),
            grey,
            torch.as_tensor(self.depth, device=device).float(),
            torch.as_tensor(self.usable, device=device),
            torch.as_tensor(self.weight, device=device).float(),
            torch.as_tensor(self.intrinsics),
        )


def keyframe_of(
    index: int, time_s: float, level: Level, pose: Float, gain: float, changes: Tensor
) -> Keyframe:
    """The frame as a keyframe."""
    image = level.image.permute(1, 2, 0).cpu().numpy()
    good = level.usable.cpu().numpy()
    return Keyframe(
        index,
        time_s,
        np.rint(image.clip(0, 1) * 255).astype(np.uint8),
        level.depth.cpu().numpy().astype(np.float16),
        good,
        level.weight.cpu().numpy().astype(np.float16),
        level.factor,
        level.intrinsics.numpy().copy(),
        pose.copy(),
        gain,
        changes.detach().cpu().numpy().copy(),
        thumbnail_of(level.grey.cpu().numpy(), good),
    )


def thumbnail_of(grey: Float32, good: Bool) -> Float32:
    """The picture (26, 32) that keyframes are found again by."""
    share = cv2.resize(good.astype(np.float32), _THUMBNAIL, interpolation=cv2.INTER_AREA)
    small = cv2.resize(np.where(good, grey, 0).astype(np.float32), _THUMBNAIL, interpolation=cv2.INTER_AREA)
    seen = share > 0.5
    if not seen.any():
        return np.zeros(_THUMBNAIL[::-1], np.float32)
    small = small / np.maximum(share, 1e-3)
    # The lamp's own fall-off is alike in all pictures and would make all of them alike.
    small -= cv2.GaussianBlur(np.where(seen, small, small[seen].mean()).astype(np.float32), (0, 0), 5.0)
    small = np.where(seen, small - small[seen].mean(), 0)
    return np.asarray(small / max(float(np.sqrt((small**2).sum())), 1e-6), np.float32)


def centre_of(pose: Float) -> Float:
    """The place (3,) of a camera."""
    return np.asarray(inverse(pose)[:3, 3])


def angle_between(a: Float, b: Float) -> float:
    """The turn between two poses in degrees."""
    cosine = (np.trace(a[:3, :3] @ b[:3, :3].T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


class Keyframes:
    """The kept keyframes of one map, oldest first."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.kept: list[Keyframe] = []

    def __len__(self) -> int:
        return len(self.kept)

    def wants(self, index: int, time_s: float, pose: Float, typical_mm: float, new_share: float) -> bool:
        """Whether a frame should become a keyframe.

        Source: the rules of MonoGS and their additions in the sheet online-incremental, 5.
        """
        if not self.kept:
            return True
        last, config = self.kept[-1], self.config
        if index - last.index < _LEAST_FRAMES and new_share < 4 * config.keyframe_new_share:
            return False
        way = float(np.linalg.norm(centre_of(pose) - centre_of(last.camera_from_world))) / typical_mm
        return (
            way > config.keyframe_distance
            or angle_between(pose, last.camera_from_world) > config.keyframe_angle
            or new_share > config.keyframe_new_share
            or time_s - last.time_s > config.keyframe_longest_s
        )

    def add(self, keyframe: Keyframe) -> None:
        """Keeps one more; beyond the budget the most redundant goes, never the newest or a pinned one."""
        self.kept.append(keyframe)
        while len(self.kept) > self.config.max_keyframes:
            self.kept.pop(self._most_redundant())

    def _most_redundant(self) -> int:
        """The number of the keyframe whose nearest neighbour, in place and view, is the nearest of all."""
        centres = np.stack([centre_of(k.camera_from_world) for k in self.kept])
        axes = np.stack([k.camera_from_world[2, :3] for k in self.kept])
        scale = max(float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))), 1e-6)
        gap = np.linalg.norm(centres[:, None] - centres[None], axis=2) / scale
        gap += np.linalg.norm(axes[:, None] - axes[None], axis=2) * 3
        np.fill_diagonal(gap, np.inf)
        nearest = gap.min(1)
        nearest[-_PROTECTED:] = np.inf
        nearest[[n for n, k in enumerate(self.kept) if k.pinned]] = np.inf
        # Of the two alike, the older goes: of pinned ones there may be nothing else.
        return int(np.argmin(nearest)) if np.isfinite(nearest.min()) else 0

    def drawn(self, rng: np.random.Generator, pose: Float, typical_mm: float) -> Keyframe:
        """A keyframe to learn from again, those near in place and time more often.

        Source: EndoGSLAM eq. 5 with camera centres and the median depth in place of its distances from the
        origin (sheet online-incremental, 5).
        """
        centre = centre_of(pose)
        way = np.array([np.linalg.norm(centre_of(k.camera_from_world) - centre) for k in self.kept])
        age = np.arange(len(self.kept))[::-1] / max(len(self.kept), 1)
        chance = np.log2(1 + 1 / (way / typical_mm + 0.2)) + np.log2(1 + 1 / (age + 0.2))
        return self.kept[int(rng.choice(len(self.kept), p=chance / chance.sum()))]

    def most_alike(self, thumbnail: Float32, count: int) -> list[tuple[float, Keyframe]]:
        """The keyframes that look most like a thumbnail, with their correlation, the most alike first."""
        scored = [(float((k.thumbnail * thumbnail).sum()), k) for k in self.kept]
        return sorted(scored, key=lambda pair: -pair[0])[:count]

    def nearest(self, index: int) -> Keyframe | None:
        """The keyframe whose frame number is nearest."""
        return min(self.kept, key=lambda k: abs(k.index - index)) if self.kept else None

    def replace(self, old: Keyframe, **changes: Any) -> Keyframe:
        """Puts a changed keyframe in the place of an old one."""
        new = replace(old, **changes)
        self.kept[next(n for n, k in enumerate(self.kept) if k is old)] = new
        return new

    def move(self, scale: float, b_from_a: Float) -> None:
        """Moves all poses with the map: lengths scaled, then a rigid motion (4, 4)."""
        back = inverse(b_from_a)
        for n, k in enumerate(self.kept):
            pose = k.camera_from_world.copy()
            pose[:3, 3] *= scale
            depth = (k.depth.astype(np.float32) * scale).astype(np.float16)
            self.kept[n] = replace(k, camera_from_world=pose @ back, depth=depth)

    def state(self) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
        """Arrays and JSON values of all keyframes."""
        arrays: dict[str, NDArray[Any]] = {}
        values = []
        for n, k in enumerate(self.kept):
            for name in _ARRAYS:
                arrays[f"{n}.{name}"] = np.asarray(getattr(k, name))
            values.append(
                {
                    "index": k.index,
                    "time_s": k.time_s,
                    "factor": k.factor,
                    "gain": k.gain,
                    "pinned": k.pinned,
                }
            )
        return arrays, values

    @staticmethod
    def restored(
        arrays: Mapping[str, NDArray[Any]], values: list[dict[str, Any]], config: Config
    ) -> Keyframes:
        """The keyframes that ``state`` described."""
        out = Keyframes(config)
        for n, known in enumerate(values):
            made = {name: np.asarray(arrays[f"{n}.{name}"]) for name in _ARRAYS}
            out.kept.append(
                Keyframe(
                    index=int(known["index"]),
                    time_s=float(known["time_s"]),
                    factor=int(known["factor"]),
                    gain=float(known["gain"]),
                    pinned=bool(known["pinned"]),
                    **made,
                )
            )
        return out


_ARRAYS = ("codes", "depth", "usable", "weight", "intrinsics", "camera_from_world", "changes", "thumbnail")

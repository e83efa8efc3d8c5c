"""The surgeon's input: each edit changes the session at once and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from splatomy.errors import InputError
from splatomy.methods.live_scene.frames import Bool, Float, Float32, Level
from splatomy.methods.live_scene.keyframes import Keyframe
from splatomy.methods.live_scene.mapping import PARAMETERS
from splatomy.methods.live_scene.motion import NodeMotion
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.regions import Mark, projected, within

Undo = Callable[[], None]
_REACH_FRAMES = 3
"""Keyframes so near in time show the instrument at about the same place."""
_AS_DEEP = 0.05
_RELEARNT = 20


@dataclass(frozen=True)
class Seen:
    """A frame that an edit speaks of: its keyframe, or the newest frame. level: at the size of learning."""

    index: int
    level: Level
    camera_from_world: Float
    motion: NodeMotion | None
    keyframe: Keyframe | None


def seen(online: Online, frame: int | None) -> Seen:
    """The frame of a number, None = the newest; of older ones the nearest keyframe.

    Raises:
        InputError: there is no map yet.
    """
    part = online.part
    if not len(part.surfels) or (online.current is None and not len(part.keyframes)):
        raise InputError("There is no map yet: expected a frame of tissue first. Wait until the state is ok.")
    current = online.current
    if current is not None and (frame is None or frame == current.outcome.index):
        return Seen(current.outcome.index, current.level, online.pose, part.motion, None)
    keyframe = part.keyframes.nearest(online.index if frame is None else frame)
    if keyframe is None:
        raise InputError("There is no keyframe yet: expected a frame of tissue first. Wait a moment.")
    motion = None if part.motion is None else part.motion.at(torch.as_tensor(keyframe.changes))
    level = keyframe.level(online.device)
    return Seen(keyframe.index, level, keyframe.camera_from_world, motion, keyframe)


def area_of(polygon: Float, level: Level | Keyframe) -> Bool:
    """The inside of a polygon (N, 2), in px of the full frame, at the size of a level, (h, w)."""
    width, height = level.size
    points = (polygon + 0.5) / level.factor - 0.5
    out = np.zeros((height, width), np.uint8)
    cv2.fillPoly(out, [np.rint(points).astype(np.int32)], 1)
    return np.asarray(out > 0)


def edit_mask(online: Online, frame: int | None, polygon: Float, hides: bool) -> Undo:
    """Adds an area to, or erases it from, the masks of the keyframes about a frame.

    What was learnt of a hidden area as it was seen there goes; what is bared again may grow.
    """
    where = seen(online, frame)
    if not area_of(polygon, where.level).any():
        raise InputError("The polygon holds no pixel: expected one inside the picture. Draw it anew.")
    frames = online.part.keyframes
    touched = [k for k in frames.kept if abs(k.index - where.index) <= _REACH_FRAMES]
    if where.keyframe is not None and where.keyframe not in touched:
        touched.append(where.keyframe)
    changed = []
    gone: dict[str, Tensor] = {}
    for old in touched:
        # Keyframes from before a lack of memory are larger.
        area = area_of(polygon, old)
        usable = old.usable & ~area if hides else old.usable | (area & (old.depth > 0))
        weight = np.where(usable, np.maximum(old.weight, np.float16(usable)), 0).astype(np.float16)
        if hides:
            gone = _taken_out(online, old, area, gone)
        changed.append((old, frames.replace(old, usable=usable, weight=weight)))
    if online.current is not None and abs(online.current.outcome.index - where.index) <= _REACH_FRAMES:
        _mask_current(online, area_of(polygon, online.current.level), hides)
    for _, keyframe in changed:
        for _ in range(_RELEARNT // max(len(changed), 1)):
            online.replay(keyframe)

    def undo() -> None:
        for old, new in changed:
            if any(k is new for k in frames.kept):
                frames.replace(new, usable=old.usable, weight=old.weight)
        store = online.part.surfels.store
        if gone and store is not None:
            online.part.surfels.put_back(gone, online.time_s, online.part.motion)

    return undo


def _taken_out(online: Online, keyframe: Keyframe, area: Bool, gone: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes the surfels that lie where a keyframe measured what is now hidden; the rows taken out."""
    surfels = online.part.surfels
    if surfels.store is None:
        return gone
    level = keyframe.level(online.device)
    x, y, z, inside = projected(surfels, keyframe.camera_from_world, level)
    measured = level.depth[y, x]
    chosen = torch.as_tensor(area, device=z.device)[y, x] & inside & (measured > 0)
    chosen &= (z - measured).abs() < _AS_DEEP * measured
    # Tissue that many keyframes agree on is not an instrument, whatever lies over it in this one.
    chosen &= surfels.store.side["looks"] <= 2 * _REACH_FRAMES
    rows = {name: surfels.store[name].detach()[chosen].clone() for name in PARAMETERS}
    surfels.drop(chosen)
    return rows if not gone else {name: torch.cat([gone[name], rows[name]]) for name in gone}


def _mask_current(online: Online, area: Bool, hides: bool) -> None:
    current = online.current
    if current is None or not hides:
        return
    level = current.level
    visible = ~torch.as_tensor(area, device=online.device)
    current.level = replace(level, usable=level.usable & visible, weight=level.weight * visible)


def edit_region(online: Online, number: int, frame: int | None, polygon: Float, keep: bool) -> Undo:
    """Marks the tissue in an area as wanted (learnt with more weight, never dropped) or to be ignored."""
    where = seen(online, frame)
    area = area_of(polygon, where.level)
    surfels = online.part.surfels
    chosen = within(surfels, where.camera_from_world, where.level, area, where.motion)
    if surfels.store is None or not chosen.any():
        raise InputError("There is no mapped tissue in the polygon: expected some. Draw it over the tissue.")
    side = surfels.store.side
    side["region"] = torch.where(chosen, float(number if keep else -number), side["region"])
    return lambda: forget_region(online, number)


def forget_region(online: Online, number: int) -> None:
    """Takes a region back."""
    store = online.part.surfels.store
    if store is not None:
        region = store.side["region"]
        store.side["region"] = torch.where(region.abs() == number, torch.zeros_like(region), region)


def point_at(online: Online, frame: int | None, pixel: Float) -> tuple[Float32, Seen]:
    """The resting place (3,) of the tissue at a pixel (2,) of the full frame.

    Raises:
        InputError: no tissue is mapped there.
    """
    where = seen(online, frame)
    at = (pixel + 0.5) / where.level.factor - 0.5
    width, height = where.level.size
    column, row = (int(n) for n in np.rint(at))
    view = online.part.surfels.view(where.camera_from_world, where.level, where.motion)
    if not (0 <= column < width and 0 <= row < height) or float(view.alpha[row, column]) < 0.5:
        raise InputError(
            f"No tissue is mapped at pixel ({pixel[0]:.0f}, {pixel[1]:.0f}): expected mapped tissue. "
            "Choose another place, or wait until the map covers it."
        )
    k = where.level.intrinsics.numpy()
    ray = np.array([(at[0] - k[0, 2]) / k[0, 0], (at[1] - k[1, 2]) / k[1, 1], 1.0])
    local = ray * float(view.depth[row, column])
    p = where.camera_from_world
    world = torch.tensor(((local - p[:3, 3]) @ p[:3, :3])[None], dtype=torch.float32, device=online.device)
    if where.motion is not None and len(where.motion.nodes_mm):
        world = where.motion.at_rest(world)
    return world[0].cpu().numpy(), where


def set_mark(online: Online, identifier: Any, name: str, frame: int | None, pixel: Float) -> Undo:
    """Puts a mark on the tissue at a pixel; it follows the tissue."""
    rest, where = point_at(online, frame, pixel)
    x, y, z = (float(v) for v in rest)
    mark = Mark(identifier, name, (x, y, z), where.index)
    online.marks.append(mark)
    if where.keyframe is not None:
        online.part.keyframes.replace(where.keyframe, pinned=True)

    def undo() -> None:
        online.marks = [m for m in online.marks if m is not mark]

    return undo


def set_scale(online: Online, frame: int | None, pixels: Float, distance_mm: float) -> Undo:
    """Makes the distance of the tissue at two pixels (2, 2) the given one, by one similarity."""
    first, _ = point_at(online, frame, pixels[0])
    second, _ = point_at(online, frame, pixels[1])
    measured = float(np.linalg.norm(first - second))
    if not measured > 1e-6:
        raise InputError("Both pixels show the same place: expected two places apart. Click them anew.")
    factor, was_metric = distance_mm / measured, online.metric
    apply_scale(online, factor)
    online.metric = True

    def undo() -> None:
        apply_scale(online, 1 / factor)
        online.metric = was_metric

    return undo


def apply_scale(online: Online, factor: float) -> None:
    """Multiplies every length of the session, and of the depths to come."""
    for part in (online.part, *online.resting):
        part.surfels.apply_similarity(factor, np.eye(4))
        part.keyframes.move(factor, np.eye(4))
        if part.motion is not None:
            part.motion.nodes_mm = part.motion.nodes_mm * factor
            part.motion.unit_mm *= factor
            part.motion.spacing_mm *= factor
        if part.breathing is not None:
            part.breathing.scale(factor)
    for name in ("pose", "before"):
        pose = getattr(online, name).copy()
        pose[:3, 3] *= factor
        setattr(online, name, pose)
    online.typical_mm *= factor
    online.depth_scale *= factor
    online.marks = [
        replace(m, rest_mm=(m.rest_mm[0] * factor, m.rest_mm[1] * factor, m.rest_mm[2] * factor))
        for m in online.marks
    ]
    if online.current is not None:
        level = online.current.level
        online.current.level = replace(level, depth=level.depth * factor)

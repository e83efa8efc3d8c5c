"""The session's state as an immutable scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.kernels.spherical_harmonics import sh_from_colours
from splatomy.methods.live_scene.frames import binned_intrinsics, factor_for
from splatomy.methods.live_scene.mapping import to_numpy
from splatomy.methods.live_scene.model import LiveScene
from splatomy.methods.live_scene.motion import CHANNELS
from splatomy.methods.live_scene.online import Online, Part


def scene_of(online: Online, generation: int) -> LiveScene:
    """The scene as it stands, copied to the host.

    Raises:
        InputError: no frame had tissue of known depth, so there is no map.
    """
    part = online.part
    if not len(part.surfels):
        raise InputError(
            "No frame of the stream showed tissue of known depth, so there is no map: expected at least one "
            "frame that is bright, not hidden and has depth. Check the source, its masks and its depth."
        )
    factor = factor_for(online.width_px, online.config.learn_px)
    width, height = online.width_px // factor, online.height_px // factor
    k = binned_intrinsics(online.intrinsics, factor)
    poses = np.stack(
        [part.in_world(f.camera_from_world, f.time_s) for f in part.keyframes.kept] or [online.place()]
    )
    times = np.array([f.time_s for f in part.keyframes.kept] or [online.time_s])
    resting: dict[str, NDArray[Any]] = {}
    for n, other in enumerate(online.resting):
        resting |= {f"{n}.{name}": array for name, array in _surfels(other).items()}
    unit, spacing = 1.0, 1.0
    if part.motion is not None:
        unit, spacing = part.motion.unit_mm, part.motion.spacing_mm
    return LiveScene(
        _surfels(part),
        _motion(part, online.time_s),
        Cameras(np.repeat(k[None], len(poses), 0), poses, width, height),
        times,
        Cameras(k[None], online.place()[None].copy(), width, height),
        online.time_s,
        generation,
        part.surfels.near_mm,
        unit,
        spacing,
        online.metric,
        resting,
    )


def preview_of(
    online: Online, camera: Cameras
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Colour (h, w, 3), alpha (h, w) and depth (h, w) mm of the present map as a camera sees it."""
    intrinsics, size = torch.as_tensor(camera.intrinsics[0]), (camera.width_px, camera.height_px)
    pose = camera.camera_from_world[0] @ online.part.common(online.time_s)
    surfels, motion = online.part.surfels, online.part.motion
    with torch.no_grad():
        rows = surfels.in_sight(pose, intrinsics, size)
        drawn = surfels.draw(pose, intrinsics, size, motion, rows)
    return to_numpy(drawn.colour).clip(0, 1), to_numpy(drawn.alpha), to_numpy(drawn.depth_mm)


def _surfels(part: Part) -> dict[str, NDArray[Any]]:
    store = part.surfels.store
    if store is None:
        return {}
    looks = to_numpy(store.side["looks"])
    return {
        "means_mm": to_numpy(store["means_mm"]),
        "quats_wxyz": to_numpy(store["quats_wxyz"]),
        "log_scales": to_numpy(store["log_scales"]),
        "opacity_logit": to_numpy(store["opacity_logit"]),
        "sh": to_numpy(sh_from_colours(store["colours"].detach()))[:, None],
        "evidence": (looks / (looks + 1)).astype(np.float32),
        "seen_s": to_numpy(store.side["seen_s"]),
    }


def _motion(part: Part, time_s: float) -> dict[str, NDArray[Any]]:
    """The nodes with their states at the keyframes and now, in half precision."""
    motion, store = part.motion, part.surfels.store
    if motion is None or store is None:
        return {}
    count = len(motion.nodes_mm)
    known = [(f.time_s, f.changes) for f in part.keyframes.kept]
    if not known or time_s > known[-1][0]:
        known.append((time_s, motion.changes.detach().cpu().numpy()))
    states = np.zeros((len(known), count, CHANNELS), np.float16)
    for n, (_, changes) in enumerate(known):
        states[n, : len(changes)] = changes
    common: dict[str, NDArray[Any]] = {}
    if part.breathing is not None and part.breathing.common is not None:
        common = part.breathing.common.arrays()
    return {
        **common,
        "nodes_mm": to_numpy(motion.nodes_mm),
        "changes": states,
        "times_s": np.array([t for t, _ in known]),
        "nodes": store.side["nodes"].to(torch.int64).cpu().numpy().copy(),
        "shares": to_numpy(store.side["shares"]),
    }

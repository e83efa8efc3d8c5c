"""Connected maps: a session has one, and further ones while places were not found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.geometry.rigid import inverse
from splatomy.methods.live_scene.breathing import Breathing
from splatomy.methods.live_scene.config import Config
from splatomy.methods.live_scene.frames import Float
from splatomy.methods.live_scene.keyframes import Keyframes
from splatomy.methods.live_scene.mapping import SurfelMap
from splatomy.methods.live_scene.motion import NodeMotion


@dataclass
class Part:
    """One connected map: surfels, keyframes and, when the tissue bends, its nodes; numbered from 0 on.

    breathing: tells the camera's motion from the tissue's where nothing but the picture does.
    """

    number: int
    surfels: SurfelMap
    keyframes: Keyframes
    motion: NodeMotion | None
    breathing: Breathing | None = None

    def common(self, time_s: float) -> Float:
        """What all the tissue does at a time, (4, 4): from the map, which the camera sees, to the world."""
        return np.eye(4) if self.breathing is None else self.breathing.motion(time_s)

    def in_world(self, camera_from_tissue: Float, time_s: float) -> Float:
        """The camera's pose (4, 4) in the world, of that in the map at a time."""
        if self.breathing is None:
            return camera_from_tissue
        return np.asarray(camera_from_tissue @ inverse(self.common(time_s)))


def parts_state(parts: Sequence[Part]) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
    """Arrays and JSON values of all maps. Keyframes never change: states of many moments share them."""
    arrays: dict[str, NDArray[Any]] = {}
    values = []
    for n, part in enumerate(parts):
        found, known = part.surfels.state()
        frames, frame_values = part.keyframes.state()
        arrays |= {f"part.{n}.surfels.{k}": v for k, v in found.items()}
        arrays |= {f"part.{n}.keyframes.{k}": v for k, v in frames.items()}
        nodes: dict[str, Any] | None = None
        if part.motion is not None:
            nodes = {"spacing_mm": part.motion.spacing_mm, "unit_mm": part.motion.unit_mm}
            arrays |= {f"part.{n}.motion.{k}": v for k, v in part.motion.state().items()}
        known_part = {"number": part.number, "surfels": known, "keyframes": frame_values, "motion": nodes}
        if part.breathing is not None:
            told, known_part["breathing"] = part.breathing.state()
            arrays |= {f"part.{n}.breathing.{k}": v for k, v in told.items()}
        values.append(known_part)
    return arrays, values


def parts_restored(
    arrays: Mapping[str, NDArray[Any]],
    values: Sequence[Mapping[str, Any]],
    config: Config,
    device: torch.device,
) -> list[Part]:
    """The maps that ``parts_state`` described."""

    def within(prefix: str) -> dict[str, NDArray[Any]]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    parts = []
    for n, known in enumerate(values):
        surfels = SurfelMap.restored(within(f"part.{n}.surfels."), known["surfels"], config, device)
        frames = Keyframes.restored(within(f"part.{n}.keyframes."), known["keyframes"], config)
        motion = None
        if known["motion"] is not None:
            motion = NodeMotion(**known["motion"], device=device)
            motion.restore(within(f"part.{n}.motion."))
        breathing = None
        if known.get("breathing") is not None:
            breathing = Breathing.restored(within(f"part.{n}.breathing."), known["breathing"])
        parts.append(Part(int(known["number"]), surfels, frames, motion, breathing))
    return parts

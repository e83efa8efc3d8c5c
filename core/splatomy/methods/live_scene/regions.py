"""What the surgeon marked: regions and points that stay with the tissue."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from splatomy.methods.live_scene.frames import Bool, Float, Level
from splatomy.methods.live_scene.mapping import SurfelMap
from splatomy.methods.live_scene.motion import NodeMotion

_BEHIND = 0.05
"""A surfel this share deeper than what is seen at its pixel is hidden behind it."""


@dataclass(frozen=True)
class Mark:
    """A point that follows the tissue. rest_mm: its place (3,) where the tissue rests."""

    identifier: Any
    name: str
    rest_mm: tuple[float, float, float]
    frame: int

    def values(self) -> dict[str, Any]:
        """The mark as JSON values."""
        return asdict(self)

    def place_mm(self, motion: NodeMotion | None) -> Float:
        """Where the point is now in the map, (3,)."""
        rest = torch.tensor([self.rest_mm], dtype=torch.float32)
        if motion is None or not len(motion.nodes_mm):
            return rest[0].double().numpy()
        rest = rest.to(motion.device)
        quats = torch.tensor([[1.0, 0, 0, 0]], device=motion.device)
        with torch.no_grad():
            moved, _ = motion.moved(rest, quats, *motion.bind(rest))
        return moved[0].double().cpu().numpy()


def projected(
    surfels: SurfelMap, pose: Float, level: Level, motion: NodeMotion | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns, rows, depths and whether inside the picture, of the surfels' centres, each (N,)."""
    if surfels.store is None:
        raise ValueError("there is no map yet")
    means = surfels.store["means_mm"].detach()
    if motion is not None:
        side = surfels.store.side
        means, _ = motion.moved(means, surfels.store["quats_wxyz"].detach(), side["nodes"], side["shares"])
    p = torch.as_tensor(pose, dtype=torch.float32, device=means.device)
    local = means @ p[:3, :3].T + p[:3, 3]
    z = local[:, 2].clamp_min(1e-3)
    k = level.intrinsics
    x = (float(k[0, 0]) * local[:, 0] / z + float(k[0, 2])).round().long()
    y = (float(k[1, 1]) * local[:, 1] / z + float(k[1, 2])).round().long()
    width, height = level.size
    inside = (local[:, 2] > 1e-3) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return x.clamp(0, width - 1), y.clamp(0, height - 1), local[:, 2], inside


def within(surfels: SurfelMap, pose: Float, level: Level, area: Bool, motion: NodeMotion | None) -> Tensor:
    """The surfels (N,) on the surface that a picture shows in an area (h, w) of it."""
    x, y, z, inside = projected(surfels, pose, level, motion)
    view = surfels.view(pose, level, motion)
    chosen = torch.as_tensor(area, device=z.device)[y, x]
    return inside & chosen & (z < (1 + _BEHIND) * view.depth[y, x])


def weights_of(surfels: SurfelMap, pose: Float, level: Level, gain: float) -> Tensor | None:
    """Weights (h, w) of a picture by the regions in it: 0 = ignored, ``gain`` = to be kept; None = none."""
    if surfels.store is None or "region" not in surfels.store.side:
        return None
    region = surfels.store.side["region"]
    if not (region != 0).any():
        return None
    x, y, _, inside = projected(surfels, pose, level)
    width, height = level.size
    out = np.ones((height, width), np.float32)
    reach = max(1, round(1.5 * 2 / level.factor))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    for chosen, value in ((region > 0, gain), (region < 0, 0.0)):
        here = (inside & chosen).cpu().numpy()
        if here.any():
            dots = np.zeros((height, width), np.uint8)
            dots[y.cpu().numpy()[here], x.cpu().numpy()[here]] = 1
            out[cv2.dilate(dots, kernel) > 0] = value
    return torch.as_tensor(out, device=level.weight.device)

"""Surface normals of single pictures by an ONNX network that the user supplies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.method import setting
from splatomy.prepare.onnx import OnnxModel

Float32 = NDArray[np.float32]

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_LEAST_LENGTH = 0.2
_FEW_PIXELS = 200
_AGREEING_COSINE = 0.6


@dataclass(frozen=True)
class OnnxNormalsConfig:
    """What the network wants."""

    short_side_px: int = setting(480, 32, 2048, "px", "Short side of the picture for networks of free size")
    multiple_px: int = setting(32, 1, 64, "px", "Sizes must be multiples of this")


def estimate_onnx_normals(
    capture: Capture, model: OnnxModel, config: OnnxNormalsConfig | None = None
) -> Task[Capture]:
    """The capture with ``details["normals"]``: T unit normals (H, W, 3) towards the camera, 0 = unknown.

    Camera axes x right, y down, z forward. Networks disagree on the signs of their axes: those are taken
    that fit the measured depth best; without depth, x right, y down, z forward is assumed.

    Raises:
        InputError: the model has other tensors, or no choice of signs fits the depth.

    Source: O2-Recon takes Bae et al. 2021 (four channels: a normal and its certainty, which is left out).
    """
    config = config or OnnxNormalsConfig()
    _check(model)
    yield from model.notices
    height, width = capture.images.shape[1:3]
    rows, columns = model.inputs[0].shape[2:]
    scale = config.short_side_px / min(width, height)
    size = tuple(
        side
        if isinstance(side, int)
        else config.multiple_px * max(1, round(length * scale / config.multiple_px))
        for side, length in ((columns, width), (rows, height))
    )
    found = []
    for t in range(len(capture)):
        found.append(_predicted(model, np.asarray(capture.images[t]), (size[0], size[1])))
        yield Progress("network normals", t + 1, len(capture))
    signs = yield from _signs(capture, found, model)
    normals = [_towards_camera(n * signs, capture.cameras, t) for t, n in enumerate(found)]
    note = f"normals by the network {model.name}"
    return capture.prepared(
        note, details={**capture.details, "normals": normals, "normals_model_sha256": model.sha256}
    )


def _check(model: OnnxModel) -> None:
    """Whether a model takes one picture (1, 3, H, W) and gives (1, 3 or more, H, W)."""
    expected = "one input (1, 3, H, W) and an output (1, 3, H, W), further channels allowed"
    if len(model.inputs) != 1 or not model.outputs:
        raise model.refuse(expected)
    shape, given = model.inputs[0].shape, model.outputs[0].shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3) or len(given) != 4:
        raise model.refuse(expected)
    if isinstance(given[1], int) and given[1] < 3:
        raise model.refuse(expected)


def _predicted(model: OnnxModel, picture: Float32, size: tuple[int, int]) -> Float32:
    """Unit vectors (H, W, 3) for one sRGB picture (H, W, 3), 0 where the network says nothing."""
    small = np.clip(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), 0, 1)
    feed = np.moveaxis((small - _MEAN) / _STD, -1, 0)[None]
    result = np.asarray(next(iter(model.run({model.inputs[0].name: feed}).values())), np.float32)
    if result.ndim != 4 or result.shape[1] < 3:
        raise InputError(
            f"{model.name} gave an output of shape {result.shape}; expected (1, 3, H, W): "
            "choose another model."
        )
    vectors: NDArray[Any] = np.ascontiguousarray(np.moveaxis(np.nan_to_num(result[0, :3]), 0, -1))
    vectors = cv2.resize(vectors, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.where(length > _LEAST_LENGTH, vectors / np.maximum(length, 1e-6), 0), np.float32)


def _signs(capture: Capture, found: list[Float32], model: OnnxModel) -> Task[Float32]:
    """(3,) +-1 for the axes of the network, as measured depth asks for."""
    usual = np.ones(3, np.float32)
    if capture.depth_mm is None or capture.cameras is None:
        return usual
    scores, pixels = np.zeros(8), 0
    choices = [np.array(c, np.float32) for c in product((1, -1), repeat=3)]
    for t in range(0, len(found), max(1, len(found) // 8)):
        measured, known = depth_normals(capture.depth_mm[t], capture.cameras, t)
        known &= np.abs(found[t]).sum(-1) > 0
        pixels += int(known.sum())
        scores += [float(((found[t][known] * c) * measured[known]).sum()) for c in choices]
        yield Progress("network normals", len(found), len(found))
    if pixels < _FEW_PIXELS:
        return usual
    best = int(scores.argmax())
    if scores[best] / pixels < _AGREEING_COSINE:
        raise InputError(
            f"The normals of {model.name} do not fit the measured depth (mean cosine "
            f"{scores[best] / pixels:.2f}, expected {_AGREEING_COSINE} or more): choose another network."
        )
    if best:
        axes = ", ".join(name for name, sign in zip("xyz", choices[best], strict=True) if sign < 0)
        yield Notice("info", "normals-axes", f"The network's {axes} axis points the other way; it is turned.")
    return choices[best]


def depth_normals(
    depth_mm: NDArray[np.floating], cameras: Cameras, t: int
) -> tuple[Float32, NDArray[np.bool_]]:
    """Unit normals (H, W, 3) of a depth map, camera axes, towards the camera, and where they are known."""
    z = np.asarray(depth_mm, np.float64)
    height, width = z.shape
    grid = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones((height, width))], -1)
    points = grid @ np.linalg.inv(cameras.intrinsics[t]).T * z[..., None]
    across, down = np.full_like(points, np.nan), np.full_like(points, np.nan)
    across[:, 1:-1], down[1:-1] = points[:, 2:] - points[:, :-2], points[2:] - points[:-2]
    normal = np.cross(down, across)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    known = np.isfinite(length[..., 0]) & (length[..., 0] > 0)
    unit = np.where(known[..., None], normal / np.where(length > 0, length, 1), 0)
    return unit.astype(np.float32), known


def _towards_camera(normals: Float32, cameras: Cameras | None, t: int) -> Float32:
    """The normals without those that point away from the camera, which no surface in sight can have."""
    if cameras is None:
        return normals
    height, width = normals.shape[:2]
    grid = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones((height, width))], -1)
    rays = grid @ np.linalg.inv(cameras.intrinsics[t]).T
    away = (normals * rays).sum(-1) > 0
    return np.where(away[..., None], np.float32(0), normals).astype(np.float32)

"""Depth of single pictures by an ONNX network that the user supplies (MiDaS, Depth-Anything)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Capture
from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.method import setting
from splatomy.prepare._self_rectify import RELATIVE_DEPTH
from splatomy.prepare.depth import Storage, depth_storage
from splatomy.prepare.onnx import OnnxModel

Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_CONFIDENCE = 0.5
_SAMPLES = 20000


@dataclass(frozen=True)
class OnnxDepthConfig:
    """What the network wants and gives."""

    output: Literal["inverse", "depth", "metric"] = setting(
        "inverse", doc="Larger is nearer (relative), larger is farther (relative), or depth in its own unit"
    )
    unit_mm: float = setting(1.0, 1e-6, 1e6, "mm", "Length of the unit of a metric network")
    short_side_px: int = setting(392, 32, 2048, "px", "Short side of the picture for networks of free size")
    multiple_px: int = setting(14, 1, 64, "px", "Sizes must be multiples of this")
    far_over_near: float = setting(
        3.0, 1.05, 50.0, doc="Assumed ratio of the farthest to the nearest tissue, for relative outputs"
    )


def estimate_onnx_depth(
    capture: Capture,
    model: OnnxModel,
    config: OnnxDepthConfig | None = None,
    storage: Storage = depth_storage,
) -> Task[Capture]:
    """The capture with ``depth_mm`` and ``depth_confidence`` on visible tissue, NaN and 0 elsewhere.

    A relative output is laid over depth that the capture already has (sparse stereo, for instance), else
    over an assumed range with a median of 60 units; every frame is then fitted to the last one, so
    that its own scale and offset do not flicker.

    Raises:
        InputError: the model has other tensors, or its output is flat.
    """
    config = config or OnnxDepthConfig()
    check_depth_model(model)
    yield from model.notices
    frames, height, width, _ = capture.images.shape
    size = _input_size(model, width, height, config)
    depth = storage((frames, height, width), np.float32)
    confidence = storage((frames, height, width), np.float32)
    before: Image | None = None
    metric = config.output == "metric" or (capture.depth_mm is not None and capture.metric)
    for t in range(frames):
        hidden = np.zeros((height, width), np.bool_)
        if capture.occluded is not None:
            hidden = np.asarray(capture.occluded[t])
        value = _predicted(model, np.asarray(capture.images[t]), size)
        if config.output == "metric":
            inverse = np.asarray(1 / np.maximum(config.unit_mm * value, 1e-6), np.float32)
        else:
            relative = value
            if config.output == "depth":
                relative = np.asarray(1 / np.maximum(value, 1e-6), np.float32)
            known = None if capture.depth_mm is None else np.asarray(capture.depth_mm[t])
            inverse = _laid_over(relative, known, before, hidden, config)
            before = np.where(hidden, np.float32(np.nan), inverse).astype(np.float32)
        with np.errstate(divide="ignore"):
            found = np.where(hidden | (inverse <= 0), np.float32(np.nan), 1 / inverse)
        depth[t] = found
        confidence[t] = np.where(np.isfinite(found), np.float32(_CONFIDENCE), np.float32(0))
        yield Progress("network depth", t + 1, frames)
    note = f"{'metric' if metric else 'relative'} depth by the network {model.name}"
    if not metric:
        yield Notice("warning", "depth-relative", "The network's depth is relative: lengths have no unit.")
    return capture.prepared(
        note, depth_mm=depth, depth_confidence=confidence, metric=metric,
        details={**capture.details, "depth_source": note, "depth_model_sha256": model.sha256},
    )  # fmt: skip


class RelativeDepth:
    """A network's inverse depth of pictures of one size, one at a time, in its own unit."""

    def __init__(self, model: OnnxModel, config: OnnxDepthConfig, width_px: int, height_px: int) -> None:
        check_depth_model(model)
        self._model, self._config = model, config
        self._size = _input_size(model, width_px, height_px, config)

    def inverse(self, image: Image) -> Image:
        """The inverse depth (H, W) of a picture (H, W, 3).

        Raises:
            InputError: the network gave something that is no map of depth.
        """
        value = _predicted(self._model, image, self._size)
        if self._config.output == "inverse":
            return value
        unit = self._config.unit_mm if self._config.output == "metric" else 1.0
        return np.asarray(1 / np.maximum(unit * value, 1e-6), np.float32)


def check_depth_model(model: OnnxModel) -> None:
    """Whether a model takes one picture (1, 3, H, W) and gives one map (1, H, W) or (1, 1, H, W).

    Raises:
        InputError: it does not.
    """
    expected = "one input (1, 3, H, W) and an output (1, H, W) or (1, 1, H, W)"
    if len(model.inputs) != 1 or not model.outputs:
        raise model.refuse(expected)
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[1] not in (3, *(n for n in shape if isinstance(n, str))):
        raise model.refuse(expected)
    if len(model.outputs[0].shape) not in (3, 4):
        raise model.refuse(expected)


def _input_size(model: OnnxModel, width: int, height: int, config: OnnxDepthConfig) -> tuple[int, int]:
    """Width and height to feed: the model's own where fixed, else of the picture's aspect."""
    rows, columns = model.inputs[0].shape[2:]
    scale = config.short_side_px / min(width, height)

    def free(length: int) -> int:
        return config.multiple_px * max(1, round(length * scale / config.multiple_px))

    return (
        columns if isinstance(columns, int) else free(width),
        rows if isinstance(rows, int) else free(height),
    )


def _predicted(model: OnnxModel, picture: Image, size: tuple[int, int]) -> Image:
    """The network's map (H, W) for one sRGB picture (H, W, 3)."""
    small = np.clip(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), 0, 1)
    feed = np.moveaxis((small - _MEAN) / _STD, -1, 0)[None]
    result: Any = next(iter(model.run({model.inputs[0].name: feed}).values()))
    result = np.asarray(result, np.float32).squeeze()
    if result.ndim != 2 or not np.isfinite(result).any():
        raise InputError(
            f"{model.name} gave an output of shape {result.shape} without usable numbers; expected a map of "
            "depth: choose another model."
        )
    return cv2.resize(result, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)


def _laid_over(
    relative: Image, known: Image | None, before: Image | None, hidden: Bool, config: OnnxDepthConfig
) -> Image:
    """Inverse depth (H, W) of a relative map where larger is nearer."""
    weight = (~hidden).astype(np.float32)
    if known is not None and np.isfinite(known).mean() > 0.01:
        slope, offset = align_inverse(relative, np.float32(1) / known, weight)
    elif before is not None:
        slope, offset = align_inverse(relative, before, weight)
    else:
        far, near = np.percentile(relative[~hidden] if (~hidden).any() else relative, [2, 98])
        if near <= far:
            raise InputError("The network's depth is flat; expected a map of depth: choose another model.")
        # The range is set about the wanted median; where the median falls inside it is the network's.
        ratio = np.sqrt(config.far_over_near)
        slope = (ratio - 1 / ratio) / RELATIVE_DEPTH / float(near - far)
        offset = 1 / ratio / RELATIVE_DEPTH - slope * float(far)
        middle = float(np.median(slope * relative[~hidden] + offset)) if (~hidden).any() else 1.0
        slope, offset = slope / (middle * RELATIVE_DEPTH), offset / (middle * RELATIVE_DEPTH)
    return np.asarray(slope * relative + offset, np.float32)


def align_inverse(relative: Image, inverse_depth: Image, weight: Image) -> tuple[float, float]:
    """Factor a and offset b so that a * relative + b fits known inverse depth, both (N,), despite outliers.

    Starts from the best of many pairs (least median of squares) and refines with Cauchy weights: plain
    least squares fails once a third of the pixels err to one side.

    Source: Rousseeuw, JASA 79 (1984).
    """
    x, y = np.asarray(relative, np.float64).ravel(), np.asarray(inverse_depth, np.float64).ravel()
    w = np.asarray(weight, np.float64).ravel()
    keep = np.isfinite(x) & np.isfinite(y) & (w > 0)
    x, y, w = x[keep], y[keep], w[keep]
    if len(x) < 16 or np.ptp(x) <= 0:
        return 0.0, float(np.median(y)) if len(y) else 0.0
    rng = np.random.default_rng(0)
    some = rng.choice(len(x), min(len(x), _SAMPLES), replace=False)
    x, y, w = x[some], y[some], w[some]
    some = np.arange(min(len(x), 1000))
    first, second = rng.integers(0, len(x), (2, 300))
    apart = np.abs(x[first] - x[second]) > 0.05 * np.ptp(x)
    first, second = first[apart], second[apart]
    slopes = (y[first] - y[second]) / (x[first] - x[second])
    offsets = y[first] - slopes * x[first]
    errors = np.median(np.abs(slopes[:, None] * x[some] + offsets[:, None] - y[some]), axis=1)
    best = int(np.argmin(errors))
    a, b = float(slopes[best]), float(offsets[best])
    for _ in range(10):
        residual = a * x + b - y
        scale = 1.4826 * float(np.median(np.abs(residual))) + 1e-12
        trust = w / (1 + (residual / (2 * scale)) ** 2)
        a, b = (float(v) for v in np.polyfit(x, y, 1, w=np.sqrt(trust)))
    return a, b

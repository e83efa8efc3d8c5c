"""Segmentation models that a user supplies as ONNX files: YOLO instance masks and semantic classes.

Written against the published tensor layouts alone; nothing here imports the packages that train them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.events import Notice, Progress, Task
from splatomy.prepare.depth import Storage, depth_storage
from splatomy.prepare.masks._flow import codes_of
from splatomy.prepare.masks._refine import expected_overlap
from splatomy.prepare.masks.propose import Proposal
from splatomy.prepare.onnx import OnnxModel, Shape, Tensor, may_be

Codes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

_EXPECTED = (
    "one input (1, 3, H, W) and either YOLO segmentation (1, 4+classes+32, N) with (1, 32, H/4, W/4), or "
    "semantic classes (1, C, h, w) or (1, h, w)"
)
_FREE_SIZE = 640
_PAD_CODE = 114
_LEAST_SCORE, _SAME_OBJECT, _MOST_OBJECTS = 0.25, 0.7, 300
_PROBABLE = 0.5
_MOST_LOGIT = 8.0
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter(Protocol):
    """A model that tells where instruments are. notices: what a user should know of it."""

    notices: tuple[Notice, ...]

    def probability(self, codes: Codes) -> Float32:
        """The probability (H, W) that an instrument hides the tissue, of a picture (H, W, 3)."""
        ...


def load_segmenter(path: Path, device: str = "auto", classes: Sequence[int] | None = None) -> Segmenter:
    """The segmenter of an ONNX file, its layout told by its tensors and tried on an empty picture.

    classes: numbers of the classes that hide tissue, or None for all (of semantic ones: all but 0).

    Raises:
        InputError: no model, of another layout, or without such classes.
        MissingBackendError: onnxruntime is not installed.
    """
    model = OnnxModel(path, device)
    if len(model.inputs) != 1 or not may_be(model.inputs[0].shape, (1, 3, "H", "W")):
        raise model.refuse(_EXPECTED)
    ranks = sorted(len(tensor.shape) for tensor in model.outputs)
    made: YoloSegmenter | SemanticSegmenter
    if ranks == [3, 4]:
        made = YoloSegmenter(model, classes)
    elif ranks in ([3], [4]):
        made = SemanticSegmenter(model, classes)
    else:
        raise model.refuse(_EXPECTED)
    return made


def segment(images: Any, segmenter: Segmenter, storage: Storage = depth_storage) -> Task[Proposal]:
    """The instruments of a clip by a model.

    images: (T, H, W, 3) sRGB in [0, 1], or lazy images. storage: makes the arrays of the result.
    """
    frames, height, width = images.shape[:3]
    occluded = storage((frames, height, width), np.bool_)
    confidence = np.zeros(frames)
    for frame in range(frames):
        yield Progress("run the mask model", frame, frames)
        probability = segmenter.probability(codes_of(images[frame]))
        occluded[frame] = probability > _PROBABLE
        confidence[frame] = expected_overlap(probability, occluded[frame])
    yield Progress("run the mask model", frames, frames)
    return Proposal(occluded, storage(occluded.shape, np.bool_), confidence)


@dataclass(frozen=True)
class Letterbox:
    """A picture scaled into a model's input with its proportions kept: input px = scale * px + pad.

    Coordinates count from the outer edge of the first pixel.
    """

    scale: float
    pad_x: float
    pad_y: float
    width: int
    height: int

    @staticmethod
    def around(picture: tuple[int, int], size: tuple[int, int]) -> Letterbox:
        """For a picture of (height, width) in an input of (height, width), centred."""
        scale = min(size[0] / picture[0], size[1] / picture[1])
        inner = round(picture[0] * scale), round(picture[1] * scale)
        return Letterbox(scale, (size[1] - inner[1]) // 2, (size[0] - inner[0]) // 2, inner[1], inner[0])

    def put(self, codes: Codes, size: tuple[int, int]) -> Codes:
        """The input picture (size, 3), grey around."""
        out = np.full((*size, 3), _PAD_CODE, np.uint8)
        how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        x, y = int(self.pad_x), int(self.pad_y)
        inner = cv2.resize(codes, (self.width, self.height), interpolation=how)
        out[y : y + self.height, x : x + self.width] = inner
        return out

    def back(self, field: Float32, picture: tuple[int, int], cell: float) -> Float32:
        """A map of the input, one value for ``cell`` x ``cell`` px, at the picture's (height, width)."""
        x = ((np.arange(picture[1]) + 0.5) * self.width / picture[1] + self.pad_x) / cell - 0.5
        y = ((np.arange(picture[0]) + 0.5) * self.height / picture[0] + self.pad_y) / cell - 0.5
        grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        out = cv2.remap(field, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(out, dtype=np.float32)


class YoloSegmenter:
    """YOLOv8 and YOLO11 segmentation: boxes, class scores, coefficients (1, 4+C+M, N) and prototypes.

    Source: the tensor layout of ``masks-and-depth`` B1: centre x, y, width, height in input px; scores that
    are probabilities already; prototypes (1, M, H/4, W/4). Exports with suppression built in give
    (1, objects, 6+M): two corners, score, class, coefficients.
    """

    def __init__(self, model: OnnxModel, classes: Sequence[int] | None = None) -> None:
        """Raises InputError: another layout, or no such classes."""
        self._model = model
        self._input = model.inputs[0]
        self._size = _input_size(self._input)
        by_rank = {len(tensor.shape): tensor.name for tensor in model.outputs}
        self._rows_name, self._prototypes_name = by_rank[3], by_rank[4]
        empty = model.run({self._input.name: np.zeros((1, 3, *self._size))})
        rows, prototypes = empty[self._rows_name], empty[self._prototypes_name]
        self._num_coefficients = prototypes.shape[1]
        cells = sum((self._size[0] // step) * (self._size[1] // step) for step in (8, 16, 32))
        self._suppressed = rows.shape[2] == 6 + self._num_coefficients and rows.shape[2] != cells
        num_classes = rows.shape[1] - 4 - self._num_coefficients
        right_prototypes = prototypes.shape[2:] == (self._size[0] // 4, self._size[1] // 4)
        if not right_prototypes or not (self._suppressed or (rows.shape[2] == cells and num_classes > 0)):
            raise model.refuse(_EXPECTED)
        known = model.class_names()
        count = max(known, default=-1) + 1 if self._suppressed else num_classes
        self._classes = _chosen_classes(model, classes, count, range(count))
        self.notices = (*model.notices, _class_notice(model, self._classes))

    def probability(self, codes: Codes) -> Float32:
        """The probability (H, W) that an instrument hides the tissue, of a picture (H, W, 3)."""
        picture = codes.shape[0], codes.shape[1]
        box = Letterbox.around(picture, self._size)
        given = np.moveaxis(box.put(codes, self._size), -1, 0)[None] / np.float32(255)
        out = self._model.run({self._input.name: given})
        corners, coefficients = self._objects(out[self._rows_name][0].astype(np.float32))
        prototypes = out[self._prototypes_name][0].astype(np.float32)
        height, width = prototypes.shape[1:]
        # Logits are interpolated, not probabilities: their zero stays where the border is.
        union = np.full((height, width), -_MOST_LOGIT, np.float32)
        x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
        cell = self._size[1] / width
        for (left, top, right, bottom), weights in zip(corners / cell, coefficients, strict=True):
            logits = np.clip(np.tensordot(weights, prototypes, 1), -_MOST_LOGIT, _MOST_LOGIT)
            inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
            np.maximum(union, np.where(inside, logits, -_MOST_LOGIT), out=union)
        return _sigmoid(box.back(union, picture, cell))

    def _objects(self, rows: Float32) -> tuple[Float32, Float32]:
        """Corners (K, 4) in input px and coefficients (K, M) of the objects that hide tissue."""
        if self._suppressed:
            sure = rows[:, 4] > _LEAST_SCORE
            if self._classes:
                sure &= np.isin(rows[:, 5].astype(int), self._classes)
            return rows[sure, :4], rows[sure, 6:]
        columns = rows.T
        scores = columns[:, 4 : columns.shape[1] - self._num_coefficients]
        best = scores.argmax(1)
        score = scores[np.arange(len(best)), best]
        kept = np.flatnonzero(score > _LEAST_SCORE)
        centre, size = columns[kept, :2], columns[kept, 2:4]
        corners = np.concatenate([centre - size / 2, centre + size / 2], 1)
        first = _suppressed(corners, score[kept], best[kept])
        chosen = first[np.isin(best[kept][first], self._classes)]
        return corners[chosen], columns[kept[chosen], -self._num_coefficients :]


class SemanticSegmenter:
    """Any model that gives classes per pixel: logits (1, C, h, w), one logit (1, 1, h, w), or ids (1, h, w).

    Pictures are stretched to the input's size and normalised as for ImageNet.
    """

    def __init__(self, model: OnnxModel, classes: Sequence[int] | None = None) -> None:
        """Raises InputError: another layout, or no such classes."""
        self._model = model
        self._input = model.inputs[0]
        self._size = _input_size(self._input)
        out = model.run({self._input.name: np.zeros((1, 3, *self._size))})[model.outputs[0].name]
        ratio = [size / wanted for size, wanted in zip(out.shape[-2:], self._size, strict=True)]
        # The map must be the picture's, not a table of boxes.
        if out.shape[0] != 1 or abs(ratio[0] - ratio[1]) > 0.02 * ratio[0] or ratio[0] > 1.001:
            raise model.refuse(_EXPECTED)
        self._binary = out.ndim == 4 and out.shape[1] == 1
        if self._binary and classes not in (None, [1], (1,)):
            raise InputError(f"{model.name} has one class (1); expected --classes 1 or none: leave it out.")
        count = out.shape[1] if out.ndim == 4 else max(model.class_names(), default=255) + 1
        self._classes = (1,) if self._binary else _chosen_classes(model, classes, count, range(1, count))
        self.notices = (*model.notices, _class_notice(model, self._classes))

    def probability(self, codes: Codes) -> Float32:
        """The probability (H, W) that an instrument hides the tissue, of a picture (H, W, 3)."""
        picture = codes.shape[0], codes.shape[1]
        given = normalised(resized(codes, self._size, cv2.INTER_AREA))
        out = self._model.run({self._input.name: given})[self._model.outputs[0].name][0]
        if out.ndim == 2:
            field = np.isin(out.astype(int), self._classes).astype(np.float32)
        elif self._binary:
            field = _sigmoid(out[0].astype(np.float32))
        else:
            raised = np.exp(out.astype(np.float32) - out.max(0))
            field = raised[list(self._classes)].sum(0) / raised.sum(0)
        stretched = Letterbox(1.0, 0.0, 0.0, field.shape[1], field.shape[0])
        return stretched.back(np.asarray(field, dtype=np.float32), picture, 1.0)


def normalised(codes: Codes) -> Float32:
    """A picture (H, W, 3) as (1, 3, H, W) with ImageNet's mean and deviation."""
    values = (codes / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)[None], dtype=np.float32)


def resized(codes: Codes, size: tuple[int, int], how: int = cv2.INTER_LINEAR) -> Codes:
    """The picture at (height, width)."""
    return np.asarray(cv2.resize(codes, size[::-1], interpolation=how), dtype=np.uint8)


def _sigmoid(values: Float32) -> Float32:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))), dtype=np.float32)


def _input_size(tensor: Tensor) -> tuple[int, int]:
    """(height, width) to give the model; free sizes become 640."""
    shape: Shape = tensor.shape
    height, width = (_FREE_SIZE if isinstance(size, str) else size for size in shape[2:4])
    return height, width


def _chosen_classes(
    model: OnnxModel, classes: Sequence[int] | None, count: int, default: range
) -> tuple[int, ...]:
    """The classes that hide tissue; empty when the model does not say how many there are: all.

    Raises:
        InputError: a class that is not there.
    """
    if classes is None:
        return tuple(default)
    wrong = [number for number in classes if number < 0 or (count and number >= count)]
    if wrong or not classes:
        raise InputError(
            f"{model.name} has {count} classes (0 to {count - 1}); expected --classes within them, got "
            f"{', '.join(map(str, classes)) or 'none'}: choose others."
        )
    return tuple(classes)


def _class_notice(model: OnnxModel, classes: Sequence[int]) -> Notice:
    names = model.class_names()
    shown = ", ".join(names.get(number, str(number)) for number in list(classes)[:8])
    more = f" and {len(classes) - 8} more" if len(classes) > 8 else ""
    text = f"Classes of {model.name} that count as hiding tissue: {shown or 'all'}{more}."
    return Notice("info", "mask-classes", text)


def _suppressed(corners: Float32, score: Float32, classes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Indices of the best boxes of each object, best first: boxes of one class do not overlap much.

    Greedy non-maximum suppression at an intersection over union of 0.7.
    """
    order = np.argsort(-score, kind="stable")
    area = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    kept: list[int] = []
    while len(order) and len(kept) < _MOST_OBJECTS:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[rest, :2])
        high = np.minimum(corners[best, 2:], corners[rest, 2:])
        both = np.prod(np.maximum(high - low, 0), axis=1)
        overlap = both / np.maximum(area[best] + area[rest] - both, 1e-9)
        order = rest[(overlap <= _SAME_OBJECT) | (classes[rest] != classes[best])]
    return np.array(kept, dtype=np.int64)

"""Masks from clicks, by SAM and SAM 2 models that a user supplies as ONNX encoder and decoder.

The encoder runs once a frame, the decoder once a click; tensors are found by the names that exporters use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from splatomy.errors import InputError
from splatomy.events import Notice
from splatomy.prepare.onnx import OnnxModel, may_be
from splatomy.prepare.onnx_masks import Codes, Float32, Letterbox, normalised, resized

_SIDE, _LOGIT_SIDE = 1024, 256
_FEATURES: Mapping[str, tuple[str, ...]] = {
    "image_embed": ("image_embed", "image_embeddings", "embeddings", "image_embedding"),
    "high_res_feats_0": ("high_res_feats_0", "feat_0", "high_res_features_0", "feats_0"),
    "high_res_feats_1": ("high_res_feats_1", "feat_1", "high_res_features_1", "feats_1"),
}
_MOST_LOGIT = 32.0
_EXPECTED_ENCODER = (
    "one input (1, 3, 1024, 1024) and image_embeddings (1, 256, 64, 64), for SAM 2 also high_res_feats_0 "
    "(1, 32, 256, 256) and high_res_feats_1 (1, 64, 128, 128)"
)
_EXPECTED_DECODER = "the encoder's outputs as inputs, point_coords (1, N, 2), point_labels (1, N), and masks"

HIDDEN, VISIBLE = 1, 0
"""Labels of a click: on the wanted object, and on what is not part of it."""


@dataclass(frozen=True)
class Embedding:
    """What the encoder made of one picture of (height, width) ``picture``: tensors by their usual names."""

    features: Mapping[str, NDArray[Any]]
    picture: tuple[int, int]


@dataclass(frozen=True)
class ClickMask:
    """mask (H, W), True = the clicked object. score: the model's own estimate of the overlap, or its
    stability. logits (256, 256): to be given back with the next click.
    """

    mask: NDArray[np.bool_]
    score: float
    logits: Float32


class ClickSegmenter:
    """SAM (also MobileSAM, EdgeSAM) or SAM 2, told apart by the encoder's outputs.

    Source: the tensor layouts of ``masks-and-depth`` B3.
    """

    def __init__(self, encoder: Path, decoder: Path, device: str = "auto") -> None:
        """Loads both models.

        Raises:
            InputError: no model, or of another layout. MissingBackendError: onnxruntime is not installed.
        """
        self._encoder, self._decoder = OnnxModel(encoder, device), OnnxModel(decoder, device)
        self.notices: tuple[Notice, ...] = (*self._encoder.notices, *self._decoder.notices)
        inputs = self._encoder.inputs
        if len(inputs) != 1 or not may_be(inputs[0].shape, (1, 3, _SIDE, _SIDE)):
            raise self._encoder.refuse(_EXPECTED_ENCODER)
        outputs = [tensor.name for tensor in self._encoder.outputs]
        self._outputs = {usual: _of(outputs, names) for usual, names in _FEATURES.items()}
        fine = [self._outputs["high_res_feats_0"], self._outputs["high_res_feats_1"]]
        if self._outputs["image_embed"] is None and len(outputs) == 1:
            self._outputs["image_embed"] = outputs[0]
        if self._outputs["image_embed"] is None or (fine[0] is None) != (fine[1] is None):
            raise self._encoder.refuse(_EXPECTED_ENCODER)
        self.is_sam2 = fine[0] is not None
        names = [tensor.name for tensor in self._decoder.inputs]
        self._inputs = {usual: _of(names, aliases) for usual, aliases in _FEATURES.items()}
        wanted = [usual for usual, name in self._outputs.items() if name is not None]
        complete = all(self._inputs[usual] is not None for usual in wanted)
        if not complete or not {"point_coords", "point_labels"} <= set(names):
            raise self._decoder.refuse(_EXPECTED_DECODER)
        self._logits_name, self._masks_name, self._score_name = (
            _of([tensor.name for tensor in self._decoder.outputs], aliases)
            for aliases in (
                ("low_res_masks", "low_res_logits"),
                ("masks", "output_masks", "pred_masks"),
                ("iou_predictions", "iou_pred", "scores", "iou"),
            )
        )
        if self._logits_name is None and self._masks_name is None:
            raise self._decoder.refuse(_EXPECTED_DECODER)

    def embed(self, codes: Codes) -> Embedding:
        """The features of a picture (H, W, 3); seconds on a CPU for the published models."""
        picture = codes.shape[0], codes.shape[1]
        if self.is_sam2:
            given = normalised(resized(codes, (_SIDE, _SIDE)))
        else:
            box = self._box(picture)
            inner = normalised(resized(codes, (box.height, box.width)))
            given = np.zeros((1, 3, _SIDE, _SIDE), np.float32)
            given[..., : box.height, : box.width] = inner
        out = self._encoder.run({self._encoder.inputs[0].name: given})
        features = {usual: out[name] for usual, name in self._outputs.items() if name is not None}
        return Embedding(features, picture)

    def mask(
        self, embedding: Embedding, points_px: ArrayLike, labels: ArrayLike, previous: Float32 | None = None
    ) -> ClickMask:
        """The object under the clicks.

        points_px: (N, 2) x, y of pixel centres. labels: (N,) HIDDEN or VISIBLE. previous: logits of the
        mask that these clicks refine.

        Raises:
            ValueError: points and labels of other shapes.
        """
        points = np.asarray(points_px, dtype=np.float32)
        marks = np.asarray(labels, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != 2 or marks.shape != (len(points),) or len(points) == 0:
            raise ValueError(f"expected points (N, 2) and labels (N,), got {points.shape} and {marks.shape}")
        height, width = embedding.picture
        box = self._box(embedding.picture)
        scale = np.array([box.width / width, box.height / height], dtype=np.float32)
        coordinates = points * scale
        if not self.is_sam2:
            # Without a box SAM wants one point that means nothing.
            coordinates = np.concatenate([coordinates, np.zeros((1, 2), np.float32)])
            marks = np.append(marks, np.float32(-1))
        earlier = np.zeros((1, 1, _LOGIT_SIDE, _LOGIT_SIDE), np.float32)
        if previous is not None:
            earlier[0, 0] = np.clip(previous, -_MOST_LOGIT, _MOST_LOGIT)
        offered: dict[str, Any] = {
            "point_coords": coordinates[None],
            "point_labels": marks[None],
            "mask_input": earlier,
            "has_mask_input": np.array([0.0 if previous is None else 1.0]),
            "orig_im_size": np.array([height, width]),
        }
        for usual, value in embedding.features.items():
            offered[str(self._inputs[usual])] = value
        names = [tensor.name for tensor in self._decoder.inputs]
        unknown = [name for name in names if name not in offered]
        if unknown:
            raise InputError(
                f"{self._decoder.name} wants the input {unknown[0]}, which is of no known layout; expected "
                f"{_EXPECTED_DECODER}: choose another export."
            )
        return self._best(self._decoder.run({name: offered[name] for name in names}), embedding.picture, box)

    def _box(self, picture: tuple[int, int]) -> Letterbox:
        """Where the picture lies in the input: stretched for SAM 2, at the upper left for SAM."""
        if self.is_sam2:
            return Letterbox(1.0, 0.0, 0.0, _SIDE, _SIDE)
        scale = _SIDE / max(picture)
        return Letterbox(scale, 0.0, 0.0, round(picture[1] * scale), round(picture[0] * scale))

    def _best(self, out: Mapping[str, NDArray[Any]], picture: tuple[int, int], box: Letterbox) -> ClickMask:
        """The best of the decoder's masks; small logits are brought to the picture's size here."""
        name = self._logits_name or self._masks_name
        logits = out[str(name)][0].astype(np.float32)
        score = None if self._score_name is None else out[self._score_name].reshape(-1)
        best = int(np.argmax([_stability(one) for one in logits] if score is None else score))
        chosen = np.asarray(logits[best])
        value = _stability(chosen) if score is None else float(score[best])
        if chosen.shape == (_LOGIT_SIDE, _LOGIT_SIDE):
            full = box.back(chosen, picture, _SIDE / _LOGIT_SIDE)
            return ClickMask(full > 0, value, chosen)
        if chosen.shape != picture:
            raise self._decoder.refuse("masks of 256x256 or of the picture's size")
        canvas = np.full((_SIDE, _SIDE), -_MOST_LOGIT, np.float32)
        canvas[: box.height, : box.width] = cv2.resize(chosen, (box.width, box.height))
        small = cv2.resize(canvas, (_LOGIT_SIDE, _LOGIT_SIDE), interpolation=cv2.INTER_AREA)
        return ClickMask(chosen > 0, value, np.asarray(small))


def _of(names: list[str], aliases: tuple[str, ...]) -> str | None:
    """The first of the aliases that is among the names."""
    return next((alias for alias in aliases if alias in names), None)


def _stability(logits: Float32) -> float:
    """Overlap of the masks at logits of 1 and of -1: near 1 when the border is sharp."""
    loose = int((logits > -1).sum())
    return int((logits > 1).sum()) / loose if loose else 0.0

"""Tiny ONNX graphs in the published tensor layouts: constants that depend on nothing, or on the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


def info(name: str, shape: tuple[int | str, ...], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    metadata: dict[str, str] | None = None,
) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def constants(
    path: Path,
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, np.ndarray],
    metadata: dict[str, str] | None = None,
) -> Path:
    """A model that gives the same whatever it is shown."""
    nodes = [constant(name, value.astype(np.float32)) for name, value in outputs.items()]
    return save(
        path,
        nodes,
        [info(name, shape) for name, shape in inputs.items()],
        [info(name, value.shape) for name, value in outputs.items()],
        metadata,
    )


def yolo(
    path: Path,
    objects: list[tuple[tuple[float, float, float, float], int, float, np.ndarray]],
    prototypes: np.ndarray,
    num_classes: int,
    size: tuple[int, int] = (640, 640),
    metadata: dict[str, str] | None = None,
) -> Path:
    """images 1x3xHxW -> output0 1x(4+C+32)xN, output1 1x32x(H/4)x(W/4).

    objects: centre x, y, width, height in input px; class; score; 32 coefficients.
    """
    cells = sum((size[0] // step) * (size[1] // step) for step in (8, 16, 32))
    rows = np.zeros((1, 4 + num_classes + 32, cells), np.float32)
    for place, (box, number, score, weights) in enumerate(objects):
        rows[0, :4, 7 * place], rows[0, 4 + number, 7 * place] = box, score
        rows[0, 4 + num_classes :, 7 * place] = weights
    return constants(
        path, {"images": (1, 3, *size)}, {"output0": rows, "output1": prototypes[None]}, metadata
    )


def redness(path: Path, size: tuple[int | str, int | str]) -> Path:
    """input 1x3xHxW -> logits 1x2xHxW: class 0 where the normalised red is above 0, class 1 below."""
    nodes = [
        constant("first", np.array([0], np.int64)),
        constant("second", np.array([1], np.int64)),
        constant("axis", np.array([1], np.int64)),
        constant("gain", np.array(20, np.float32)),
        helper.make_node("Slice", ["input", "first", "second", "axis"], ["red"]),
        helper.make_node("Mul", ["red", "gain"], ["wide"]),
        helper.make_node("Neg", ["wide"], ["other"]),
        helper.make_node("Concat", ["wide", "other"], ["logits"], axis=1),
    ]
    return save(path, nodes, [info("input", (1, 3, *size))], [info("logits", (1, 2, *size))])

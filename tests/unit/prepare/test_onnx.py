"""The ONNX runtime wrapper on graphs made here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import constants, info, redness, save

from splatomy.errors import InputError, MissingBackendError
from splatomy.prepare import onnx as wrapper
from splatomy.prepare.onnx import OnnxModel, may_be


def test_tensors_metadata_and_values(tmp_path: Path) -> None:
    path = constants(
        tmp_path / "m.onnx",
        {"images": (1, 3, "height", 8)},
        {"out": np.arange(6).reshape(1, 6)},
        {"names": "{0: 'tool', 1: 'gauze'}"},
    )
    model = OnnxModel(path, "cpu")
    assert [(t.name, t.shape, t.dtype) for t in model.inputs] == [("images", (1, 3, "height", 8), np.float32)]
    assert model.outputs[0].shape == (1, 6) and len(model.sha256) == 64
    assert model.class_names() == {0: "tool", 1: "gauze"}
    np.testing.assert_array_equal(model.run({"images": np.zeros((1, 3, 5, 8))})["out"][0], np.arange(6))
    assert model.find_input("x", "images") is model.inputs[0] and model.find_input("x") is None


def test_half_floats_are_converted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "a"], ["b"])]
    path = save(tmp_path / "h.onnx", nodes, [info("a", (2,), 10)], [info("b", (2,), 10)])
    model = OnnxModel(path, "cpu")
    assert model.inputs[0].dtype is np.float16
    np.testing.assert_array_equal(model.run({"a": np.array([1.5, 2.0])})["b"], [3, 4])


def test_names_that_are_no_plain_dictionary_are_not_run(tmp_path: Path) -> None:
    path = constants(tmp_path / "m.onnx", {"a": (1,)}, {"b": np.zeros(1)}, {"names": "__import__('os')"})
    assert OnnxModel(path, "cpu").class_names() == {}


def test_feeds_are_checked(tmp_path: Path) -> None:
    model = OnnxModel(redness(tmp_path / "r.onnx", (8, 8)), "cpu")
    with pytest.raises(ValueError, match="wants the inputs input"):
        model.run({"wrong": np.zeros((1, 3, 8, 8))})
    with pytest.raises(ValueError, match="got shape"):
        model.run({"input": np.zeros((1, 3, 8, 9))})


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    for name, says in (("bad.onnx", "cannot be loaded as an ONNX model"), ("none.onnx", "does not exist")):
        with pytest.raises(InputError, match=says) as error:
            OnnxModel(tmp_path / name, "cpu")
        assert str(tmp_path) not in str(error.value) and "\n" not in str(error.value)


def test_the_device_that_runs_it_is_told(tmp_path: Path) -> None:
    path = redness(tmp_path / "r.onnx", (8, 8))
    cpu = OnnxModel(path, "cpu")
    assert cpu.provider == "CPUExecutionProvider" and [n.level for n in cpu.notices] == ["info"]
    asked = OnnxModel(path, "cuda:0")
    on_cuda = asked.provider == "CUDAExecutionProvider"
    assert [n.level for n in asked.notices] == ["info" if on_cuda else "warning"]
    with pytest.raises(InputError, match="no device 'tpu'"):
        OnnxModel(path, "tpu")


def test_a_missing_runtime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = redness(tmp_path / "r.onnx", (8, 8))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    wrapper._runtime.cache_clear()
    try:
        with pytest.raises(MissingBackendError, match="pip install"):
            OnnxModel(path, "cpu")
    finally:
        wrapper._runtime.cache_clear()


def test_shapes_may_agree() -> None:
    assert may_be((1, 3, "h", 640), (1, 3, "H", "W"))
    assert not may_be((1, 4, 640, 640), (1, 3, "H", "W")) and not may_be((1, 3, 640), (1, 3, "H", "W"))

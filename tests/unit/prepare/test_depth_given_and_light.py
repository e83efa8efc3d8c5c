"""Depth that came with a clip, depth from the light's fall-off, and depth by a user's network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splatomy.capture import Capture, Modality
from splatomy.errors import InputError
from splatomy.events import Notice, finish
from splatomy.phantoms.tissue import PRESETS, TissuePhantom, make_tissue
from splatomy.prepare.depth import estimate_depth
from splatomy.prepare.onnx_depth import OnnxDepthConfig, align_inverse, estimate_onnx_depth


@pytest.fixture(scope="module")
def phantom() -> TissuePhantom:
    preset = replace(PRESETS["demo"], frames=4, duration_s=0.8, baseline_mm=0.0)
    return finish(make_tissue(preset, 7))


def capture_of(phantom: TissuePhantom, **fields: object) -> Capture:
    return replace(
        Capture(
            Modality.COLOUR,
            phantom.images,
            phantom.times_s,
            cameras=phantom.cameras,
            occluded=phantom.occluded,
        ),
        **fields,
    )


def watched(task: object) -> tuple[Capture, list[str]]:
    codes: list[str] = []
    while True:
        try:
            event = next(task)
        except StopIteration as stop:
            return stop.value, codes
        if isinstance(event, Notice):
            codes.append(event.code)


def test_light_gives_the_relative_shape(phantom: TissuePhantom) -> None:
    out, codes = watched(estimate_depth(capture_of(phantom)))
    assert "depth-from-light" in codes
    assert not out.metric
    assert np.isnan(out.depth_mm[phantom.occluded]).all()
    assert out.depth_confidence.max() <= 0.25
    ratios = []
    for found, truth, hidden in zip(out.depth_mm, phantom.depth_mm, phantom.occluded, strict=True):
        ratio = truth[~hidden] / found[~hidden]
        ratios.append(np.median(ratio))
        error = np.abs(np.median(ratio) * found - truth)[~hidden] / truth[~hidden]
        assert error.mean() < 0.12
        # A flat guess meets that too where the tissue is flat: the shape must be right as well.
        assert np.corrcoef(found[~hidden], truth[~hidden])[0, 1] > 0.7
    # One scale for the clip: the tissue itself moves by a few per cent.
    assert np.ptp(ratios) / np.mean(ratios) < 0.06


def test_a_change_of_exposure_does_not_move_the_tissue(phantom: TissuePhantom) -> None:
    images = phantom.images.copy()
    images[2:] *= 0.8
    out, _ = watched(estimate_depth(capture_of(phantom, images=images)))
    steps = np.log(np.nanmedian(out.depth_mm, axis=(1, 2)))
    assert np.abs(np.diff(steps)).max() < 0.05


def test_given_depth_loses_holes_and_instruments(phantom: TissuePhantom) -> None:
    given = phantom.observed_depth_mm.copy()
    given[:, :10] = 0.0
    given[:, 10:12] = np.inf
    out, codes = watched(estimate_depth(capture_of(phantom, depth_mm=given)))
    assert codes == []
    assert np.isnan(out.depth_mm[:, :12]).all()
    assert np.isnan(out.depth_mm[phantom.occluded]).all()
    rest = ~phantom.occluded
    rest[:, :12] = False
    assert np.array_equal(out.depth_mm[rest], given[rest])


def test_given_depth_in_metres_is_refused_with_the_factor(phantom: TissuePhantom) -> None:
    with pytest.raises(InputError, match=r"perhaps 1000"):
        finish(estimate_depth(capture_of(phantom, depth_mm=phantom.depth_mm / np.float32(1000))))
    empty = np.zeros_like(phantom.depth_mm)
    with pytest.raises(InputError, match="no usable value"):
        finish(estimate_depth(capture_of(phantom, depth_mm=empty)))


def test_jumps_of_the_given_scale_and_missing_frames_are_told(phantom: TissuePhantom) -> None:
    jumping = phantom.depth_mm.copy()
    jumping[2] *= 1.5
    _, codes = watched(estimate_depth(capture_of(phantom, depth_mm=jumping)))
    assert "depth-jumps" in codes
    missing = phantom.depth_mm.copy()
    missing[1] = np.nan
    _, codes = watched(estimate_depth(capture_of(phantom, depth_mm=missing)))
    assert "depth-missing" in codes


def test_a_relative_map_is_laid_over_depth_despite_outliers() -> None:
    rng = np.random.default_rng(1)
    inverse = rng.uniform(1 / 90, 1 / 50, 5000).astype(np.float32)
    relative = ((inverse - 0.004) / 0.3 + rng.normal(0, 2e-4, 5000)).astype(np.float32)
    known = inverse.copy()
    known[:1500] = 1 / 30
    slope, offset = align_inverse(relative, known, np.ones(5000, np.float32))
    error = np.abs(slope * relative + offset - inverse) / inverse
    assert error.mean() < 0.02


def _red_network(path: Path) -> None:
    """A model of the Depth-Anything layout whose output is the red channel: brighter is nearer."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Constant", [], ["zero"], value=helper.make_tensor("z", kind.INT64, [], [0])),
        helper.make_node("Gather", ["image", "zero"], ["depth"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("image", kind.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("depth", kind.FLOAT, [1, "h", "w"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


def test_a_users_network_gives_relative_or_metric_depth(phantom: TissuePhantom, tmp_path: Path) -> None:
    _red_network(tmp_path / "red.onnx")
    from splatomy.prepare.onnx import OnnxModel

    model = OnnxModel(tmp_path / "red.onnx", device="cpu", threads=1)
    truth = phantom.depth_mm
    # Pictures whose normalised red is the inverse depth, or the depth, up to an affine map.
    coded = np.repeat(((1 / truth - 0.005) / 0.02)[..., None], 3, -1).astype(np.float32)
    near = capture_of(phantom, images=coded)
    out, codes = watched(estimate_onnx_depth(near, model, OnnxDepthConfig(short_side_px=224)))
    assert not out.metric
    assert "depth-relative" in codes
    assert np.isnan(out.depth_mm[phantom.occluded]).all()
    seen = ~phantom.occluded
    assert np.corrcoef(out.depth_mm[seen], truth[seen])[0, 1] > 0.95
    guided, _ = watched(estimate_onnx_depth(replace(near, depth_mm=truth), model))
    assert guided.metric
    assert np.abs(guided.depth_mm - truth)[seen].mean() < 1.0
    farther = replace(near, images=np.repeat((truth / 200)[..., None], 3, -1).astype(np.float32))
    reverse, _ = watched(estimate_onnx_depth(farther, model, OnnxDepthConfig(output="inverse")))
    assert np.corrcoef(reverse.depth_mm[seen], truth[seen])[0, 1] < 0

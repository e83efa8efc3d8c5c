"""Mask models on tiny graphs in the published layouts: geometry, suppression, classes, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import FLOAT, constant, constants, info, redness, save, yolo

from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.prepare.onnx_clicks import HIDDEN, VISIBLE, ClickSegmenter
from splatomy.prepare.onnx_masks import Letterbox, load_segmenter, segment

SIZES = [(1080, 1920), (576, 720), (512, 640), (333, 77)]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)


def disc_logits(side: tuple[int, int], x: float, y: float, radius: float, cell: float) -> np.ndarray:
    """Signed distance to a disc in input px, per cell, as logits."""
    rows, columns = np.mgrid[0 : side[0], 0 : side[1]]
    return (radius - np.hypot((columns + 0.5) * cell - x, (rows + 0.5) * cell - y)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_a_letterbox_goes_there_and_back(size: tuple[int, int]) -> None:
    box = Letterbox.around(size, (640, 640))
    rows, columns = np.mgrid[0:640, 0:640].astype(np.float32)
    x = box.back(columns + 0.5, size, 1.0)
    wanted = (np.arange(size[1]) + 0.5) * box.width / size[1] + box.pad_x
    assert np.abs(x - wanted).max() < 0.51 and max(box.width, box.height) == 640
    assert abs(box.width / size[1] - box.scale) < 0.5 / size[1] + 1e-9
    put = box.put(np.full((*size, 3), 200, np.uint8), (640, 640))
    assert (put == 200).all(-1).sum() == box.width * box.height and put[0, 0, 0] in (114, 200)
    assert rows.shape == (640, 640)


@pytest.mark.parametrize("size", SIZES)
def test_a_yolo_disc_lies_where_it_was_seen(size: tuple[int, int], tmp_path: Path) -> None:
    box = Letterbox.around(size, (640, 640))
    x, y, radius = 0.55 * size[1], 0.45 * size[0], 0.3 * min(size)
    cx, cy, r = x * box.scale + box.pad_x, y * box.scale + box.pad_y, radius * box.scale
    prototypes = np.zeros((32, 160, 160), np.float32)
    prototypes[3] = disc_logits((160, 160), cx, cy, r, 4.0)
    weights = np.eye(32, dtype=np.float32)[3] * 5
    seen = ((cx, cy, 2 * r + 8, 2 * r + 8), 1, 0.9, weights)
    segmenter = load_segmenter(yolo(tmp_path / "y.onnx", [seen], prototypes, 2), "cpu")
    probability = segmenter.probability(picture(size))
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    truth = np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= radius
    assert probability.shape == size and overlap(probability > 0.5, truth) > (0.99 if r > 90 else 0.97)


def test_yolo_classes_scores_boxes_and_suppression(tmp_path: Path) -> None:
    prototypes = np.full((32, 40, 40), -1.0, np.float32)
    prototypes[0], prototypes[1] = 9.0, -9.0
    yes, no = np.eye(32, dtype=np.float32)[0], np.eye(32, dtype=np.float32)[1]
    objects = [
        ((40.0, 40.0, 40.0, 40.0), 0, 0.9, yes),
        # The same object with a lower score: its mask must not count.
        ((41.0, 40.0, 46.0, 46.0), 0, 0.6, yes),
        ((120.0, 40.0, 40.0, 40.0), 1, 0.8, yes),
        ((40.0, 120.0, 40.0, 40.0), 0, 0.2, yes),
        ((120.0, 120.0, 40.0, 40.0), 0, 0.9, no),
    ]
    names = {"names": "{0: 'grasper', 1: 'gauze'}"}
    path = yolo(tmp_path / "y.onnx", objects, prototypes, 2, (160, 160), names)
    shown = picture((160, 160))
    every = load_segmenter(path, "cpu").probability(shown) > 0.5
    assert every[40, 40] and every[40, 120] and not every[120, 40] and not every[120, 120]
    assert every[40, 22:59].all() and not every[40, :18].any() and not every[40, 62:98].any()
    segmenter = load_segmenter(path, "cpu", [0])
    only = segmenter.probability(shown) > 0.5
    assert only[40, 40] and not only[40, 120]
    assert any("grasper" in notice.text and "gauze" not in notice.text for notice in segmenter.notices)
    with pytest.raises(InputError, match="has 2 classes"):
        load_segmenter(path, "cpu", [2])


def test_yolo_with_suppression_built_in(tmp_path: Path) -> None:
    rows = np.zeros((1, 300, 38), np.float32)
    rows[0, 0, :6] = (20, 20, 60, 60, 0.9, 0)
    rows[0, 1, :6] = (100, 20, 140, 60, 0.9, 3)
    rows[0, :2, 6] = 1
    prototypes = np.full((1, 32, 40, 40), 9.0, np.float32)
    path = constants(
        tmp_path / "n.onnx", {"images": (1, 3, 160, 160)}, {"output0": rows, "output1": prototypes}
    )
    found = load_segmenter(path, "cpu").probability(picture((160, 160))) > 0.5
    assert found[40, 40] and found[40, 120] and not found[120].any()
    one = load_segmenter(path, "cpu", [3]).probability(picture((160, 160))) > 0.5
    assert one[40, 120] and not one[40, 40]


@pytest.mark.parametrize("free", [False, True])
def test_semantic_classes_of_a_picture(free: bool, tmp_path: Path) -> None:
    path = redness(tmp_path / "s.onnx", ("H", "W") if free else (128, 160))
    codes = np.full((256, 320, 3), (230, 40, 40), np.uint8)
    codes[60:200, 100:220] = (20, 200, 200)
    truth = np.zeros((256, 320), bool)
    truth[60:200, 100:220] = True
    segmenter = load_segmenter(path, "cpu")
    assert overlap(segmenter.probability(codes) > 0.5, truth) > 0.97
    other = load_segmenter(path, "cpu", [0])
    assert overlap(other.probability(codes) > 0.5, ~truth) > 0.97
    with pytest.raises(InputError, match="has 2 classes"):
        load_segmenter(path, "cpu", [5])
    clip = np.stack([codes, codes]).astype(np.float32) / 255
    proposal = finish(segment(clip, segmenter))
    assert proposal.occluded.shape == (2, 256, 320) and (proposal.confidence > 0.8).all()


@pytest.mark.parametrize("shape", [(1, 32, 40), (1, 1, 32, 40)])
def test_class_numbers_and_single_logits(shape: tuple[int, ...], tmp_path: Path) -> None:
    field = np.zeros(shape, np.float32) if len(shape) == 3 else np.full(shape, -9.0, np.float32)
    field[..., 8:24, 10:30] = 2 if len(shape) == 3 else 9
    path = constants(tmp_path / "m.onnx", {"x": (1, 3, 64, 80)}, {"y": field})
    found = load_segmenter(path, "cpu").probability(picture((64, 80))) > 0.5
    truth = np.zeros((64, 80), bool)
    truth[16:48, 20:60] = True
    assert overlap(found, truth) > 0.95


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": (1, 1, 64, 64)}, {"y": (1, 2, 64, 64)}),
        ({"x": (1, 3, 416, 416)}, {"y": (1, 3549, 8)}),
        ({"x": (1, 3, 64, 64)}, {"y": (1, 7)}),
        ({"images": (1, 3, 160, 160)}, {"output0": (1, 38, 9), "output1": (1, 32, 40, 40)}),
        ({"images": (1, 3, 160, 160)}, {"output0": (1, 38, 525), "output1": (1, 32, 20, 20)}),
        ({"a": (1, 3, 64, 64), "b": (1,)}, {"y": (1, 2, 64, 64)}),
    ],
)
def test_other_layouts_are_refused_in_one_sentence(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    path = constants(tmp_path / "m.onnx", inputs, {k: np.zeros(v) for k, v in outputs.items()})
    with pytest.raises(InputError, match="expected one input") as error:
        load_segmenter(path, "cpu")
    assert "\n" not in str(error.value)


def sam(folder: Path, *, second: bool, logits: np.ndarray, names: tuple[str, str, str]) -> tuple[Path, Path]:
    """Encoder and decoder; the decoder gives ``logits`` (1, M, 256, 256) plus the given mask input."""
    shapes = {names[0]: (1, 256, 64, 64)}
    if second:
        shapes |= {names[1]: (1, 32, 256, 256), names[2]: (1, 64, 128, 128)}
    encoder = constants(
        folder / "encoder.onnx", {"image": (1, 3, 1024, 1024)}, {k: np.zeros(v) for k, v in shapes.items()}
    )
    inputs = [info(name, shape) for name, shape in shapes.items()]
    inputs += [info("point_coords", (1, "N", 2)), info("point_labels", (1, "N"))]
    inputs += [info("mask_input", (1, 1, 256, 256)), info("has_mask_input", (1,))]
    scores = np.linspace(0.5, 0.9, logits.shape[1], dtype=np.float32)[None]
    nodes = [
        constant("base", logits.astype(np.float32)),
        # The sum of the points leaves a trace, so that a test sees what the decoder was given.
        helper.make_node("ReduceSum", ["point_coords"], ["sum"], keepdims=0),
        constant("scores", scores),
        helper.make_node("Add", ["base", "mask_input"], ["low"]),
        constant("zero", np.array(0, np.float32)),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["scores", "nothing"], ["iou_predictions"]),
    ]
    if second:
        nodes.append(helper.make_node("Identity", ["low"], ["masks"]))
    else:
        inputs.append(info("orig_im_size", (2,)))
        nodes += [
            helper.make_node("Identity", ["low"], ["low_res_masks"]),
            helper.make_node("Identity", ["low"], ["masks"]),
        ]
    outputs = [info("masks", (1, logits.shape[1], 256, 256)), info("iou_predictions", (1, logits.shape[1]))]
    if not second:
        outputs.append(info("low_res_masks", (1, logits.shape[1], 256, 256)))
    return encoder, save(folder / "decoder.onnx", nodes, inputs, outputs)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("size", [(512, 640), (300, 200)])
def test_a_click_gives_the_disc_that_the_decoder_saw(
    second: bool, size: tuple[int, int], tmp_path: Path
) -> None:
    x, y, radius = 0.5 * size[1], 0.4 * size[0], 0.25 * min(size)
    rows, columns = np.mgrid[0:256, 0:256]
    if second:
        sx, sy = size[1] / 1024, size[0] / 1024
    else:
        sx = sy = max(size) / 1024
    disc = radius - np.hypot((columns + 0.5) * 4 * sx - x, (rows + 0.5) * 4 * sy - y)
    logits = np.stack([np.full((256, 256), -9.0), disc])[None]
    names = (
        ("image_embed", "high_res_feats_0", "high_res_feats_1") if second else ("image_embeddings", "", "")
    )
    encoder, decoder = sam(tmp_path, second=second, logits=logits, names=names)
    segmenter = ClickSegmenter(encoder, decoder, "cpu")
    assert segmenter.is_sam2 is second
    embedding = segmenter.embed(picture(size))
    found = segmenter.mask(embedding, [(x, y), (3, 3)], [HIDDEN, VISIBLE])
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    truth = np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= radius
    assert overlap(found.mask, truth) > 0.98 and found.score == pytest.approx(0.9)
    again = segmenter.mask(embedding, [(x, y)], [HIDDEN], previous=np.full((256, 256), -1e6, np.float32))
    # The earlier logits reach the decoder, bounded.
    np.testing.assert_allclose(again.logits, disc.astype(np.float32) - 32, atol=1e-3)


def test_sam2_names_of_other_exporters_and_wrong_pairs(tmp_path: Path) -> None:
    logits = np.zeros((1, 1, 256, 256))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    encoder, decoder = sam(
        tmp_path / "a", second=True, logits=logits, names=("embeddings", "feat_0", "feat_1")
    )
    assert ClickSegmenter(encoder, decoder, "cpu").is_sam2
    _, first = sam(tmp_path / "b", second=False, logits=logits, names=("image_embeddings", "", ""))
    with pytest.raises(InputError, match="point_coords"):
        ClickSegmenter(encoder, first, "cpu")
    with pytest.raises(InputError, match="expected one input"):
        ClickSegmenter(first, decoder, "cpu")
    segmenter = ClickSegmenter(encoder, decoder, "cpu")
    with pytest.raises(ValueError, match="labels"):
        segmenter.mask(segmenter.embed(picture((64, 80))), [(1, 2)], [1, 1])


def test_masks_at_the_pictures_size_without_scores(tmp_path: Path) -> None:
    """As exported for MobileSAM and EdgeSAM: full-size masks only; the most stable one is taken."""
    encoder = constants(
        tmp_path / "e.onnx",
        {"image": (1, 3, 1024, 1024)},
        {"image_embeddings": np.zeros((1, 256, 64, 64))},
    )
    masks = np.full((1, 2, 50, 80), -0.5, np.float32)
    masks[0, 0, :, :40] = 0.5
    masks[0, 1, 10:30, 20:60], masks[0, 1, :10] = 9, -9
    nodes = [
        constant("one", masks),
        helper.make_node("ReduceSum", ["point_labels"], ["sum"], keepdims=0),
        constant("zero", np.array(0, np.float32)),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["one", "nothing"], ["masks"]),
    ]
    inputs = [
        info("image_embeddings", (1, 256, 64, 64)),
        info("point_coords", (1, "N", 2)),
        info("point_labels", (1, "N")),
    ]
    decoder = save(tmp_path / "d.onnx", nodes, inputs, [info("masks", (1, 2, 50, 80), FLOAT)])
    segmenter = ClickSegmenter(encoder, decoder, "cpu")
    found = segmenter.mask(segmenter.embed(picture((50, 80))), [(30, 20)], [HIDDEN])
    np.testing.assert_array_equal(found.mask, masks[0, 1] > 0)
    assert found.logits.shape == (256, 256) and found.logits[20 * 256 // 80, 30 * 256 // 80] > 5

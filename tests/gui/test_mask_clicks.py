"""The smart click: an object as a preview, by its colours or by a model, accepted, dropped, taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS
from masking import CONTROL, LEFT, RIGHT, SHIFT, click, open_masks
from PyQt6.QtCore import Qt

from splatomy.review import ReviewState


def click_model(folder: Path) -> tuple[Path, Path]:
    """A SAM model in the usual layout whose object is always the left half."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def save(name: str, inputs: dict[str, tuple[Any, ...]], outputs: dict[str, np.ndarray]) -> Path:
        nodes = [
            helper.make_node("Constant", [], [key], value=onnx.numpy_helper.from_array(value, key))
            for key, value in outputs.items()
        ]
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(key, kind, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, kind, value.shape) for key, value in outputs.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / name)
        return folder / name

    logits = np.full((1, 1, 256, 256), -8, np.float32)
    logits[..., :128] = 8
    features = {"image_embeddings": np.zeros((1, 256, 64, 64), np.float32)}
    encoder = save("encoder.onnx", {"image": (1, 3, 1024, 1024)}, features)
    wants = {
        "image_embeddings": (1, 256, 64, 64),
        "point_coords": (1, "n", 2),
        "point_labels": (1, "n"),
        "mask_input": (1, 1, 256, 256),
        "has_mask_input": (1,),
    }
    answers = {"low_res_masks": logits, "iou_predictions": np.ones((1, 1), np.float32)}
    return encoder, save("decoder.onnx", wants, answers)


def hidden(page: Any) -> np.ndarray:
    return page.session.review.hidden(page.session.clock.frame)


def settled(page: Any, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not page.clicks.busy, timeout=LONG_MS)


def instrument(page: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """The mask of the sample's instrument, and a pixel well inside of it."""
    import cv2

    truth = hidden(page).copy()
    depth = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return truth, (int(x), int(y))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def test_an_object_by_its_colours_is_a_preview(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    truth, place = instrument(page)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    before = page.session.review.frames[0]
    assert not page.banner.isVisible()
    qtbot.keyClick(window, Qt.Key.Key_S)
    assert page.banner.isVisible() and "by colour" in page.banner.text.text()
    assert "no model is chosen" in page.banner.text.text() and not page.banner.accept.isVisible()
    click(page, qtbot, *place)
    settled(page, qtbot)
    # It is seen, and nothing has changed.
    assert page.session.review.frames[0] is before and page.banner.accept.isVisible()
    # More of the instrument than of anything else; how well is a matter of the engine's tests.
    assert page.shown_mask()[place[::-1]] and overlap(page.shown_mask(), truth) > 0.5
    assert not window.actions_table["mask_propose"].isEnabled()
    shown = page.shown_mask()
    qtbot.mouseClick(page.banner.accept, LEFT)
    assert np.array_equal(hidden(page), shown) and not page.clicks.pending
    assert page.session.review.frames[0].state is ReviewState.EDITED
    # Back come first the preview, then the frame as it was.
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    settled(page, qtbot)
    assert page.clicks.pending and not hidden(page).any() and np.array_equal(page.shown_mask(), shown)
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert not page.clicks.pending and not page.shown_mask().any()


def test_clicks_add_and_take_away(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    truth, place = instrument(page)
    visible = tuple(int(v) for v in np.argwhere(~truth)[-1][::-1])
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    qtbot.keyClick(window, Qt.Key.Key_S)
    click(page, qtbot, *place)
    click(page, qtbot, *visible)
    settled(page, qtbot)
    assert page.shown_mask()[visible[::-1]] and page.shown_mask()[place[::-1]]
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    click(page, qtbot, *visible, LEFT, SHIFT)
    settled(page, qtbot)
    assert not page.shown_mask()[visible[::-1]] and page.shown_mask()[place[::-1]]
    assert "2 clicks" in page.banner.text.text()
    # Enter takes the object over and does not confirm the frame yet.
    qtbot.keyClick(window, Qt.Key.Key_Return)
    assert hidden(page)[place[::-1]] and page.session.review.frames[0].state is ReviewState.EDITED
    # The opposite click alone takes an object out of the mask.
    click(page, qtbot, *place, RIGHT)
    settled(page, qtbot)
    assert "taken out" in page.banner.text.text() and not page.shown_mask()[place[::-1]]
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    assert not hidden(page)[place[::-1]]


def test_escape_drops_the_object_and_leaving_takes_it_over(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    _, place = instrument(page)
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    qtbot.keyClick(window, Qt.Key.Key_S)
    click(page, qtbot, *place)
    settled(page, qtbot)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert not page.clicks.pending and not page.shown_mask().any() and page.tools.name == "mask_click"
    click(page, qtbot, *place)
    # The next frame is shown before the object was even found.
    qtbot.keyClick(window, Qt.Key.Key_D)
    qtbot.waitUntil(lambda: page.session.review.hidden(0).any(), timeout=LONG_MS)
    assert page.session.clock.frame == 1 and not page.clicks.pending
    # Whoever takes it back sees where that was.
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert page.session.clock.frame == 0 and page.clicks.pending and not hidden(page).any()
    qtbot.keyClick(window, Qt.Key.Key_B)
    assert hidden(page).any() and not page.clicks.pending and not page.banner.isVisible()


def test_a_model_finds_the_object(window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    encoder, decoder = click_model(tmp_path)
    settings = page.session.settings
    qtbot.keyClick(window, Qt.Key.Key_Delete)
    qtbot.keyClick(window, Qt.Key.Key_S)
    settings.set("mask_model", str(encoder))
    assert "no decoder" in page.banner.text.text()
    settings.set("mask_decoder", str(tmp_path / "away.onnx"))
    assert "away.onnx is not there" in page.banner.text.text()
    settings.set("mask_decoder", str(decoder))
    assert "by the model encoder" in page.banner.text.text()
    before = page.session.review.frames[0]
    click(page, qtbot, 10, 20)
    click(page, qtbot, 12, 22)
    settled(page, qtbot)
    qtbot.keyClick(window, Qt.Key.Key_Return, CONTROL)
    assert hidden(page)[:, :31].all() and not hidden(page)[:, 33:].any()
    for _ in range(3):
        qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    settled(page, qtbot)
    frame = page.session.review.frames[0]
    assert np.array_equal(frame.hidden(52, 64), before.hidden(52, 64)) and frame.state is before.state


def test_a_model_that_fails_leaves_nothing_behind(
    window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path
) -> None:
    page = open_masks(window, qtbot, tiny_clip)
    settings = page.session.settings
    for name in ("mask_model", "mask_decoder"):
        (tmp_path / f"{name}.onnx").write_bytes(b"no model")
        settings.set(name, str(tmp_path / f"{name}.onnx"))
    told = []
    tasks = page.session.tasks
    tasks.failed.disconnect()
    tasks.failed.connect(told.append)
    qtbot.keyClick(window, Qt.Key.Key_S)
    click(page, qtbot, 10, 20)
    qtbot.waitUntil(lambda: bool(told), timeout=LONG_MS)
    settled(page, qtbot)
    assert not page.clicks.pending and page.clicks.found is None

"""Masks of an object's views in a real MRML scene, and on their way back to the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import slicer

from conftest import splatomy
from splatomy.cli.phantom.object import written_object
from splatomy.engine.opening import open_capture
from splatomy.events import finish
from splatomy.io.options import InputOptions
from SplatomyLib import bridge_case, bridge_view_masks
from SplatomyLib.bridge_frames import refresh
from SplatomyLib.bridge_inputs import parts_of, picture_shape
from SplatomyLib.bridge_view_masks import VIEW_MASKS, are_changed, read_view_masks, save_view_masks
from SplatomyLib.files import UnusableFile

UNKNOWN = 3
"""The view whose object mask was never made."""


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest object with masks of it, one of them missing, and of something that stands before it."""
    folder = tmp_path_factory.mktemp("views") / "object"
    finish(written_object(folder, "tiny", 0, None))
    files = sorted((folder / "mask").iterdir())
    for number, file in enumerate(files):
        front = np.zeros_like(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        front[20:30, 5 + number : 15 + number] = 255
        cv2.imwrite(str(folder / "occluder" / file.name), front)
    files[UNKNOWN].unlink()
    return folder


@pytest.fixture(scope="module")
def frames(views: Path) -> Path:
    folder = views.parent / "frames"
    splatomy("frames", views, "--out", folder)
    return folder


@pytest.fixture
def browser(scene: Any, frames: Path) -> Any:
    return bridge_case.load_input(scene, frames, "object").nodes["browser"]


def paint(scene: Any, browser: Any, number: int, segment: str, mask: np.ndarray) -> None:
    """As the Segment Editor does: on the node that the browser shows."""
    browser.SetSelectedItemNumber(number)
    refresh(scene, browser)
    node = browser.GetProxyNode(parts_of(browser)[VIEW_MASKS])
    picture = browser.GetProxyNode(parts_of(browser)["frames"])
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask[None].astype(np.uint8), node, segment, picture)
    browser.SetSelectedItemNumber(0)
    refresh(scene, browser)


def test_masks_become_two_named_segments_of_each_view(browser: Any, views: Path) -> None:
    capture = finish(open_capture(views, InputOptions()))
    assert capture.target is not None and capture.occluded is not None
    wanted, left_out = read_view_masks(parts_of(browser)[VIEW_MASKS], picture_shape(browser))
    np.testing.assert_array_equal(wanted, capture.target)
    np.testing.assert_array_equal(left_out, capture.occluded)
    assert wanted.any() and left_out.any() and not wanted[UNKNOWN].any()
    shown = browser.GetProxyNode(parts_of(browser)[VIEW_MASKS])
    content = shown.GetSegmentation()
    names = [content.GetNthSegment(i).GetName() for i in range(content.GetNumberOfSegments())]
    assert names == ["Object", "In front of the object (left out)"]
    assert "masks" not in parts_of(browser), "the Endoscopy module would take them for a clip's"


def test_painted_masks_reach_the_engine(scene: Any, browser: Any, views: Path, tmp_path: Path) -> None:
    sequence, shape = parts_of(browser)[VIEW_MASKS], picture_shape(browser)
    before, _ = read_view_masks(sequence, shape)
    assert not are_changed(sequence, shape)
    object_mask, front = np.zeros(shape, bool), np.zeros(shape, bool)
    object_mask[4:20, 6:22] = True
    front[2:9, 3:30] = True
    paint(scene, browser, 1, "object", object_mask)
    paint(scene, browser, 5, "occluder", front)
    assert are_changed(sequence, shape)
    options = save_view_masks(sequence, shape, tmp_path / "masks")
    given = {k: Path(v) if k in ("target", "masks") else v for k, v in options.items()}
    capture = finish(open_capture(views, InputOptions(**given)))
    assert capture.target is not None and capture.occluded is not None
    np.testing.assert_array_equal(capture.target[1], object_mask)
    np.testing.assert_array_equal(capture.target[2], before[2])
    np.testing.assert_array_equal(capture.occluded[5], front)
    # Nothing was said of that view, and still nothing is.
    assert np.flatnonzero(~np.array(capture.details["has_target"])).tolist() == [UNKNOWN]


def test_a_set_without_masks_has_no_segmentation(scene: Any, frames: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(frames, tmp_path / "plain"))
    for name in ("target", "occluded"):
        shutil.rmtree(plain / name)
    loaded = bridge_case.load_input(scene, plain, "plain")
    assert VIEW_MASKS not in parts_of(loaded.nodes["browser"])


def test_masks_of_straightened_pictures_are_not_brought_back(
    scene: Any, frames: Path, tmp_path: Path
) -> None:
    bent = Path(shutil.copytree(frames, tmp_path / "bent"))
    about = json.loads((bent / "frames.json").read_text())
    assert about["straightened"] is False and len(about["names"]) == len(about["times_s"])
    (bent / "frames.json").write_text(json.dumps({**about, "straightened": True}))
    browser = bridge_case.load_input(scene, bent, "bent").nodes["browser"]
    sequence, shape = parts_of(browser)[VIEW_MASKS], picture_shape(browser)
    with pytest.raises(UnusableFile, match="lens distortion"):
        save_view_masks(sequence, shape, tmp_path / "masks")
    assert bridge_view_masks.read_view_masks(sequence, shape)[0].any()

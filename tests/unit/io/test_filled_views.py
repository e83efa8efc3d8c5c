"""Filled pictures and depth of the published layout, read beside the recorded views."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.io.filled_views import filled_views

HEIGHT, WIDTH = 12, 16
DETAILS = {"names": ["0", "3", "7"], "frames": [0, 1, 2], "crop": [0, 0, WIDTH, HEIGHT]}


def write_folder(root: Path) -> Path:
    """View 3 with a filled picture and a filled depth map, as the release writes them."""
    for name in ("image_filled", "filled_depth_img", "depth", "mask"):
        (root / name).mkdir()
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[2:9, 3:12] = (200, 100, 50)
    cv2.imwrite(str(root / "image_filled" / "3.png"), picture)
    depth, mask = np.full((HEIGHT, WIDTH), 4000, np.uint16), np.zeros((HEIGHT, WIDTH), np.uint8)
    depth[2:9, 3:8], mask[2:9, 3:8] = 2000, 255
    cv2.imwrite(str(root / "depth" / "3.png"), depth)
    cv2.imwrite(str(root / "mask" / "3.png"), mask)
    grey = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    grey[2:9, 3:12] = round(1.9 / 2.2 * 255)
    cv2.imwrite(str(root / "filled_depth_img" / "3.png"), grey)
    cv2.imwrite(str(root / "filled_depth_img" / "cv2-0.png"), grey)
    return root


def test_what_somebody_filled_is_found_by_the_number_of_its_view(tmp_path: Path) -> None:
    found = filled_views(write_folder(tmp_path), DETAILS, HEIGHT, WIDTH)
    assert list(found.images) == [1] and list(found.depth_mm) == [1]
    inside = np.zeros((HEIGHT, WIDTH), np.bool_)
    inside[2:9, 3:12] = True
    assert np.array_equal(np.isfinite(found.images[1]).all(-1), inside)
    assert np.allclose(found.images[1][5, 5], np.array([50, 100, 200]) / 255)
    # White is 1.1 times the farthest depth of the visible object, 2 m; one grey value is 9 mm.
    assert np.array_equal(np.isfinite(found.depth_mm[1]), inside)
    assert np.abs(found.depth_mm[1][inside] - 1900).max() < 9


def test_depth_of_16_bits_is_in_millimetres_and_pictures_are_cut_like_the_recorded_ones(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path)
    deep = np.zeros((HEIGHT, WIDTH), np.uint16)
    deep[2:9, 3:12] = 1876
    cv2.imwrite(str(folder / "filled_depth_img" / "3.png"), deep)
    found = filled_views(folder, {**DETAILS, "crop": [2, 2, 8, 8]}, 8, 8)
    assert found.depth_mm[1].shape == (8, 8) and np.nanmax(np.abs(found.depth_mm[1] - 1876)) == 0
    assert np.isfinite(found.images[1]).all(-1).sum() == 7 * 7


def test_a_folder_without_them_has_none(tmp_path: Path) -> None:
    found = filled_views(tmp_path, DETAILS, HEIGHT, WIDTH)
    assert not found.images and not found.depth_mm


def test_pictures_of_another_shape_and_depth_without_a_unit_are_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "depth" / "3.png").unlink()
    with pytest.raises(InputError, match="8 bits"):
        filled_views(folder, DETAILS, HEIGHT, WIDTH)
    cv2.imwrite(str(folder / "image_filled" / "3.png"), np.zeros((6, 6, 3), np.uint8))
    with pytest.raises(InputError, match="6x6"):
        filled_views(folder, DETAILS, HEIGHT, WIDTH)

"""ScanNet scenes cut into objects, and the masks that a person drew for one of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from splatomy.engine.cutting import cut_objects
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.io.image_sets import image_set_source, load_image_set
from splatomy.io.options import InputOptions
from splatomy.io.scannet_objects import drawn_masks, list_objects

SIZE = (64, 48)


def write_scene(root: Path, views: int = 6) -> Path:
    """A scene of six views: instance 1 = wall, 2 = chair (large), 3 = cup (too small), 4 = seen once."""
    scene = root / "scene0005_00_scannet"
    for part in ("color", "depth", "pose", "intrinsic", "instance-filt", "label-filt"):
        (scene / part).mkdir(parents=True)
    (root / "scannetv2-labels.combined.tsv").write_text(
        "id\traw_category\tcategory\tnyu40id\n1\twall\twall\t1\n2\tchair\tchair\t5\n3\tcup\tcup\t40\n"
    )
    for name in ("intrinsic_color", "intrinsic_depth"):
        np.savetxt(scene / "intrinsic" / f"{name}.txt", np.array([[50.0, 0, 31.5, 0], [0, 50, 23.5, 0],
                   [0, 0, 1, 0], [0, 0, 0, 1]]))  # fmt: skip
    rng = np.random.default_rng(0)
    for n in range(views):
        instance = np.ones((SIZE[1], SIZE[0]), np.uint8)
        instance[10:40, 10 : 30 + 3 * n] = 2
        instance[2:5, 50:54] = 3
        if n == 2:
            instance[20:40, 40:60] = 4
        label = instance.astype(np.uint16)
        picture = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        cv2.imwrite(str(scene / "color" / f"{10 * n}.png"), picture)
        cv2.imwrite(str(scene / "depth" / f"{10 * n}.png"), np.full(instance.shape, 1500, np.uint16))
        cv2.imwrite(str(scene / "instance-filt" / f"{10 * n}.png"), instance)
        cv2.imwrite(str(scene / "label-filt" / f"{10 * n}.png"), label)
        pose = np.eye(4)
        pose[0, 3] = 0.1 * n
        np.savetxt(scene / "pose" / f"{10 * n}.txt", pose if n != 4 else np.full((4, 4), -np.inf))
    return scene


def test_objects_are_listed_without_background_small_and_rarely_seen_ones(tmp_path: Path) -> None:
    found = finish(list_objects(write_scene(tmp_path), min_views=3))
    assert [(o.number, o.name) for o in found] == [(2, "chair")]
    # View 4 has no pose.
    assert found[0].views.tolist() == [0, 1, 2, 3, 5] and (np.diff(found[0].pixels) > 0).all()


def test_an_objects_folder_opens_as_views_of_one_object(tmp_path: Path) -> None:
    scene = write_scene(tmp_path)
    folders = finish(cut_objects(scene, tmp_path / "objects", min_views=3))
    assert [f.name for f in folders] == ["scene0005_00_scannet_obj_2"]
    source = image_set_source(folders[0], InputOptions())
    views = finish(load_image_set(source, InputOptions())).capture()
    assert len(views) == 5 and views.details["object_name"] == "chair"
    assert views.target is not None and views.target[0, 11:39, 11:29].all() and not views.target[0, :8].any()
    assert np.allclose(views.depth_mm, 1500.0)
    black = cv2.imread(str(folders[0] / "image" / "0.png"))
    assert not black[~views.target[0]].any() and black[views.target[0]].any()


def test_a_scene_without_such_objects_is_told(tmp_path: Path) -> None:
    scene = write_scene(tmp_path)
    with pytest.raises(InputError, match="no object that 20 views"):
        finish(cut_objects(scene, tmp_path / "objects"))
    with pytest.raises(InputError, match="no ScanNet scene"):
        finish(cut_objects(tmp_path, tmp_path / "objects"))


@pytest.mark.parametrize("where", ["inside", "own folder", "published"])
def test_drawn_masks_are_found_by_their_published_names(tmp_path: Path, where: str) -> None:
    scene = write_scene(tmp_path)
    folder = finish(cut_objects(scene, tmp_path, min_views=3))[0]
    places = {"inside": folder, "own folder": folder / "inpaint_masks"}
    place = places.get(where, tmp_path / "only-seg-0005-obj2")
    place.mkdir(exist_ok=True)
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[20:30, 30:44] = 255
    cv2.imwrite(str(place / "3_class_inpaint mask.png"), mask)
    details = {"names": ["0", "1", "2", "3", "4"], "frames": [0, 1, 2, 3, 4], "crop": [0, 0, *SIZE]}
    found = drawn_masks(folder, details, SIZE[1], SIZE[0])
    assert list(found) == [3] and np.array_equal(found[3], mask > 0)
    cropped = drawn_masks(folder, {**details, "names": ["3"], "crop": [20, 10, 40, 30]}, 15, 20)
    assert list(cropped) == [0] and cropped[0].sum() == 7 * 5


def test_released_whole_objects_stand_for_missing_drawings(tmp_path: Path) -> None:
    folder = finish(cut_objects(write_scene(tmp_path), tmp_path, min_views=3))[0]
    assert drawn_masks(folder, {"names": ["0"]}, SIZE[1], SIZE[0]) == {}
    (folder / "mask_filled").mkdir()
    cv2.imwrite(str(folder / "mask_filled" / "1.png"), np.full((SIZE[1], SIZE[0]), 255, np.uint8))
    assert list(drawn_masks(folder, {"names": ["0", "1"]}, SIZE[1], SIZE[0])) == [1]

"""Image sets on the command line: made, inspected, and given to the method that suits them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from splatomy.cli.main import main
from splatomy.engine import default_method
from splatomy.events import finish
from splatomy.geometry.rigid import inverse
from splatomy.io.options import InputOptions
from splatomy.phantoms.object import ObjectPreset, make_object

_VIEWS = ObjectPreset(
    views=6, width_px=256, height_px=192, focal_px=220.0, path="handheld", arc_deg=50.0, subrays=1
)


@pytest.fixture(scope="module")
def nerf_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A textured scene as a NeRF set, whose poses have opengl axes."""
    folder = tmp_path_factory.mktemp("set")
    made = finish(make_object(_VIEWS, 2))
    frames = []
    for view, (picture, pose) in enumerate(
        zip(made.images, inverse(made.cameras.camera_from_world), strict=True)
    ):
        codes = np.rint(picture[..., ::-1] * 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{view}.png"), codes)
        matrix = pose @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"{view}.png", "transform_matrix": matrix.tolist()})
    record = {"fl_x": _VIEWS.focal_px, "w": 256, "h": 192, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(record))
    return folder


def _inspected(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["inspect", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_poses_that_fit_are_said_to(nerf_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = _inspected(capsys, nerf_set)
    assert code == 0 and report["kind"] == "image set" and report["usable"]
    assert report["views"] == 6 and not report["metric"]
    assert any("poses fit the pictures" in text for text in report["found"])


def test_poses_in_the_wrong_convention_are_said_to_be(
    nerf_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = _inspected(capsys, nerf_set, "--poses-convention", "opencv")
    assert code == 2 and not report["usable"]
    assert "with the other axes" in report["problems"][-1]


def test_wrong_poses_are_refused_before_a_run_begins(
    nerf_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["reconstruct", str(nerf_set), "--out", str(run), "--poses-convention", "opencv"]
    assert main(words) == 2
    assert "with the other axes" in capsys.readouterr().err
    assert not run.exists()


def test_still_views_get_a_method_for_still_views(nerf_set: Path, tmp_path: Path) -> None:
    assert default_method(nerf_set, InputOptions()) == "pulled_surface"
    case = tmp_path / "case"
    assert main(["phantom", "object", "--out", str(case), "--preset", "tiny"]) == 0
    # The phantom's masks of an occluder are there, but empty.
    assert default_method(case, InputOptions()) == "pulled_surface"
    hidden = np.zeros((48, 64), np.uint8)
    hidden[10:20, 10:20] = 255
    cv2.imwrite(str(case / "occluder" / "0.png"), hidden)
    assert default_method(case, InputOptions()) == "completed_object"
    assert default_method(case, InputOptions(target=case / "mask", masks=case / "occluder")) == (
        "completed_object"
    )


def test_the_object_phantom_is_an_image_set_with_its_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "case"
    assert main(["phantom", "object", "--out", str(case), "--preset", "tiny", "--seed", "1"]) == 0
    code, report = _inspected(capsys, case)
    assert code == 0 and report["layout"] == "ScanNet object" and report["metric"]
    assert report["masks"] == report["depth"] == report["views"] == 8
    assert {p.name for p in (case / "truth").iterdir()} == {"mesh.ply", "rgb", "depth", "truth.json"}
    assert main(["phantom", "object", "--out", str(case), "--preset", "tiny", "--force"]) == 0
    assert main(["phantom", "object", "--out", str(case), "--layout", "stereomis", "--force"]) == 2

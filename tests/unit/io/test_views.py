"""Views and films on disk."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.movie import open_movie
from splatomy.io.views import Views, read_views, write_views


def views() -> Views:
    cameras = cone_beam(np.linspace(0, 3, 5), 0.1, 750.0, 1200.0, 60, 40, (0.5, 0.6))
    return Views(cameras, np.linspace(0.0, 2.0, 5), Grid.centred((4, 5, 6), (1.0, 2.0, 3.0)), True)


def test_views_come_back_as_they_were(tmp_path: Path) -> None:
    before = views()
    write_views(tmp_path / "v.json", before, note="kept")
    after = read_views(tmp_path / "v.json", 1, 1)
    assert np.allclose(after.cameras.world_to_pixel, before.cameras.world_to_pixel, rtol=1e-12)
    assert (after.cameras.width_px, after.cameras.height_px) == (60, 40) and after.positioner_angles
    assert after.times_s is not None and np.array_equal(after.times_s, np.linspace(0.0, 2.0, 5))
    assert after.grid is not None and after.grid.shape == (4, 5, 6)
    assert np.allclose(after.grid.affine_mm, Grid.centred((4, 5, 6), (1.0, 2.0, 3.0)).affine_mm)
    assert json.loads((tmp_path / "v.json").read_text())["note"] == "kept"


def test_any_geometry_file_is_a_list_of_views(tmp_path: Path) -> None:
    """Matrices and angles say themselves how many views they hold."""
    table = views().cameras.world_to_pixel
    np.savetxt(tmp_path / "m.csv", table.reshape(5, 12), delimiter=",")
    (tmp_path / "m.json").write_text(json.dumps({"matrices": table.tolist()}))
    angles = {"sad_mm": 750, "sid_mm": 1200, "pixel_mm": 0.5, "primary_deg": [0, 10, 20], "frame_time_s": 0.5}
    (tmp_path / "a.json").write_text(json.dumps(angles))
    for name in ("m.csv", "m.json"):
        found = read_views(tmp_path / name, 60, 40)
        assert np.allclose(found.cameras.centres_mm, views().cameras.centres_mm, atol=1e-6)
    found = read_views(tmp_path / "a.json", 60, 40)
    assert len(found.cameras) == 3 and found.times_s is not None and found.times_s.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "damage",
    [
        {"intrinsics": None},
        {"intrinsics": [[1, 2], [3]]},
        {"width_px": "wide"},
        {"width_px": 0},
        {"times_s": [1.0]},
        {"camera_from_world": []},
        {"grid": {"shape": [1, 2]}},
    ],
)
def test_damaged_views_are_one_sentence(damage: dict[str, object], tmp_path: Path) -> None:
    write_views(tmp_path / "v.json", views())
    value = json.loads((tmp_path / "v.json").read_text())
    (tmp_path / "v.json").write_text(json.dumps({**value, **damage}))
    with pytest.raises(InputError, match=r"v\.json"):
        read_views(tmp_path / "v.json", 1, 1)


def test_a_film_holds_its_frames(tmp_path: Path) -> None:
    levels = [40, 120, 200]
    with open_movie(tmp_path / "f.mp4", 33, 20, 10) as movie:
        for level in levels:
            movie.add(np.full((20, 33, 3), level, np.uint8))
    with av.open(str(tmp_path / "f.mp4")) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(stream)]
        assert stream.average_rate == 10
    assert [f.shape for f in frames] == [(20, 34)] * 3
    assert np.allclose([np.median(f) for f in frames], levels, atol=6)


def test_a_broken_off_film_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_movie(tmp_path / "f.mp4", 32, 32, 10) as movie:
        movie.add(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError("stopped")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"\.mp4"), open_movie(tmp_path / "f.avi", 32, 32, 10):
        pass

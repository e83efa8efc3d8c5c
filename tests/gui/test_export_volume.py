"""The export page of a vessel volume that was opened without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS
from PyQt6.QtCore import Qt

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.events import finish
from splatomy.io.mesh import read_mesh
from splatomy.io.volume import read_volume, read_volume_4d, write_sequence, write_volume
from splatomy.scene import Volume
from splatomy_gui.panels.export_volume import sequence_file_of, surface_file, vessel_folder, volume_file

LEFT = Qt.MouseButton.LeftButton
RADIUS_MM, SIZE = 3.0, 28


def tube() -> np.ndarray:
    """A vessel of 3 mm radius that runs straight up through the middle of 1 mm voxels."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    distance = np.hypot(*np.meshgrid(axis, axis, indexing="ij"))
    values = np.zeros((SIZE, SIZE, SIZE), np.float32)
    values[:, :, 2:-2] = 0.05 * np.clip(RADIUS_MM + 0.5 - distance, 0, 1)[:, :, None]
    return values


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid.centred((SIZE, SIZE, SIZE), (1.0, 1.0, 1.0))


@pytest.fixture
def still(tmp_path: Path, grid: Grid) -> Path:
    path = tmp_path / "vessels.nii.gz"
    write_volume(path, Volume(tube(), grid.affine_mm))
    return path


@pytest.fixture
def moving(tmp_path: Path, grid: Grid) -> Path:
    """Empty at 0 s, full at 2 s."""
    path = tmp_path / "moving.seq.nrrd"
    write_sequence(path, iter([0 * tube(), tube()]), np.array([0.0, 2.0]), grid)
    return path


def test_a_volume_is_written_in_every_format(still: Path, moving: Path, tmp_path: Path) -> None:
    for ending in ("nii.gz", "nrrd", "mha"):
        out = finish(volume_file(still, tmp_path / f"out.{ending}", None))
        np.testing.assert_allclose(read_volume(out).values, tube(), atol=1e-6)
        np.testing.assert_allclose(read_volume(out).affine_mm, read_volume(still).affine_mm, atol=1e-5)
    mean = read_volume(finish(volume_file(moving, tmp_path / "mean.nii.gz", None)))
    full = read_volume(finish(volume_file(moving, tmp_path / "full.nii.gz", 1.8)))
    np.testing.assert_allclose(mean.values, tube() / 2, atol=1e-6)
    np.testing.assert_allclose(full.values, tube(), atol=1e-6)
    values, times_s, _ = read_volume_4d(finish(sequence_file_of(moving, tmp_path / "again.seq.nrrd")))
    np.testing.assert_allclose(times_s, [0.0, 2.0])
    np.testing.assert_allclose(values[1], tube(), atol=1e-6)


def test_the_page_says_what_a_volume_has_not(window: Any, qtbot: Any, still: Path) -> None:
    page = exported(window, qtbot, still)
    reasons = {product.title: save.toolTip() for product, _, save in page.rows if not save.isEnabled()}
    assert set(reasons) == {"Volume over time", "Gaussians", "Film", "Turning film"}
    assert "one time" in reasons["Volume over time"] and "made of a run" in reasons["Gaussians"]
    row = next(row for row in page.rows if row[0].title == "Volume")
    row[1].setCurrentText("mha")
    qtbot.mouseClick(row[2], LEFT)
    qtbot.waitUntil(lambda: page.written.count() == 1, timeout=LONG_MS)
    written = Path(page.written.item(0).text())
    assert written.parent == still.parent / "exports" and written.name.startswith("vessels-volume-")
    np.testing.assert_allclose(read_volume(written).values, tube(), atol=1e-6)


@pytest.mark.verify
def test_surface_and_vessels_of_a_volume(still: Path, moving: Path, tmp_path: Path) -> None:
    mesh = read_mesh(finish(surface_file(still, tmp_path / "surface.stl", None)))
    away = np.hypot(mesh.vertices_mm[:, 0], mesh.vertices_mm[:, 1])
    assert abs(float(np.median(away)) - RADIUS_MM) < 0.5
    with pytest.raises(InputError, match="no vessel"):
        finish(surface_file(moving, tmp_path / "none.ply", 0.0))
    made = finish(vessel_folder(still, tmp_path / "vessels"))
    for name in ("volumes/vessels.nii.gz", "volumes/centreline.vtp", "meshes/mesh.ply"):
        assert (made / name).is_file(), name


def exported(window: Any, qtbot: Any, path: Path) -> Any:
    """The export page of a finished volume, without the 3D views that a drop would open first."""
    window.session.open_volume(path)
    window.show_workspace("angiography", "export")
    page = window.page
    qtbot.waitUntil(lambda: page.rows[0][2].isEnabled(), timeout=LONG_MS)
    qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)
    return page

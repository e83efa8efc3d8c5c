import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import splatomy.io.volume as volume_io
from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.io.volume import (
    VOLUME_SUFFIXES,
    read_volume,
    read_volume_4d,
    resampled,
    write_sequence,
    write_volume,
)
from splatomy.scene import Volume


@pytest.fixture
def volume() -> Volume:
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    ) @ np.diag([0.5, 0.75, 2.0])
    affine[:3, 3] = [10, -20, 33]
    return Volume(np.random.default_rng(0).random((4, 5, 6), dtype=np.float32), affine)


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_round_trip(tmp_path, volume, suffix):
    write_volume(tmp_path / f"v{suffix}", volume)
    back = read_volume(tmp_path / f"v{suffix}")
    np.testing.assert_array_equal(back.values, volume.values)
    np.testing.assert_allclose(back.affine_mm, volume.affine_mm, atol=1e-5)


def test_nibabel_shows_ras_and_simpleitk_lps_of_one_place(tmp_path, volume):
    path = tmp_path / "v.nii.gz"
    write_volume(path, volume)
    image = nibabel.load(path)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ image.affine, volume.affine_mm, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume.values)
    itk = sitk.ReadImage(str(path))
    index = (3, 1, 4)
    expected = volume.affine_mm @ [*index, 1]
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint(index), expected[:3], atol=1e-4)
    assert itk.GetPixel(*index) == volume.values[index]


@pytest.mark.parametrize("encoding", ["gzip", "raw"])
def test_sequence_round_trip(tmp_path, encoding):
    values = np.random.default_rng(0).random((7, 3, 4, 5), dtype=np.float32)
    times = np.array([0, 0.1, 0.25, 0.4, 1, 2, 3.5])
    grid = Grid.centred((3, 4, 5), (1, 2, 3))
    path = tmp_path / "v.seq.nrrd"
    write_sequence(path, iter(values), times, grid, encoding=encoding)
    back, back_times, back_grid = read_volume_4d(path)
    np.testing.assert_array_equal(back, values)
    np.testing.assert_allclose(back_times, times)
    assert back_grid.shape == grid.shape
    np.testing.assert_allclose(back_grid.affine_mm, grid.affine_mm)
    assert b"kinds: list domain domain domain" in path.read_bytes()[:600]
    assert [p.name for p in tmp_path.iterdir()] == ["v.seq.nrrd"]


def test_sequence_of_wrong_length_leaves_nothing(tmp_path):
    grid = Grid.centred((2, 2, 2), (1, 1, 1))
    with pytest.raises(ValueError, match="one entry per volume"):
        write_sequence(tmp_path / "v.seq.nrrd", iter([np.zeros((2, 2, 2))]), np.zeros(2), grid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_cut_off_file(tmp_path, volume, suffix):
    path = tmp_path / f"v{suffix}"
    write_volume(path, volume)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"again\.$"):
        read_volume(path)


def test_refusals(tmp_path, volume, monkeypatch):
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "none.nii.gz")
    with pytest.raises(InputError, match="unknown extension"):
        write_volume(tmp_path / "v.png", volume)
    path = tmp_path / "v.nrrd"
    write_volume(path, volume)
    monkeypatch.setattr(volume_io, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="GiB decoded"):
        read_volume(path)
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="no readable header"):
        read_volume(path)


def test_values_on_another_grid_follow_the_world():
    """A turned and finer grid, half of it outside: a linear field stays one, and outside is unknown."""
    slope = np.array([0.3, -0.2, 0.1])
    affine = np.diag([2.0, 1.5, 1.0, 1])
    affine[:3, 3] = [-10, 4, 30]

    def field(shape, affine):
        index = np.stack(np.indices(shape), -1)
        world = index @ affine[:3, :3].T + affine[:3, 3]
        return world, (world @ slope).astype(np.float32)

    _, values = field((12, 10, 14), affine)
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    other = np.eye(4)
    other[:3, :3], other[:3, 3] = 0.7 * turn, [4, 3, 32]
    world, expected = field((30, 9, 11), other)
    found = resampled(Volume(values, affine), Grid((30, 9, 11), other))
    index = (world - affine[:3, 3]) / [2, 1.5, 1]
    inside = ((index >= 0) & (index <= [11, 9, 13])).all(-1)
    outside = ((index < -0.51) | (index > [11.51, 9.51, 13.51])).any(-1)
    assert inside.sum() > 300 and outside.sum() > 300
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
    assert np.isnan(found[outside]).all() and not np.isnan(found[inside]).any()

    nearest = resampled(Volume(values, affine), Grid((30, 9, 11), other), nearest=True)
    place = np.rint(index[inside]).astype(int)
    # Halves may go either way.
    clear = (np.abs(index[inside] - np.floor(index[inside]) - 0.5) > 1e-3).all(-1)
    np.testing.assert_array_equal(nearest[inside][clear], values[tuple(place[clear].T)])

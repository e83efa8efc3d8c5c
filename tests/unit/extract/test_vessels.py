"""Threshold, label, centreline and surface of tubes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tubes import Tubes, make_tubes

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.extract.centreline import Centreline, centrelines, wall_points_mm, with_arrival
from splatomy.extract.threshold import choose_threshold, measure_levels
from splatomy.extract.vessels import label_of_mask, vessel_label
from splatomy.metrics.volume import dice, dice_best, recall_by_radius
from splatomy.scene import Volume


@pytest.fixture(scope="module", params=[(0, 0.2), (3, 0.3), (4, 0.4)], ids=lambda p: f"blur{p[1]}")
def tubes(request: pytest.FixtureRequest) -> Tubes:
    seed, sigma = request.param
    return make_tubes(96, seed=seed, sigma_mm=sigma, count=16)


def straight_tube(
    radius_mm: float, spacing: tuple[float, float, float] = (0.4, 0.4, 0.4), sigma_mm: float = 0.3
) -> Volume:
    """One tube along (1, 2, 0.5)/|.|, exact blurred profile, 0.01/mm."""
    grid = Grid.centred(tuple(int(24 / s) for s in spacing), spacing)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = index @ grid.affine_mm[:3, :3].T + grid.affine_mm[:3, 3]
    axis = np.array([1, 2, 0.5]) / np.linalg.norm([1, 2, 0.5])
    distance = np.linalg.norm(points - (points @ axis)[..., None] * axis, axis=-1)
    from scipy.stats import ncx2

    radii = np.linspace(0, radius_mm + 6 * sigma_mm, 400)
    profile = ncx2.cdf((radius_mm / sigma_mm) ** 2, 2, (radii / sigma_mm) ** 2)
    values = 0.01 * np.interp(distance, radii, profile, right=0.0)
    return Volume(values.astype(np.float32), grid.affine_mm)


def test_the_own_label_is_near_the_best_single_level(tubes: Tubes) -> None:
    """Chosen without truth, it loses little to the level that truth would choose."""
    own = vessel_label(tubes.volume)
    best, _ = dice_best(tubes.volume.values, tubes.truth)
    assert dice(own.label, tubes.truth) >= best - 0.05


def test_thin_vessels_are_found(tubes: Tubes) -> None:
    own = vessel_label(tubes.volume)
    recall = recall_by_radius(own.label, own.affine_mm, tubes.points_mm, tubes.radius_mm, 0.5)
    assert recall >= 0.95


def test_the_fill_is_one_at_the_label_s_wall(tubes: Tubes) -> None:
    own = vessel_label(tubes.volume)
    assert ((own.fill >= 1) == (own.label > 0)).all()


def test_the_label_does_not_depend_on_the_unit() -> None:
    volume = make_tubes(80, count=8).volume
    scaled = Volume(volume.values * 1e5 + 300, volume.affine_mm)
    a, b = vessel_label(volume), vessel_label(scaled)
    assert dice(a.label, b.label) > 0.999
    assert choose_threshold(scaled) == pytest.approx(1e5 * choose_threshold(volume) + 300, rel=1e-3)


def test_an_empty_background_sets_no_noise() -> None:
    levels = measure_levels(straight_tube(1.5))
    assert levels.background == 0 and levels.noise == 0
    assert levels.threshold == pytest.approx(0.005, rel=0.25)


@pytest.mark.parametrize(
    ("peak", "length", "kept"),
    [(0.2, 9, False), (0.2, 24, True), (0.5, 9, True), (0.5, 5, False)],
    ids=["short and dim", "long and dim", "short and bright", "too short"],
)
def test_a_stray_piece_is_left_out_where_nothing_tells_of_noise(peak: float, length: int, kept: bool) -> None:
    """peak: of a piece of so many voxels of 0.4 mm, in shares of the lumen."""
    tube = straight_tube(1.0)
    values = tube.values.copy()
    corner = (slice(2, 2 + length), slice(50, 52), slice(3, 5))
    assert values[corner].max() == 0
    values[corner] = peak * 0.01
    label = vessel_label(Volume(values, tube.affine_mm)).label
    assert bool(label[corner].any()) is kept


def test_a_single_level_is_that_level() -> None:
    volume = straight_tube(1.5)
    label = vessel_label(volume, 0.004)
    assert label.level_per_mm == 0.004
    assert dice(label.label, volume.values >= 0.004) == 1


@pytest.mark.parametrize("values", [np.zeros((8, 8, 8)), np.full((8, 8, 8), np.nan)])
def test_an_empty_volume_gets_its_sentence(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="reconstruction is not empty"):
        vessel_label(Volume(values.astype(np.float32), np.eye(4)))


def test_a_level_above_everything_gets_its_sentence() -> None:
    with pytest.raises(InputError, match="No vessel was found"):
        vessel_label(straight_tube(1.0), 0.5)


def test_a_level_below_the_background_gets_its_sentence() -> None:
    volume = straight_tube(1.0)
    with pytest.raises(InputError, match="not above the background"):
        vessel_label(Volume(volume.values + 1, volume.affine_mm), 0.5)


def test_nan_voxels_are_outside() -> None:
    volume = straight_tube(1.5)
    volume.values[:3] = np.nan
    assert not vessel_label(volume).label[:3].any()


@pytest.mark.parametrize("radius", [0.4, 0.8, 1.5, 2.5])
@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.4), (0.4, 0.4, 0.8)], ids=["cubic", "thick"])
def test_radius_and_middle_of_a_tube(radius: float, spacing: tuple[float, float, float]) -> None:
    if radius < spacing[2] / 2 + 0.1 and spacing[2] > 0.4:
        pytest.skip("thinner than a slice: its profile cannot be told from gaps")
    line = centrelines(vessel_label(straight_tube(radius, spacing)))
    axis = np.array([1, 2, 0.5]) / np.linalg.norm([1, 2, 0.5])
    off = np.linalg.norm(line.points_mm - (line.points_mm @ axis)[:, None] * axis, axis=1)
    inner = np.abs(line.points_mm @ axis) < 9
    assert np.median(off[inner]) < 0.2
    assert np.median(line.radius_mm[inner]) == pytest.approx(radius, abs=0.2)
    assert line.length_mm > 18
    assert line.num_branches == 1


def test_centrelines_of_many_tubes_lie_on_the_true_ones(tubes: Tubes) -> None:
    line = centrelines(vessel_label(tubes.volume))
    distance, nearest = cKDTree(tubes.points_mm).query(line.points_mm)
    assert np.percentile(distance, 95) < 0.4
    error = np.abs(line.radius_mm - tubes.radius_mm[nearest])
    assert np.median(error) < 0.2
    assert np.percentile(error, 90) < 0.4


def forked_mask() -> Volume:
    """A Y of three arms of radius 3 voxels with 0.5 mm voxels in a mirrored frame."""
    grid = np.stack(np.meshgrid(*[np.arange(48)] * 3, indexing="ij"), -1).astype(float)
    mask = np.zeros((48, 48, 48), np.float32)
    for end in ((4, 24, 24), (42, 8, 24), (42, 40, 24)):
        t = np.linspace(0, 1, 80)[:, None]
        arm = (1 - t) * np.array([24.0, 24, 24]) + t * np.array(end, float)
        mask[cKDTree(arm).query(grid)[0] < 3] = 1
    return Volume(mask, np.array([[-0.5, 0, 0, 7], [0, -0.5, 0, 3], [0, 0, 0.5, -2], [0, 0, 0, 1.0]]))


@pytest.fixture(scope="module")
def fork() -> tuple[Volume, Centreline]:
    mask = forked_mask()
    return mask, centrelines(label_of_mask(mask))


def test_a_fork_has_three_branches_and_one_junction(fork: tuple[Volume, Centreline]) -> None:
    mask, line = fork
    assert line.num_branches == 3
    assert len(line.junctions) == 1
    centre = mask.affine_mm[:3, :3] @ [24, 24, 24] + mask.affine_mm[:3, 3]
    assert np.linalg.norm(line.points_mm[line.junctions[0]] - centre) < 1.5
    assert (line.parent < 0).sum() == 1
    assert (line.parent < np.arange(len(line))).all()
    assert np.median(line.radius_mm) == pytest.approx(1.5, abs=0.25)


def test_arrival_is_taken_from_the_nearest_voxel(fork: tuple[Volume, Centreline]) -> None:
    mask, line = fork
    arrival = np.where(mask.values > 0, np.arange(48)[:, None, None] * 0.1, np.nan)
    timed = with_arrival(line, Volume(arrival.astype(np.float32), mask.affine_mm))
    assert timed.arrival_s is not None
    expected = (line.points_mm[:, 0] - 7) / -0.5 * 0.1
    assert np.abs(timed.arrival_s - expected).max() < 0.11
    unknown = with_arrival(line, Volume(np.full((4, 4, 4), np.nan, np.float32), mask.affine_mm))
    assert unknown.arrival_s is not None and np.isnan(unknown.arrival_s).all()


@pytest.mark.parametrize("width", [2, 4, 6])
@pytest.mark.parametrize("round_section", [False, True])
def test_even_and_symmetric_sections_keep_their_middle_line(width: int, round_section: bool) -> None:
    half = (np.arange(16) - 7.5)[:, None], (np.arange(16) - 7.5)[None, :]
    radius = np.hypot(*half) if round_section else np.maximum(np.abs(half[0]), np.abs(half[1]))
    mask = np.zeros((16, 16, 60), np.float32)
    mask[..., 5:55] = (radius < width / 2 + 0.2)[..., None]
    line = centrelines(label_of_mask(Volume(mask, np.eye(4))))
    assert line.length_mm > 50 - width - 2
    assert np.abs(line.points_mm[:, :2] - 7.5).max() < 0.6


def test_wall_points_lie_on_the_wall() -> None:
    volume = straight_tube(2.0)
    points = wall_points_mm(vessel_label(volume))
    axis = np.array([1, 2, 0.5]) / np.linalg.norm([1, 2, 0.5])
    inner = np.abs(points @ axis) < 9
    distance = np.linalg.norm(points - (points @ axis)[:, None] * axis, axis=1)[inner]
    assert np.abs(distance - 2.0).max() < 0.15

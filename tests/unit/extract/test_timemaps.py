"""Arrival, peak and transit of curves whose times are known."""

from __future__ import annotations

import numpy as np
import pytest

from splatomy.extract.timemaps import time_maps, vessel_time_maps
from splatomy.extract.vessels import label_of_mask
from splatomy.scene import Volume


def gaussian_curves(centres: np.ndarray, width: float, times: np.ndarray) -> np.ndarray:
    return np.exp(-((times - centres[:, None]) ** 2) / (2 * width**2))


@pytest.mark.parametrize("uneven", [False, True])
def test_gaussian_bolus(uneven: bool) -> None:
    times = np.linspace(0, 6, 121)
    if uneven:
        times = 6 * (times / 6) ** 1.3
    centres = np.array([2.0, 2.53, 3.17])
    arrival, peak, transit = time_maps(0.01 * gaussian_curves(centres, 0.4, times), times)
    half_width = 0.4 * np.sqrt(2 * np.log(2))
    np.testing.assert_allclose(arrival, centres - half_width, atol=0.005)
    np.testing.assert_allclose(peak, centres, atol=0.005)
    np.testing.assert_allclose(transit, half_width, atol=0.01)


def test_scale_and_delay_laws() -> None:
    times = np.linspace(0, 5, 60)
    curves = gaussian_curves(np.array([1.7, 2.9]), 0.5, times)
    base = time_maps(curves, times)
    for moved, original, shift in zip(time_maps(7 * curves, times + 3), base, (3, 3, 0), strict=True):
        np.testing.assert_allclose(moved, original + shift, atol=1e-9)


def test_edges_and_nothing() -> None:
    times = np.arange(5.0)
    curves = np.array(
        [[5, 4, 3, 2, 1], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0], [1, np.nan, 1, 1, 1], [2, 2, 2, 2, 2]], float
    )
    arrival, peak, transit = time_maps(curves, times)
    assert arrival[0] == 0 and peak[0] == 0
    assert arrival[1] == 2 and peak[1] == 4
    assert np.isnan(arrival[2:4]).all() and np.isnan(peak[2:4]).all() and np.isnan(transit[2:4]).all()
    assert arrival[4] == 0 and transit[4] == pytest.approx(2)


def test_a_spike_before_the_bolus_is_no_arrival() -> None:
    """Few views see the first moment, so that a draft overshoots there."""
    times = np.linspace(0, 6, 61)
    curves = gaussian_curves(np.array([2.5]), 0.4, times)
    plain = time_maps(curves, times)[0]
    curves[0, 0] = 0.8
    np.testing.assert_array_equal(time_maps(curves, times)[0], plain)


def test_no_curves_and_wrong_times() -> None:
    assert time_maps(np.zeros((0, 4)), np.arange(4.0))[0].shape == (0,)
    with pytest.raises(ValueError, match="strictly increasing"):
        time_maps(np.ones((2, 3)), np.array([0, 2, 1.0]))


def test_maps_of_volumes_are_unknown_outside_vessels() -> None:
    mask = np.zeros((10, 10, 10), np.float32)
    mask[3:7, 4:6, :] = 1
    label = label_of_mask(Volume(mask, np.eye(4)))
    times = np.linspace(0, 4, 30)
    centre = 1 + 0.1 * np.arange(10)
    frames = ((t, mask * np.exp(-((t - centre) ** 2) / 0.5)) for t in times)
    maps = vessel_time_maps(frames, label)
    assert np.isnan(maps.peak_s[mask == 0]).all()
    np.testing.assert_allclose(maps.peak_s[4, 4, 3:-3], centre[3:-3], atol=0.01)
    # Towards the ends of a vessel its curves come from one side alone; here contrast creeps at 10 mm/s.
    np.testing.assert_allclose(maps.peak_s[4, 4], centre, atol=0.15)
    with pytest.raises(ValueError, match="shape"):
        vessel_time_maps([(0.0, np.zeros((2, 2, 2)))], label)


def test_noise_of_single_voxels_does_not_delay_the_arrival() -> None:
    """A voxel's noise raises its maximum, and so the time at which half of it is reached."""
    mask = np.zeros((30, 12, 12), np.float32)
    mask[:, 4:8, 4:8] = 1
    label = label_of_mask(Volume(mask, np.diag([0.4, 0.4, 0.4, 1.0])))
    times = np.linspace(0, 4, 100)
    rng = np.random.default_rng(0)
    bolus = np.exp(-((times - 2) ** 2) / (2 * 0.4**2))
    frames = [(t, mask * (b + 0.15 * rng.normal(size=mask.shape))) for t, b in zip(times, bolus, strict=True)]
    exact = 2 - 0.4 * np.sqrt(2 * np.log(2))
    alone = time_maps(np.stack([v[mask > 0] for _, v in frames], 1), times)[0]
    together = vessel_time_maps(frames, label).arrival_s[mask > 0]
    assert np.median(np.abs(together - exact)) < 0.5 * np.median(np.abs(alone - exact))


def test_two_vessels_side_by_side_keep_their_own_times() -> None:
    mask = np.zeros((20, 9, 5), np.float32)
    mask[:, 2, 2] = mask[:, 4, 2] = 1
    label = label_of_mask(Volume(mask, np.diag([0.4, 0.4, 0.4, 1.0])))
    times = np.linspace(0, 4, 60)
    early = np.zeros_like(mask)
    early[:, 2] = 1
    frames = [
        (t, mask * (early * np.exp(-((t - 1) ** 2)) + (1 - early) * np.exp(-((t - 3) ** 2)))) for t in times
    ]
    peak = vessel_time_maps(frames, label).peak_s
    np.testing.assert_allclose(peak[:, 2, 2], 1, atol=0.05)
    np.testing.assert_allclose(peak[:, 4, 2], 3, atol=0.05)

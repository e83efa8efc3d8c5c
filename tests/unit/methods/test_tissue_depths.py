"""Measured depths of visible tissue: what is dropped, what is calmed, and what stays as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatomy.methods.dynamic_tissue.depths import cleaned, noise_of, planes

WIDTH, HEIGHT = 160, 120
NOISE = 0.01


def surface(time: float = 0.0) -> NDArray[np.float32]:
    """Inverse depths of a curved, tilted surface that sinks with time."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    bumps = 0.02 * np.sin(x / 25) * np.cos(y / 30)
    return np.asarray(1 + 0.001 * x - 0.002 * y + bumps - 0.05 * time, np.float32)


def noisy(time: float, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng([seed, int(10 * time)]).normal(0, NOISE, (HEIGHT, WIDTH))
    return (surface(time) + noise).astype(np.float32)


def everywhere() -> NDArray[np.float32]:
    return np.ones((HEIGHT, WIDTH), np.float32)


def seen() -> NDArray[np.bool_]:
    return np.ones((HEIGHT, WIDTH), bool)


def test_a_plane_is_its_own_neighbourhood() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    plane = 2 + 0.01 * x - 0.005 * y
    half = (x > 40).astype(np.float32)
    inner = (slice(10, -10), slice(50, -10))
    assert np.abs(planes(plane, everywhere(), 5.0) - plane)[10:-10, 10:-10].max() < 1e-3
    assert np.abs(planes(np.where(half > 0, plane, 99), half, 5.0) - plane)[inner].max() < 1e-3


def test_the_noise_is_told_from_the_motion() -> None:
    still = noise_of(lambda t: (surface(t / 10), everywhere()), 8)
    rough = noise_of(lambda t: (noisy(t / 10), everywhere()), 8)
    assert still < 0.05 * NOISE
    assert 0.7 * NOISE < rough < 1.3 * NOISE
    assert noise_of(lambda t: (noisy(t / 10), everywhere()), 1) == 0.0


def test_exact_depths_stay_and_noisy_ones_are_calmed() -> None:
    exact, _ = cleaned(surface(), everywhere(), seen(), 0.0)
    assert np.array_equal(exact, surface())
    calm, weight = cleaned(noisy(0.0), everywhere(), seen(), NOISE)
    assert (weight > 0).mean() > 0.95
    assert np.abs(calm - surface()).mean() < 0.5 * np.abs(noisy(0.0) - surface()).mean()


def test_strays_and_the_rims_of_instruments_count_nothing() -> None:
    inverse, hidden = noisy(0.0), np.zeros((HEIGHT, WIDTH), bool)
    inverse[20:23, 20:23] += 0.3
    hidden[60:90, 70:110] = True
    # What a matcher makes of the tissue beside an instrument.
    inverse[58:60, 70:110] += 0.2
    inverse[60:90, 70:110] = 3.0
    _, weight = cleaned(inverse, (~hidden).astype(np.float32), ~hidden, NOISE)
    assert not weight[20:23, 20:23].any()
    assert not weight[58:92, 68:112].any()
    assert weight[5:15, 100:].min() > 0.9


def test_hidden_values_change_nothing() -> None:
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[60:90, 70:110] = True
    one, other = noisy(0.0), noisy(0.0)
    other[hidden] = 40.0
    weight = (~hidden).astype(np.float32)
    first, second = cleaned(one, weight, ~hidden, NOISE), cleaned(other, weight, ~hidden, NOISE)
    assert np.array_equal(first[1], second[1])
    assert np.array_equal(first[0][first[1] > 0], second[0][second[1] > 0])


def test_nothing_known_is_nothing_found() -> None:
    none = np.zeros((HEIGHT, WIDTH), np.float32)
    _, weight = cleaned(surface(), none, seen(), NOISE)
    assert not weight.any()

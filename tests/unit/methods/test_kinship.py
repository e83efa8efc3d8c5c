"""Neighbouring Gaussians share the course of their contrast."""

from __future__ import annotations

import torch

from splatomy.gaussians.store import GaussianStore
from splatomy.methods.dynamic_vessels.kinship import NEIGHBOURS, neighbour, strangeness

_RATES = {"means_mm": 0.0, "quats_wxyz": 0.0, "log_scales": 0.0, "curve": 0.02}


def _store(count: int, curve: torch.Tensor) -> GaussianStore:
    means = torch.zeros(count, 3)
    means[:, 0] = torch.arange(count, dtype=torch.float32)
    rows = {"means_mm": means, "quats_wxyz": torch.ones(count, 4), "log_scales": torch.zeros(count, 3)}
    return GaussianStore({**rows, "curve": curve}, _RATES)


def _strangeness(store: GaussianStore, step: int) -> torch.Tensor:
    return strangeness(store["curve"], neighbour(store, step))


def test_like_curves_cost_next_to_nothing() -> None:
    curve = torch.rand(1, 6).repeat(30, 1)
    assert float(_strangeness(_store(30, curve), 0).detach()) < 0.03


def test_the_odd_one_is_drawn_to_its_neighbours() -> None:
    torch.manual_seed(0)
    curve = torch.ones(30, 6)
    curve[15] = 3.0
    store = _store(30, curve)
    for step in range(200):
        _strangeness(store, step).backward()
        store.optimiser.step()
        store.optimiser.zero_grad(set_to_none=True)
    curve = store["curve"].detach()
    around = torch.cat([curve[11:15], curve[16:20]]).mean(0)
    assert float((curve[15] - around).abs().max()) < 0.5, "it was 2 away"


def test_neighbours_are_the_nearest_others_and_follow_a_checkpoint() -> None:
    store = _store(40, torch.rand(40, 6))
    neighbour(store, 0)
    found = store.side["neighbours"]
    assert found.shape == (40, NEIGHBOURS)
    assert not (found == torch.arange(40)[:, None]).any()
    assert int((found[20] - 20).abs().max()) == NEIGHBOURS // 2
    again = GaussianStore.from_state(store.state_arrays(), _RATES, torch.device("cpu"))
    assert torch.equal(again.side["neighbours"], found)


def test_a_handful_of_gaussians() -> None:
    for count in (1, 2, 5):
        store = _store(count, torch.rand(count, 6))
        assert torch.isfinite(_strangeness(store, 3))
        assert int(store.side["neighbours"].max()) < count

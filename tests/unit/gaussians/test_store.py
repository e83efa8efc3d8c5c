"""The store's laws: moments and side tensors follow their parents."""

from __future__ import annotations

import numpy as np
import torch

from splatomy.gaussians.density import grow_and_prune, rotate
from splatomy.gaussians.store import GaussianStore
from splatomy.geometry.rigid import rotation_from_quat

RATES = {"means_mm": 0.1, "quats_wxyz": 0.1, "log_scales": 0.1}


def trained_store(count: int = 6) -> GaussianStore:
    generator = torch.Generator().manual_seed(0)
    store = GaussianStore(
        {
            "means_mm": torch.randn(count, 3, generator=generator),
            "quats_wxyz": torch.randn(count, 4, generator=generator),
            "log_scales": torch.randn(count, 3, generator=generator),
        },
        RATES,
    )
    for _ in range(3):
        loss = sum(
            (p.square() * torch.arange(1.0, count + 1)[:, None]).sum() for p in store.parameters.values()
        )
        loss.backward()
        store.optimiser.step()
        store.optimiser.zero_grad()
    store.side = {"id": torch.arange(float(count))}
    return store


def test_reindex_carries_moments_and_side_tensors() -> None:
    store = trained_store()
    before = store.state_arrays()
    parents = torch.tensor([4, 4, 0, 2])
    store.reindex(parents)
    after = store.state_arrays()
    for name, array in before.items():
        if name.startswith("step"):
            assert np.array_equal(after[name], array)
        else:
            assert np.array_equal(after[name], array[parents.numpy()]), name


def test_a_restored_store_goes_on_bit_by_bit() -> None:
    store = trained_store()
    twin = GaussianStore.from_state(store.state_arrays(), RATES, torch.device("cpu"))
    for each in (store, twin):
        sum(p.square().sum() for p in each.parameters.values()).backward()
        each.optimiser.step()
    for name, array in store.snapshot().items():
        assert np.array_equal(array, twin.snapshot()[name]), name


def test_append_gives_fresh_moments() -> None:
    store = trained_store()
    store.append(means_mm=torch.zeros(2, 3), quats_wxyz=torch.ones(2, 4), log_scales=torch.zeros(2, 3))
    arrays = store.state_arrays()
    assert len(store) == 8 and not arrays["exp_avg.means_mm"][6:].any() and not arrays["side.id"][6:].any()


def test_growing_splits_the_large_and_copies_the_small() -> None:
    store = trained_store()
    with torch.no_grad():
        store["log_scales"][:] = torch.tensor([2.0, 2, 2, -2, -2, -2])[:, None]
    keep = torch.tensor([True, True, False, True, True, True])
    grow = torch.tensor([True, False, True, True, False, False])
    dropped, grown = grow_and_prune(store, keep, grow, 1.0, torch.Generator().manual_seed(0))
    # One of 6 is dropped, one splits into two, one is copied: 6 - 1 - 1 + 2 + 1.
    assert (dropped, grown, len(store)) == (1, 2, 7)


def test_rotate_is_the_quaternions_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    quats, vectors = torch.randn(5, 4, generator=generator), torch.randn(5, 3, generator=generator)
    wanted = np.einsum("nij,nj->ni", rotation_from_quat(quats.numpy()), vectors.numpy())
    assert np.allclose(rotate(quats, vectors).numpy(), wanted, atol=1e-5)

"""The same sums give the same bits, and the caller's settings come back."""

from __future__ import annotations

import torch

from splatomy.engine.repeatable import repeatable
from splatomy.gaussians.store import GaussianStore
from splatomy.methods.dynamic_vessels.kinship import neighbour, strangeness

NUM = 20_000


def gathered_gradient() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(NUM, 16, generator=draw).requires_grad_()
    index = torch.randint(0, NUM, (2 * NUM,), generator=draw)
    (rows[index] * torch.randn(2 * NUM, 16, generator=draw)).sum().backward()
    assert rows.grad is not None
    return rows.grad


def test_gathered_rows_have_the_same_gradient_every_time() -> None:
    with repeatable(torch.device("cpu"), False):
        first = gathered_gradient()
        for _ in range(5):
            assert torch.equal(gathered_gradient(), first)


def test_the_settings_of_the_caller_come_back() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(torch.device("cpu"), False):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(torch.device("cuda"), False):
        assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(torch.device("cuda"), True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_curves_of_neighbours_pull_alike_every_time() -> None:
    draw = torch.Generator().manual_seed(0)
    start = {
        "means_mm": torch.randn(NUM, 3, generator=draw) * 20,
        "curve": torch.randn(NUM, 19, generator=draw),
    }
    gradients = []
    for _ in range(4):
        store = GaussianStore(start, dict.fromkeys(start, 1e-3))
        strangeness(store["curve"], neighbour(store, 3)).backward()
        gradients.append(store["curve"].grad)
    for gradient in gradients[1:]:
        assert torch.equal(gradient, gradients[0])

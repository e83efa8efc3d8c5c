"""Trainable Gaussians: named parameters, their optimiser, and the one verb that changes topology."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.gaussians.adam import Adam

_MOMENTS = ("exp_avg", "exp_avg_sq")


class GaussianStore:
    """N Gaussians as named tensors whose first dimension is N, with Adam moments and side tensors.

    The usual names: means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 3) in log mm.
    ``side`` holds what is not trained (gathered statistics), also (N, ...).
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], learning_rates: Mapping[str, float]) -> None:
        self.parameters = {k: v.detach().clone().requires_grad_(True) for k, v in parameters.items()}
        self.side: dict[str, torch.Tensor] = {}
        self._rates = {name: float(learning_rates[name]) for name in self.parameters}
        self.optimiser = Adam(
            {"params": [p], "lr": self._rates[name], "name": name} for name, p in self.parameters.items()
        )
        self.generation = 0
        """How often the rows have changed; until then every tensor stays where it is."""

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.parameters[name]

    def set_learning_rates(self, rates: Mapping[str, float]) -> None:
        """Replaces the learning rates of the named parameters."""
        self._rates |= {name: rate for name, rate in rates.items() if name in self._rates}
        self.optimiser.set_rates(list(self._rates.values()))

    @torch.no_grad()
    def reindex(self, parents: torch.Tensor, **overrides: torch.Tensor) -> None:
        """Row i of everything becomes row parents[i] (M,): prunes, clones, splits and relocates at once.

        Optimiser moments and side tensors follow their parents. overrides: new values (M, ...) of
        named parameters, for rows that differ from their parents.
        """
        for group in self.optimiser.param_groups:
            old, name = group["params"][0], group["name"]
            values = overrides.get(name, old.detach()[parents])
            new = values.clone().requires_grad_(True)
            state = self.optimiser.state.pop(old, None)
            if state:
                for moment in _MOMENTS:
                    state[moment] = state[moment][parents].clone()
                self.optimiser.state[new] = state
            group["params"][0] = new
            self.parameters[name] = new
        self.side = {name: tensor[parents] for name, tensor in self.side.items()}
        self.generation += 1

    @torch.no_grad()
    def append(self, **rows: torch.Tensor) -> None:
        """Adds new rows with fresh moments; every parameter must be given. Side tensors get zeros."""
        count = len(next(iter(rows.values())))
        for group in self.optimiser.param_groups:
            old, name = group["params"][0], group["name"]
            new = torch.cat([old.detach(), rows[name].to(old)]).requires_grad_(True)
            state = self.optimiser.state.pop(old, None)
            if state:
                for moment in _MOMENTS:
                    blank = torch.zeros_like(rows[name], dtype=old.dtype, device=old.device)
                    state[moment] = torch.cat([state[moment], blank])
                self.optimiser.state[new] = state
            group["params"][0] = new
            self.parameters[name] = new
        self.side = {
            k: torch.cat([v, torch.zeros(count, *v.shape[1:], dtype=v.dtype, device=v.device)])
            for k, v in self.side.items()
        }
        self.generation += 1

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Within it rows come and go altogether or, where memory ends in between, not at all.

        What is undone is a change of rows, which makes new tensors; values written in place stay.
        """
        parameters, side = dict(self.parameters), dict(self.side)
        state = {p: dict(moments) for p, moments in self.optimiser.state.items()}
        try:
            yield
        except Exception:
            self.parameters, self.side, self.optimiser.state = parameters, side, state
            for group in self.optimiser.param_groups:
                group["params"][0] = parameters[group["name"]]
            raise

    def snapshot(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the parameters on the host."""
        return {name: p.detach().cpu().numpy().copy() for name, p in self.parameters.items()}

    def state_arrays(self) -> dict[str, NDArray[Any]]:
        """Parameters, moments and side tensors as arrays, for a checkpoint."""
        arrays = {f"parameter.{k}": v for k, v in self.snapshot().items()}
        arrays |= {f"side.{k}": v.cpu().numpy().copy() for k, v in self.side.items()}
        for group in self.optimiser.param_groups:
            state = self.optimiser.state.get(group["params"][0])
            if state:
                for moment in (*_MOMENTS, "step"):
                    value = state[moment].detach().cpu().numpy().copy()
                    arrays[f"{moment}.{group['name']}"] = np.atleast_1d(value)
        return arrays

    @staticmethod
    def from_state(
        arrays: Mapping[str, NDArray[Any]], learning_rates: Mapping[str, float], device: torch.device
    ) -> GaussianStore:
        """The store that ``state_arrays`` described."""

        def tensor(name: str) -> torch.Tensor:
            return torch.as_tensor(np.array(arrays[name]), device=device)

        names = [k.removeprefix("parameter.") for k in arrays if k.startswith("parameter.")]
        # The order of the rates is the order of the optimiser's groups.
        names.sort(key=list(learning_rates).index)
        store = GaussianStore({n: tensor(f"parameter.{n}") for n in names}, learning_rates)
        store.side = {k.removeprefix("side."): tensor(k) for k in arrays if k.startswith("side.")}
        for name, parameter in store.parameters.items():
            if f"exp_avg.{name}" in arrays:
                state = {m: tensor(f"{m}.{name}") for m in _MOMENTS}
                store.optimiser.restore(parameter, {**state, "step": tensor(f"step.{name}")})
        return store

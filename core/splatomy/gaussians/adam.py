"""Adam in one fused pass, without the rest of torch's optimisers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from splatomy.kernels import _gpu_adam

Tensor = torch.Tensor
_BETAS = 0.9, 0.999
_EPS = 1e-15


class Adam:
    """Moves parameters by their gradients; the numbers are those of ``torch.optim.Adam(fused=True)``.

    On CUDA our own kernel moves them, to float32 rounding the same.

    groups: "params", a list of tensors of one device and type; "lr", their rate; and whatever else the caller
    keeps there. All groups lie on one device.

    The class of torch loads the whole of its compiler when the first one is made, 1 to 2 s in every process,
    as long as some of our trainings on a GPU take; the fused pass itself needs none of that.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = [{**group, "params": list(group["params"])} for group in groups]
        self._rates = torch.tensor(
            [float(group["lr"]) for group in self.param_groups], device=self.parameters[0].device
        )
        if self._rates.is_cuda:
            # A recorded step reads them where they lie.
            for group, rate in zip(self.param_groups, self._rates.unbind(), strict=True):
                group["lr"] = rate
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """Of each parameter that was moved: exp_avg and exp_avg_sq, of its shape, and step, a count, ()."""

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of the groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def set_rates(self, rates: Sequence[float]) -> None:
        """Another rate for each of the groups."""
        if self._rates.is_cuda:
            # All at once: the host takes as long to begin one copy as many steps of it on the device.
            self._rates.copy_(torch.tensor(rates), non_blocking=True)
            return
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            states = [self._state(p) for p in moved]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            rate = group["lr"]
            if all(_gpu_adam.fits(p, rate) for p in moved):
                for p, state in zip(moved, states, strict=True):
                    _gpu_adam.move(p, state["exp_avg"], state["exp_avg_sq"], state["step"], rate)
                continue
            torch._fused_adam_(
                moved,
                [p.grad for p in moved],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=rate,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                weight_decay=0.0,
                eps=_EPS,
                amsgrad=False,
                maximize=False,
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients; set_to_none: False keeps their memory, for steps that are recorded."""
        for p in self.parameters:
            if p.grad is None:
                continue
            if set_to_none:
                p.grad = None
            else:
                p.grad.zero_()

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]

    def restore(self, parameter: Tensor, state: dict[str, Tensor]) -> None:
        """Goes on from the state of a checkpoint; step: of any shape with one element."""
        count = state["step"].reshape(()).to(parameter.device, torch.float32)
        moments = {name: value.to(parameter) for name, value in state.items() if name != "step"}
        self.state[parameter] = {"step": count, **moments}

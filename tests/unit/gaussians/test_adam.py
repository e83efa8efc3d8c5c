"""Our Adam against torch's."""

from __future__ import annotations

import subprocess
import sys

import torch

from splatomy.gaussians.adam import Adam


def _moved(make: object, parameters: list[torch.Tensor], steps: int = 5) -> list[torch.Tensor]:
    optimiser = make(parameters)  # type: ignore[operator]
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * 0.5**step
        # The last parameter has no gradient in the first steps.
        used = parameters if step > 2 else parameters[:-1]
        sum(((p - n) ** 2).sum() for n, p in enumerate(used)).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=step % 2 == 0)
    return parameters


def _parameters() -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(shape).requires_grad_() for shape in ((7, 3), (5,), (2, 2))]


def test_it_moves_as_torchs_fused_adam_does() -> None:
    theirs = _moved(lambda p: torch.optim.Adam(p, lr=0.1, eps=1e-15, fused=True), _parameters())
    ours = _moved(lambda p: Adam([{"params": p, "lr": 0.1}]), _parameters())
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_it_goes_on_from_a_checkpoint() -> None:
    whole = _parameters()
    optimiser = Adam([{"params": whole[:1], "lr": 0.1}, {"params": whole[1:], "lr": 0.01}])

    def step(of: Adam) -> None:
        sum((p**2).sum() for p in of.parameters).backward()
        of.step()
        of.zero_grad()

    step(optimiser)
    copies = [p.detach().clone().requires_grad_() for p in whole]
    again = Adam([{"params": copies[:1], "lr": 0.1}, {"params": copies[1:], "lr": 0.01}])
    for old, new in zip(whole, copies, strict=True):
        state = optimiser.state[old]
        # The count as checkpoints hold it.
        again.restore(
            new, {k: v.detach().clone().reshape(-1) if k == "step" else v.clone() for k, v in state.items()}
        )
    step(optimiser)
    step(again)
    assert all(torch.equal(a, b) for a, b in zip(whole, copies, strict=True))


def test_it_does_not_load_torchs_compiler() -> None:
    code = (
        "import sys, torch; from splatomy.gaussians.adam import Adam;"
        "p = torch.ones(2, requires_grad=True); p.sum().backward();"
        "Adam([{'params': [p], 'lr': 0.1}]).step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The nodes' motion and its optimiser as the arrays of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.gaussians.deform import NodeDeformation

_MOMENT = "motion_moment."


def motion_arrays(motion: NodeDeformation, optimiser: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """Nodes, coefficients and moments by name."""
    arrays: dict[str, NDArray[Any]] = {
        "motion.nodes_mm": motion.nodes_mm.cpu().numpy().copy(),
        "motion.coefficients": motion.coefficients.detach().cpu().numpy().copy(),
    }
    for state in optimiser.state_dict()["state"].values():
        for key, value in state.items():
            arrays[_MOMENT + key] = np.atleast_1d(value.cpu().numpy().copy())
    return arrays


def restore_motion(
    motion: NodeDeformation, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Puts back the coefficients and moments that ``motion_arrays`` took; others are left alone."""
    with torch.no_grad():
        motion.coefficients.copy_(tensors["motion.coefficients"])
    moments = {k.removeprefix(_MOMENT): v for k, v in tensors.items() if k.startswith(_MOMENT)}
    if moments:
        description = optimiser.state_dict()
        description["state"][0] = {k: v[0] if k == "step" else v for k, v in moments.items()}
        optimiser.load_state_dict(description)

"""The nodes' motion and its optimiser as the arrays of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splatomy.gaussians.adam import Adam
from splatomy.gaussians.deform import NodeDeformation

_MOMENT = "motion_moment."


def motion_arrays(motion: NodeDeformation, optimiser: Adam) -> dict[str, NDArray[Any]]:
    """Nodes, coefficients and moments by name."""
    arrays: dict[str, NDArray[Any]] = {
        "motion.nodes_mm": motion.nodes_mm.cpu().numpy().copy(),
        "motion.coefficients": motion.coefficients.detach().cpu().numpy().copy(),
    }
    for state in optimiser.state.values():
        for key, value in state.items():
            arrays[_MOMENT + key] = np.atleast_1d(value.cpu().numpy().copy())
    return arrays


def restore_motion(motion: NodeDeformation, optimiser: Adam, tensors: Mapping[str, Tensor]) -> None:
    """Puts back the coefficients and moments that ``motion_arrays`` took; others are left alone."""
    with torch.no_grad():
        motion.coefficients.copy_(tensors["motion.coefficients"])
    moments = {k.removeprefix(_MOMENT): v for k, v in tensors.items() if k.startswith(_MOMENT)}
    if moments:
        optimiser.restore(motion.coefficients, moments)

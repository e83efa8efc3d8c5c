"""The paper's field and its optimiser as the arrays of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.fields.attenuation import GridField

_FIELD, _MOMENT = "field.", "field_moment."


def field_arrays(field: GridField, optimiser: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """Everything that changes in training, by name."""
    arrays = {_FIELD + name: _copied(tensor) for name, tensor in field.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            arrays[f"{_MOMENT}{index}.{key}"] = np.atleast_1d(_copied(value))
    return arrays


def restore_field(
    field: GridField, optimiser: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Puts back what ``field_arrays`` took; other arrays are left alone."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    field.load_state_dict(
        {name.removeprefix(_FIELD): tensor for name, tensor in tensors.items() if name.startswith(_FIELD)}
    )
    description = optimiser.state_dict()
    for name, tensor in tensors.items():
        if name.startswith(_MOMENT):
            index, key = name.removeprefix(_MOMENT).split(".")
            whole = tensor[0] if key == "step" else tensor
            description["state"].setdefault(int(index), {})[key] = whole
    optimiser.load_state_dict(description)


def _copied(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy().copy()
    return array

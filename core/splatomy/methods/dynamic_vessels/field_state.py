"""The paper's field and its optimiser as the arrays of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splatomy.fields.attenuation import GridField
from splatomy.gaussians.adam import Adam

_FIELD, _MOMENT = "field.", "field_moment."


def field_arrays(field: GridField, optimiser: Adam) -> dict[str, NDArray[Any]]:
    """Everything that changes in training, by name."""
    arrays = {_FIELD + name: _copied(tensor) for name, tensor in field.state_dict().items()}
    for index, parameter in enumerate(optimiser.parameters):
        for key, value in optimiser.state.get(parameter, {}).items():
            arrays[f"{_MOMENT}{index}.{key}"] = np.atleast_1d(_copied(value))
    return arrays


def restore_field(field: GridField, optimiser: Adam, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Puts back what ``field_arrays`` took; other arrays are left alone."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    field.load_state_dict(
        {name.removeprefix(_FIELD): tensor for name, tensor in tensors.items() if name.startswith(_FIELD)}
    )
    for index, parameter in enumerate(optimiser.parameters):
        of_this = f"{_MOMENT}{index}."
        state = {name.removeprefix(of_this): t for name, t in tensors.items() if name.startswith(of_this)}
        if state:
            optimiser.restore(parameter, state)


def _copied(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy().copy()
    return array

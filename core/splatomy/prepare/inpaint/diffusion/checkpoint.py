"""Published tensors put into a network, all of them and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from splatomy.errors import InputError

_LISTED = 3


def built(make: Callable[[], Any], path: str) -> Any:
    """The network that ``make`` builds from settings.

    Raises:
        InputError: the settings file ``path`` does not describe one.
    """
    try:
        return make()
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(". ")
        raise InputError(
            f"{path} does not describe a network that can be built ({reason}): expected the settings as they "
            "were published; get the file again."
        ) from None


def listed(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: str) -> None:
    """Copies the tensors into the network's parameters and buffers of the same names.

    Raises:
        InputError: the file ``path`` lacks some, has others, or has some of another shape.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    other = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    faults = [
        f"{len(names)} tensors {words} ({listed(names)})"
        for names, words in ((missing, "are missing"), (unknown, "are unknown"), (other, "differ in shape"))
        if names
    ]
    if faults:
        raise InputError(
            f"{path} does not fit the settings beside it: {' and '.join(faults)}; expected a file and its "
            "config.json of the same publication. Get both again."
        )
    network.load_state_dict(dict(tensors))

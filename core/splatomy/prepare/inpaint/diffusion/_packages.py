"""The optional packages that diffusion needs, imported once and in this module alone."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from splatomy.errors import MissingBackendError

_INSTALL = (
    "Inpainting by diffusion needs the packages diffusers and transformers, which cannot be loaded here: "
    'install them with `pip install "splatomy[diffusion]"`.'
)


@functools.cache
def _loaded(name: str) -> Any:
    """The module, or the error that loading it gave; tried once."""
    try:
        module = importlib.import_module(name)
        if name == "diffusers":
            # Its hints speak to programmers, in the middle of a user's progress lines.
            module.utils.logging.set_verbosity_error()
        return module
    except (ImportError, OSError, RuntimeError) as error:
        return error


def package(name: str) -> Any:
    """The module ``name`` of one of the optional packages.

    Raises:
        MissingBackendError: it is not installed or does not load.
    """
    found = _loaded(name)
    if isinstance(found, Exception):
        raise MissingBackendError(_INSTALL) from found
    return found


def require_diffusion() -> None:
    """Raises MissingBackendError when the optional packages are not installed."""
    for name in ("diffusers", "transformers"):
        package(name)

"""``splatomy gui``: the desktop app, as a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from argparse import Namespace

from splatomy.errors import InputError, MissingBackendError

_NEEDED = ("splatomy_gui", "PyQt6", "pyvista", "pyvistaqt")


def gui(arguments: Namespace) -> None:
    """Starts the app and waits for it; ends with its exit code.

    Raises:
        MissingBackendError: it is not installed.
        InputError: the path does not exist.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingBackendError(
            f"The desktop app needs {', '.join(missing)}. Install it with: pip install 'splatomy[gui]'."
        )
    words = [sys.executable, "-m", "splatomy_gui"]
    if arguments.path is not None:
        if not arguments.path.exists():
            raise InputError(f"{arguments.path} does not exist; expected a file or folder: check the path.")
        words.append(str(arguments.path))
    code = subprocess.run(words, check=False).returncode
    if code:
        sys.exit(code)

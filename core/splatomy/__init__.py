"""Splatomy: surgical video and DSA runs become measurable 3D and 4D anatomy."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Torch and Numba keep a pool of threads each, and idle threads spin by default: on a busy machine they
# starve the working ones (measured: a training step took 13 times as long). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# OpenCV believes the size in a picture's header and takes the memory for it: a billion pixels by default,
# 134 million here. Read when OpenCV is loaded.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))
# Numba refuses 0, which elsewhere stands for as many threads as there are cores.
if os.environ.get("NUMBA_NUM_THREADS", "").strip() == "0":
    del os.environ["NUMBA_NUM_THREADS"]


def _keep_kernels() -> None:
    """Gives Numba a folder for compiled kernels where it has none that it can write to.

    It keeps them beside the modules or in the user's cache, and refuses to work where neither can be written:
    in a program that an administrator installed, for a user without a home. Nobody else may write to the
    folder, since what lies there is executed; so it is of this process and its children alone.
    """
    own_cache, cache = os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME", "~/.cache")
    choices = [Path(own_cache)] if own_cache else []
    for folder in (*choices, Path(__file__).parent, Path(cache) / "numba"):
        try:
            where = folder.expanduser()
            where.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=where):
                return
        except (OSError, RuntimeError):
            # RuntimeError: nobody knows where this user's home is.
            continue
    try:
        own = tempfile.mkdtemp(prefix="splatomy-kernels-")
    except OSError:
        return
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(own, ignore_errors=True) if os.getpid() == owner else None)
    os.environ["NUMBA_CACHE_DIR"] = own


_keep_kernels()

__version__ = "0.1.0"

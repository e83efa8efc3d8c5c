"""Runs the extension's self tests in an installed 3D Slicer, without a window.

    python slicer_extension/run_self_tests.py PATH/TO/Slicer [--engine PATH/TO/splatomy]

Slicer 5.10 or newer. The exit code is that of the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

MODULES = ("SplatomyReaders", "SplatomyEndoscopy", "SplatomyAngiography", "SplatomySurface")
# Runs inside Slicer: one module after the other, then out with the number of failures.
INSIDE = """
import traceback
import slicer

failed = 0
for name in {modules!r}:
    try:
        module = __import__(name)
        test = getattr(module, name + "Test")()
        test.messageDelay = 0
        test.runTest()
        print("passed:", name)
    # Inside Slicer anything may be raised; one module's failure counts, and must not stop the others.
    except Exception:
        traceback.print_exc()
        print("FAILED:", name)
        failed += 1
slicer.util.exit(failed)
"""


def main() -> int:
    """The tests' exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slicer", type=Path, help="the program Slicer")
    parser.add_argument("--engine", type=Path, help="the program splatomy, when it is not on the path")
    arguments = parser.parse_args()
    here = Path(__file__).resolve().parent
    environment = dict(os.environ)
    if arguments.engine is not None:
        folder = str(arguments.engine.resolve().parent)
        environment["PATH"] = os.pathsep.join((folder, environment.get("PATH", "")))
    paths = [str(here / name) for name in MODULES]
    command = [
        str(arguments.slicer), "--testing", "--no-splash", "--no-main-window", "--disable-cli-modules",
        "--additional-module-paths", *paths, "--python-code", INSIDE.format(modules=MODULES),
    ]  # fmt: skip
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

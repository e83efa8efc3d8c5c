"""``splatomy job``: one reconstruction under the supervision of a front end."""

from __future__ import annotations

import sys
from argparse import Namespace

from splatomy.jobs import run_job, view_run


def job(arguments: Namespace) -> None:
    """Runs a job file, or views a run; ends with its exit code, since its errors are events already."""
    code = (view_run if arguments.verb == "view" else run_job)(arguments.job)
    if code:
        sys.exit(code)

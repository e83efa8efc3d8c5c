"""``splatomy job``: one reconstruction under the supervision of a front end."""

from __future__ import annotations

import sys
from argparse import Namespace

from splatomy.jobs import run_job


def job(arguments: Namespace) -> None:
    """Runs a job file; ends the process with the job's exit code, since its errors are events already."""
    code = run_job(arguments.job)
    if code:
        sys.exit(code)

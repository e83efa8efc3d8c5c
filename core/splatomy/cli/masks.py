"""`splatomy masks`: mask proposals as a case to review."""

from __future__ import annotations

import sys
from argparse import Namespace

from splatomy.cli.progress import drive
from splatomy.engine.masking import MaskRequest, make_mask_case
from splatomy.io.options import InputOptions


def masks(arguments: Namespace, options: InputOptions) -> None:
    """Writes the case, and says what is in it."""
    request = MaskRequest(
        source=arguments.input,
        out=arguments.out,
        options=options,
        propagate=arguments.propagate,
        device=arguments.device,
        force=arguments.force,
    )
    case = drive(make_mask_case(request))
    counts = ", ".join(f"{count} {state}" for state, count in case.review.counts().items() if count)
    share = sum(float(mask.mean()) for mask in case.review.masks()) / max(len(case.review), 1)
    sys.stdout.write(f"{len(case.review)} frames: {counts}; {100 * share:.1f} % of the picture is hidden\n")
    sys.stdout.write(f"Case: {arguments.out}\n")

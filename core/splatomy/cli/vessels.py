"""`splatomy vessels`: label, mesh, centrelines and time maps of any vessel volume."""

from __future__ import annotations

import sys
from argparse import Namespace

from splatomy.cli.progress import drive
from splatomy.engine import VolumeRequest, measure_volume


def vessels(arguments: Namespace) -> None:
    """Writes everything that can be taken from the volume, and a report with pictures."""
    request = VolumeRequest(
        source=arguments.volume,
        out=arguments.out,
        meaning=arguments.meaning,
        frame_time_s=arguments.frame_time_s,
        threshold=arguments.threshold,
        force=arguments.force,
    )
    folder, product = drive(measure_volume(request))
    found = product.line
    if found is not None and len(found) and product.label is not None:
        sys.stdout.write(
            f"{found.num_branches} branches, {found.length_mm:.0f} mm, {product.label.volume_ml:.2f} ml; "
            f"radius {found.radius_mm.min():.2f} to {found.radius_mm.max():.2f} mm\n"
        )
    sys.stdout.write(f"Folder: {folder.path}\nReport: {folder.path / 'report.html'}\n")

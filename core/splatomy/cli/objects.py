"""`splatomy objects`: a ScanNet scene cut into folders of one object each."""

from __future__ import annotations

import sys
from argparse import Namespace

from splatomy.checks import is_whole_number
from splatomy.cli.progress import drive
from splatomy.engine.cutting import cut_objects
from splatomy.errors import InputError


def objects(arguments: Namespace) -> None:
    """Writes a folder for every object that enough views show."""
    words = [word for word in (arguments.only or "").split(",") if word]
    if not all(is_whole_number(word) for word in words):
        raise InputError(f"--only expects instance numbers like 2,5,8, got {arguments.only}: write them so.")
    only = tuple(int(word) for word in words)
    task = cut_objects(
        arguments.scene, arguments.out, min_views=arguments.min_views, only=only, weights=arguments.weights
    )
    for folder in drive(task):
        sys.stdout.write(f"Object: {folder}\n")

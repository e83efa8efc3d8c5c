"""`splatomy phantom`: simulated inputs of every kind, with their exact truth."""

from __future__ import annotations

import sys
from argparse import Namespace

from splatomy.cli.own_folder import own_folder
from splatomy.cli.phantom.object import written_object
from splatomy.cli.phantom.stream import written_stream
from splatomy.cli.phantom.tissue import written_tissue
from splatomy.cli.phantom.vessels import written_vessels
from splatomy.cli.progress import drive
from splatomy.errors import InputError
from splatomy.events import Task

# What this command writes into --out: --force removes nothing else.
_OWN = (
    "mask_run.nii.gz", "fill_run.nii.gz", "DSA.nii.gz", "transforms.json", "truth",
    "images", "masks", "depth", "poses_bounds.npy", "splatomy.json",
    "stereo.mp4", "groundtruth.txt", "StereoCalibration.ini",
    "color", "pose", "intrinsic", "mask", "occluder", "semantic.txt",
)  # fmt: skip


def phantom(arguments: Namespace) -> None:
    """Simulates and writes one phantom.

    Raises:
        InputError: an option that is another phantom's, or a folder that holds other things.
    """
    kind = arguments.kind
    if arguments.layout and kind != "tissue":
        raise InputError(
            f"--layout is for the tissue phantom: expected it there only, got it with {kind}. Leave it out."
        )
    if arguments.volume and kind not in ("vessels", "object"):
        raise InputError(
            "--volume gives vessels or an object their shape: expected it with those phantoms only, got it "
            f"with {kind}. Leave it out."
        )
    own_folder(arguments.out, arguments.force, _OWN, "a phantom")
    drive(_written(arguments))
    sys.stdout.write(f"Phantom: {arguments.out}\n")


def _written(arguments: Namespace) -> Task[None]:
    kind, out, preset, seed = arguments.kind, arguments.out, arguments.preset, arguments.seed
    if kind == "tissue":
        return written_tissue(out, preset, seed, arguments.layout or "endonerf")
    if kind == "stream":
        return written_stream(out, "small" if preset == "demo" else preset, seed)
    if kind == "object":
        return written_object(out, preset, seed, arguments.volume)
    return written_vessels(out, preset, seed, arguments.volume)

"""Words that several commands share: options on an input and on a camera, and how their values are read."""

from __future__ import annotations

import argparse
from pathlib import Path


def _whole_numbers(text: str, count: int, separator: str) -> list[int | None]:
    parts = text.split(separator)
    try:
        numbers = [int(p) if p.strip() else None for p in parts]
    except ValueError:
        numbers = []
    if len(numbers) > count or not numbers:
        raise argparse.ArgumentTypeError(
            f"expected up to {count} whole numbers with {separator!r}, got {text!r}"
        )
    return numbers + [None] * (count - len(numbers))


def _crop(text: str) -> tuple[int, int, int, int]:
    x, y, w, h = _whole_numbers(text, 4, ",")
    if x is None or y is None or w is None or h is None:
        raise argparse.ArgumentTypeError(f"expected X,Y,W,H, got {text!r}")
    return x, y, w, h


def _frames(text: str) -> tuple[int | None, int | None, int | None]:
    a, b, c = _whole_numbers(text, 3, ":")
    return a, b, c


def _views(text: str) -> int | tuple[int, ...]:
    numbers = tuple(n for n in _whole_numbers(text, 64, ",") if n is not None)
    return numbers[0] if len(numbers) == 1 else numbers


def path_word(text: str) -> Path:
    """A path; an empty word, as an unset variable of a script gives it, would be the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def num_views(text: str) -> int | str:
    """How many views to train on: a whole number, or the protocol's name."""
    if text == "endonerf":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or endonerf, got {text!r}") from None


def _classes(text: str) -> tuple[int, ...]:
    return tuple(n for n in _whole_numbers(text, 1024, ",") if n is not None)


def add_input_options(parser: argparse.ArgumentParser, *mask_words: str) -> None:
    """Adds the options on an input. mask_words: other names of the mask network and of its classes."""
    group = parser.add_argument_group("input")
    group.add_argument("--crop", type=_crop, metavar="X,Y,W,H", help="part of each image, px")
    group.add_argument("--frames", type=_frames, metavar="A:B:STEP", help="part of the run")
    group.add_argument("--bin", type=int, default=1, metavar="N", help="average blocks of N x N pixels")
    group.add_argument("--mask", type=Path, help="the run without contrast, if it is not beside the input")
    group.add_argument(
        "--mask-frames", type=_views, metavar="N,...", help="frames before contrast, whose mean is the mask"
    )
    group.add_argument("--geometry", type=Path, help="3x4 matrices (CSV), RTK XML or geometry JSON")
    group.add_argument("--frame-time-s", type=float, help="seconds between frames where the input has none")
    group.add_argument("--already-subtracted", action="store_true", default=None, help="pixels are integrals")
    group.add_argument("--view", type=_views, metavar="N,...", help="which of several runs, from 0")
    group.add_argument(
        "--target",
        type=Path,
        metavar="DIR",
        help="vessel masks to compare with, a folder inside each run; image set: masks of the wanted object",
    )
    group = parser.add_argument_group("endoscopic input")
    group.add_argument("--layout", choices=["mono", "sbs", "tb"], help="one eye, side by side, or stacked")
    group.add_argument("--masks", type=Path, metavar="DIR", help="mask pictures of the frames")
    group.add_argument("--masks-mean", choices=["hidden", "visible"], help="what non-zero mask pixels are")
    group.add_argument("--depth", type=Path, metavar="DIR", help="depth maps of the frames")
    group.add_argument("--depth-scale-mm", type=float, metavar="S", help="mm per unit of the depth maps")
    group.add_argument("--calibration", type=Path, metavar="FILE", help="lens: OpenCV YAML, XML, JSON or ini")
    group.add_argument("--poses", type=Path, metavar="FILE", help="camera-to-world poses, one per frame")
    group.add_argument("--poses-convention", choices=["opencv", "opengl"], help="camera axes of the poses")
    group.add_argument(
        "--fov-deg", type=float, metavar="DEG", help="view across the longer side of an unknown lens (70)"
    )
    group.add_argument(
        "--camera", choices=["auto", "fixed", "moving"],
        help="whether the endoscope moves; auto measures it; given poses are then not used",
    )  # fmt: skip
    group.add_argument(
        "--instrument-diameter-mm", type=float, metavar="D", help="shafts' diameter, for the scale"
    )
    group.add_argument(
        "--depth-source", choices=["auto", "given", "stereo", "model", "light"],
        help="auto: the model if one is given, given maps, two eyes, else the fall-off of the light",
    )  # fmt: skip
    group.add_argument("--depth-model", type=Path, metavar="FILE.onnx", help="a network for depth")
    group.add_argument(
        "--depth-model-output", choices=["inverse", "depth", "metric"],
        help="what the network gives (inverse depth); metric: in units of --depth-scale-mm",
    )  # fmt: skip
    group.add_argument(
        "--mask-model", *mask_words[:1], dest="mask_model", type=Path, metavar="FILE.onnx",
        help="a segmentation network that finds instruments where no masks are given",
    )  # fmt: skip
    group.add_argument(
        "--mask-classes", *mask_words[1:], dest="mask_classes", type=_classes, metavar="N,...",
        help="the network's classes that hide tissue (default all)",
    )  # fmt: skip
    group.add_argument(
        "--weights", type=Path, metavar="DIR",
        help="published inpainting weights, see `splatomy weights`; used where they beat propagation",
    )  # fmt: skip
    group = parser.add_argument_group("image set of a still scene (with --target, --masks, --depth, --poses)")
    group.add_argument(
        "--init", type=Path, metavar="FILE.ply", help="3D Gaussians in the poses' world to start from"
    )


def add_camera_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the options on a camera. default: what is taken without any."""
    group = parser.add_argument_group("camera")
    choice = group.add_mutually_exclusive_group()
    choice.add_argument(
        "--cameras", metavar="input|fixed:K|FILE",
        help=f"all input cameras, the K-th, or those of a file (JSON, CSV of 3x4); without it {default}",
    )  # fmt: skip
    choice.add_argument(
        "--angles", metavar="PRIMARY,SECONDARY",
        help="gantry angles in degrees (DICOM input: positioner angles)",
    )  # fmt: skip
    group.add_argument("--size", type=int, metavar="PX", help="longer side of the picture")


def add_mesh_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options on a mesh."""
    group = parser.add_argument_group("mesh")
    group.add_argument(
        "--surface", choices=["own", "pulled", "tsdf", "poisson"],
        help="the method's own (default); of a clip also a field pulled onto its Gaussians; tsdf and poisson "
        "are made of rendered depth and need Open3D",
    )  # fmt: skip
    group.add_argument(
        "--trim-views", type=int, nargs="?", const=1, default=0, metavar="N",
        help="drop what fewer than N input views (default 1) show",
    )  # fmt: skip
    group.add_argument(
        "--keep-largest", type=int, nargs="?", const=1, default=0, metavar="N",
        help="keep the N largest pieces (default 1)",
    )  # fmt: skip
    group.add_argument(
        "--fill-holes-mm", type=float, default=0.0, metavar="D",
        help="fill holes up to this diameter, mm (units of a run without scale); evidence there is 0",
    )  # fmt: skip
    group.add_argument("--smooth", type=int, default=0, metavar="N", help="N rounds of Taubin's smoothing")
    group.add_argument("--decimate", type=int, default=0, metavar="N", help="leave about N triangles")


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Adds the words of a batch: its cases, how they are run, and what holds for cases that do not say."""
    parser.add_argument(
        "cases",
        help="list NAME.csv or NAME.json (input, name, method, preset, config, options, device, replicas, "
        "seed, views; config.SETTING and options.OPTION are columns too), or a pattern in quotes: 'STUDY/*'",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the batch, new or to be gone on with"
    )
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="this machine, or Ray")
    parser.add_argument("--address", help="ray: of a cluster; without it one of this machine alone")
    parser.add_argument("--workers", type=int, metavar="N", help="cases at a time; without it as many as fit")
    parser.add_argument(
        "--cpus", type=int, metavar="N", help="cores for each case; without it by its estimate"
    )
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="attempts after the first (2)")
    parser.add_argument("--limit-min", type=float, metavar="MIN", help="stop a case after so many minutes")
    parser.add_argument("--method", help="for cases that name none; without it the one for the input's kind")
    parser.add_argument("--preset", default="standard", help="draft, standard or best")
    parser.add_argument("--config", type=Path, help="settings as a JSON object")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    parser.add_argument("--views", type=int, metavar="N", help="train on this many frames")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    parser.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="GPUs, or processes on the CPU, for each case"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--events", choices=["jsonl"], help="print events as JSON lines")

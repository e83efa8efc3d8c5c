"""Arguments, dispatch and exit codes of ``splatomy``."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import splatomy
from splatomy.errors import CancelledError, InputError, MissingBackendError

EXIT_DEFECT, EXIT_INPUT, EXIT_BACKEND, EXIT_CANCELLED = 1, 2, 3, 4


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


def _input_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument("--crop", type=_crop, metavar="X,Y,W,H", help="part of each image, px")
    group.add_argument("--frames", type=_frames, metavar="A:B:STEP", help="part of the run")
    group.add_argument("--bin", type=int, default=1, metavar="N", help="average blocks of N x N pixels")
    group.add_argument("--mask", type=Path, help="the run without contrast, if it is not beside the input")
    group.add_argument("--geometry", type=Path, help="3x4 matrices (CSV), RTK XML or geometry JSON")
    group.add_argument("--frame-time-s", type=float, help="seconds between frames where the input has none")
    group.add_argument("--already-subtracted", action="store_true", default=None, help="pixels are integrals")
    group.add_argument("--view", type=int, help="which of several runs, from 0")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="splatomy", description="Research use only. Not a medical device.")
    parser.add_argument("--version", action="store_true", help="versions, devices and memory")
    parser.add_argument("--json", action="store_true", help="with --version: as JSON")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    add = commands.add_parser("methods", help="list the methods")
    add.add_argument("--json", action="store_true")

    add = commands.add_parser("inspect", help="what an input is, and its problems")
    add.add_argument("input", type=Path)
    add.add_argument("--json", action="store_true")
    _input_options(add)

    add = commands.add_parser("phantom", help="make a simulated input with its truth")
    add.add_argument("kind", choices=["vessels"])
    add.add_argument("--out", type=Path, required=True)
    add.add_argument("--preset", default="demo")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument(
        "--volume", type=Path, help="a vessel volume or mask to be filled instead of a grown tree"
    )
    add.add_argument("--force", action="store_true")

    add = commands.add_parser("reconstruct", help="reconstruct an input into a run folder")
    add.add_argument("input", type=Path)
    add.add_argument("--out", type=Path, required=True)
    add.add_argument("--method", default="dynamic_vessels")
    add.add_argument("--preset", default="standard")
    add.add_argument("--config", type=Path, help="settings as a JSON object")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    add.add_argument("--views", type=int, help="train on this many frames, hold out the others")
    add.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--threshold", type=float, help="one vessel level in 1/mm instead of the local choice")
    add.add_argument("--events", choices=["jsonl"], help="print events as JSON lines")
    add.add_argument("--resume", action="store_true")
    add.add_argument("--force", action="store_true")
    _input_options(add)

    add = commands.add_parser("vessels", help="label, mesh and centrelines of any vessel volume")
    add.add_argument("volume", type=Path)
    add.add_argument("--out", type=Path, required=True)
    add.add_argument("--threshold", type=float)
    add.add_argument("--force", action="store_true")

    add = commands.add_parser("render", help="pictures of a run from any camera and time")
    add.add_argument("run", type=Path)
    add.add_argument("--out", type=Path, required=True)
    add.add_argument("--angles", default="0,0", metavar="PRIMARY,SECONDARY", help="gantry angles, degrees")
    add.add_argument("--times", default="all", help="all, or seconds with commas")
    add.add_argument("--size", type=int, default=512, help="picture side, px")
    add.add_argument("--format", choices=["png", "npy"], default="png")

    add = commands.add_parser("export", help="one product of a run as a file")
    add.add_argument("run", type=Path)
    add.add_argument("--what", choices=["mesh", "volume", "gaussians"], required=True)
    add.add_argument("--time", type=float, help="seconds; without it the mean over time")
    add.add_argument("--out", type=Path, required=True)

    add = commands.add_parser("evaluate", help="figures of a run against truth")
    add.add_argument("run", type=Path)
    add.add_argument("--truth", type=Path, required=True)
    add.add_argument("--input", type=Path, help="the run's input, for the held-out views")
    add.add_argument("--protocol", choices=["default", "4drgs"], default="default")
    add.add_argument("--json", action="store_true")

    add = commands.add_parser("demo", help="phantom, reconstruction, evaluation and report in one go")
    add.add_argument("kind", nargs="?", choices=["angiography", "all"], default="angiography")
    add.add_argument("--out", type=Path, required=True)
    add.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code of the contract."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    # Imported here: --help and wrong arguments answer at once, without torch.
    from splatomy.cli import commands

    try:
        if parsed.version:
            commands.show_version(parsed.json)
            return 0
        if parsed.command is None:
            parser.print_help(sys.stderr)
            return EXIT_INPUT
        commands.COMMANDS[parsed.command](parsed)
    except InputError as error:
        return _fail(str(error), EXIT_INPUT)
    except MissingBackendError as error:
        return _fail(str(error), EXIT_BACKEND)
    except CancelledError as error:
        return _fail(str(error), EXIT_CANCELLED)
    except KeyboardInterrupt:
        return _fail("Stopped.", EXIT_CANCELLED)
    except OSError as error:
        return _fail(_disk_sentence(error), EXIT_INPUT)
    except Exception:  # noqa: BLE001 - the last resort: a defect is reported as one, with its trace
        traceback.print_exc()
        return _fail(
            f"This is a defect of splatomy {splatomy.__version__}: please report the lines above.",
            EXIT_DEFECT,
        )
    return 0


def _disk_sentence(error: OSError) -> str:
    name = Path(error.filename).name if error.filename else "a file"
    return f"{name} cannot be read or written: {error.strerror or error}. Check space, rights and the path."


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"splatomy: {sentence}\n")
    return code

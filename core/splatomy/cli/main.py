"""Arguments, dispatch and exit codes of ``splatomy``."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

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


def _views(text: str) -> int | tuple[int, ...]:
    numbers = tuple(n for n in _whole_numbers(text, 64, ",") if n is not None)
    return numbers[0] if len(numbers) == 1 else numbers


def _num_views(text: str) -> int | str:
    if text == "endonerf":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or endonerf, got {text!r}") from None


def _classes(text: str) -> tuple[int, ...]:
    return tuple(n for n in _whole_numbers(text, 1024, ",") if n is not None)


def _input_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument("--crop", type=_crop, metavar="X,Y,W,H", help="part of each image, px")
    group.add_argument("--frames", type=_frames, metavar="A:B:STEP", help="part of the run")
    group.add_argument("--bin", type=int, default=1, metavar="N", help="average blocks of N x N pixels")
    group.add_argument("--mask", type=Path, help="the run without contrast, if it is not beside the input")
    group.add_argument("--geometry", type=Path, help="3x4 matrices (CSV), RTK XML or geometry JSON")
    group.add_argument("--frame-time-s", type=float, help="seconds between frames where the input has none")
    group.add_argument("--already-subtracted", action="store_true", default=None, help="pixels are integrals")
    group.add_argument("--view", type=_views, metavar="N,...", help="which of several runs, from 0")
    group.add_argument(
        "--target", type=Path, metavar="DIR", help="vessel masks to compare with; a folder inside each run"
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words in one sentence, and shows examples as they are written."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Raises InputError: the words cannot be used."""
        raise InputError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="splatomy",
        description="Surgical video and DSA runs become measurable 3D and 4D anatomy.\n"
        "Research use only. Not a medical device.",
        epilog="example:\n  splatomy demo --out DEMO",
    )
    parser.add_argument("--version", action="store_true", help="versions, devices and memory")
    parser.add_argument("--json", action="store_true", help="with --version: as JSON")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, about: str, *examples: str) -> argparse.ArgumentParser:
        lines = "\n".join(f"  splatomy {example}" for example in examples)
        epilog = f"example{'s' if len(examples) > 1 else ''}:\n{lines}"
        sentence = f"{about[0].upper()}{about[1:]}."
        return commands.add_parser(name, help=about, description=sentence, epilog=epilog)

    add = command("methods", "list the methods", "methods --json")
    add.add_argument("--json", action="store_true", help="as JSON, with every setting")

    add = command("inspect", "what an input is, and its problems", "inspect CASE --json")
    add.add_argument("input", type=Path, help="file or folder")
    add.add_argument("--json", action="store_true", help="as JSON")
    _input_options(add)

    add = command(
        "phantom",
        "make a simulated input with its truth",
        "phantom vessels --out CASE --seed 1",
        "phantom tissue --out CLIP --layout stereomis",
    )
    add.add_argument("kind", choices=["vessels", "tissue"])
    add.add_argument("--out", type=Path, required=True, help="new folder")
    add.add_argument("--preset", default="demo", help="size and difficulty (demo, tiny, hard, ...)")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument(
        "--layout", choices=["endonerf", "stereomis"],
        help="tissue: one eye with depth (default), or stereo video with calibration",
    )  # fmt: skip
    add.add_argument(
        "--volume", type=Path, help="a vessel volume or mask to be filled instead of a grown tree"
    )
    add.add_argument("--force", action="store_true", help="replace an earlier phantom")

    add = command(
        "masks",
        "propose masks of the instruments, as a case to review",
        "masks CLIP.mp4 --out CASE.splatomy",
        "masks CASE.splatomy --out CASE.splatomy --propagate",
    )
    add.add_argument("input", type=Path, help="endoscopic video or folder, or the case itself to carry on")
    add.add_argument("--out", type=Path, required=True, help="case folder, new or to be carried on")
    add.add_argument(
        "--propagate", action="store_true", help="carry the reviewed or given masks to the other frames"
    )
    add.add_argument("--model", type=Path, metavar="FILE.onnx", help="a segmentation model that proposes")
    add.add_argument(
        "--classes", type=_classes, metavar="N,...", help="the model's classes that hide tissue (default all)"
    )
    add.add_argument("--device", default="auto", help="of the model: auto, cpu, cuda or cuda:K")
    add.add_argument("--force", action="store_true", help="make an earlier case anew")
    _input_options(add)

    add = command(
        "reconstruct",
        "reconstruct an input into a run folder",
        "reconstruct CASE --out RUN --views 30",
        "reconstruct XA.dcm --out RUN --preset draft --bin 2 --frames 10:90",
    )
    add.add_argument("input", type=Path, help="file or folder; see `splatomy inspect`")
    add.add_argument("--out", type=Path, required=True, help="run folder")
    add.add_argument("--method", help="see `splatomy methods`; without it the one for the input's kind")
    add.add_argument("--preset", default="standard", help="draft, standard or best")
    add.add_argument("--config", type=Path, help="settings as a JSON object")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    add.add_argument(
        "--views", type=_num_views, metavar="N|endonerf",
        help="train on this many frames, or on all but every 8th as EndoNeRF does; hold out the others",
    )  # fmt: skip
    add.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--threshold", type=float, help="one vessel level in 1/mm instead of the local choice")
    add.add_argument("--events", choices=["jsonl"], help="print events as JSON lines")
    add.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    add.add_argument("--force", action="store_true", help="overwrite a run")
    _input_options(add)

    add = command(
        "vessels",
        "label, mesh, centrelines and time maps of any vessel volume",
        "vessels VOLUME.nii.gz --out VESSELS",
        "vessels RUN/volumes/volume_4d.seq.nrrd --out VESSELS",
    )
    add.add_argument("volume", type=Path, help="3D or 4D volume: .nii.gz, .nrrd, .mha, .seq.nrrd")
    add.add_argument("--out", type=Path, required=True, help="new folder")
    add.add_argument("--threshold", type=float, help="one vessel level instead of the local choice")
    add.add_argument(
        "--as", dest="meaning", choices=["auto", "mask", "values"], default="auto",
        help="the voxels are a label mask, or values that are high in vessels; auto looks at them",
    )  # fmt: skip
    add.add_argument("--frame-time-s", type=float, metavar="S", help="seconds between volumes of a 4D file")
    add.add_argument("--force", action="store_true", help="overwrite an earlier result")

    add = command(
        "render",
        "pictures of a run from any camera and time",
        "render RUN --out PICTURES",
        "render RUN --out PICTURES --angles 30,10 --times 0.5,1.25 --size 1024",
    )
    add.add_argument("run", type=Path)
    add.add_argument("--out", type=Path, required=True, help="new folder; its views.json lists the pictures")
    _camera_options(add, "input (default)")
    add.add_argument(
        "--times", default="all", help="all (each input view at its own time), or seconds with commas"
    )
    add.add_argument("--what", default="colour", help="any of colour,depth,alpha,normals (default colour)")
    add.add_argument("--format", choices=["png", "npy"], default="png", help="npy keeps the exact values")
    add.add_argument("--force", action="store_true", help="write into a folder that is not empty")

    add = command(
        "export",
        "one product of a run as a file",
        "export RUN --what mesh --out vessels.stl",
        "export RUN --what volume --time 1.5 --out volume.nii.gz",
        "export RUN --what video --turn --out turn.mp4",
    )
    add.add_argument("run", type=Path)
    add.add_argument("--what", choices=["mesh", "volume", "gaussians", "video"], required=True)
    add.add_argument(
        "--out", type=Path, required=True,
        help="mesh: ply obj stl glb vtp; volume: nii.gz nrrd mha seq.nrrd (4D); gaussians: ply; video: mp4",
    )  # fmt: skip
    add.add_argument(
        "--time", type=float, metavar="S", help="seconds; without it the mean over time, of a clip the start"
    )
    _camera_options(add, "the middle input view")
    add.add_argument(
        "--turn", action="store_true", help="video: one turn of the C-arm, at the time of most contrast"
    )
    add.add_argument("--force", action="store_true", help="overwrite the file")

    add = command("evaluate", "figures of a run against truth", "evaluate RUN --truth CASE/truth --json")
    add.add_argument("run", type=Path)
    add.add_argument("--truth", type=Path, required=True, help="folder with vessels.nii.gz, rgb/, ...")
    add.add_argument("--input", type=Path, help="the run's input if it moved, for the held-out views")
    add.add_argument("--protocol", choices=["default", "4drgs"], default="default")
    add.add_argument("--json", action="store_true", help="as JSON")

    add = command(
        "demo",
        "phantom, reconstruction, evaluation and report in one go",
        "demo angiography --out DEMO",
        "demo endoscopy --out DEMO",
    )
    add.add_argument("kind", nargs="?", choices=["angiography", "endoscopy", "all"], default="angiography")
    add.add_argument("--out", type=Path, required=True, help="new folder, or that of an earlier demo")
    add.add_argument("--seed", type=int, default=0)

    add = command(
        "weights",
        "check or convert published model weights",
        "weights check WEIGHTS --json",
        "weights convert WEIGHTS --out CONVERTED",
    )
    add.add_argument("verb", choices=["check", "convert"])
    add.add_argument("folder", type=Path, help="the folder that holds diffinpaint, sd-vae-ft-mse, ...")
    add.add_argument("--out", type=Path, help="convert: folder for the safetensors files")
    add.add_argument("--json", action="store_true", help="as JSON")

    add = command("job", "a reconstruction under the supervision of a front end", "job run JOB.json")
    add.add_argument("verb", choices=["run"])
    add.add_argument("job", type=Path, metavar="JOB.json")
    return parser


def _camera_options(parser: argparse.ArgumentParser, default: str) -> None:
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


def _with_negative_values(words: Sequence[str]) -> list[str]:
    """The words, with a value like -30,10 tied to its option, since argparse would take it for an option."""
    tied: list[str] = []
    for word in words:
        is_value = re.match(r"-[\d.]", word) is not None
        if is_value and tied and tied[-1].startswith("--") and "=" not in tied[-1]:
            tied[-1] += f"={word}"
        else:
            tied.append(word)
    return tied


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code of the contract."""
    parser = build_parser()
    try:
        parsed = parser.parse_args(_with_negative_values(sys.argv[1:] if arguments is None else arguments))
        if not parsed.version and parsed.command is None:
            parser.print_help(sys.stderr)
            return EXIT_INPUT
        # Imported here: --help and wrong arguments answer at once, without torch.
        from splatomy.cli import commands

        if parsed.version:
            commands.show_version(parsed.json)
        else:
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

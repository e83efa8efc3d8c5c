"""Arguments, dispatch and exit codes of ``splatomy``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import splatomy
from splatomy.background import leave
from splatomy.cli.option_groups import (
    add_batch_options,
    add_camera_options,
    add_input_options,
    add_mesh_options,
    num_views,
    path_word,
)
from splatomy.cli.watching import watched
from splatomy.errors import CancelledError, InputError, MissingBackendError, is_out_of_memory

_NO_MEMORY = (
    "The memory of this machine is too small for this; a run kept its last checkpoint. Use a coarser input "
    "(--bin), a smaller mesh_resolution or --preset draft, or close other programs."
)
_UNWATCHED = ("batch", "gui", "job")
"""A batch watches its cases itself, the app its jobs, and a job has a front end that hears of its end."""
EXIT_DEFECT, EXIT_INPUT, EXIT_BACKEND, EXIT_CANCELLED = 1, 2, 3, 4


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
    add.add_argument("input", type=path_word, help="file or folder")
    add.add_argument("--json", action="store_true", help="as JSON")
    add_input_options(add)

    add = command(
        "phantom",
        "make a simulated input with its truth",
        "phantom vessels --out CASE --seed 1",
        "phantom tissue --out CLIP --layout stereomis",
        "phantom object --out VIEWS --preset demo_occluded",
        "phantom stream --out STREAM --preset small",
    )
    add.add_argument("kind", choices=["vessels", "tissue", "object", "stream"])
    add.add_argument("--out", type=Path, required=True, help="new folder")
    add.add_argument(
        "--preset",
        default="demo",
        help="size and difficulty (demo, tiny, hard, ...; stream: tiny, small, cpu, standard, breathing)",
    )
    add.add_argument("--seed", type=int, default=0)
    add.add_argument(
        "--layout", choices=["endonerf", "stereomis"],
        help="tissue: one eye with depth (default), or stereo video with calibration",
    )  # fmt: skip
    add.add_argument(
        "--volume",
        type=Path,
        help="vessels: a volume or mask to be filled instead of a grown tree; object: a mesh",
    )
    add.add_argument("--force", action="store_true", help="replace an earlier phantom")

    add = command(
        "frames", "an input as plain pictures, as the methods see it", "frames CLIP.mp4 --out PICTURES"
    )
    add.add_argument("input", type=path_word, help="file or folder; see `splatomy inspect`")
    add.add_argument(
        "--out", type=Path, required=True, help="new folder: frames.json, pictures, masks, cameras"
    )
    add.add_argument("--events", choices=["jsonl"], help="print events as JSON lines")
    add.add_argument("--force", action="store_true", help="replace frames written earlier")
    add_input_options(add)

    add = command(
        "masks",
        "propose masks of the instruments, as a case to review",
        "masks CLIP.mp4 --out CASE.splatomy",
        "masks CASE.splatomy --out CASE.splatomy --propagate",
    )
    add.add_argument("input", type=path_word, help="endoscopic video or folder, or the case itself")
    add.add_argument("--out", type=Path, required=True, help="case folder, new or to be carried on")
    add.add_argument(
        "--propagate", action="store_true", help="carry the reviewed or given masks to the other frames"
    )
    add.add_argument("--device", default="auto", help="of the model: auto, cpu, cuda or cuda:K")
    add.add_argument("--force", action="store_true", help="make an earlier case anew")
    add_input_options(add, "--model", "--classes")

    add = command(
        "reconstruct",
        "reconstruct an input into a run folder",
        "reconstruct CASE --out RUN --views 30",
        "reconstruct XA.dcm --out RUN --preset draft --bin 2 --frames 10:90",
    )
    add.add_argument("input", type=path_word, help="file or folder; see `splatomy inspect`")
    add.add_argument("--out", type=Path, required=True, help="run folder")
    add.add_argument("--method", help="see `splatomy methods`; without it the one for the input's kind")
    add.add_argument("--preset", default="standard", help="draft, standard or best")
    add.add_argument("--config", type=Path, help="settings as a JSON object")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    add.add_argument(
        "--views", type=num_views, metavar="N|endonerf",
        help="train on this many frames, or on all but every 8th as EndoNeRF does; hold out the others",
    )  # fmt: skip
    add.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    add.add_argument(
        "--replicas", type=int, default=1, metavar="N",
        help="train on N GPUs, from --device on, or in N processes, which share the views of a step",
    )  # fmt: skip
    add.add_argument("--seed", type=int, default=0)
    add.add_argument(
        "--deterministic", action="store_true", help="the same bits every time on a GPU too; slower there"
    )
    add.add_argument("--threshold", type=float, help="one vessel level in 1/mm instead of the local choice")
    add.add_argument("--events", choices=["jsonl"], help="print events as JSON lines")
    add.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    add.add_argument("--force", action="store_true", help="overwrite a run")
    add_input_options(add)

    add = command(
        "live",
        "reconstruct while the video arrives",
        "live camera:0 --out RUN",
        "live CLIP.mp4 --out RUN --rate max",
        "live phantom:small --out RUN",
    )
    add.add_argument(
        "source", help="video or folder of frames, growing folder, camera:K, rtsp://..., phantom:PRESET"
    )
    add.add_argument("--out", type=Path, required=True, help="run folder")
    add.add_argument(
        "--rate", choices=["real", "max"], default="real",
        help="real: the newest frame as it comes; max: every frame, as fast as can be, repeatable",
    )  # fmt: skip
    add.add_argument("--preset", default="standard", help="draft, standard, best or deforming")
    add.add_argument("--config", type=Path, help="settings as a JSON object")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    add.add_argument("--replay", type=Path, help="commands.jsonl of an earlier session of the same stream")
    add.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--events", choices=["jsonl"], help="print events as JSON lines")
    add.add_argument("--resume", action="store_true", help="go on with a session that was ended or died")
    add.add_argument("--force", action="store_true", help="overwrite an earlier run")
    add_input_options(add)

    add = command(
        "objects",
        "cut a ScanNet scene into folders of one object each",
        "objects scene0005_00_scannet --out OBJECTS",
    )
    add.add_argument("scene", type=Path, help="folder with color/, depth/, pose/ and instance-filt/")
    add.add_argument("--out", type=Path, required=True, help="folder for the objects' folders")
    add.add_argument("--only", metavar="N,...", help="instance numbers of the objects wanted")
    add.add_argument("--min-views", type=int, default=20, help="leave out objects that fewer views show")
    add.add_argument("--weights", type=Path, help="folder with CLIP, which then ranks the views")

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
    add_camera_options(add, "input (default)")
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
        "export RUN --what mesh --keep-largest --fill-holes-mm 5 --smooth 10 --out object.ply",
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
    add_camera_options(add, "the middle input view")
    add.add_argument(
        "--turn", action="store_true",
        help="video: one turn of the C-arm, at the time of most contrast; around a still scene",
    )  # fmt: skip
    add_mesh_options(add)
    add.add_argument("--force", action="store_true", help="overwrite the file")

    add = command(
        "evaluate",
        "figures of a run against truth",
        "evaluate RUN --truth CASE/truth --json",
        "evaluate RUN --protocol endonerf",
        "evaluate RUN --truth SCAN --protocol dtu",
    )
    add.add_argument("run", type=Path)
    add.add_argument(
        "--truth", type=Path,
        help="folder with vessels.nii.gz, rgb/, mesh.ply, ..., or a volume; endonerf, stereomis: the data",
    )  # fmt: skip
    add.add_argument("--input", type=Path, help="the run's input if it moved, for the held-out views")
    add.add_argument(
        "--protocol", default="default",
        choices=["default", "4drgs", "endonerf", "stereomis", "dtu", "tnt", "o2recon"],
        help="adds the figures as a benchmark's papers print them, beside the plain ones",
    )  # fmt: skip
    add.add_argument("--json", action="store_true", help="as JSON")

    add = command(
        "demo",
        "phantom, reconstruction, evaluation and report in one go",
        "demo angiography --out DEMO",
        "demo endoscopy --out DEMO",
        "demo surface --out DEMO",
        "demo live --out DEMO",
    )
    kinds = ["angiography", "endoscopy", "surface", "live", "all"]
    add.add_argument("kind", nargs="?", choices=kinds, default="angiography")
    add.add_argument("--out", type=Path, required=True, help="new folder, or that of an earlier demo")
    add.add_argument("--seed", type=int, default=0)

    add = command(
        "batch",
        "reconstruct many cases, here or on a Ray cluster",
        "batch CASES.csv --out BATCH",
        "batch 'STUDY/*/run' --out BATCH --preset draft --limit-min 30",
        "batch CASES.json --out BATCH --engine ray --address 10.0.0.1:6379",
    )
    add_batch_options(add)
    add_input_options(add)

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

    add = command(
        "job", "a reconstruction under the supervision of a front end", "job run JOB.json", "job view RUN"
    )
    add.add_argument("verb", choices=["run", "view"])
    add.add_argument("job", type=Path, metavar="JOB.json|RUN", help="run: a job file; view: a finished run")

    add = command("gui", "start the desktop app", "gui", "gui CASE.splatomy")
    add.add_argument("path", nargs="?", type=Path, help="an input, a run or a case to open")
    return parser


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
    """Runs one command; the exit code of the contract. arguments: None = those of the program, watched."""
    if arguments is not None:
        return _run(arguments)
    if {*_UNWATCHED, "--help", "-h", "--version"} & set(sys.argv[1:]):
        return leave(_run(sys.argv[1:]))
    return leave(watched(lambda: _run(sys.argv[1:]), end_for_memory))


def end_for_memory(number: int) -> int:
    """The exit code, after a sentence, for a process that was ended by a signal for want of memory."""
    return _fail(
        f"Signal {number} ended the process, most likely because the memory of this machine ran out; a run "
        "kept its last checkpoint: use a coarser input (--bin) or --preset draft, or close other programs, "
        "and go on with --resume.",
        EXIT_INPUT,
    )


def _run(arguments: Sequence[str]) -> int:
    # None where the program was started with closed streams: what is said then vanishes.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - as long as the program
    sys.stderr = sys.stderr or sys.stdout
    parser = build_parser()
    try:
        parsed = parser.parse_args(_with_negative_values(arguments))
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
    except Exception as error:  # noqa: BLE001 - the last resort: a defect is reported as one, with its trace
        if is_out_of_memory(error):
            return _fail(_NO_MEMORY, EXIT_INPUT)
        if isinstance(error, BrokenPipeError) and error.filename is None:
            return _nobody_reads()
        if isinstance(error, OSError):
            return _fail(_disk_sentence(error), EXIT_INPUT)
        traceback.print_exc()
        return _fail(
            f"This is a defect of splatomy {splatomy.__version__}: please report the lines above.",
            EXIT_DEFECT,
        )
    return 0


def _nobody_reads() -> int:
    """The exit code after the reader of the output went away, as `head` does; what was written stays."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _fail("Stopped, since nobody reads the output any more.", EXIT_CANCELLED)


def _disk_sentence(error: OSError) -> str:
    name = Path(error.filename).name if error.filename else "a file"
    return f"{name} cannot be read or written: {error.strerror or error}. Check space, rights and the path."


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"splatomy: {sentence}\n")
    return code

"""The share of a machine that a case is given, from its estimate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from splatomy.batch.cases import Case
from splatomy.engine import default_method
from splatomy.errors import SplatomyError
from splatomy.estimate import estimate
from splatomy.io.case import is_case, open_case
from splatomy.io.detect import find_sources, is_endoscopy, is_image_set
from splatomy.io.dsa import window_of
from splatomy.io.endoscopy_detect import endoscopy_source
from splatomy.io.endoscopy_options import crop_of
from splatomy.io.image_sets import image_set_source
from splatomy.io.options import InputOptions, chosen_frames, options_from_record
from splatomy.method import find_method, make_config

_SHORT_S = 60.0
"""A shorter case is mostly reading, starting and writing, which a second core does not speed up."""
_UNKNOWN_S, _UNKNOWN_GIB = 30.0, 1.0
"""For inputs that cannot be opened: their process will tell why."""
_USUAL_PX = (1920, 1080)
"""Of photographs that give their size with their pixels only."""


@dataclass(frozen=True)
class Share:
    """What one case takes while it runs, with all its replicas.

    seconds: how long that is about; gib: of main memory.
    """

    seconds: float = _UNKNOWN_S
    gib: float = _UNKNOWN_GIB
    cpus: int = 1
    gpus: int = 0


def share_of(case: Case, gpus_there: bool, cpus: int | None = None) -> Share:
    """The share of a case, from its headers alone.

    gpus_there: there are GPUs where the batch runs; a case whose device is not the CPU gets one to itself for
    each of its replicas. cpus: cores per case as the user wants it, None = by the estimate.
    """
    gpus = case.replicas if gpus_there and case.device != "cpu" else 0
    try:
        options = options_from_record(case.options, Path.cwd())
        method = case.method or default_method(case.source, options)
        config = dataclasses.asdict(make_config(find_method(method), case.preset, case.config))
        cost = estimate(method, config, *_size(case.source, options), on_gpu=gpus > 0)
    # A wrong case must not keep the others waiting; the same happens to it in its own process, which says so.
    except (SplatomyError, OSError, TypeError, ValueError):
        return Share(cpus=cpus or case.replicas, gpus=gpus)
    cores = cpus or max(case.replicas, 1 if cost.seconds < _SHORT_S else 2)
    # Every replica holds the capture and the Gaussians.
    return Share(cost.seconds, max(_UNKNOWN_GIB, cost.gib) * case.replicas, cores, gpus)


def _size(path: Path, options: InputOptions) -> tuple[int, int, int]:
    """Frames, width and height in px of what an input and its options choose; few or no pixels are read."""
    if is_case(path):
        opened = open_case(path)
        path, options = opened.source, opened.options
    if is_image_set(path, options):
        views = image_set_source(path, options, photos=True).views
        width, height = views[0].width_px or _USUAL_PX[0], views[0].height_px or _USUAL_PX[1]
        return len(views), width // options.bin, height // options.bin
    if is_endoscopy(path, options):
        clip = endoscopy_source(path, options)
        _, _, width, height = crop_of(clip)
        return len(chosen_frames(clip.left.count, options)), width // options.bin, height // options.bin
    windows = [window_of(source, options) for source in find_sources(path, options)]
    _, _, width, height = windows[0].crop
    frames = sum(len(window.frames) for window in windows)
    return frames, width // options.bin, height // options.bin

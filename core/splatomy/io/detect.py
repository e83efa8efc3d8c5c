"""What an input is, by its content; one function to inspect it and one to open it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import gantry_angles_rad
from splatomy.io.case import is_case, open_case
from splatomy.io.dicom_xa import dicom_sources, is_dicom
from splatomy.io.dsa import DsaInput, DsaSource, InputOptions, load_source, window_of
from splatomy.io.dsa_report import DsaReport, Lack, ViewReport
from splatomy.io.endoscopy_detect import EndoscopyReport, endoscopy_reader, inspect_endoscopy
from splatomy.io.frame_folder import frame_files, frames_source
from splatomy.io.image_sets import ImageSetReport, image_set_reader, inspect_image_set
from splatomy.io.stacks import (
    CASE_STACKS,
    case_source,
    is_case_folder,
    stack_named,
    stack_source,
)
from splatomy.io.volume import has_volume_suffix

_MAX_LISTED = 20_000
_EXPECTED = (
    "expected a case folder (fill_run.nii.gz or DSA.nii.gz with transforms.json), an image stack "
    "(.nii.gz, .nrrd, .mha), a folder of PNG or JPEG frames, DICOM angiography, an endoscopic video, or "
    "an image set (COLMAP, DTU, NeRF, RGB-D)"
)


def find_sources(path: Path | str, options: InputOptions | None = None) -> list[DsaSource]:
    """The runs of an input, headers only.

    Raises:
        InputError: nothing there that can be read.
    """
    where, options = Path(path), options or InputOptions()
    if not where.exists():
        raise InputError(f"{where} does not exist; {_EXPECTED}: check the path.")
    if where.is_file():
        return _file_sources(where, options)
    if not where.is_dir():
        raise InputError(f"{where} is neither a file nor a folder; {_EXPECTED}: check the path.")
    if is_case_folder(where):
        return [case_source(where, options)]
    entries = sorted(p for p in where.iterdir() if not p.name.startswith("."))
    if frame_files(where):
        return [frames_source(where, options)]
    stacks = [p for p in entries if p.is_file() and has_volume_suffix(p)]
    if stacks:
        return [stack_source(_main_stack(stacks, where), options)]
    dicom = _dicom_files(where)
    if dicom:
        return dicom_sources(dicom, options)
    runs = [p for p in entries if p.is_dir() and (is_case_folder(p) or frame_files(p))]
    if runs:
        return [case_source(p, options) if is_case_folder(p) else frames_source(p, options) for p in runs]
    raise InputError(f"The folder holds no readable run; {_EXPECTED}: choose another folder.")


def _file_sources(path: Path, options: InputOptions) -> list[DsaSource]:
    if path.name == "transforms.json":
        return [case_source(path.parent, options)]
    if has_volume_suffix(path):
        if _is_case_stack(path) and (path.parent / "transforms.json").is_file():
            return [case_source(path.parent, options)]
        return [stack_source(path, options)]
    if is_dicom(path):
        return dicom_sources([path], options)
    size = path.stat().st_size
    raise InputError(f"{path.name} ({size} bytes) is of no known kind; {_EXPECTED}: choose another file.")


def _is_case_stack(path: Path) -> bool:
    """True if a file is the one that makes its folder a case, or the mask run of it."""
    named = [stack_named(path.parent, name) for name in (*CASE_STACKS, "mask_run")]
    return path in named and is_case_folder(path.parent)


def _main_stack(stacks: list[Path], folder: Path) -> Path:
    """The one stack of a folder that is no mask."""
    main = [p for p in stacks if "mask" not in p.name.lower() and "occluded" not in p.name.lower()]
    if len(main) != 1:
        names = ", ".join(p.name for p in main[:4]) or "none but masks"
        raise InputError(
            f"The folder holds {len(main)} image stacks ({names}); expected one: open the file itself."
        )
    return main[0]


def _dicom_files(folder: Path) -> list[Path]:
    """DICOM files in a folder and its subfolders, without the media index."""
    found: list[Path] = []
    for number, path in enumerate(_files(folder)):
        if number >= _MAX_LISTED:
            raise InputError(
                f"The folder holds more than {_MAX_LISTED} files; expected one study: choose a run's folder."
            )
        if path.name.upper() != "DICOMDIR" and is_dicom(path):
            found.append(path)
    return sorted(found)


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def open_views(path: Path | str, options: InputOptions | None = None) -> list[DsaInput]:
    """Every run of an input as one DsaInput each (a biplane or multi-view study gives several).

    Raises:
        InputError: a run is unreadable or the options do not fit.
    """
    options = options or InputOptions()
    sources = _chosen(find_sources(path, options), options)
    return [load_source(source, options) for source in sources]


def _chosen(sources: list[DsaSource], options: InputOptions) -> list[DsaSource]:
    """The runs that the option --view names; all without it."""
    if options.view is None:
        return sources
    wanted = [options.view] if isinstance(options.view, int) else list(options.view)
    missing = [view for view in wanted if not 0 <= view < len(sources)]
    if missing or not wanted or len(set(wanted)) < len(wanted):
        raise InputError(
            f"view {', '.join(map(str, missing or wanted))} does not exist or is given twice; expected 0 "
            f"to {len(sources) - 1}: choose among them."
        )
    return [sources[view] for view in wanted]


def open_input(path: Path | str, options: InputOptions | None = None) -> DsaInput:
    """The input as one DsaInput; several views of one image size are joined, one after the other.

    Raises:
        InputError: unreadable, or views that cannot be joined.
    """
    views = open_views(path, options)
    return views[0] if len(views) == 1 else _joined(views, Path(path))


def _joined(views: list[DsaInput], path: Path) -> DsaInput:
    """Views of one patient as one input; each keeps its own mask and its own time zero."""
    kinds = {(v.fill_run.shape[1:], v.intensity, v.already_subtracted) for v in views}
    if len(kinds) > 1:
        raise InputError(
            f"The input holds {len(views)} runs of different image size or pixel meaning; expected views "
            "that fit "
            "together: choose one with the view option."
        )
    cameras = [v.cameras for v in views if v.cameras is not None]
    masks = [v.mask for v in views if v.mask is not None]
    hidden = [v.occluded for v in views if v.occluded is not None]
    targets = [v.target for v in views if v.target is not None]
    problems = [p for v in views for p in v.problems if "share one viewing direction" not in p]
    problems.append(f"{len(views)} runs were joined as separate views; their times each start at zero.")
    if len(masks) not in (0, len(views)):
        problems.append("Some of the views have no mask, so no mask is used.")
    joined = replace(
        views[0],
        fill_run=np.concatenate([v.fill_run for v in views]),
        mask_run=np.concatenate(masks) if len(masks) == len(views) else None,
        mask_frames=(),
        cameras=Cameras.concatenate(cameras) if len(cameras) == len(views) else None,
        times_s=np.concatenate([v.times_s for v in views]),
        times_known=all(v.times_known for v in views),
        occluded=np.concatenate(hidden) if len(hidden) == len(views) else None,
        target=np.concatenate(targets) if len(targets) == len(views) else None,
        problems=tuple(dict.fromkeys(problems)),
        input_files=tuple(f for v in views for f in v.input_files),
        frames_per_view=tuple(len(v.fill_run) for v in views),
    )
    return replace(joined, is_static_view=all(v.is_static_view for v in views) and _one_direction(cameras))


def _one_direction(cameras: list[Cameras]) -> bool:
    directions = np.concatenate(
        [c.centres_mm / np.linalg.norm(c.centres_mm, axis=1, keepdims=True) for c in cameras]
    )
    return bool((directions @ directions[0] > np.cos(np.radians(0.5))).all())


def is_image_set(path: Path | str, options: InputOptions | None = None) -> bool:
    """True if an input is pictures of a still scene with their cameras, and no option says otherwise."""
    options = options or InputOptions()
    if options.layout is not None or options.of_angiography:
        return False
    return image_set_reader(Path(path)) is not None


def is_endoscopy(path: Path | str, options: InputOptions | None = None) -> bool:
    """True if an input is an endoscopic clip, and neither angiography nor an image set, by its content."""
    options = options or InputOptions()
    return not is_image_set(path, options) and endoscopy_reader(Path(path), options) is not None


def inspect_input(
    path: Path | str, options: InputOptions | None = None
) -> DsaReport | EndoscopyReport | ImageSetReport:
    """What an input is and every problem found; unusable inputs give a report too.

    Headers are read first, so that the facts are known even when the pixels cannot be read.

    Raises:
        InputError: the path does not exist.
    """
    where, options = Path(path), options or InputOptions()
    if not where.exists():
        raise InputError(f"{where} does not exist; {_EXPECTED}: check the path.")
    if is_case(where):
        case = open_case(where)
        return inspect_input(case.source, case.options)
    if is_image_set(where, options):
        return inspect_image_set(where, options)
    if is_endoscopy(where, options):
        return inspect_endoscopy(where, options)
    try:
        sources = _chosen(find_sources(where, options), options)
    except InputError as error:
        return DsaReport("unknown", (), (str(error),), False)
    kind = "angiography run" if len(sources) == 1 else f"{len(sources)} angiography runs"
    problems = [p for s in sources for p in s.problems]
    usable = True
    views = []
    runs: list[DsaInput] = []
    for source in sources:
        mask = _mask_text(source)
        try:
            window_of(source, options)
            run = load_source(source, options)
            runs.append(run)
            problems += run.problems
            if run.mask_frames:
                mask = _own_frames(len(run.mask_frames))
        except InputError as error:
            usable = False
            problems.append(str(error))
        views.append(_view_report(source, mask, options))
    patient = any(bool(s.details.get("patient_fields")) for s in sources)
    lacking = _lacking(sources, runs)
    if lacking and usable and _may_be_volume(where, sources[0], options):
        problems.append("If it is a finished volume and no run of frames, `splatomy vessels` takes it.")
    return DsaReport(kind, tuple(views), tuple(dict.fromkeys(problems)), usable, patient, lacking)


def _lacking(sources: list[DsaSource], runs: list[DsaInput]) -> tuple[Lack, ...]:
    """What reconstructing all the runs together lacks. runs: those that could be read, all or some."""
    found = []
    if nowhere := tuple(n for n, source in enumerate(sources) if source.cameras is None):
        found.append(Lack("geometry (angles and distances, or matrices)", ("--geometry FILE",), nowhere))
    if len(runs) == len(sources):
        bare = tuple(n for n, run in enumerate(runs) if run.mask is None and not run.already_subtracted)
        if bare:
            options = ("--mask FILE", "--mask-frames N,...", "--already-subtracted")
            found.append(Lack("frames without contrast", options, bare))
        if sum(len(run.fill_run) for run in runs) < 2:
            found.append(Lack("a second frame", (), ()))
    return tuple(found)


def _may_be_volume(path: Path, source: DsaSource, options: InputOptions) -> bool:
    """True if a file of volume format may be no run of frames but what was made of one."""
    stacks = {name.lower() for name in CASE_STACKS}
    plain = path.is_file() and has_volume_suffix(path) and path.name.lower().split(".")[0] not in stacks
    return plain and source.cameras is None and not options.of_angiography


def _mask_text(source: DsaSource) -> str:
    if source.already_subtracted:
        return "already subtracted"
    if source.has_mask:
        return "mask run"
    return _own_frames(len(source.mask_frames)) if source.mask_frames else "none"


def _own_frames(count: int) -> str:
    return f"{count} frame{'s' if count > 1 else ''} of the run itself"


def _view_report(source: DsaSource, mask: str, options: InputOptions) -> ViewReport:
    """The facts of one run, from its header."""
    cameras = source.cameras
    primary = secondary = pixel = sad = sid = None
    if cameras is not None:
        angles = np.degrees(gantry_angles_rad(cameras))
        if source.mirrored:
            # Positioner angles of DICOM, see angio_cameras.
            angles = np.stack([angles[:, 0] - 90, -angles[:, 1]], -1)
            angles[:, 0] -= 360 * np.round(angles[0, 0] / 360)
        primary = (float(angles[:, 0].min()), float(angles[:, 0].max()))
        secondary = (float(angles[:, 1].min()), float(angles[:, 1].max()))
        sad = float(np.linalg.norm(cameras.centres_mm, axis=1).mean())
        sid, pixel = source.sid_mm, source.pixel_mm
    times = source.times_s
    if times is None and options.frame_time_s is not None:
        times = np.arange(source.count, dtype=np.float64) * options.frame_time_s
    return ViewReport(
        layout=source.layout,
        frames=source.count,
        width_px=source.width_px,
        height_px=source.height_px,
        pixel_mm=pixel,
        duration_s=None if times is None else float(times[-1] - times[0]),
        primary_deg=primary,
        secondary_deg=secondary,
        source_to_isocentre_mm=sad,
        source_to_detector_mm=sid,
        mask=mask,
        intensity="line integrals" if source.already_subtracted else source.intensity,
        geometry_source=source.geometry_source,
    )

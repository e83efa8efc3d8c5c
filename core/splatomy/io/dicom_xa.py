"""DICOM X-ray angiography, classic and enhanced: headers first, pixels frame by frame.

No value of a patient or study attribute is ever read into a field, a problem or an error text.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import ArrayLike, NDArray
from pydicom.uid import UID

from splatomy.errors import InputError, MissingBackendError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.dicom_header import XaHeader, read_xa_header
from splatomy.io.dsa import DsaSource, Pixels, Window
from splatomy.io.geometry_files import read_geometry
from splatomy.io.mask_frames import precontrast_frames
from splatomy.io.options import InputOptions
from splatomy.io.stacks import with_geometry

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def angio_cameras(
    primary_deg: ArrayLike,
    secondary_deg: ArrayLike,
    source_to_isocentre_mm: ArrayLike,
    source_to_detector_mm: ArrayLike,
    width_px: int,
    height_px: int,
    pixel_mm: tuple[float, float],
) -> Cameras:
    """Cameras of DICOM positioner angles, in patient LPS axes with the isocentre as origin.

    primary_deg: positive = LAO (detector to the patient's left). secondary_deg: positive = cranial.
    pixel_mm: detector pitch (x, y).

    For a patient lying head first, supine, the detector lies in direction
    ``(sin P cos S, -cos P cos S, sin S)`` and the source opposite (under the table). That is our
    cone-beam formula with primary angle ``P + 90`` degrees and secondary angle ``-S``. Pixels are as
    seen from the source: at P = S = 0 columns run to the patient's right and rows to the feet. A
    stored picture shows the detector's side (patient's left at the viewer's right), so its columns
    must be reversed to fit: no pinhole camera makes a mirror image.
    """
    primary = np.radians(np.asarray(primary_deg, dtype=np.float64)) + np.pi / 2
    secondary = -np.radians(np.asarray(secondary_deg, dtype=np.float64))
    return cone_beam(
        primary, secondary, source_to_isocentre_mm, source_to_detector_mm, width_px, height_px, pixel_mm
    )


def is_dicom(path: Path) -> bool:
    """True if the file starts like a DICOM file (part 10 preamble, or a bare group 0008 header)."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head[128:132] == b"DICM" or head[:4] in (
        b"\x08\x00\x05\x00",
        b"\x08\x00\x00\x00",
        b"\x08\x00\x08\x00",
    )


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom's warnings, which quote header values, out of terminal and logs."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def read_header(path: Path) -> XaHeader:
    """What the header of a DICOM X-ray run says; pixels are not touched.

    Raises:
        InputError: not DICOM, damaged, or not a grey X-ray picture.
    """
    try:
        with quiet_pydicom():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            return read_xa_header(dataset, path)
    except InputError:
        raise
    except Exception:  # noqa: BLE001 - damaged files raise anything, and texts may quote the header
        raise InputError(
            f"{path.name} has a damaged DICOM header; expected a complete XA file: export it again."
        ) from None


def dicom_sources(files: list[Path], options: InputOptions | None = None) -> list[DsaSource]:
    """The runs in DICOM files: one per multi-frame file or series of single frames, masks paired to fills.

    A geometry file among the options replaces the header's; its matrices are of the pictures as stored.

    Raises:
        InputError: no usable run, or a mask or a geometry that does not fit.
    """
    options = options or InputOptions()
    runs = _runs(files)
    if options.geometry is None and options.mask is None:
        return _paired(runs)
    mask = _given_mask(options.mask)
    if options.geometry is None:
        return [run.source() if mask is None else _with_mask(run, mask, _own(mask, run)) for run in runs]
    return [_placed(run, mask, options.geometry) for run in runs]


def _given_mask(path: Path | None) -> _Run | None:
    """The run of --mask."""
    if path is None:
        return None
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    runs = _runs([p for p in inside if p.is_file() and is_dicom(p)])
    if len(runs) != 1:
        raise InputError(
            f"{path.name} holds {len(runs)} DICOM runs; expected one without contrast: choose another --mask."
        )
    return runs[0]


def _own(mask: _Run, fill: _Run) -> NDArray[np.int64]:
    """For each frame of ``fill`` the frame of a given mask run: the same, or the only one."""
    if mask.count not in (1, fill.count) or mask.first.oriented_size != fill.first.oriented_size:
        height, width = mask.first.oriented_size
        raise InputError(
            f"The mask run has {mask.count} frames of {width}x{height}, the run {fill.count} of "
            f"{fill.first.oriented_size[1]}x{fill.first.oriented_size[0]}; expected the same size, and one "
            "frame or as many: use runs of one acquisition."
        )
    return np.arange(fill.count) if mask.count > 1 else np.zeros(fill.count, dtype=np.int64)


def _placed(run: _Run, mask: _Run | None, path: Path) -> DsaSource:
    """A run with the cameras of a geometry file."""
    height, width = run.first.height_px, run.first.width_px
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a geometry file: check --geometry.")
    geometry = read_geometry(path, run.count, width, height, run.first.pixel_mm)
    if geometry.sid_mm is None:
        # Matrices are of stored pixels; angles are of pictures seen from the source, as with any input.
        run, mask = run.as_stored(), None if mask is None else mask.as_stored()
    source = run.source() if mask is None else _with_mask(run, mask, _own(mask, run))
    return with_geometry(source, geometry, path)


def _runs(files: list[Path]) -> list[_Run]:
    """Multi-frame files, and series of single frames, in the order in which they were taken."""
    headers = [read_header(path) for path in files]
    runs: list[list[XaHeader]] = []
    series: dict[tuple[str, int, int], list[XaHeader]] = {}
    for header in headers:
        if header.count > 1:
            runs.append([header])
        else:
            series.setdefault((header.series, header.height_px, header.width_px), []).append(header)
    for group in series.values():
        runs.append(sorted(group, key=lambda h: (h.instance, h.started, h.path.name)))
    runs.sort(key=lambda run: (run[0].started, run[0].path.name))
    return [_Run(run) for run in runs]


class _Run:
    """One run: a multi-frame file, or single-frame files in order."""

    def __init__(self, parts: list[XaHeader]) -> None:
        self.parts = parts
        first = parts[0]
        self.first = first
        self.count = first.count if len(parts) == 1 else len(parts)
        self.angles_deg: NDArray[np.float64] | None = None
        if all(p.angles_deg is not None for p in parts):
            self.angles_deg = np.concatenate([p.angles_deg for p in parts if p.angles_deg is not None])
        self.is_moving = self.angles_deg is not None and float(np.ptp(self.angles_deg, axis=0).max()) > 2.0

    def as_stored(self) -> _Run:
        """The run with its pictures as the file has them."""
        return _Run(
            [
                replace(part, turns=0, unflip=False, reverse_columns=False, reverse_rows=False)
                for part in self.parts
            ]
        )

    def source(self) -> DsaSource:
        """The run as a source."""
        first = self.first
        height, width = first.oriented_size
        cameras, problems = None, list(first.problems)
        source_text = "DICOM header"
        if self.angles_deg is not None and first.sad_mm and first.sid_mm and first.pixel_mm:
            cameras = angio_cameras(
                self.angles_deg[:, 0],
                self.angles_deg[:, 1],
                first.sad_mm,
                first.sid_mm,
                width,
                height,
                first.pixel_mm,
            )
        else:
            source_text = "none"
        times = first.times_s if len(self.parts) == 1 else None
        return DsaSource(
            layout=first.kind,
            count=self.count,
            height_px=height,
            width_px=width,
            intensity=first.intensity,
            load=self.load,
            cameras=cameras,
            geometry_source=source_text,
            times_s=times,
            input_files=tuple(p.path for p in self.parts),
            sid_mm=first.sid_mm,
            pixel_mm=first.pixel_mm,
            mask_frames=first.mask_frames,
            mask_shift_px=first.mask_shift_px,
            mirrored=first.reverse_columns,
            problems=tuple(problems),
            details={"patient_fields": any(p.has_patient for p in self.parts)},
        )

    def load(self, window: Window) -> Pixels:
        """The window's pixels; a still run without named mask frames offers its first ones."""
        fill = self.read(window)
        if self.first.mask_frames or self.is_moving or self.first.intensity != "linear":
            return Pixels(fill)
        found, notes = precontrast_frames(fill)
        return Pixels(fill, mask_frames=found, problems=notes)

    def read(self, window: Window) -> NDArray[np.float32]:
        """The window's frames."""
        if len(self.parts) == 1:
            frames = _decoded(self.first, window.frames)
        else:
            frames = (next(_decoded(self.parts[i], np.zeros(1, dtype=np.int64))) for i in window.frames)
        return np.stack([window.cut(self.first.oriented(frame)) for frame in frames])


def _paired(runs: list[_Run]) -> list[DsaSource]:
    """Sources, where a moving run along the trajectory of an earlier one takes that one as its mask."""
    sources: list[DsaSource] = []
    waiting: list[_Run] = []
    for run in runs:
        partner, index = None, None
        for other in waiting:
            index = _matching(other, run)
            if index is not None:
                partner = other
                break
        if partner is None or index is None:
            waiting.append(run)
            continue
        waiting.remove(partner)
        sources.append(_with_mask(run, partner, index, paired=True))
    return [*sources, *(run.source() for run in waiting)]


def _matching(mask: _Run, fill: _Run) -> NDArray[np.int64] | None:
    """For each frame of ``fill`` the frame of ``mask`` at the same angles (1 degree), or None."""
    if not (mask.is_moving and fill.is_moving) or mask.angles_deg is None or fill.angles_deg is None:
        return None
    if mask.first.oriented_size != fill.first.oriented_size or mask.first.intensity != fill.first.intensity:
        return None
    distance = np.abs(mask.angles_deg[None] - fill.angles_deg[:, None]).max(-1)
    return distance.argmin(1) if float(distance.min(1).max()) < 1.0 else None


def _with_mask(fill: _Run, mask: _Run, index: NDArray[np.int64], paired: bool = False) -> DsaSource:
    """The fill run's source, with the mask run's frames ``index``; paired: found by their angles."""
    base = fill.source()

    def load(window: Window) -> Pixels:
        chosen = Window(index[window.frames], window.crop, window.bin)
        return Pixels(fill.read(window), mask.read(chosen))

    note = "An earlier run follows the same trajectory and serves as the mask run." if paired else ""
    return DsaSource(
        **{
            **{name: getattr(base, name) for name in base.__dataclass_fields__},
            "load": load,
            "has_mask": True,
            "mask_frames": (),
            "mask_shift_px": (0.0, 0.0),
            "input_files": (*mask.source().input_files, *base.input_files),
            "problems": (*base.problems, note) if note else base.problems,
        }
    )


def _decoded(header: XaHeader, frames: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """Frames (H, W) in stored order as X-ray intensity or its logarithm, larger = more X-rays."""
    for raw in _raw_frames(header, frames):
        yield header.rescaled(raw)


def _raw_frames(header: XaHeader, frames: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """Stored pixel values, decoded one frame at a time."""
    syntax = header.transfer_syntax
    try:
        with quiet_pydicom():
            if syntax == _JPEG_EXTENDED and header.bits_stored > 8:
                yield from _gdcm_whole(header)[frames]
                return
            yield from pydicom.pixels.iter_pixels(
                header.path,
                indices=[int(i) for i in frames],
                raw=True,
                decoding_plugin=_plugin(syntax),
                **header.decoding,
            )
    except (InputError, MissingBackendError, GeneratorExit):
        raise
    except Exception:  # noqa: BLE001 - decoders raise anything on damaged data
        raise InputError(
            f"{header.path.name} could not be decoded ({UID(syntax).name}); expected {header.count} "
            "complete frames "
            f"of {header.width_px}x{header.height_px}: export the run again, uncompressed if possible."
        ) from None


def _plugin(syntax: str) -> str:
    """The decoder to use: GDCM (BSD) for every JPEG family, so that no GPL plugin is ever picked."""
    if syntax in _NATIVE:
        return ""
    if syntax == _RLE:
        return "pydicom"
    _import_gdcm()
    return "gdcm"


def _import_gdcm() -> Any:
    try:
        import gdcm
    except ImportError:
        raise MissingBackendError(
            "This DICOM file is JPEG compressed and needs the package python-gdcm: pip install python-gdcm."
        ) from None
    return gdcm


def _gdcm_whole(header: XaHeader) -> NDArray[np.uint16]:
    """All frames (N, H, W) of a 12-bit JPEG Extended file, which pydicom leaves to GDCM's own reader."""
    gdcm = _import_gdcm()
    for stream in ("WarningOff", "ErrorOff"):
        getattr(gdcm.Trace, stream)()
    reader = gdcm.ImageReader()
    reader.SetFileName(str(header.path))
    if not reader.Read():
        raise ValueError("GDCM cannot read the file")
    # GDCM hands bytes over as text with surrogates.
    data = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(data, dtype=np.uint16).reshape(header.count, header.height_px, header.width_px)

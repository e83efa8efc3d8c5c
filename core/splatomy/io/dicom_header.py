"""What the header of one DICOM X-ray object says, with every known trap resolved or reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from splatomy.errors import InputError
from splatomy.io.dicom_attributes import attribute, number_of, pixel_defaults, values_of
from splatomy.io.dsa import Intensity
from splatomy.io.geometry_files import check_distances
from splatomy.io.plausible import check_frame_count

_INTENSITY: dict[str, Intensity] = {"LIN": "linear", "LOG": "log", "DISP": "display"}
_ENHANCED = "1.2.840.10008.5.1.4.1.1.12.1.1"
_CLASSIC = "1.2.840.10008.5.1.4.1.1.12.1"
# Between frames; a sparse run of 20 views turns about 10 degrees each.
_LONGEST_STEP_DEG = 15.0
# Directions of DICOM's orientation letters in LPS.
_LETTERS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


@dataclass(frozen=True)
class XaHeader:
    """The facts of one file; sizes are those of the stored picture, angles are (T, 2) degrees.

    decoding: what the decoder must be told because the file does not say it.
    """

    path: Path
    kind: str
    count: int
    height_px: int
    width_px: int
    bits_stored: int
    transfer_syntax: str
    series: str
    instance: int
    started: str
    intensity: Intensity
    is_inverted: bool
    angles_deg: NDArray[np.float64] | None
    sad_mm: float | None
    sid_mm: float | None
    pixel_mm: tuple[float, float] | None
    times_s: NDArray[np.float64] | None
    mask_frames: tuple[int, ...]
    mask_shift_px: tuple[float, float]
    turns: int
    unflip: bool
    reverse_columns: bool
    reverse_rows: bool
    has_patient: bool
    problems: tuple[str, ...]
    lut: Dataset
    decoding: Mapping[str, Any]

    @property
    def oriented_size(self) -> tuple[int, int]:
        """Height and width after undoing the detector's rotation."""
        size = (self.height_px, self.width_px)
        return size if self.turns % 2 == 0 else size[::-1]

    def oriented(self, frame: NDArray[Any]) -> NDArray[Any]:
        """A stored frame as seen from the source with the head up."""
        if self.unflip:
            frame = frame[:, ::-1]
        frame = np.rot90(frame, self.turns)
        if self.reverse_columns:
            frame = frame[:, ::-1]
        return frame[::-1] if self.reverse_rows else frame

    def rescaled(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Stored values through the file's lookup table or slope; larger = more X-rays."""
        values = np.asarray(apply_modality_lut(raw, self.lut), dtype=np.float64)
        if not self.is_inverted:
            return values
        if self.intensity == "log":
            return -values
        top = np.array([0, 2**self.bits_stored - 1], dtype=np.uint32)
        ends = np.asarray(apply_modality_lut(top, self.lut), dtype=np.float64)
        return float(ends.sum()) - values


def read_xa_header(dataset: Dataset, path: Path) -> XaHeader:
    """The facts of a dataset read without pixels.

    Raises:
        InputError: not a grey picture, or impossible distances.
    """
    rows, columns = attribute(dataset, "Rows"), attribute(dataset, "Columns")
    if not rows or not columns:
        raise InputError(
            f"{path.name} is a DICOM object without a picture (or is damaged); expected an X-ray "
            "angiography run: choose another file."
        )
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise InputError(
            f"{path.name} is a colour picture; expected grey X-ray frames: choose the original run."
        )
    problems: list[str] = []
    decoding = pixel_defaults(dataset, path, problems)
    count = int(attribute(dataset, "NumberOfFrames") or decoding.get("number_of_frames", 1))
    sop_class = str(dataset.get("SOPClassUID", ""))
    check_frame_count(count, path)
    kind = {_ENHANCED: "enhanced DICOM XA", _CLASSIC: "DICOM XA"}.get(sop_class, "DICOM picture")
    if kind == "DICOM picture":
        problems.append("The DICOM object is no X-ray angiography run by its class; it is read as one.")
    intensity, inverted = _pixel_meaning(dataset, problems)
    angles = _angles(dataset, count, problems)
    sad, sid, pixel = _distances(dataset, path, problems)
    mask_frames, shift = _mask(dataset, count, problems)
    turns, unflip, reverse_columns, reverse_rows = _orientation(dataset, angles, problems)
    if turns % 2 and pixel is not None:
        pixel = pixel[::-1]
    if str(dataset.get("PatientPosition", "HFS")) not in ("HFS", ""):
        problems.append(
            "The patient does not lie head first and supine, so left, right, front and back may be off."
        )
    meta = getattr(dataset, "file_meta", None)
    return XaHeader(
        path=path,
        kind=kind,
        count=count,
        height_px=int(rows),
        width_px=int(columns),
        bits_stored=int(attribute(dataset, "BitsStored") or decoding.get("bits_stored", 16)),
        transfer_syntax=str((meta or {}).get("TransferSyntaxUID", "1.2.840.10008.1.2")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        instance=int(attribute(dataset, "InstanceNumber") or 0),
        started=_started(dataset),
        intensity=intensity,
        is_inverted=inverted,
        angles_deg=angles,
        sad_mm=sad,
        sid_mm=sid,
        pixel_mm=pixel,
        times_s=_times_s(dataset, count, problems),
        mask_frames=mask_frames,
        mask_shift_px=shift,
        turns=turns,
        unflip=unflip,
        reverse_columns=reverse_columns,
        reverse_rows=reverse_rows,
        has_patient=any(e.tag.group == 0x0010 and not e.is_empty for e in dataset),
        problems=tuple(problems),
        lut=_rescaling(dataset),
        decoding=decoding,
    )


def _rescaling(dataset: Dataset) -> Dataset:
    """The attributes that turn stored values into modality values, wherever the object keeps them."""
    out = Dataset()
    table = attribute(dataset, "ModalityLUTSequence")
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if table is not None:
        out.ModalityLUTSequence = table
    elif slope is not None and intercept is not None:
        out.RescaleSlope, out.RescaleIntercept = slope, intercept
    return out


def _started(dataset: Dataset) -> str:
    """A sortable text of when the run began; used for order only and never shown."""
    date_time = attribute(dataset, "AcquisitionDateTime")
    if date_time is not None:
        return str(date_time)
    day = attribute(dataset, "AcquisitionDate") or attribute(dataset, "ContentDate") or ""
    return f"{day}{attribute(dataset, 'AcquisitionTime') or attribute(dataset, 'ContentTime') or ''}"


def _pixel_meaning(dataset: Dataset, problems: list[str]) -> tuple[Intensity, bool]:
    """What pixel values mean, and whether larger values mean fewer X-rays."""
    relation = str((values_of(dataset, "PixelIntensityRelationship") or [""])[0]).upper()
    intensity = _INTENSITY.get(relation, "linear")
    if relation not in _INTENSITY:
        problems.append(
            "The file does not say whether pixel values are linear or logarithmic; linear is assumed."
        )
    has_table = attribute(dataset, "ModalityLUTSequence") is not None
    if intensity == "log" and has_table:
        # DICOM C.8.7.1.1: with LOG the modality table is the conversion from logarithmic to linear.
        intensity = "linear"
        problems.append("Logarithmic pixel values were made linear by the file's modality lookup table.")
    elif intensity == "log":
        problems.append("Logarithmic pixel values have an unknown scale, so contrast amounts are relative.")
    signs = values_of(dataset, "PixelIntensityRelationshipSign")
    if signs:
        return intensity, int(signs[0]) < 0
    # Without a sign, X-ray pictures are shown with vessels dark, so MONOCHROME1 stores fewer X-rays larger.
    return intensity, str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1"


def _angles(dataset: Dataset, count: int, problems: list[str]) -> NDArray[np.float64] | None:
    """Positioner angles (T, 2) in degrees, or None."""
    columns = []
    for name in ("Primary", "Secondary"):
        per_frame = values_of(dataset, f"Positioner{name}Angle") or values_of(
            dataset, f"PositionerIsocenter{name}Angle"
        )
        if not per_frame:
            if name == "Primary" and attribute(dataset, "PositionerPrimaryAngleIncrement") is None:
                problems.append("The DICOM header holds no positioner angles.")
                return None
            per_frame = [0.0] if name == "Secondary" else []
        base = np.array([float(v) for v in per_frame])
        increments = attribute(dataset, f"Positioner{name}AngleIncrement")
        if len(base) != count:
            steps = None if increments is None else np.atleast_1d(np.asarray(increments, dtype=np.float64))
            base = _with_increments(base, steps, count, name.lower(), problems)
        columns.append(base)
    return np.stack(columns, -1)


def _with_increments(
    base: NDArray[np.float64],
    increments: NDArray[np.float64] | None,
    count: int,
    name: str,
    problems: list[str],
) -> NDArray[np.float64]:
    """Angles per frame from a start angle and increments, which vendors store in three ways."""
    start = float(base[0]) if len(base) else 0.0
    if increments is None or not np.any(increments):
        return np.full(count, start)
    if len(increments) == 1 and count > 1:
        return np.full(count, start if len(base) else float(increments[0]))
    if len(increments) == count - 1:
        increments = np.concatenate([[0.0], increments])
    if len(increments) != count:
        problems.append(
            f"The header lists {len(increments)} {name} angle increments for {count} frames; the start "
            "angle is used."
        )
        return np.full(count, start)
    steps = increments[1:]
    # An absolute list begins with the start angle itself, to the last digit.
    repeats_start = abs(start) > 0.5 and abs(increments[0] - start) < 0.02
    is_step = (
        not repeats_start
        and count >= 10
        and np.abs(increments).max() <= _LONGEST_STEP_DEG
        and 20 < abs(increments.sum()) < 400
        and steps.std() < 0.5 * abs(steps.mean())
    )
    if is_step:
        problems.append(f"The {name} angle increments are steps from frame to frame and were summed.")
        return start + np.cumsum(increments)
    is_absolute = not len(base) or repeats_start or (abs(increments[0] - start) < 1.0 and abs(start) > 2.0)
    # A sum beyond half a turn cannot be meant: no C-arm angle is given like that.
    if is_absolute or np.abs(start + increments).max() > 200:
        problems.append(f"The {name} angle increments are absolute angles and were used as such.")
        return increments
    return start + increments


def _distances(
    dataset: Dataset, path: Path, problems: list[str]
) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """Source-isocentre and source-detector distance, and pixel pitch (x, y), each or None."""
    sid = number_of(dataset, "DistanceSourceToDetector")
    sad = number_of(dataset, "DistanceSourceToIsocenter", "DistanceSourceToPatient")
    factor = number_of(dataset, "EstimatedRadiographicMagnificationFactor")
    if not sad and sid and factor and factor > 1:
        sad = sid / factor
        problems.append("The source-isocentre distance was derived from the magnification factor.")
    pairs = values_of(dataset, "ImagerPixelSpacing")
    # DICOM orders spacings row, column, that is y, x.
    pixel = None if not pairs else (float(pairs[0][1]), float(pairs[0][0]))
    names = {
        "source-detector distance": sid,
        "source-isocentre distance": sad,
        "detector pixel size (ImagerPixelSpacing)": pixel,
    }
    missing = [name for name, value in names.items() if not value]
    if missing:
        problems.append(f"The DICOM header lacks the {', the '.join(missing)}.")
    if sad and sid and pixel:
        check_distances(sad, sid, pixel, path.name)
    return sad or None, sid or None, pixel


def _times_s(dataset: Dataset, count: int, problems: list[str]) -> NDArray[np.float64] | None:
    """Frame times in seconds from the first frame, or None."""
    stamps = values_of(dataset, "FrameAcquisitionDateTime") or values_of(dataset, "FrameReferenceDateTime")
    if len(stamps) == count and count > 1:
        moments = [
            datetime.strptime(str(s).split("+")[0][:21].ljust(15, "."), "%Y%m%d%H%M%S.%f") for s in stamps
        ]
        return np.array([(m - moments[0]).total_seconds() for m in moments])
    vector = attribute(dataset, "FrameTimeVector")
    if vector is not None and np.size(vector) in (count, count - 1) and count > 1:
        steps = np.asarray(vector, dtype=np.float64)
        if len(steps) == count:
            steps = steps[1:]
        return np.concatenate([[0.0], np.cumsum(steps)]) / 1000.0
    frame_time = number_of(dataset, "FrameTime")
    if frame_time:
        return np.arange(count, dtype=np.float64) * (frame_time / 1000.0)
    rate = number_of(dataset, "CineRate", "RecommendedDisplayFrameRate")
    if rate:
        problems.append("Frame times come from the display rate, which may differ from the recording's.")
        return np.arange(count, dtype=np.float64) / rate
    return np.zeros(1) if count == 1 else None


def _mask(dataset: Dataset, count: int, problems: list[str]) -> tuple[tuple[int, ...], tuple[float, float]]:
    """Mask frames (0-based) and the wanted mask shift (rows, columns)."""
    for item in attribute(dataset, "MaskSubtractionSequence") or []:
        operation = str(item.get("MaskOperation", "")).upper()
        if operation in ("TID", "REV_TID"):
            problems.append(
                "The file asks for time-interval differences, which show change and not contrast; other "
                "mask frames "
                "are needed for amounts."
            )
            continue
        numbers = np.atleast_1d(np.asarray(attribute(item, "MaskFrameNumbers") or [], dtype=int)) - 1
        frames = tuple(int(n) for n in numbers if 0 <= n < count)
        if len(frames) < len(numbers):
            problems.append("The file names mask frames that it does not hold.")
        shift = np.asarray(attribute(item, "MaskSubPixelShift") or [0.0, 0.0], dtype=np.float64)
        if shift.shape == (2,) and np.any(shift):
            problems.append(f"The file wants its mask shifted by {shift[0]:g} rows and {shift[1]:g} columns.")
        if frames:
            return frames, (float(shift[0]), float(shift[1])) if shift.shape == (2,) else (0.0, 0.0)
    return (), (0.0, 0.0)


def _orientation(
    dataset: Dataset, angles: NDArray[np.float64] | None, problems: list[str]
) -> tuple[int, bool, bool, bool]:
    """Quarter turns and flip to undo, then whether columns and rows must be reversed."""
    turn = round(number_of(dataset, "FieldOfViewRotation") or 0.0)
    flips = values_of(dataset, "FieldOfViewHorizontalFlip")
    unflip = bool(flips) and str(flips[0]).upper() == "YES"
    if turn % 90:
        problems.append(f"A detector rotation of {turn} degrees is no quarter turn and was not undone.")
        turn = 0
    if turn % 360 or unflip:
        problems.append("The detector picture's rotation and flip were undone.")
        # Rotation was clockwise and came before the flip; rot90 turns counter-clockwise.
        return (turn // 90) % 4, unflip, True, False
    letters = attribute(dataset, "PatientOrientation")
    if letters is None or len(letters) != 2 or angles is None:
        return 0, False, True, False
    p, s = np.radians(angles[0])
    right = np.array([np.cos(p), np.sin(p), 0])
    down = np.array([np.sin(p) * np.sin(s), -np.cos(p) * np.sin(s), -np.cos(s)])
    along_x, along_y = (
        _letter_direction(str(text)) @ axis for text, axis in zip(letters, (right, down), strict=True)
    )
    # The detector's side is the custom; letters that point the other way mean a picture seen from the source.
    return 0, False, bool(along_x >= 0), bool(along_y < 0)


def _letter_direction(text: str) -> NDArray[np.float64]:
    """The LPS direction of orientation letters, the first weighing most ("LP" is left, then posterior)."""
    total = np.zeros(3)
    for i, letter in enumerate(text.upper()):
        total += np.array(_LETTERS.get(letter, (0, 0, 0)), dtype=np.float64) / (i + 1)
    return total

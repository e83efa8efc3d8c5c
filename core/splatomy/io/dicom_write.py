"""Writer of synthetic DICOM XA runs, classic and enhanced, for tests and exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from splatomy.io.atomic import atomic_path

_CLASSIC = UID("1.2.840.10008.5.1.4.1.1.12.1")
_ENHANCED = UID("1.2.840.10008.5.1.4.1.1.12.1.1")
_START = datetime(2000, 1, 1, 12, 0, 0)


@dataclass(frozen=True)
class XaRun:
    """A run to write.

    frames: (T, H, W) unsigned integers as seen from the source; stored with reversed columns, as
        pictures of the detector's side.
    primary_deg, secondary_deg: (T,) positioner angles, LAO and cranial positive.
    pixel_mm: detector pitch (x, y). times_s: (T,) seconds.
    relation, sign: pixel intensity relationship; ``sign`` -1 = larger values mean fewer X-rays.
    increments: how classic objects store moving angles; vendors do all three.
    mask_frames: 0-based. mask_operation: AVG_SUB, TID or REV_TID. rescale: slope and intercept.
    started_s: seconds after a fixed fictitious date, which orders the runs of a study.
    """

    frames: NDArray[np.unsignedinteger[Any]]
    primary_deg: NDArray[np.floating]
    secondary_deg: NDArray[np.floating]
    sad_mm: float | None
    sid_mm: float | None
    pixel_mm: tuple[float, float] | None
    times_s: NDArray[np.floating] | None
    relation: Literal["LIN", "LOG", "DISP"] | None = "LIN"
    sign: int | None = 1
    photometric: str = "MONOCHROME2"
    increments: Literal["relative", "absolute", "steps"] = "relative"
    mask_frames: Sequence[int] = ()
    mask_operation: str = "AVG_SUB"
    mask_shift_px: tuple[float, float] = (0.0, 0.0)
    rescale: tuple[float, float] | None = None
    patient_name: str = ""
    started_s: float = 0.0


def write_xa(path: Path | str, run: XaRun, *, enhanced: bool = False, **extra: Any) -> None:
    """Writes a run as one multi-frame file, atomically; ``extra`` sets further top-level attributes."""
    dataset = _common(run, _ENHANCED if enhanced else _CLASSIC)
    if enhanced:
        _add_enhanced(dataset, run)
    else:
        _add_classic(dataset, run)
    for keyword, value in extra.items():
        setattr(dataset, keyword, value)
    stored = np.ascontiguousarray(run.frames[:, :, ::-1])
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _common(run: XaRun, sop_class: UID) -> Dataset:
    """Identification, image and mask attributes."""
    count, height, width = run.frames.shape
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = "XA"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    dataset.PatientName, dataset.PatientID, dataset.PatientPosition = run.patient_name, "", "HFS"
    started = _START + timedelta(seconds=run.started_s)
    dataset.AcquisitionDate, dataset.AcquisitionTime = (
        started.strftime("%Y%m%d"),
        started.strftime("%H%M%S.%f"),
    )
    bits = run.frames.dtype.itemsize * 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, run.photometric
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = height, width, count
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    if run.mask_frames or run.mask_operation != "AVG_SUB":
        mask = Dataset()
        mask.MaskOperation = run.mask_operation
        if run.mask_frames:
            mask.MaskFrameNumbers = [int(f) + 1 for f in run.mask_frames]
            mask.MaskSubPixelShift = list(run.mask_shift_px)
        dataset.MaskSubtractionSequence = DicomSequence([mask])
    return dataset


def _meaning(dataset: Dataset, run: XaRun) -> None:
    if run.relation is not None:
        dataset.PixelIntensityRelationship = run.relation
    if run.sign is not None:
        dataset.PixelIntensityRelationshipSign = run.sign


def _add_classic(dataset: Dataset, run: XaRun) -> None:
    """Geometry and times as top-level attributes."""
    _meaning(dataset, run)
    if run.rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = *run.rescale, "US"
    moving = bool(np.ptp(run.primary_deg) > 0 or np.ptp(run.secondary_deg) > 0)
    dataset.PositionerMotion = "DYNAMIC" if moving else "STATIC"
    for name, angles in (("Primary", run.primary_deg), ("Secondary", run.secondary_deg)):
        setattr(dataset, f"Positioner{name}Angle", _decimal(angles[0]))
        if moving:
            stored = {
                "relative": angles - angles[0],
                "absolute": angles,
                "steps": np.diff(angles, prepend=angles[0]),
            }[run.increments]
            setattr(dataset, f"Positioner{name}AngleIncrement", [_decimal(a) for a in stored])
    if run.sid_mm is not None:
        dataset.DistanceSourceToDetector = _decimal(run.sid_mm)
    if run.sad_mm is not None:
        dataset.DistanceSourceToPatient = _decimal(run.sad_mm)
    if run.pixel_mm is not None:
        dataset.ImagerPixelSpacing = [_decimal(run.pixel_mm[1]), _decimal(run.pixel_mm[0])]
    if run.times_s is not None and len(run.times_s) > 1:
        steps = np.diff(run.times_s) * 1000
        if np.ptp(steps) < 1e-6:
            dataset.FrameTime = _decimal(steps[0])
            dataset.FrameIncrementPointer = 0x00181063
        else:
            dataset.FrameTimeVector = [0.0, *(_decimal(s) for s in steps)]
            dataset.FrameIncrementPointer = 0x00181065


def _add_enhanced(dataset: Dataset, run: XaRun) -> None:
    """Geometry and times in functional groups."""
    shared = Dataset()
    geometry, properties = Dataset(), Dataset()
    if run.sid_mm is not None:
        geometry.DistanceSourceToDetector = run.sid_mm
    if run.sad_mm is not None:
        geometry.DistanceSourceToIsocenter = run.sad_mm
    if run.pixel_mm is not None:
        properties.ImagerPixelSpacing = [_decimal(run.pixel_mm[1]), _decimal(run.pixel_mm[0])]
    _meaning(properties, run)
    _meaning(dataset, run)
    shared.XRayGeometrySequence = DicomSequence([geometry])
    shared.FramePixelDataPropertiesSequence = DicomSequence([properties])
    if run.rescale is not None:
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = *run.rescale, "US"
        shared.PixelValueTransformationSequence = DicomSequence([transform])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    frames = []
    for i in range(len(run.frames)):
        item, position, content = Dataset(), Dataset(), Dataset()
        position.PositionerPrimaryAngle = float(run.primary_deg[i])
        position.PositionerSecondaryAngle = float(run.secondary_deg[i])
        item.PositionerPositionSequence = DicomSequence([position])
        if run.times_s is not None:
            moment = _START + timedelta(seconds=run.started_s + float(run.times_s[i]))
            content.FrameAcquisitionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
            item.FrameContentSequence = DicomSequence([content])
        frames.append(item)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(frames)


def _decimal(value: Any) -> float:
    """A number that fits DICOM's 16-character decimal strings."""
    return float(f"{float(value):.9g}")

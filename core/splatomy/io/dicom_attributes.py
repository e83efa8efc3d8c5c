"""Values of DICOM attributes wherever an object keeps them, and what stands for pixel attributes it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

_PIXELS = 0x7FE00010
_UNKNOWN_LENGTH = 0xFFFFFFFF
_SHORT = 64
"""Longer values are left on disk when only the length of the pixels is asked for, bytes."""


def attribute(dataset: Dataset, keyword: str) -> Any:
    """The value of an attribute, None when absent or empty."""
    value = dataset.get(keyword)
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def _group_item(dataset: Dataset, keyword: str) -> Any:
    """An attribute inside one functional group item: looked for in each of its macro sequences."""
    for element in dataset:
        if element.VR == "SQ" and element.value:
            value = attribute(element.value[0], keyword)
            if value is not None:
                return value
    return None


def values_of(dataset: Dataset, keyword: str) -> list[Any]:
    """The attribute per frame of an enhanced object, else once from the shared groups or the top level."""
    frames = attribute(dataset, "PerFrameFunctionalGroupsSequence") or []
    found = [_group_item(item, keyword) for item in frames]
    if found and all(v is not None for v in found):
        return found
    for item in attribute(dataset, "SharedFunctionalGroupsSequence") or []:
        value = _group_item(item, keyword)
        if value is not None:
            return [value]
    value = attribute(dataset, keyword)
    return [] if value is None else [value]


def number_of(dataset: Dataset, *keywords: str) -> float | None:
    """The first of the attributes that is present, as a number."""
    for keyword in keywords:
        values = values_of(dataset, keyword)
        if values:
            return float(values[0])
    return None


def pixel_defaults(dataset: Dataset, path: Path, problems: list[str]) -> dict[str, Any]:
    """What stands for the pixel attributes that a file lacks, by the names of pydicom's decoding options.

    A file without a number of frames holds as many as its plain pixels fill; each assumption is reported.
    """
    allocated = int(attribute(dataset, "BitsAllocated") or 16)
    assumed: dict[str, tuple[str, Any]] = {
        "PhotometricInterpretation": ("photometric_interpretation", "MONOCHROME2"),
        "SamplesPerPixel": ("samples_per_pixel", 1),
        "BitsAllocated": ("bits_allocated", allocated),
        "BitsStored": ("bits_stored", allocated),
        "PixelRepresentation": ("pixel_representation", 0),
    }
    if attribute(dataset, "NumberOfFrames") is None:
        count = _frames_by_length(dataset, path, allocated)
        if count > 1:
            # A single picture need not say so.
            assumed["NumberOfFrames"] = ("number_of_frames", count)
    lacking = {keyword: assumed[keyword] for keyword in assumed if attribute(dataset, keyword) is None}
    if lacking:
        stated = ", ".join(f"{keyword} {value}" for keyword, (_, value) in lacking.items())
        problems.append(f"The DICOM header lacks attributes of the pixels; assumed: {stated}.")
    return dict(lacking.values())


def _frames_by_length(dataset: Dataset, path: Path, allocated: int) -> int:
    """How many frames the pixels of a file fill; 1 for packed ones, whose length says nothing."""
    header = pydicom.dcmread(path, defer_size=_SHORT, specific_tags=[_PIXELS], force=True)
    pixels = header.get_item(_PIXELS, keep_deferred=True)
    length = getattr(pixels, "length", _UNKNOWN_LENGTH)
    frame_bytes = int(dataset.Rows) * int(dataset.Columns) * max(allocated // 8, 1)
    return 1 if length == _UNKNOWN_LENGTH or frame_bytes <= 0 else max(1, int(length) // frame_bytes)

"""The words that name a patient in DICOM headers, to be kept out of what a run records.

They are compared and forgotten: no caller may store or show them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pydicom

from splatomy.io.dicom_xa import is_dicom, quiet_pydicom

PLACEHOLDER = "PATIENT"
"""Stands in a recorded path where the patient's words stood."""

_ATTRIBUTES = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "PatientID", "OtherPatientIDs", "PatientBirthDate",
)  # fmt: skip
_SHORT = 3
"""Words up to this length are only taken as words of their own: Li would be in every clip."""


def patient_words(files: Iterable[Path]) -> frozenset[str]:
    """Words of the patients' names, identifiers and birth dates in the DICOM files among ``files``."""
    texts: list[str] = []
    for path in files:
        if not is_dicom(path):
            continue
        try:
            with quiet_pydicom():
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_ATTRIBUTES))
                texts += [str(header.get(name, "")) for name in _ATTRIBUTES]
        except Exception:  # noqa: BLE001 - damaged files raise anything, and texts may quote the header
            continue
    words = {word for text in texts for word in re.split(r"[\W_]+", text) if len(word) > 1}
    return frozenset({*words, *map(_plain, words)})


def without_patient(text: str, words: frozenset[str]) -> str:
    """The text with every one of the words, in either case, replaced by ``PLACEHOLDER``."""
    if words:
        # Some file systems take letters and their accents apart.
        text = unicodedata.normalize("NFC", text)
    for word in sorted(words, key=lambda w: (-len(w), w)):
        pattern = re.escape(word)
        if len(word) <= _SHORT:
            pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
        text = re.sub(pattern, PLACEHOLDER, text, flags=re.IGNORECASE)
    return text


def _plain(word: str) -> str:
    """The word without accents, as file names often have it."""
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))

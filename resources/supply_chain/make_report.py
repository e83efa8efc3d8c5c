"""The licence report of an environment, from its software bill of materials.

`make supply-chain` calls it after cyclonedx-py: ``make_report.py SBOM REPORT LIBRARIES``, where LIBRARIES is
the folder that packages are installed in.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COPYLEFT = re.compile(r"\b(A?GPL|LGPL|GNU)", re.IGNORECASE)
BUNDLED = re.compile(r"^lib(x264|x265|xvidcore|avcodec|Qt6Core)\b", re.IGNORECASE)
REFUSED = re.compile(r"non-?commercial|\bCC-BY-NC|SSPL|\bBUSL", re.IGNORECASE)
"""Licences that no dependency may have."""

# Packages whose metadata names no licence, or no clear one, with what their licence file says.
READ_BY_HAND = {
    "PyQt6-Qt6": "LGPL-3.0-only",
    "asttokens": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "ray": "Apache-2.0",
    "transformers": "Apache-2.0",
}
WHY_COPYLEFT = {
    "PyQt6": "only the desktop app loads it (extra gui): who ships both together ships under the GPL",
    "PyQt6-Qt6": "only the desktop app loads it; Qt itself, replaceable shared libraries",
}


def licence_of(component: Mapping[str, Any]) -> str:
    """What the package says of its licence, in few words."""
    found: list[str] = []
    for entry in component.get("licenses", ()):
        licence = entry.get("license") or {}
        text = entry.get("expression") or licence.get("id") or licence.get("name") or ""
        text = text.split("\n")[0].rpartition(":: ")[2].strip()
        if text and text not in found:
            found.append(text)
    return ", ".join(found) or READ_BY_HAND.get(component["name"], "")


def bundled_libraries(installed: Path) -> dict[str, list[str]]:
    """Shared libraries of other licences that packages bring along, by the folder they lie in."""
    found: dict[str, set[str]] = {}
    for path in installed.rglob("*.so*"):
        match = BUNDLED.match(path.name.split("-")[0].split(".")[0])
        if match:
            found.setdefault(path.relative_to(installed).parts[0], set()).add(match[0])
    return {name: sorted(libraries) for name, libraries in sorted(found.items())}


def main(sbom: Path, report: Path, installed: Path) -> None:
    """Writes the report.

    Raises:
        SystemExit: a package of no known licence, or of one that is refused.
    """
    components = json.loads(sbom.read_text(encoding="utf-8"))["components"]
    rows = sorted((c["name"], c["version"], licence_of(c)) for c in components)
    unknown = [name for name, _, licence in rows if not licence]
    refused = [name for name, _, licence in rows if REFUSED.search(licence)]
    if unknown or refused:
        sys.exit(
            f"No licence is known of: {', '.join(unknown) or 'none'}. Refused: "
            f"{', '.join(refused) or 'none'}. Read their licence files; drop them or fill READ_BY_HAND."
        )
    lines = [
        "# Licences of everything that is installed",
        "",
        f"{len(rows)} packages: what `make env-dev` installs, tests and desktop app included. Made by "
        "`make supply-chain` from `sbom.cdx.json`.",
        "",
        "## Copyleft",
        "",
        "| package | licence | where |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {licence} | {WHY_COPYLEFT.get(name, 'see the package')} |"
        for name, _, licence in rows
        if COPYLEFT.search(licence)
    ]
    lines += [
        "",
        "Wheels also bring shared libraries whose licence is not the package's own. On this platform:",
        "",
        "| in | libraries | licence |",
        "| --- | --- | --- |",
    ]
    words = {"libx264": "GPL-2.0-or-later", "libx265": "GPL-2.0-or-later", "libQt6Core": "LGPL-3.0-only"}
    lines += [
        f"| {folder} | {', '.join(names)} | "
        + ", ".join(
            dict.fromkeys(words.get(name, "LGPL-2.1-or-later or the GPL of its codecs") for name in names)
        )
        + " |"
        for folder, names in bundled_libraries(installed).items()
    ]
    lines += [
        "",
        "Splatomy links none of them itself. Who passes on an environment with PyAV's own wheel passes on "
        "the x264 and x265 encoders too, under the GPL; PyAV built on an LGPL build of FFmpeg avoids that "
        "(`pip install av --no-binary av`): reading video needs neither, and films "
        "are then written as MPEG-4 part 2.",
        "",
        "## All packages",
        "",
        "| package | version | licence |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {name} | {version} | {licence} |" for name, version, licence in rows]
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:4]))

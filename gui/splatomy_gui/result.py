"""What is inspected and exported: a run, or a finished volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """What is inspected and exported: a run folder with its record, or a finished volume's file."""

    path: Path
    is_run: bool
    record: dict[str, Any]

    @property
    def metric(self) -> bool:
        """True if lengths are millimetres; False forbids every mm label."""
        return self.record.get("metric") is not False

    @property
    def version(self) -> tuple[Path, object]:
        """Another value once the run was trained further, though it lies where it was."""
        return self.path, self.record.get("end")


def read_result(path: Path) -> Result:
    """The result in a run folder.

    Raises:
        InputError: its record is damaged.
    """
    from splatomy.io.run import RunFolder

    return Result(path, True, RunFolder(path).record())

"""Camera poses that another program writes while the frames arrive, such as robot kinematics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.geometry.rigid import inverse
from splatomy.io.options import PoseConvention
from splatomy.io.poses import poses_from_world_from_camera, quaternion_matrices

_STAMPED_COLUMNS = 8
_MATRIX_COLUMNS = (12, 16)


class GrowingPoses:
    """A text file of camera-to-world poses that may grow: one row per frame, or with time stamps.

    Rows of 8 numbers are (time in s from the first frame, tx ty tz, qx qy qz qw); rows of 12 or 16 are
    matrices, one per frame. The first pose that is used becomes the world. A row that is still being
    written is left for the next time.
    """

    def __init__(self, path: Path, convention: PoseConvention | None, step_s: float) -> None:
        """step_s: time between frames; a pose further than half of it from a frame is not its own.

        Raises:
            InputError: there is no such file.
        """
        if not path.is_file():
            raise InputError(f"{path.name} does not exist; expected a file of camera poses: check --poses.")
        self._path, self._convention, self._step_s = path, convention or "opencv", step_s
        self._offset = 0
        self._stamps: list[float] = []
        self._cameras: list[NDArray[np.float64]] = []
        self._world: NDArray[np.float64] | None = None

    def of(self, number: int, time_s: float) -> NDArray[np.float64] | None:
        """camera_from_world (4, 4) of a frame, or None while the file has none for it.

        Raises:
            InputError: a row is no pose.
        """
        self._read_on()
        if not self._cameras:
            return None
        if self._stamps:
            place = int(np.argmin(np.abs(np.array(self._stamps) - time_s)))
            if abs(self._stamps[place] - time_s) > 0.5 * self._step_s:
                return None
        elif number < len(self._cameras):
            place = number
        else:
            return None
        if self._world is None:
            self._world = inverse(self._cameras[place])
        return np.asarray(self._cameras[place] @ self._world)

    def _read_on(self) -> None:
        """Takes in the whole lines that were added since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").replace(",", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                self._add(line)

    def _add(self, line: str) -> None:
        try:
            row = np.array([float(word) for word in line.split()])
        except ValueError:
            row = np.zeros(0)
        if len(row) == _STAMPED_COLUMNS:
            matrix = quaternion_matrices(row[None, 1:4], row[None, 4:8], self._path)
            self._stamps.append(float(row[0]))
        elif len(row) in _MATRIX_COLUMNS:
            matrix = row.reshape(1, -1, 4)
        else:
            raise InputError(
                f"{self._path.name} has a row of {len(row)} numbers; expected 8 (time, translation, "
                "quaternion), 12 or 16 (a matrix): export it again."
            )
        self._cameras.append(poses_from_world_from_camera(matrix, self._convention, self._path)[0])

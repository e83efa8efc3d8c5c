"""Lens calibrations of one or two eyes: OpenCV YAML, XML and JSON, ROS YAML, StereoMIS ini, plain text."""

from __future__ import annotations

import configparser
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from splatomy.errors import InputError
from splatomy.io.plain_tree import xml_tree, yaml_tree

CALIBRATION_SUFFIXES = (".ini", ".yaml", ".yml", ".xml", ".json", ".txt")

_MAX_FILE_BYTES = 4 * 2**20
_LARGEST_OFFSET = 0.15
"""Principal points further than this share of the picture from its middle belong to another picture."""

_METRES = 0.1

_LEFT_K = ("m1", "k1", "m_l", "k_l", "kl", "m_left", "k_left", "cameramatrix1", "camera_matrix_1",
           "camera_matrix_left", "left_camera_matrix", "camera_matrix", "cameramatrix", "intrinsics",
           "intrinsic_matrix", "k", "m", "mtx")  # fmt: skip
_RIGHT_K = ("m2", "k2", "m_r", "k_r", "kr", "m_right", "k_right", "cameramatrix2", "camera_matrix_2",
            "camera_matrix_right", "right_camera_matrix")  # fmt: skip
_LEFT_D = ("d1", "d_l", "dl", "d_left", "distcoeffs1", "dist_coeffs_1", "dist_coeffs_left",
           "left_distortion", "distortion_coefficients", "dist_coeffs", "dist_coeff", "distcoeffs",
           "distortion", "d", "dist")  # fmt: skip
_RIGHT_D = ("d2", "d_r", "dr", "d_right", "distcoeffs2", "dist_coeffs_2", "dist_coeffs_right",
            "right_distortion")  # fmt: skip
_SIZES = (("image_width", "image_height"), ("width", "height"), ("res_x", "res_y"), ("w", "h"))
_SIZE_PAIRS = ("image_size", "imagesize", "size", "resolution")


@dataclass(frozen=True)
class Lens:
    """One eye: intrinsics (3, 3) px with pixel centres at integers, distortion (D,) in OpenCV's order."""

    intrinsics: NDArray[np.float64]
    distortion: NDArray[np.float64]

    @property
    def distorts(self) -> bool:
        """True if straight lines are bent."""
        return bool(np.any(self.distortion != 0))

    def scaled(self, factor: float) -> Lens:
        """The lens for pictures ``factor`` times as large."""
        k = self.intrinsics.copy()
        k[0, 1] *= factor
        k[[0, 1], [0, 1]] *= factor
        # With centres at integers, the picture's corner lies at -1/2.
        k[:2, 2] = (k[:2, 2] + 0.5) * factor - 0.5
        return replace(self, intrinsics=k)


@dataclass(frozen=True)
class Calibration:
    """A calibrated endoscope.

    right_from_left: (4, 4) rigid, mm, x_right = R x_left + T, or None. size_px: width and height of the
    pictures that it holds for, or None when the file does not say.
    """

    left: Lens
    right: Lens | None = None
    right_from_left: NDArray[np.float64] | None = None
    size_px: tuple[int, int] | None = None
    name: str = "calibration"

    @property
    def baseline_mm(self) -> float | None:
        """Distance of the two eyes, mm."""
        if self.right_from_left is None:
            return None
        return float(np.linalg.norm(self.right_from_left[:3, 3]))

    def fitted(self, width_px: int, height_px: int) -> tuple[Calibration, str | None]:
        """The calibration for pictures of this size, and a sentence if it had to be scaled.

        Raises:
            InputError: it was made for other pictures.
        """
        if self.size_px is None:
            return self._centred(width_px, height_px), None
        if self.size_px == (width_px, height_px):
            return self, None
        factor = width_px / self.size_px[0]
        if abs(height_px / self.size_px[1] / factor - 1) > 0.01:
            raise self._misfit(f"{self.size_px[0]}x{self.size_px[1]}", width_px, height_px)
        right = None if self.right is None else self.right.scaled(factor)
        scaled = replace(self, left=self.left.scaled(factor), right=right, size_px=(width_px, height_px))
        return scaled, (
            f"{self.name} holds for {self.size_px[0]}x{self.size_px[1]} pictures and was scaled by "
            f"{factor:.4g}."
        )

    def _centred(self, width_px: int, height_px: int) -> Calibration:
        """The calibration, if its principal points lie near the middle of the picture."""
        lenses = [self.left] if self.right is None else [self.left, self.right]
        centres = np.stack([lens.intrinsics[:2, 2] for lens in lenses])
        off = np.abs(centres / [width_px, height_px] - 0.5)
        if off.max() > _LARGEST_OFFSET:
            guess = 2 * centres.mean(0) + 1
            raise self._misfit(
                f"about {guess[0]:.0f}x{guess[1]:.0f} (by its principal point)", width_px, height_px
            )
        return replace(self, size_px=(width_px, height_px))

    def _misfit(self, size: str, width_px: int, height_px: int) -> InputError:
        return InputError(
            f"{self.name} was made for pictures of {size} px but the frames are {width_px}x{height_px}; "
            "expected "
            "a calibration of these frames: calibrate the endoscope at this size, or go without "
            "--calibration."
        )


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        InputError: missing, unreadable, or without a camera matrix.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a calibration file: check the path.")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"{path.name} is larger than 4 MB; expected a calibration file: choose another.")
    text = path.read_bytes().decode("utf-8", errors="replace").lstrip("\ufeff")
    if path.suffix.lower() == ".ini":
        return _stereomis(text, path)
    if path.suffix.lower() in (".txt", ""):
        return _from_table({"k": _text_matrix(text, path)}, path)
    return _from_table(_tree(text, path), path)


def _broken(path: Path) -> InputError:
    return InputError(
        f"{path.name} is no readable calibration; expected OpenCV YAML, XML or JSON, or a StereoMIS ini "
        "file: "
        "export it again."
    )


def _text_matrix(text: str, path: Path) -> NDArray[np.float64]:
    """A camera matrix of 9 (row by row) or 4 (fx, fy, cx, cy) numbers."""
    try:
        numbers = np.array(text.replace(",", " ").replace(";", " ").split(), dtype=np.float64)
    except ValueError:
        raise _broken(path) from None
    if numbers.size == 4:
        fx, fy, cx, cy = numbers
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if numbers.size not in (9, 12, 16):
        raise _broken(path)
    return numbers.reshape(-1, {9: 3, 12: 4, 16: 4}[numbers.size])[:3, :3]


def _tree(text: str, path: Path) -> dict[str, Any]:
    """The content of a structured file as nested dictionaries, lists, numbers and texts."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            value = json.loads(text)
        else:
            value = yaml_tree(text) if suffix in (".yaml", ".yml") else xml_tree(text)
    except (ValueError, RecursionError):
        raise _broken(path) from None
    if not isinstance(value, dict):
        raise _broken(path)
    return value


def _numbers(value: Any) -> NDArray[np.float64] | None:
    """An array of numbers of a list, a matrix or a {rows, cols, data} object; None if it is none."""
    if isinstance(value, Mapping):
        value = value.get("data")
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.size and np.isfinite(array).all() else None


def _from_table(tree: Mapping[str, Any], path: Path) -> Calibration:
    """The calibration of a table by the names that people give to its parts."""
    flat = _flattened(tree)

    def find(names: tuple[str, ...], sizes: tuple[int, ...]) -> NDArray[np.float64] | None:
        for name in names:
            array = _numbers(flat.get(name))
            if array is not None and array.size in sizes:
                return array.ravel()
        return None

    left_k = find(_LEFT_K, (9,))
    if left_k is None and all(key in flat for key in ("fx", "fy", "cx", "cy")):
        fx, fy, cx, cy = (_scalar(flat[key], path) for key in ("fx", "fy", "cx", "cy"))
        left_k = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1])
    if left_k is None:
        raise InputError(
            f"{path.name} holds no camera matrix; expected a 3x3 matrix named M1, K, camera_matrix or the "
            "like, "
            "or fx, fy, cx, cy: add it."
        )
    distortions = (4, 5, 8, 12, 14)
    left = _lens(left_k, find(_LEFT_D, distortions), path)
    right_k = find(_RIGHT_K, (9,))
    right = None if right_k is None else _lens(right_k, find(_RIGHT_D, distortions), path)
    rotation, translation = find(("r", "rotation", "om"), (9, 3)), find(("t", "translation"), (3,))
    pose = None
    if right is not None and rotation is not None and translation is not None:
        pose = _pose(rotation, translation, path)
    return Calibration(left, right, pose, _size(flat), path.name)


def _flattened(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Keys in lower case; the members of nested objects are lifted where no key of theirs exists yet."""
    flat: dict[str, Any] = {str(key).lower(): value for key, value in tree.items()}
    for value in tree.values():
        if isinstance(value, Mapping) and "data" not in value:
            for key, inner in _flattened(value).items():
                flat.setdefault(key, inner)
    return flat


def _size(flat: Mapping[str, Any]) -> tuple[int, int] | None:
    pairs = [(flat.get(a), flat.get(b)) for a, b in _SIZES]
    for name in _SIZE_PAIRS:
        array = _numbers(flat.get(name))
        if array is not None and array.size == 2:
            pairs.append((array.ravel()[0], array.ravel()[1]))
    for width, height in pairs:
        if not isinstance(width, int | float) or not isinstance(height, int | float):
            continue
        if 1 <= width < math.inf and 1 <= height < math.inf:
            return int(width), int(height)
    return None


def _scalar(value: Any, path: Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _broken(path) from None
    return number


def _lens(k: NDArray[np.float64], distortion: NDArray[np.float64] | None, path: Path) -> Lens:
    matrix = k.reshape(3, 3)
    # Matlab and some ini files store the transpose.
    if abs(matrix[0, 2]) < 1e-9 and matrix[2, 0] > 1:
        matrix = matrix.T
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2, 2] > 0):
        raise InputError(
            f"{path.name}: the camera matrix must hold positive focal lengths in px, got {matrix[0, 0]:g} "
            "and "
            f"{matrix[1, 1]:g}: correct it."
        )
    return Lens(matrix / matrix[2, 2], np.zeros(5) if distortion is None else distortion)


def _pose(rotation: NDArray[np.float64], translation: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    matrix = rotation.reshape(3, 3) if rotation.size == 9 else cv2.Rodrigues(rotation)[0]
    # Files keep five or six digits. Larger than one is no entry of a rotation, and would overflow here.
    known = np.isfinite(translation).all() and (np.abs(matrix) < 2).all()
    if not known or np.abs(matrix @ matrix.T - np.eye(3)).max() > 0.02 or np.linalg.det(matrix) < 0:
        raise InputError(
            f"{path.name}: R is no rotation between the two eyes; expected a 3x3 rotation matrix: correct it."
        )
    if 0 < np.linalg.norm(translation) < _METRES:
        raise InputError(
            f"{path.name}: a baseline of {np.linalg.norm(translation):g} looks like metres; expected T in mm "
            "(about 4 to 6 for an endoscope): multiply T by 1000."
        )
    pose = np.eye(4)
    u, _, vt = np.linalg.svd(matrix)
    pose[:3, :3], pose[:3, 3] = u @ vt, translation
    return pose


def _stereomis(text: str, path: Path) -> Calibration:
    """StereoCalibration.ini: [StereoLeft] and [StereoRight] with res_, fc_, cc_, kc_, R_ and T_."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(text)
        lenses = []
        for section in ("StereoLeft", "StereoRight"):
            part = parser[section]
            k = np.array([float(part["fc_x"]), 0, float(part["cc_x"]), 0, float(part["fc_y"]),
                          float(part["cc_y"]), 0, 0, 1], dtype=np.float64)  # fmt: skip
            names = [f"kc_{i}" for i in range(8) if f"kc_{i}" in part]
            distortion = np.array([float(part[n]) for n in names], dtype=np.float64)
            # OpenCV knows 4, 5 or 8 coefficients.
            keep = 8 if len(names) == 8 else min(len(names), 5)
            lenses.append(_lens(k, distortion[:keep] if keep >= 4 else None, path))
        right = parser["StereoRight"]
        rotation = np.array([float(right[f"R_{i}"]) for i in range(9)], dtype=np.float64)
        translation = np.array([float(right[f"T_{i}"]) for i in range(3)], dtype=np.float64)
        left = parser["StereoLeft"]
        size = (int(float(left["res_x"])), int(float(left["res_y"])))
        if min(size) < 1:
            raise ValueError(f"pictures of {size} px")
    except (configparser.Error, KeyError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"{path.name} is no complete StereoMIS calibration; expected sections StereoLeft and StereoRight "
            "with "
            "res_x, res_y, fc_, cc_, kc_, R_0 to R_8 and T_0 to T_2: copy it again."
        ) from None
    return Calibration(lenses[0], lenses[1], _pose(rotation, translation, path), size, path.name)

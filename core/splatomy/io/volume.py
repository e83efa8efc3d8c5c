"""Volumes on disk: NIfTI, NRRD and MHA in, the same plus Slicer sequences out, always LPS inside."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.events import Progress, Task, finish
from splatomy.io.atomic import atomic_path, unwritable
from splatomy.io.volume_header import announced, check_room
from splatomy.scene import Volume

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
MAX_BYTES = 8 * 2**30
"""More decoded bytes than this are refused before anything is allocated."""

_BLOCK_BYTES = 1 << 22
_SEQUENCE_DTYPE = np.dtype("<f4")
_DAMAGE = (
    RuntimeError, MemoryError, OSError, EOFError, ValueError, zlib.error, HeaderDataError, ImageFileError,
)  # fmt: skip
_TIME_KEYS = ("axis 0 index values", "axis 3 index values")


@contextlib.contextmanager
def quiet_itk() -> Iterator[None]:
    """Keeps ITK's warnings off the user's terminal: what matters is raised or reported as a problem."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def has_volume_suffix(path: Path) -> bool:
    """True if the name ends like a volume or stack file that this module reads."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def read_header(path: Path | str) -> sitk.ImageFileReader:
    """The reader of a file whose header alone was read: size, spacing, origin, direction, pixel type.

    Raises:
        InputError: the file is missing, of another kind or damaged.
    """
    file = Path(path)
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"{file} {state}; expected a volume file: check the path.")
    if not has_volume_suffix(file):
        expected = ", ".join(VOLUME_SUFFIXES)
        raise InputError(
            f"{file.name} has an unknown extension; expected one of {expected}: convert the file."
        )
    announced(file)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError:
        raise InputError(
            f"{file.name} has no readable header; expected a complete {_kind(file)} file, "
            f"got {file.stat().st_size} bytes: copy or export it again."
        ) from None
    return reader


def _kind(file: Path) -> str:
    return next(s for s in VOLUME_SUFFIXES if file.name.lower().endswith(s))


def check_bytes(what: str, num_bytes: int, advice: str) -> None:
    """Raises InputError if ``num_bytes`` is more than may be decoded into memory."""
    if num_bytes > MAX_BYTES:
        raise InputError(
            f"{what} needs {num_bytes / 2**30:.1f} GiB decoded; expected at most {MAX_BYTES / 2**30:.0f} "
            "GiB: "
            f"{advice}."
        )


def read_array(
    path: Path | str, start: tuple[int, ...] | None = None, size: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """The pixels in numpy order (last axis first in the file's order), or of one box of them.

    start, size: first index and extent of the box in the file's order (x, y, z); None = everything.
    """
    file = Path(path)
    reader = read_header(file)
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{file.name} holds {reader.GetNumberOfComponents()} values per pixel; expected one grey value: "
            "convert it to grey."
        )
    full = reader.GetSize()
    size = full if size is None else size
    # Integer pixels become float32, so the larger of both counts.
    check_bytes(file.name, int(np.prod([int(n) for n in size])) * 4, "crop it, take fewer frames or bin it")
    check_room(file)
    start = (0,) * len(full) if start is None else start
    try:
        if file.name.lower().endswith((".nii", ".nii.gz")):
            return _read_nifti(file, start, size)
        if tuple(size) != tuple(full):
            reader.SetExtractIndex([int(i) for i in start])
            reader.SetExtractSize([int(n) for n in size])
        with quiet_itk():
            return sitk.GetArrayFromImage(reader.Execute())
    except _DAMAGE:
        raise InputError(
            f"{file.name} could not be read to its end; expected {tuple(full)} pixels, got a file of "
            f"{file.stat().st_size} bytes: copy or export it again."
        ) from None


def _read_nifti(file: Path, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
    """A box of a NIfTI file by nibabel: ITK turns NaN, and the end of a cut-off file, into zeros."""
    box = tuple(slice(int(i), int(i) + int(n)) for i, n in zip(start, size, strict=True))
    proxy: Any = nibabel.Nifti1Image.from_filename(file, mmap=False).dataobj
    # Axes of length one behind the box's are not in ITK's size.
    values = np.asarray(proxy[box + (0,) * (len(proxy.shape) - len(box))]).T
    if values.ndim != len(size) or values.dtype.kind not in "biuf":
        raise ValueError("not the grey values that ITK announced")
    return values


def _affine_lps(header: sitk.ImageFileReader | sitk.Image) -> NDArray[np.float64]:
    """Voxel index -> LPS mm, (4, 4), of an ITK header's first three axes."""
    axes = header.GetDimension()
    direction = np.array(header.GetDirection()).reshape(axes, axes)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(header.GetSpacing()[:3])
    affine[:3, 3] = header.GetOrigin()[:3]
    return affine


def read_volume(path: Path | str) -> Volume:
    """A 3D volume with its affine in LPS mm, whatever frame the file's format uses.

    Raises:
        InputError: not a complete 3D grey volume, or too large.
    """
    file = Path(path)
    reader = read_header(file)
    size = reader.GetSize()
    if len(size) != 3:
        raise InputError(
            f"{file.name} has {len(size)} dimensions; expected a 3D volume, got size {tuple(size)}: "
            "open a 4D file as a sequence or export one time point."
        )
    values = read_array(file).transpose(2, 1, 0)
    return Volume(np.ascontiguousarray(values, dtype=np.float32), _affine_lps(reader))


def _image(values: NDArray[Any], affine_mm: NDArray[np.float64]) -> sitk.Image:
    """An ITK image of (I, J, K) values; ITK writes the RAS affine of NIfTI from the LPS one itself."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine_mm[:3, :3], axis=0)
    direction = affine_mm[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise ValueError("affine_mm has shear, which image files cannot hold")
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine_mm[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def resampled(volume: Volume, grid: Grid, *, nearest: bool = False) -> NDArray[np.float32]:
    """The values at the voxel centres of another grid, (I, J, K); NaN where the volume has no voxel.

    nearest: those of the nearest voxel, for labels and for values with unknown (NaN) neighbours; else they
    are interpolated linearly between eight voxels.
    """
    image = _image(volume.values, volume.affine_mm)
    place = _image(np.broadcast_to(np.uint8(0), (1, 1, 1)), grid.affine_mm)
    made = sitk.Resample(
        image,
        [int(n) for n in grid.shape],
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        place.GetOrigin(),
        place.GetSpacing(),
        place.GetDirection(),
        float("nan"),
        sitk.sitkFloat32,
    )
    return np.ascontiguousarray(sitk.GetArrayViewFromImage(made).transpose(2, 1, 0))


def write_image(path: Path | str, image: sitk.Image) -> None:
    """Writes an ITK image atomically, compressed where the format can."""
    with atomic_path(path) as temporary:
        try:
            with quiet_itk():
                sitk.WriteImage(image, str(temporary), useCompression=True)
                _check_whole(temporary, image)
        except (RuntimeError, EOFError, zlib.error) as error:
            raise unwritable(Path(path), error) from None


def _check_whole(file: Path, image: sitk.Image) -> None:
    """Reads what was written to its end, since ITK does not tell of a disk that became full meanwhile.

    Raises:
        RuntimeError, EOFError, zlib.error, gzip.BadGzipFile: it is not whole.
    """
    if not file.name.endswith(".gz"):
        sitk.ReadImage(str(file))
        return
    length = 0
    with gzip.open(file) as content:
        while block := content.read(_BLOCK_BYTES):
            length += len(block)
    if length < sitk.GetArrayViewFromImage(image).nbytes:
        raise EOFError(f"{length} bytes were written")


def write_volume(path: Path | str, volume: Volume) -> None:
    """Writes a volume atomically as .nii.gz, .nii, .nrrd or .mha; SimpleITK and nibabel agree on its place.

    Raises:
        InputError: the extension is unknown.
    """
    file = Path(path)
    if not has_volume_suffix(file):
        raise InputError(
            f"{file.name} has an unknown extension; expected one of {', '.join(VOLUME_SUFFIXES)}: "
            "choose another name."
        )
    write_image(file, _image(volume.values, volume.affine_mm))


def _sequence_header(times_s: NDArray[np.float64], grid: Grid, encoding: str) -> bytes:
    """The NRRD header of a Slicer volume sequence (time axis first, as every Slicer version reads it)."""

    def vector(v: NDArray[np.float64]) -> str:
        return "(" + ",".join(repr(float(x)) for x in v) + ")"

    directions = " ".join(vector(grid.affine_mm[:3, axis]) for axis in range(3))
    lines = [
        "NRRD0005",
        "type: float",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {len(times_s)} {grid.shape[0]} {grid.shape[1]} {grid.shape[2]}",
        f"space directions: none {directions}",
        "kinds: list domain domain domain",
        'labels: "time" "" "" ""',
        'units: "s" "" "" ""',
        "endian: little",
        f"encoding: {encoding}",
        f"space origin: {vector(grid.affine_mm[:3, 3])}",
        "measurement frame: (1,0,0) (0,1,0) (0,0,1)",
        "DataNodeClassName:=vtkMRMLScalarVolumeNode",
        "axis 0 index type:=numeric",
        "axis 0 index values:=" + " ".join(f"{t:.9g}" for t in times_s),
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


def write_sequence(
    path: Path | str,
    volumes: Iterator[NDArray[np.floating]],
    times_s: NDArray[np.floating],
    grid: Grid,
    *,
    encoding: str = "gzip",
) -> None:
    """``sequence_file`` without its events."""
    finish(sequence_file(path, volumes, times_s, grid, encoding=encoding))


def sequence_file(
    path: Path | str,
    volumes: Iterator[NDArray[np.floating]],
    times_s: NDArray[np.floating],
    grid: Grid,
    *,
    encoding: str = "gzip",
) -> Task[None]:
    """Writes (I, J, K) volumes, one per time, as a Slicer sequence ``.seq.nrrd``, atomically.

    Slicer wants the values of one voxel side by side in time, but the volumes come one after the
    other: they are staged in a temporary file and transposed slab by slab, so memory holds about
    two volumes whatever their number.

    Raises:
        ValueError: a volume has another shape than the grid, or their number is not that of the times.
    """
    times = np.asarray(times_s, dtype=np.float64)
    total = 2 * len(times)
    with atomic_path(path) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as stage:
        count = 0
        for values in volumes:
            if values.shape != grid.shape:
                raise ValueError(f"volume {count} must have shape {grid.shape}, got {values.shape}")
            stage.write(np.asarray(values, dtype=_SEQUENCE_DTYPE).tobytes(order="F"))
            count += 1
            yield Progress("sequence", count, total)
        if count != len(times):
            raise ValueError(f"times_s must have one entry per volume, got {len(times)} for {count} volumes")
        stage.flush()
        with temporary.open("wb") as file:
            file.write(_sequence_header(times, grid, encoding))
            num_voxels = int(np.prod(grid.shape))
            if encoding == "gzip":
                # Level 1: the values are noisy floats, higher levels cost minutes and gain percents.
                with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
                    yield from _interleave(stage, packed, count, num_voxels)
            else:
                yield from _interleave(stage, file, count, num_voxels)


def _interleave(stage: IO[bytes], out: Any, num_times: int, num_voxels: int) -> Task[None]:
    """Writes the staged (T, V) values as (V, T), reading at most one volume's worth at a time."""
    item = _SEQUENCE_DTYPE.itemsize
    slab = max(1, num_voxels // max(num_times, 1))
    for first in range(0, num_voxels, slab):
        length = min(slab, num_voxels - first)
        block = np.empty((num_times, length), dtype=_SEQUENCE_DTYPE)
        for t in range(num_times):
            stage.seek((t * num_voxels + first) * item)
            block[t] = np.frombuffer(stage.read(length * item), dtype=_SEQUENCE_DTYPE)
        out.write(np.ascontiguousarray(block.T).tobytes())
        done = num_times + (first + length) * num_times // num_voxels
        yield Progress("sequence", done, 2 * num_times)


def is_volume_4d(path: Path | str) -> bool:
    """True if the file holds a volume per time: a Slicer sequence, or four axes.

    Raises:
        InputError: the header cannot be read.
    """
    reader = read_header(path)
    axes = len(reader.GetSize())
    return axes == 4 or (axes == 3 and reader.GetNumberOfComponents() > 1)


def has_time_unit(path: Path | str) -> bool:
    """True if a 4D file says what its times are in seconds: index values, or NIfTI's unit of time."""
    reader = read_header(path)
    keys = reader.GetMetaDataKeys()
    if any(key in keys for key in _TIME_KEYS):
        return True
    # Bits 3 to 5 of xyzt_units: 8 s, 16 ms, 24 us, which ITK turns into seconds.
    return "xyzt_units" in keys and int(float(reader.GetMetaData("xyzt_units"))) & 0x38 in (8, 16, 24)


def read_volume_4d(path: Path | str) -> tuple[NDArray[np.float32], NDArray[np.float64], Grid]:
    """Values (T, I, J, K), times (T,) s and grid of a .seq.nrrd sequence or a 4D NIfTI, NRRD or MHA file.

    Times come from the sequence's index values, else from the fourth axis' spacing.

    Raises:
        InputError: not a complete 4D grey volume, or too large.
    """
    file = Path(path)
    reader = read_header(file)
    # ITK takes the "list" axis of a Slicer sequence for the components of a 3D vector image.
    if len(reader.GetSize()) == 3 and reader.GetNumberOfComponents() > 1:
        shape = reader.GetSize()
        check_bytes(file.name, int(np.prod(shape)) * reader.GetNumberOfComponents() * 4, "take fewer times")
        check_room(file)
        try:
            with quiet_itk():
                array = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError:
            raise InputError(
                f"{file.name} could not be read to its end; expected {reader.GetNumberOfComponents()} "
                "volumes "
                f"of {tuple(shape)} voxels, got {file.stat().st_size} bytes: export it again."
            ) from None
        values = array.transpose(3, 2, 1, 0)
    elif len(reader.GetSize()) == 4:
        shape = reader.GetSize()[:3]
        values = read_array(file).transpose(0, 3, 2, 1)
    else:
        raise InputError(
            f"{file.name} has size {tuple(reader.GetSize())}; expected a 4D volume or a Slicer sequence: "
            "open it as a 3D volume."
        )
    times = _times_s(reader, len(values))
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), _affine_lps(reader))
    return np.ascontiguousarray(values, dtype=np.float32), times, grid


def _times_s(reader: sitk.ImageFileReader, count: int) -> NDArray[np.float64]:
    """Index values of a Slicer sequence, else multiples of the time axis' spacing."""
    for key in _TIME_KEYS:
        if key in reader.GetMetaDataKeys():
            try:
                times = np.array([float(t) for t in reader.GetMetaData(key).split()])
            except ValueError:
                continue
            if len(times) == count:
                return times
    step = reader.GetSpacing()[3] if len(reader.GetSpacing()) == 4 else 1.0
    return np.arange(count, dtype=np.float64) * float(step)

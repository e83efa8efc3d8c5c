"""Snapshots for those who look on: blocks of points, whole files, the newest one wins."""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.engine.live.mailbox import Latest
from splatomy.engine.tissue_products import eight_bit
from splatomy.io.atomic import write_json
from splatomy.io.frames import write_picture
from splatomy.io.gaussians import write_gaussians
from splatomy.io.mesh import write_mesh
from splatomy.io.run import RunFolder, save_arrays
from splatomy.methods.live_scene.model import LiveScene
from splatomy.scene import Mesh

_MOST_POINTS = 300_000
_BLOCK_POINTS = 4096
_CELL_BITS = 20
_MOST_CELLS = 1 << (_CELL_BITS - 1)
_KEPT_S = 20.0
_FINE = 4.0
"""Steps per unit to which a point's place is told apart from its last one."""


@dataclass(frozen=True)
class Picture:
    """Everything that a snapshot shows, copied and never changed.

    scene: what the snapshot is of. points: xyz (N, 3) f32, rgb (N, 3) u8, normal (N, 3), radius (N,),
        seen_s (N,) f32, confidence (N,) u8.
    unit_mm: a pixel on the tissue. cell_mm: edge of a block. preview: (h, w, 3) u8 of the map as the camera
        sees it. frame_image: (H, W, 3) u8. gaussians, mesh: on a slower clock, or None.
    """

    scene: LiveScene
    values: Mapping[str, Any]
    points: Mapping[str, NDArray[Any]]
    unit_mm: float
    cell_mm: float
    preview: NDArray[np.uint8]
    frame_image: NDArray[np.uint8]
    received_s: float
    gaussians: Mapping[str, NDArray[Any]] | None = None
    mesh: Mesh | None = None


@dataclass(frozen=True)
class Published:
    """A snapshot whose files are all written: ``latency_s`` after its frame came, in ``written_s``."""

    scene: LiveScene
    files: dict[str, str]
    latency_s: float
    written_s: float


@dataclass
class _Block:
    """A block of points as it was last written."""

    checksum: int
    file: str
    count: int


@dataclass
class Publisher:
    """Writes snapshots into RUN/live/ in a thread of its own: an unwritten one gives way to a newer one."""

    folder: RunFolder
    _waiting: Latest[Callable[[], Picture]] = field(default_factory=Latest)
    _done: deque[Published] = field(default_factory=deque)
    _blocks: dict[str, _Block] = field(default_factory=dict)
    _old: deque[tuple[float, str]] = field(default_factory=deque)
    _error: Exception | None = None

    def __post_init__(self) -> None:
        for path in (self.folder.path / "live").glob("[!.]*"):
            path.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._work, name="splatomy publish", daemon=True)
        self._thread.start()

    def submit(self, made: Callable[[], Picture]) -> None:
        """Hands a snapshot over, to be made where it is written; never waits."""
        self._waiting.put(made)

    def finished(self) -> list[Published]:
        """The snapshots that were written since the last call.

        Raises:
            Exception: what their thread met; OSError: the disk refused them.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        out = []
        while self._done:
            out.append(self._done.popleft())
        return out

    def close(self) -> None:
        """Writes what waits, then ends the thread."""
        self._waiting.close()
        self._thread.join(10.0)

    def _work(self) -> None:
        while (made := self._waiting.take()) is not None:
            began_s = time.monotonic()
            try:
                picture = made()
                files = self._write(picture)
            except Exception as error:  # noqa: BLE001 - raised again where snapshots are awaited
                self._error = error
                continue
            now_s = time.monotonic()
            self._done.append(Published(picture.scene, files, now_s - picture.received_s, now_s - began_s))

    def _write(self, picture: Picture) -> dict[str, str]:
        name = f"{picture.scene.generation:06d}"
        folder = self.folder.path / "live"
        folder.mkdir(exist_ok=True)
        listed = []
        for key, rows in blocks_of(picture.points["xyz"], picture.cell_mm).items():
            part = {n: np.ascontiguousarray(a[rows]) for n, a in picture.points.items()}
            block = self._block(key, part, picture.unit_mm, name)
            listed.append({"key": key, "file": block.file, "count": block.count})
        for key in set(self._blocks) - {entry["key"] for entry in listed}:
            self._retire(self._blocks.pop(key).file)
        files = {"points": f"snapshot_{name}.json", "preview": f"preview_{name}.png"}
        # After a crash the checkpoint counts; to wait for the disk would be most of the latency.
        write_picture(folder / files["preview"], picture.preview, durable=False)
        write_picture(folder / "frame.jpg", picture.frame_image, durable=False)
        if picture.gaussians is not None:
            files["gaussians"] = f"gaussians_{name}.ply"
            metric = picture.values.get("metric") is not False
            write_gaussians(folder / files["gaussians"], picture.gaussians, metric)
        if picture.mesh is not None and len(picture.mesh.faces):
            files["mesh"] = f"mesh_{name}.ply"
            write_mesh(folder / files["mesh"], picture.mesh)
        latency = {"received_to_published_s": round(time.monotonic() - picture.received_s, 4)}
        write_json(folder / files["points"], {"contract": 1, **picture.values, **latency, "blocks": listed})
        for file in files.values():
            self._retire(file)
        self._remove_old()
        return {kind: str((folder / file).absolute()) for kind, file in files.items()}

    def _block(self, key: str, part: Mapping[str, NDArray[Any]], unit_mm: float, name: str) -> _Block:
        """The block, written anew only when what it shows has changed."""
        places = np.rint(part["xyz"] * (_FINE / unit_mm)).astype(np.int32)
        checksum = zlib.crc32(places.tobytes())
        for other in ("rgb", "confidence"):
            checksum = zlib.crc32(part[other].tobytes(), checksum)
        checksum = zlib.crc32((part["seen_s"] / 5).astype(np.int32).tobytes(), checksum)
        known = self._blocks.get(key)
        if known is not None and known.checksum == checksum:
            return known
        if known is not None:
            self._retire(known.file)
        block = _Block(checksum, f"block_{key}_{name}.safetensors", len(places))
        save_arrays(self.folder.path / "live" / block.file, part, durable=False)
        self._blocks[key] = block
        return block

    def _retire(self, file: str) -> None:
        self._old.append((time.monotonic(), file))

    def _remove_old(self) -> None:
        """Readers have some time to take what is no longer listed."""
        now = time.monotonic()
        while self._old and now - self._old[0][0] > _KEPT_S:
            (self.folder.path / "live" / self._old.popleft()[1]).unlink(missing_ok=True)


def blocks_of(xyz: NDArray[np.float32], cell_mm: float) -> dict[str, NDArray[np.int64]]:
    """The rows of points (N, 3) by the key of their cell of space."""
    cells = np.clip(np.floor(xyz / cell_mm), -_MOST_CELLS, _MOST_CELLS - 1).astype(np.int64)
    # One number a cell is sorted many times as fast as a row of three.
    packed = ((cells + _MOST_CELLS) << np.array([2 * _CELL_BITS, _CELL_BITS, 0])).sum(1)
    order = np.argsort(packed, kind="stable")
    firsts = np.flatnonzero(np.diff(packed[order], prepend=-1))
    keys = cells[order[firsts]].tolist()
    rows = np.split(order, firsts[1:])
    return {"_".join(map(str, key)): found for key, found in zip(keys, rows, strict=True)}


def cell_for(spacing_mm: float) -> float:
    """The edge of cells that hold about 4,096 points of a surface whose points are so far apart."""
    return float(spacing_mm * np.sqrt(_BLOCK_POINTS))


def displayed(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The points of a scene's surfels, the most certain ones when there are too many to show."""
    opacity = 1 / (1 + np.exp(-arrays["opacity_logit"]))
    chosen = np.arange(len(opacity))
    if len(chosen) > _MOST_POINTS:
        score = opacity * (0.2 + arrays["evidence"])
        chosen = np.sort(np.argpartition(-score, _MOST_POINTS)[:_MOST_POINTS])
    quats = arrays["quats_wxyz"][chosen]
    w, x, y, z = (quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-9)).T
    normal = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1)
    colours = arrays["sh"][chosen, 0] * 0.28209479177387814 + 0.5
    return {
        "xyz": arrays["means_mm"][chosen].astype(np.float32),
        "rgb": eight_bit(colours),
        "normal": normal.astype(np.float32),
        "radius": np.exp(arrays["log_scales"][chosen]).mean(1).astype(np.float32),
        "seen_s": arrays["seen_s"][chosen].astype(np.float32),
        "confidence": np.rint(255 * (opacity[chosen] * arrays["evidence"][chosen])).astype(np.uint8),
    }

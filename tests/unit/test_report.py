"""The report: self-contained, honest about units, safe against its own input."""

from __future__ import annotations

import base64
import functools
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splatomy.capture import Grid
from splatomy.report import ReportData, write_report
from splatomy.report.metric_names import METRIC_ORDER, describe_metric
from splatomy.report.pictures import Units, volume_pictures
from splatomy.report.projections import PLANES, WorldGrid, project_by_strength, project_max, shade_label
from splatomy.scene import Volume


@functools.cache
def helix(size: int = 48, spacing_mm: float = 1.0) -> tuple[Volume, np.ndarray, np.ndarray, np.ndarray]:
    """A helical vessel of tapering radius: volume, label, centreline points and radii."""
    grid = Grid.centred((size, size, size), (spacing_mm,) * 3)
    half = size * spacing_mm / 2
    turn = np.linspace(0, 5 * np.pi, 400)
    share = np.linspace(0, 1, 400)
    points = np.stack(
        [0.55 * half * np.cos(turn), 0.4 * half * np.sin(turn), (share * 1.6 - 0.8) * half], axis=1
    )
    radius = (0.11 - 0.07 * share) * half
    index = np.indices(grid.shape).reshape(3, -1).T
    world = index @ grid.affine_mm[:3, :3].T + grid.affine_mm[:3, 3]
    gap = np.full(len(world), np.inf)
    for point, r in zip(points, radius):
        np.minimum(gap, np.linalg.norm(world - point, axis=1) - r, out=gap)
    label = (gap < 0).reshape(grid.shape).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.002, grid.shape)
    values = (label * 0.05 + noise).astype(np.float32)
    return Volume(values, grid.affine_mm), label, points, radius


def full_data(size: int = 48) -> ReportData:
    volume, label, points, radius = helix(size)
    height = np.broadcast_to(np.linspace(0, 2, size, dtype=np.float32), label.shape)
    arrival = np.where(label > 0, height, np.nan).astype(np.float32)
    times = np.linspace(0, 6, 60)
    flat = volume.values.max(1).T
    truth = np.roll(label, 1, axis=0)
    return ReportData(
        title="Synthetic helix",
        method_title="Dynamic vessels",
        citation="A citation, 2024.",
        preset="draft",
        settings={"iterations": 300, "voxel": "0.4 mm", "rate": 0.001, "jitter": True},
        input_summary={"frames": "30 of 133", "arc": "200 degrees"},
        provenance=("log subtraction", "binned by 2"),
        problems=("The arc is shorter than 180 degrees plus the fan.",),
        metrics={"dice_own": 0.951, "dice_best": 0.953, "psnr": 47.3, "lpips": None, "hd95_mm": 0.42},
        peer_metrics={"fdk": {"dice_own": 0.80, "dice_best": 0.871}},
        timings_s={"prepare": 2.5, "train": 48.0},
        peak_memory_mb=912.0,
        seed=0,
        device="cpu",
        software_version="0.1.0",
        loss_curve=[(n, float(np.exp(-n / 80) + 0.01)) for n in range(0, 300, 5)],
        volume=volume,
        threshold_per_mm=0.021,
        label=label,
        truth_label=truth,
        points_mm=points,
        radius_mm=radius,
        arrival_s=arrival,
        peak_s=arrival + 1,
        transit_s=arrival * 0 + 1.5,
        curves=[(name, times, 0.05 * np.exp(-((times - t) ** 2))) for name, t in (("inlet", 2), ("tip", 3))],
        views=[("Held-out view 7", flat, flat + 0.002)],
        files=("volumes/volume.nii.gz", "run.json"),
    )


def write(tmp_path: Path, data: ReportData) -> str:
    path = tmp_path / "report.html"
    write_report(path, data)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"], "no temporary file may stay"
    return path.read_text(encoding="utf-8")


def images_of(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def without_images(page: str) -> str:
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)


class Balance(HTMLParser):
    """Checks that what is opened is closed, and remembers every address in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Balance:
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    return balance


def test_full_report_has_every_section_and_needs_nothing_else(tmp_path: Path) -> None:
    page = write(tmp_path, full_data())
    balance = parsed(page)
    assert all(address.startswith("data:image/png;base64,") for address in balance.addresses)
    assert not {"script", "link", "iframe"} & set(balance.tags)
    assert "Research use only. Not a medical device." in page
    for title in (
        "Vessels",
        "How good it is",
        "What is synthetic",
        "Settings",
        "Provenance",
        "Files of this run",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "0.951" in page and "fdk 0.800" in page
    assert page.index("shorter than 180") < page.index("<h2>Vessels</h2>"), "warnings come first"
    images = images_of(page)
    assert len(images) == 11
    assert all(image[..., :3].std() > 5 for image in images), "no picture may be empty"


def test_bare_report_is_still_a_page(tmp_path: Path) -> None:
    page = write(tmp_path, ReportData(title="t", method_title="m", citation="c", preset="draft"))
    parsed(page)
    assert "judge it by the pictures" in page


def test_unknown_scale_forbids_every_millimetre(tmp_path: Path) -> None:
    data = replace(full_data(), metric=False, problems=("Spacing 0.4mm was assumed (1/mm), hd95_mm too.",))
    text = without_images(write(tmp_path, data))
    assert not re.search(r"(?<![A-Za-z])mm(?![A-Za-z])", text)
    assert "units (not metric)" in text
    assert Units(False, "LPS").length == "units"


def test_every_string_is_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>&\udcff$\\frac$'
    data = replace(
        full_data(24),
        title=bad,
        method_title=bad,
        citation=bad,
        preset=bad,
        settings={bad: bad},
        input_summary={bad: bad},
        world=bad,
        provenance=(bad,),
        problems=(bad,),
        synthetic_text=bad,
        metrics={bad: 1.0},
        peer_metrics={bad: {"dice_own": 0.5}},
        timings_s={bad: 1.0},
        device=bad,
        software_version=bad,
        research_use=bad,
        files=(bad,),
        curves=[(bad, np.arange(3.0), np.arange(3.0))],
        views=[(bad, np.zeros((4, 4)), np.zeros((4, 4)))],
    )
    page = write(tmp_path, data)
    assert "script" not in parsed(page).tags
    assert "<script" not in page


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_degenerate_values_do_not_stop_the_report(tmp_path: Path, value: float) -> None:
    data = full_data(16)
    assert data.volume is not None and data.label is not None
    data = replace(
        data,
        volume=Volume(np.full_like(data.volume.values, value), data.volume.affine_mm),
        label=np.zeros_like(data.label),
        arrival_s=np.full(data.label.shape, np.nan),
        points_mm=np.zeros((0, 3)),
        radius_mm=np.zeros(0),
        curves=[("one", np.array([1.0]), np.array([value]))],
        views=[("flat", np.full((5, 6), value), np.full((5, 6), value))],
        loss_curve=[(0, value), (1, value)],
        metrics={"dice_own": float(value)},
    )
    parsed(write(tmp_path, data))


def test_disagreeing_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        replace(full_data(16), label=np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(ValueError, match="together"):
        replace(full_data(16), radius_mm=None)


def test_projection_puts_each_world_axis_where_the_letters_say() -> None:
    # Voxel axes are z, -x, y: a bright voxel on the patient's left, at the back, near the head.
    affine = np.array([[0, -2.0, 0, 18], [0, 0, 1.0, -5], [3.0, 0, 0, -9], [0, 0, 0, 1]])
    values = np.zeros((8, 20, 12), np.float32)
    values[7, 1, 11] = 1.0  # x = 16 (left), y = 6 (posterior), z = 12 (head)
    grid = WorldGrid.of(values.shape, affine)
    assert not grid.oblique
    np.testing.assert_allclose(grid.first_mm, [-21.0, -5.5, -10.5])
    corner = {"axial": (1, 1), "coronal": (0, 1), "sagittal": (0, 1)}  # (lower half, right half)
    for plane in PLANES:
        picture = project_max(grid.lay(values), plane)
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        rows, columns = picture.shape
        assert (row >= rows / 2, column >= columns / 2) == tuple(map(bool, corner[plane.name]))
        left, right, bottom, top = grid.extent_mm(plane)
        world = np.array([16.0, 6.0, 12.0])
        across = left + (column + 0.5) * (right - left) / columns
        vertical = top + (row + 0.5) * (bottom - top) / rows
        np.testing.assert_allclose([across, vertical], world[[plane.across, plane.vertical]])


def test_oblique_volume_is_named_so() -> None:
    affine = np.eye(4)
    affine[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    assert WorldGrid.of((4, 5, 6), affine).oblique


def test_time_map_shows_the_strongest_known_voxel() -> None:
    times = np.full((2, 2, 3), np.nan, np.float32)
    strength = np.zeros((2, 2, 3), np.float32)
    times[0, 0] = [1.0, 2.0, np.nan]
    strength[0, 0] = [0.2, 0.5, 9.0]
    picture = project_by_strength(times, strength, PLANES[0])
    assert picture[0, 0] == 2.0
    assert np.isnan(picture).sum() == 3


def test_shading_shows_the_nearer_of_two_walls() -> None:
    label = np.zeros((20, 20, 20), np.uint8)
    label[5:15, 2:4, 5:15] = 1  # y = 2: nearer to a viewer who looks along +y
    label[5:15, 16:18, 5:15] = 1
    image = shade_label(label, np.ones(3), 0.0, 100)
    alone = shade_label(label[:, :10], np.ones(3), 0.0, 100)
    assert image.shape == (100, 100, 3)
    assert (image[50, 50] > 0.5 * alone[50, 50]).all()
    assert shade_label(np.zeros((4, 4, 4)), np.ones(3), 0.0, 50).std() < 1e-9


def test_anatomical_letters_only_in_the_patient_frame() -> None:
    assert Units(True, "LPS").anatomical
    assert not Units(True, "isocentre as LPS").anatomical
    assert Units(True, "isocentre as LPS").axes_name == "isocentre axes"
    captions = [picture.caption for picture in volume_pictures(full_data(16), Units(True, "LPS"))]
    assert "patient axes" in captions[0]


def test_metric_texts() -> None:
    assert all(describe_metric(key).text for key in METRIC_ORDER)
    assert describe_metric("fscore_0.5mm").text.endswith("within 0.5 mm.")
    assert describe_metric("something_new_mm").unit == "mm"

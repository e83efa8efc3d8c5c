import json

import numpy as np
import pytest

from splatomy.errors import InputError
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.geometry_files import read_geometry

POINTS = np.random.default_rng(1).uniform(-60, 60, (20, 3))
WIDTH, HEIGHT, PIXEL = 64, 48, (1.2, 1.5)


def pixels(cameras):
    return cameras.project(POINTS)[0]


@pytest.fixture
def cameras():
    return cone_beam(np.linspace(0, 3, 5), 0.0, 750, 1200, WIDTH, HEIGHT, PIXEL)


@pytest.mark.parametrize("header", ["", "time_s,", "p"])
def test_csv(tmp_path, cameras, header):
    rows = cameras.world_to_pixel.reshape(5, 12)
    text = ""
    if header == "p":
        text = ",".join(f"p{i}" for i in range(12)) + "\n"
    if header == "time_s,":
        text = "time_s," + ",".join(f"p{i}" for i in range(12)) + "\n"
        rows = np.column_stack([np.arange(5) * 0.1, rows])
    (tmp_path / "g.csv").write_text(text + "\n".join(",".join(map(repr, map(float, r))) for r in rows))
    geometry = read_geometry(tmp_path / "g.csv", 5, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels(geometry.cameras), pixels(cameras), atol=1e-8)
    assert (geometry.times_s is not None) == (header == "time_s,")


def test_mirrored_matrices_turn_the_rows(tmp_path, cameras):
    flip = np.array([[1, 0, 0], [0, -1, HEIGHT - 1], [0, 0, 1.0]])
    (tmp_path / "g.json").write_text(json.dumps((flip @ cameras.world_to_pixel).tolist()))
    geometry = read_geometry(tmp_path / "g.json", 5, WIDTH, HEIGHT)
    assert geometry.flip_rows
    np.testing.assert_allclose(pixels(geometry.cameras), pixels(cameras), atol=1e-8)


def rtk_xml(projections, matrix=""):
    body = "".join(f"<Projection>{p}{matrix}</Projection>" for p in projections)
    return (
        '<?xml version="1.0"?><!DOCTYPE RTKGEOMETRY><RTKThreeDCircularGeometry version="3">'
        "<SourceToIsocenterDistance>750</SourceToIsocenterDistance>"
        f"<SourceToDetectorDistance>1200</SourceToDetectorDistance>{body}</RTKThreeDCircularGeometry>"
    )


def test_rtk_angles_are_our_primary_angles(tmp_path, cameras):
    angles = np.degrees(np.linspace(0, 3, 5))
    (tmp_path / "g.xml").write_text(rtk_xml([f"<GantryAngle>{a!r}</GantryAngle>" for a in angles.tolist()]))
    geometry = read_geometry(tmp_path / "g.xml", 5, WIDTH, HEIGHT, PIXEL)
    np.testing.assert_allclose(pixels(geometry.cameras), pixels(cameras), atol=1e-6)
    assert geometry.flip_rows


# Written by RTK 2.7 for the nine parameters below.
RTK_MATRIX = (
    "<Matrix>-1009.73270319345 -264.600065876228 591.971851729405 5100 "
    "106.485476903505 -1148.33419778315 -331.660087153049 -7050 "
    "0.534632481937455 -0.190808995376545 0.823261827452719 -750</Matrix>"
)


def test_rtk_parameters_agree_with_rtk_matrix(tmp_path):
    parameters = (
        "<GantryAngle>33</GantryAngle><SourceOffsetX>3</SourceOffsetX><SourceOffsetY>-4</SourceOffsetY>"
        "<ProjectionOffsetX>5</ProjectionOffsetX><ProjectionOffsetY>-7</ProjectionOffsetY>"
        "<InPlaneAngle>13</InPlaneAngle><OutOfPlaneAngle>11</OutOfPlaneAngle>"
    )
    (tmp_path / "a.xml").write_text(rtk_xml([parameters]))
    (tmp_path / "b.xml").write_text(rtk_xml([""], RTK_MATRIX))
    by_parameters = read_geometry(tmp_path / "a.xml", 1, WIDTH, HEIGHT, PIXEL)
    by_matrix = read_geometry(tmp_path / "b.xml", 1, WIDTH, HEIGHT, PIXEL)
    np.testing.assert_allclose(pixels(by_parameters.cameras), pixels(by_matrix.cameras), atol=1e-6)


def test_generic_json(tmp_path, cameras):
    value = {
        "sad_mm": 750,
        "sid_mm": 1200,
        "pixel_mm": list(PIXEL),
        "primary_deg": np.degrees(np.linspace(0, 3, 5)).tolist(),
        "frame_time_s": 0.5,
    }
    (tmp_path / "g.json").write_text(json.dumps(value))
    geometry = read_geometry(tmp_path / "g.json", 5, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels(geometry.cameras), pixels(cameras), atol=1e-8)
    np.testing.assert_allclose(geometry.times_s, np.arange(5) * 0.5)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("g.csv", "1,2,3\n", "12 numbers"),
        ("g.csv", "", "12 numbers"),
        ("g.csv", "a,b\nc,d\n", "12 numbers"),
        ("g.csv", "0,0,0,0,0,0,0,0,0,0,0,0\n", "ingular"),
        ("g.csv", "nan,0,0,0,0,0,0,0,0,0,0,1\n", "12 numbers|NaN"),
        ("g.json", "{", "not readable JSON"),
        ("g.json", "3", "JSON object"),
        ("g.json", "{}", "sad_mm"),
        ("g.json", '{"sad_mm": 1200, "sid_mm": 750, "pixel_mm": 1, "primary_deg": 0}', "swapped"),
        ("g.json", '{"sad_mm": 0.75, "sid_mm": 1.2, "pixel_mm": 1, "primary_deg": 0}', "metres"),
        ("g.json", '{"sad_mm": 750, "sid_mm": 1200, "pixel_mm": 0, "primary_deg": 0}', "pixel size"),
        ("g.json", '{"sad_mm": 750, "sid_mm": 1200, "pixel_mm": 1}', "primary_deg"),
        ("g.json", '{"sad_mm": 750, "sid_mm": 1200, "pixel_mm": 1, "primary_rad": 90}', "degrees"),
        ("g.xml", "<a", "not readable XML"),
        ("g.xml", "<a/>", "no RTK geometry"),
        ("g.xml", '<!DOCTYPE x [<!ENTITY a "b">]><a/>', "entities"),
        ("g.xml", rtk_xml(["<GantryAngle>x</GantryAngle>"]), "text instead"),
        ("g.xml", rtk_xml([""]), "GantryAngle"),
        ("g.txt", "", "no known geometry file"),
    ],
)
def test_hostile_files(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says):
        read_geometry(tmp_path / name, 1, WIDTH, HEIGHT, PIXEL)


def test_wrong_number_of_views(tmp_path, cameras):
    (tmp_path / "g.json").write_text(json.dumps(cameras.world_to_pixel.tolist()))
    with pytest.raises(InputError, match="5 views but the image stack has 6"):
        read_geometry(tmp_path / "g.json", 6, WIDTH, HEIGHT)

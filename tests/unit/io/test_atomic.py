import json

import pytest

from splatomy.io.atomic import atomic_path, write_bytes, write_json, write_text


def test_write_replaces_and_leaves_no_temporary(tmp_path):
    write_text(tmp_path / "sub" / "a.txt", "one")
    write_text(tmp_path / "sub" / "a.txt", "zwei ü")
    write_bytes(tmp_path / "sub" / "b.bin", b"\0\1")
    write_json(tmp_path / "sub" / "c.json", {"a": [1, 2.5]})
    assert (tmp_path / "sub" / "a.txt").read_text("utf-8") == "zwei ü"
    assert json.loads((tmp_path / "sub" / "c.json").read_text()) == {"a": [1, 2.5]}
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["a.txt", "b.bin", "c.json"]


def test_an_error_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.nii.gz"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".a.nii.gz")
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []

"""Real vessel anatomy, filled, spun and reconstructed, against its own truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from splatomy.cli.main import main

pytestmark = pytest.mark.verify

DATA = Path(__file__).parents[2].parent / "shared" / "data"
VOLUMES = ("topcow-masks/topcow_ct_roi_003.nii.gz", "niivue-ct-avm/CT_AVM.nii.gz")


@pytest.mark.parametrize("name", VOLUMES)
def test_gaussians_beat_back_projection_on_real_anatomy(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, case = DATA / name, tmp_path / "case"
    if not volume.exists():
        pytest.fail(f"{volume} is missing: make verify needs the real data in ../shared")
    assert main(["phantom", "vessels", "--volume", str(volume), "--out", str(case)]) == 0
    found = {}
    for method, preset in (("fdk", "standard"), ("dynamic_vessels", "draft")):
        run = tmp_path / method
        words = ["--method", method, "--preset", preset, "--views", "30"]
        assert main(["reconstruct", str(case), "--out", str(run), *words]) == 0
        capsys.readouterr()
        assert main(["evaluate", str(run), "--truth", str(case / "truth"), "--json"]) == 0
        found[method] = json.loads(capsys.readouterr().out)
    print(json.dumps(found, indent=1))
    ours, fdk = found["dynamic_vessels"], found["fdk"]
    assert ours["dice_best"] > fdk["dice_best"] and ours["psnr"] > fdk["psnr"]
    # Only a method that follows the contrast over time has an arrival at all.
    assert ours["arrival_error_s"] < 0.3 and fdk.get("arrival_error_s") is None

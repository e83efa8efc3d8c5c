"""Sample data: phantoms that the engine makes on the spot, with no download."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

CATEGORY = "Splatomy"
_PATIENCE_S = 300.0
_STEP_S = 0.05


@dataclass(frozen=True)
class Sample:
    """An input that the engine makes. words: of the command ``splatomy``, without --out."""

    title: str
    name: str
    module: str
    words: tuple[str, ...]


SAMPLES = (
    Sample("Endoscopic clip with an instrument", "SplatomyClip", "SplatomyEndoscopy",
           ("phantom", "tissue", "--preset", "demo", "--seed", "1")),
    Sample("Rotational angiography run", "SplatomyRun", "SplatomyAngiography",
           ("phantom", "vessels", "--preset", "demo", "--seed", "1")),
    Sample("Object behind an occluder", "SplatomyObject", "SplatomySurface",
           ("phantom", "object", "--preset", "demo_occluded", "--seed", "1")),
)  # fmt: skip


def register() -> None:
    """Lists the samples in Slicer's module Sample Data."""
    import SampleData

    icons = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
    for sample in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.title,
            thumbnailFileName=str(icons / f"{sample.name}.png"),
            uris=None,
            fileNames=None,
            nodeNames=sample.name,
            customDownloader=lambda _source, chosen=sample: open_sample(chosen),
        )


def open_sample(sample: Sample) -> list[Any]:
    """Has the engine make a sample and opens it in its module; Sample Data expects that it is there then."""
    from SplatomyLib.reading import open_in_module
    from SplatomyLib.session import session

    current = session()
    if current.logic.engine is None:
        _find_engine(current)
    out = current.new_folder("sample") / sample.name
    run = current.logic.command(sample.title, [*sample.words, "--out", str(out)], lambda _run: None)
    _wait(current.logic, run)
    open_in_module(sample.module, out)
    return []


def _find_engine(current: Any) -> None:
    for command in current.candidates():
        _wait(current.logic, current.logic.check(command, lambda _text: None))
        if current.logic.engine is not None:
            return


def _wait(logic: Any, run: Any) -> None:
    """Waits for a run while the application stays alive, as Sample Data does while it downloads."""
    end = time.monotonic() + _PATIENCE_S
    while not run.job.state.is_over:
        slicer.app.processEvents()
        logic.poll()
        time.sleep(_STEP_S)
        if time.monotonic() > end:
            run.runner.cancel()

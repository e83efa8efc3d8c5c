"""From an open case and chosen settings to a job of the engine."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from splatomy.io.options import InputOptions
from splatomy_gui.case_files import RunInfo
from splatomy_gui.inputs import Kind
from splatomy_gui.session import Session
from splatomy_gui.worker import JobPlan

_PREVIEW_RATE = "snapshot_every_s"
"""The setting of methods that train."""


def options_json(options: InputOptions) -> dict[str, Any]:
    """The options that differ from the defaults, as the job protocol wants them; paths absolute."""
    plain = InputOptions()
    found: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if value == getattr(plain, item.name):
            continue
        if isinstance(value, Path):
            value = str(value.resolve())
        found[item.name] = list(value) if isinstance(value, tuple) else value
    return found


def new_run_folder(session: Session, parent: Path, name: str) -> Path:
    """A free place for a run; a job that waits in the queue has taken its own, though it is not there yet."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    number, place = 1, parent / stem
    while place.exists() or session.queue.job_of(place) is not None:
        number += 1
        place = parent / f"{stem}-{number}"
    return place


def plan_run(
    session: Session, method: str, preset: str, changes: dict[str, Any], views: int | None = None,
    replicas: int = 1,
) -> JobPlan:  # fmt: skip
    """The job that reconstructs the open case. replicas: processes that train together, one on each GPU.

    Masks are part of the input: a case whose masks were worked on is given as the case itself. Previews come
    as often as the preferences say, unless ``changes`` say it.

    Raises:
        ValueError: no case is open.
    """
    from splatomy.method import find_method, make_config

    folder, case = session.folder, session.case
    if folder is None or case is None:
        raise ValueError("no case is open")
    masked = any(frame.state.value != "untouched" for frame in case.review.frames)
    whole = session.kind in (Kind.ENDOSCOPY, Kind.SURFACE) or masked
    every_s = session.settings.get("preview_every_s")
    if getattr(make_config(find_method(method), preset, changes), _PREVIEW_RATE, every_s) != every_s:
        changes = {_PREVIEW_RATE: every_s, **changes}
    fields: dict[str, Any] = {
        "input": str(folder if whole else case.source),
        "method": method,
        "preset": preset,
        "config": changes,
        "device": session.settings.get("device"),
    }
    if not whole:
        fields["options"] = options_json(case.options)
    if views is not None:
        fields["views"] = views
    if replicas > 1:
        fields["replicas"] = replicas
    return JobPlan(
        f"{folder.stem}: {method}, {preset}", new_run_folder(session, folder / "runs", method), fields
    )


def plan_live(session: Session, name: str, source: str, rate: str, options: InputOptions) -> JobPlan:
    """A live session of a source, in a folder beside the cases. name: of the source, for the person."""
    run = new_run_folder(session, session.settings.cases_folder() / "Live", "live")
    fields: dict[str, Any] = {
        "input": source,
        "method": "live_scene",
        "preset": "standard",
        "device": session.settings.get("device"),
        "live": {"rate": rate},
        "options": options_json(options),
    }
    return JobPlan(f"Live: {name}", run, fields)


def plan_resume(
    session: Session, run: RunInfo, record: dict[str, Any], more_steps: int = 0
) -> JobPlan | None:
    """The job that goes on with a run that was stopped, or trains a finished one for more steps.

    record: the run's own job file. None if the run was not started by the app.
    """
    if not record.get("input"):
        return None
    fields = {k: v for k, v in record.items() if k not in ("contract", "out", "detached", "force")}
    fields["resume"] = True
    if more_steps:
        from splatomy.method import find_method, make_config

        spec = find_method(str(fields["method"]))
        config = make_config(spec, str(fields.get("preset", "standard")), fields.get("config") or {})
        if hasattr(config, "steps"):
            fields["config"] = {**(fields.get("config") or {}), "steps": config.steps + more_steps}
    return JobPlan(f"{run.path.parent.parent.stem}: {run.method}", run.path, fields)

"""Going on with a run that was stopped or killed: what must still be the same, and what is taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import splatomy
from splatomy.errors import InputError
from splatomy.io.run import RunFolder, StoredCheckpoint


def check_same_settings(record: Mapping[str, Any], now: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuses to go on with other settings than the run was started with.

    record: the content of run.json. now: method, seed and num_views of the request.
    config: its settings; more ``steps`` than before are welcome, since they only train on.

    Raises:
        InputError: they differ.
    """
    for name, value in now.items():
        if record.get(name) != value:
            raise InputError(
                f"The run to resume was started with {name} {record.get(name)}, not {value}. "
                "Resume with the same settings, or start a new run."
            )
    before = record.get("config")
    before = dict(before) if isinstance(before, Mapping) else {}
    if "steps" in config and before.get("steps", 0) < config["steps"]:
        before["steps"] = config["steps"]
    changed = sorted(k for k in {*before, *config} if before.get(k) != config.get(k))
    if changed:
        name = changed[0]
        raise InputError(
            f"The run to resume was started with {name} {before.get(name)}, not {config.get(name)}. "
            "Resume with the same preset and settings, or start a new run."
        )


def check_same_input(record: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuses to go on with another input than the run was started with.

    record: the content of run.json. own: the present input's part of it, see ``input_record``.

    Raises:
        InputError: a file or an option of the input differs.
    """
    before, now = (Counter(_hashes(r)) for r in (record, own))
    # Files added since do no harm; a changed or missing one does.
    if before - now:
        name = sorted(name for name, _ in before - now)[0]
        raise InputError(
            f"The input is not the one that the run to resume was started with: expected the same files, got "
            f"another {name}. Resume with the run's own input, or start a new run."
        )
    options, chosen = (r.get("input_options") or {} for r in (record, own))
    changed = sorted(k for k in {*options, *chosen} if _plain(options.get(k)) != _plain(chosen.get(k)))
    if changed:
        name = changed[0]
        raise InputError(
            f"The run to resume was started with input option {name} {options.get(name)}, not "
            f"{chosen.get(name)}. Resume with the same options, or start a new run."
        )


def _hashes(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    entries = record.get("input")
    found = [e for e in entries if isinstance(e, Mapping)] if isinstance(entries, list) else []
    return [(str(e.get("file")), str(e.get("sha256"))) for e in found]


def _plain(value: Any) -> Any:
    """JSON knows lists only."""
    return list(value) if isinstance(value, tuple) else value


def stored_checkpoint(folder: RunFolder) -> StoredCheckpoint | None:
    """The checkpoint to go on from, None when the run never came to write one.

    Raises:
        InputError: it is damaged, or of another version, whose state may be laid out differently.
    """
    stored = folder.load_checkpoint()
    if stored is not None and stored.software != splatomy.__version__:
        raise InputError(
            f"The checkpoint was written by Splatomy {stored.software}: expected this version, "
            f"{splatomy.__version__}, since the state of another one may differ. "
            "Resume with that version, or start again with --force."
        )
    return stored


def losses_until(folder: RunFolder, step: int) -> list[tuple[int, float]]:
    """The training losses up to a step that the run recorded before it was stopped, by step."""
    found: dict[int, float] = {}
    for event in folder.read_events():
        metrics, at = event.get("metrics"), event.get("step")
        if event.get("stage") != "train" or not isinstance(metrics, dict) or not isinstance(at, int):
            continue
        loss = metrics.get("loss")
        if isinstance(loss, int | float) and at <= step:
            found[at] = float(loss)
    return sorted(found.items())

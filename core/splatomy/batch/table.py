"""The results of a batch: one row a case, what each figure's values are like, and which cases stand out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splatomy.batch.working import Outcome, Work
from splatomy.report.metric_names import METRIC_ORDER

FACTS = (
    "case",
    "state",
    "code",
    "text",
    "attempts",
    "method",
    "preset",
    "device",
    "seed",
    "seconds",
    "memory_mb",
)
_LEAST_VALUES = 5
"""Fewer have no distribution to stand out of."""
_FENCE = 1.5
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Distribution:
    """The finite values of one figure by case; quartiles, and the cases outside Tukey's fences.

    The fences lie 1.5 interquartile ranges outside the quartiles (Tukey: Exploratory Data Analysis, 1977).
    """

    figure: str
    values: Mapping[str, float]
    quartiles: tuple[float, float, float]
    outliers: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """rows: a case each, by the columns; absent = not defined there."""

    rows: tuple[Mapping[str, Any], ...]
    figures: tuple[str, ...]

    def count(self, state: str) -> int:
        """How many cases are in a state: done, failed, stopped or waiting."""
        return sum(row["state"] == state for row in self.rows)

    def csv(self) -> str:
        """The table as CSV; no cell can act as a formula in a spreadsheet."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        columns = (*FACTS, *self.figures)
        writer.writerow([_cell(name) for name in columns])
        for row in self.rows:
            writer.writerow([_cell(row.get(name)) for name in columns])
        return text.getvalue()

    def html(self) -> str:
        """The table as one page that needs nothing else, with distributions and outliers."""
        from splatomy.batch.page import build_page

        return build_page(self)

    def distributions(self) -> list[Distribution]:
        """Of every figure, and of time and memory, that enough cases have."""
        found = []
        for figure in ("seconds", "memory_mb", *self.figures):
            values = {row["case"]: float(row[figure]) for row in self.rows if row.get(figure) is not None}
            if len(values) >= _LEAST_VALUES:
                found.append(_distribution(figure, values))
        return found


def make_table(works: Sequence[Work], outcomes: Mapping[str, Outcome]) -> Table:
    """The table of all cases in the order of the list; a run's figures are read from its folder."""
    rows = tuple(_row(work, outcomes.get(work.case.name)) for work in works)
    rank = {name: number for number, name in enumerate(METRIC_ORDER)}
    names = {name for row in rows for name in row} - set(FACTS)
    return Table(rows, tuple(sorted(names, key=lambda name: (rank.get(name, len(rank)), name))))


def _row(work: Work, outcome: Outcome | None) -> dict[str, Any]:
    row: dict[str, Any] = {"case": work.case.name, "state": "waiting"}
    if outcome is None:
        return row
    row |= {
        "state": outcome.state,
        "code": outcome.code,
        "text": outcome.text or None,
        "attempts": outcome.attempts,
        "seed": work.case.seed,
    }
    record = _json(work.run / "run.json")
    timings = record.get("timings_s")
    seconds = [v for v in (timings.values() if isinstance(timings, dict) else ()) if _finite(v)]
    row |= {
        "method": record.get("method") or work.case.method,
        "preset": record.get("preset") or work.case.preset,
        "device": record.get("device") or work.case.device,
        "seconds": round(sum(seconds), 1) if seconds else None,
        "memory_mb": record.get("peak_memory_mb"),
    }
    if outcome.state == "done":
        figures = {**_json(work.run / "metrics.json"), **_json(work.run / "evaluation.json")}
        row |= {k: v for k, v in figures.items() if _finite(v) and k not in ("contract", *FACTS)}
    return row


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _distribution(figure: str, values: Mapping[str, float]) -> Distribution:
    low, middle, high = (float(q) for q in np.percentile(list(values.values()), (25, 50, 75)))
    reach = _FENCE * (high - low)
    outside = [name for name, value in values.items() if not low - reach <= value <= high + reach]
    return Distribution(figure, values, (low, middle, high), tuple(outside))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # A spreadsheet would run it; the apostrophe makes it text.
        return f"'{value}" if value.startswith(_FORMULA) else value
    return repr(value)

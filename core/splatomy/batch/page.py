"""The page of a batch's results."""

from __future__ import annotations

from typing import Any

from splatomy.batch.table import FACTS, Distribution, Table
from splatomy.report import RESEARCH_USE
from splatomy.report.metric_names import describe_metric
from splatomy.report.safe_text import safe_text

_STYLE = """
:root { --ground: #fbfaf7; --text: #1d2126; --soft: #5d6670; --line: #dcd8cf; --stop: #8c1c13;
  --dot: #0b5a8a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181b; --text: #e6e4df; --soft: #a2a8af;
  --line: #33383e; --stop: #e0645a; --dot: #7fc0ea; } }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 0 24px 40px; }
.banner { background: #8c1c13; color: #fff; text-align: center; padding: 9px 16px; font-weight: 650; }
h1 { font-size: 1.8rem; margin: 28px 0 4px; }
h2 { font-size: 1.2rem; margin: 36px 0 10px; border-bottom: 1px solid var(--line); padding-bottom: 5px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.words { min-width: 18em; }
.failed, .stopped { color: var(--stop); font-weight: 650; }
.hint { color: var(--soft); }
svg { display: block; width: 340px; height: 34px; }
"""
_WIDTH, _HEIGHT, _MARGIN = 340.0, 34.0, 8.0
_NO_VALUE = "\N{EN DASH}"


def build_page(table: Table) -> str:
    """The whole page as HTML text; every string passes through ``safe_text``."""
    total = len(table.rows)
    counts = ", ".join(
        f"{table.count(s)} {s}" for s in ("done", "failed", "stopped", "waiting") if table.count(s)
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Results of {total} cases</title>
<style>{_STYLE}</style>
</head>
<body>
<div class="banner" role="note">{_text(RESEARCH_USE)}</div>
<main>
<h1>Results of {total} cases</h1>
<p>{_text(counts)}.</p>
{_failures(table)}
{_distributions(table.distributions())}
{_all_cases(table)}
</main>
</body>
</html>
"""


def _failures(table: Table) -> str:
    rows = [row for row in table.rows if row["state"] in ("failed", "stopped")]
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td>{_text(row['case'])}</td><td class='{row['state']}'>{row['state']}</td>"
        f"<td>{_text(row.get('code'))}</td><td class='words'>{_text(row.get('text'))}</td></tr>"
        for row in rows
    )
    head = "<tr><th>Case</th><th>State</th><th>Kind</th><th>Why</th></tr>"
    return f'<h2>Not done</h2><div class="wide"><table>{head}{lines}</table></div>'


def _distributions(found: list[Distribution]) -> str:
    if not found:
        return ""
    lines = []
    for item in found:
        about = describe_metric(item.figure)
        names = ", ".join(_text(name) for name in item.outliers[:12]) or "none"
        more = f" and {len(item.outliers) - 12} more" if len(item.outliers) > 12 else ""
        low, middle, high = (_text(value) for value in item.quartiles)
        lines.append(
            f"<tr><td><code>{_text(item.figure)}</code> <span class='hint'>{_text(about.unit)}</span></td>"
            f"<td class='n'>{len(item.values)}</td><td class='n'>{middle}</td>"
            f"<td class='n'>{low} to {high}</td><td>{_strip(item)}</td>"
            f"<td class='words'>{names}{more}</td></tr>"
        )
    head = (
        "<tr><th>Figure</th><th>Cases</th><th>Median</th><th>Middle half</th><th>All values</th>"
        "<th>Outliers</th></tr>"
    )
    hint = (
        '<p class="hint">Outliers lie more than 1.5 interquartile ranges outside the middle half: look at '
        "these runs first. The box is the middle half, its line the median; a dot is a case.</p>"
    )
    body = f'<div class="wide"><table>{head}{"".join(lines)}</table></div>'
    return f"<h2>Distributions and outliers</h2>{hint}{body}"


def _strip(item: Distribution) -> str:
    """The values along a line, with the middle half as a box."""
    lowest, highest = min(item.values.values()), max(item.values.values())
    scale = (_WIDTH - 2 * _MARGIN) / (highest - lowest) if highest > lowest else 0.0

    def place(value: float) -> float:
        return _MARGIN + (value - lowest) * scale if scale else _WIDTH / 2

    low, middle, high = (place(value) for value in item.quartiles)
    parts = [
        f'<rect x="{low:.1f}" y="6" width="{max(high - low, 1):.1f}" height="22" fill="none" '
        'stroke="var(--soft)"/>',
        f'<line x1="{middle:.1f}" y1="4" x2="{middle:.1f}" y2="30" stroke="var(--text)" stroke-width="2"/>',
    ]
    for number, (name, value) in enumerate(item.values.items()):
        # Three rows keep the dots of equal values apart; the order is that of the list.
        height = _HEIGHT / 2 + 6 * (number % 3 - 1)
        colour = "var(--stop)" if name in item.outliers else "var(--dot)"
        parts.append(
            f'<circle cx="{place(value):.1f}" cy="{height:.1f}" r="2.5" fill="{colour}" fill-opacity="0.65">'
            f"<title>{_text(name)}: {_text(value)}</title></circle>"
        )
    label = f"{len(item.values)} values from {_text(lowest)} to {_text(highest)}"
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}">{"".join(parts)}</svg>'


def _all_cases(table: Table) -> str:
    columns = [name for name in (*FACTS, *table.figures) if name not in ("code", "text")]
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    lines = []
    for row in table.rows:
        cells = "".join(_cell(row.get(name), name) for name in columns)
        lines.append(f"<tr>{cells}</tr>")
    return f'<h2>All cases</h2><div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(value: Any, name: str) -> str:
    if name == "state":
        return f'<td class="{_text(value)}">{_text(value)}</td>'
    if isinstance(value, int | float):
        return f'<td class="n">{_text(value)}</td>'
    return f"<td>{_text(value)}</td>"


def _text(value: Any) -> str:
    """A value as safe HTML text."""
    if value is None:
        return _NO_VALUE
    return safe_text(f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value))

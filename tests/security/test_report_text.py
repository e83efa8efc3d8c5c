"""Strings that a user or a file can put into a page come out as text, whatever they hold."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from splatomy.batch.page import build_page as build_batch_page
from splatomy.batch.table import Table
from splatomy.report import ReportData
from splatomy.report.page import build_page

EVIL = (
    "<script>alert('x')</script>\"><img src=x onerror=alert(1)> &lt; &#x3c; javascript:alert(1) "
    "]]> --> <!-- <svg onload=x> \u202egnp.exe \u2066 \x00\x1b[31m \ud800 $\\frac{ \u2028 </style></title>"
)


class Seen(HTMLParser):
    """Tags, attributes and words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def pages(text: str) -> list[str]:
    """Both kinds of page with the text wherever one goes in."""
    report = ReportData(
        title=text, method_title=text, citation=text, preset=text, settings={text: text},
        input_summary={text: text}, world=text, provenance=(text,), problems=(text,), synthetic_text=text,
        metrics={text: 1.0}, peer_metrics={text: {text: 2.0}}, timings_s={text: 1.0}, device=text,
        software_version=text, mesh_figures={text: text}, files=(text,),
    )  # fmt: skip
    row = {"case": text, "state": "failed", "code": text, "text": text, "method": text, "preset": text}
    rows = tuple({**row, "case": f"{text}{i}", text: float(i)} for i in range(6))
    return [build_page(report), build_batch_page(Table(rows, (text,)))]


def test_hostile_strings_are_shown_and_nothing_else() -> None:
    plain = pages("plain")
    for page, harmless in zip(pages(EVIL), plain, strict=True):
        seen, expected = Seen(page), Seen(harmless)
        assert seen.tags == expected.tags and seen.names == expected.names
        assert not seen.tags & {"script", "img", "iframe", "a", "link", "object", "form"}
        assert not any(name.startswith("on") or name in ("href", "srcdoc") for name in seen.names)
        assert "<script>alert('x')</script>" in seen.words
        # Nothing hides or turns around what stands beside it.
        assert not {"\u202e", "\u2066", "\x00", "\x1b", "\u2028"} & set(page)
        page.encode("utf-8")


@settings(derandomize=True, max_examples=30, deadline=None, database=None)
@given(st.text(alphabet=st.characters(), min_size=1, max_size=60))
def test_no_string_makes_a_tag(text: str) -> None:
    for page, harmless in zip(pages(text), pages("plain"), strict=True):
        assert Seen(page).tags == Seen(harmless).tags
        page.encode("utf-8")

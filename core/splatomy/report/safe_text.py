"""Foreign text in pages."""

from __future__ import annotations

import html

_STANDS_FOR = "\N{REPLACEMENT CHARACTER}"


def safe_text(text: str) -> str:
    """The text for HTML: nothing in it is markup, and nothing turns what stands beside it around.

    Control characters, those that change the direction of writing, and halves of characters are replaced.
    """
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else _STANDS_FOR for c in text))

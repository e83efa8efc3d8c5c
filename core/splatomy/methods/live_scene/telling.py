"""What the user is told of the tissue's breathing: the published path and map are moved by it."""

from __future__ import annotations

from splatomy.events import Notice

_LOST_AFTER_S = 5.0
_CHANGED = 0.2
"""Of the period: less is how an estimate settles."""


class BreathTeller:
    """Tells when a breath is found, is lost, or changes much.

    period_s: of the last breath that was found, None = none was.
    """

    def __init__(self) -> None:
        self.period_s: float | None = None
        self._told_s: float | None = None
        self._last_seen_s = 0.0

    def figures(self) -> dict[str, float]:
        """breath_period_s: of the last breath that was found; absent while none was."""
        return {} if self.period_s is None else {"breath_period_s": self.period_s}

    def news(self, period_s: float | None, time_s: float) -> list[Notice]:
        """What to tell of the period (s; None = no breath is found) at a time of the stream."""
        before_s = self._told_s
        if period_s is None:
            if before_s is None or time_s - self._last_seen_s < _LOST_AFTER_S:
                return []
            self._told_s = None
            return [Notice("info", "breath-lost", _LOST.format(before_s))]
        self.period_s, self._last_seen_s = period_s, time_s
        if before_s is None:
            self._told_s = period_s
            return [Notice("info", "breath-found", _FOUND.format(period_s))]
        if abs(period_s - before_s) < _CHANGED * before_s:
            return []
        self._told_s = period_s
        return [Notice("info", "breath-changed", _CHANGED_TO.format(period_s, before_s))]


_FOUND = (
    "The tissue seems to breathe once in {:.1f} s: motion that all tissue in view shares and that comes back "
    "with this period is from now on told to be the tissue's and not the camera's, which moves the published "
    "camera path and map, and is uncertain as long as only a few breaths were seen."
)
_CHANGED_TO = (
    "The tissue now seems to breathe once in {:.1f} s (told before: {:.1f} s): the published camera path and "
    "map follow the new period, and what was told apart before was uncertain."
)
_LOST = (
    "No breath is found any more (the last one took {:.1f} s): from now on the published camera path and map "
    "are not moved with it, and a motion that all tissue in view shares is not told from the camera's."
)

"""Kernels made ready while other things are prepared."""

from __future__ import annotations

import threading

import pytest

from splatomy.events import Progress, finish
from splatomy.kernels.ready import begin, made_ready


def test_what_is_begun_runs_beside_the_caller_in_its_order() -> None:
    may_go, done, calls = threading.Event(), threading.Event(), list[int]()
    begin(lambda: may_go.wait(120) and None, lambda: calls.append(1), lambda: calls.append(2), done.set)
    assert not calls
    may_go.set()
    assert done.wait(120)
    assert calls == [1, 2]


def test_a_failure_keeps_nothing_from_the_others_and_is_told_by_who_needs_it() -> None:
    done = threading.Event()

    def broken() -> None:
        raise ValueError("no such device")

    begin(broken, done.set)
    assert done.wait(120)
    with pytest.raises(ValueError, match="no such device"):
        finish(made_ready(broken))


def test_waiting_reports_what_is_ready() -> None:
    events = list(made_ready(lambda: None, lambda: None))
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps[0] == 0 and steps[-1] == 2 and steps == sorted(steps)

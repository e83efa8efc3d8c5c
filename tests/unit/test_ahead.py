"""Frames made ahead by other threads, and sums along short axes: the same results as one by one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from splatomy.ahead import made_ahead
from splatomy.prepare.inpaint.fields import squared_length


def test_results_come_in_order_whoever_is_done_first() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number % 4 == 0 else 0)
        return number**2

    assert list(made_ahead(slow_at_first, 20, 6)) == [n**2 for n in range(20)]
    assert list(made_ahead(slow_at_first, 0, 6)) == []


def test_no_more_than_so_many_are_begun_before_they_are_wanted() -> None:
    begun: list[int] = []
    results = made_ahead(lambda n: begun.append(n), 50, 3)
    for taken in range(10):
        next(results)
        assert len(begun) <= taken + 3
    results.close()
    assert len(begun) <= 12


def test_closing_begins_nothing_more_and_leaves_no_thread() -> None:
    before = threading.active_count()
    results = made_ahead(lambda n: n, 1000, 4)
    assert next(results) == 0
    results.close()
    assert threading.active_count() <= before


def test_an_error_comes_where_its_result_is_awaited() -> None:
    def fails_at_two(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = made_ahead(fails_at_two, 5, 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_squared_lengths_are_those_of_a_sum_to_the_last_bit() -> None:
    field = np.random.default_rng(0).normal(0, 3, (37, 53, 2)).astype(np.float32)
    assert np.array_equal(squared_length(field), (field**2).sum(-1))
    assert squared_length(field).dtype == np.float32

"""ZODB's tests of races, again and again: ``ZEOLITE_RACES`` says how often (they run once in ``test_suites``)."""

from __future__ import annotations

import os

import pytest
import test_suites

TIMES = int(os.environ.get("ZEOLITE_RACES", "1"))
RACES = [name for name in dir(test_suites.Core) if name.startswith("test_race_")] + ["test_tid_ordering_w_commit"]


@pytest.mark.parametrize("turn", range(TIMES))
@pytest.mark.parametrize("name", RACES)
def test_again(name: str, turn: int) -> None:
    del turn
    result = test_suites.Core(name).run()
    assert result is not None and result.testsRun == 1
    assert not result.errors and not result.failures and not result.skipped, (result.errors, result.failures)


def test_the_races_are_found() -> None:
    assert len(RACES) == 4

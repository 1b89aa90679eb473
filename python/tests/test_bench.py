"""The benchmark as the command line runs it, small: what it measures is not looked at, that all of it is there is."""

from __future__ import annotations

import os
import subprocess
import sys

from serving import PROGRAM


def bench(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZEOLITE_")}
    told = subprocess.run(
        [PROGRAM, "bench", "zodb", "--python", sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_the_speeds() -> None:
    told = bench("speeds", "--sides", "zeolite", "zeo", "--rounds", "1", "--seconds", "0.1", "--megabytes", "1")
    assert "| measured | Zeolite | ZEO | Zeolite / ZEO | aim |" in told
    for row in ("commit of 1 object", "cold loads, prefetched", "loads after a restart", "one counter and one tree", "import of", "memory of"):
        assert row in told


def test_the_pain() -> None:
    told = bench("pain", "--documents", "300", "--clients", "1", "--quiet", "0.5", "--pained", "own-asked")
    assert "An evolve of 300 documents beside 1 live clients" in told
    assert "| of these in trees alone | 0 |" in told


def test_what_is_not_there_is_told() -> None:
    environment = {**os.environ, "PATH": "/nowhere", "ZEOLITE_PROGRAM": ""}
    told = subprocess.run(
        [sys.executable, "-m", "zeolite_bench", "speeds"], env=environment, capture_output=True, text=True
    )
    assert told.returncode == 1 and "run zeolite bench zodb" in told.stderr

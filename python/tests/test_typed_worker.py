"""``python -m zeolite.evolve`` for Python's own classes: what it says of itself, of a job that is not planned, and of one that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import PROGRAM, Server

import zeolite

COUNT = 20
ANY_DISK = [part for name in ("disk_pause_percent", "disk_stop_percent") for part in ("--set", f"{name}=0")]


class Topic1(zeolite.Object, cls="worker.Topic"):
    author: str


class Topic(zeolite.Object, cls="worker.Topic", version=2):
    name: str
    mail: str

    @zeolite.upgrade(1)
    @staticmethod
    def _1(old: dict[str, Any]) -> dict[str, Any]:
        name, mail = old["author"].split(" <")
        return {"name": name, "mail": mail.rstrip(">")}


@pytest.fixture
def uri(server: Server) -> Iterator[str]:
    with zeolite.connect(server.address) as db:
        with db.transaction() as tx:
            for number in range(COUNT):
                tx.root.map("topics", Topic1, int)[number] = Topic1(author="nobody" if number == 7 else f"A{number} <{number}@x>")
        yield f"zeolite://{server.address}/"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "zeolite.evolve", *arguments]
    return subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=100)


def test_a_job_that_is_not_planned_is_refused(uri: str) -> None:
    for what in ("run", "undo"):
        told = run(what, "test_typed_worker:Topic", uri, "nojob")
        assert told.returncode == 1 and told.stderr.startswith("zeolite.evolve: there is no evolve 'nojob' at zeolite://"), told
        assert ("--plan plans it" in told.stderr) == (what == "run")
    with zeolite.connect(uri.removeprefix("zeolite://").rstrip("/")) as db:
        assert zeolite.evolve.Job.find_or_none(db, "nojob") is None


def test_a_job_that_fails_says_why_and_what_to_do(server: Server, uri: str) -> None:
    told = run("run", "test_typed_worker:Topic", uri, "topics 2", "--plan", *ANY_DISK)
    assert told.returncode == 1 and "bad 1" in told.stdout, told
    assert "the evolve is failed" in told.stderr and "zeolite evolve resume 'topics 2'" in told.stderr, told
    assert "worker.Topic, version 1, " in told.stderr and "ValueError: not enough values to unpack" in told.stderr, told
    again = run("run", "test_typed_worker:Topic", uri, "topics 2")
    assert again.returncode == 1 and "zeolite evolve show 'topics 2'" in again.stderr, again
    shown = subprocess.run([PROGRAM, "--server", server.address, "evolve", "show", "topics 2"], capture_output=True, text=True)
    lines = [line.strip() for line in shown.stdout.splitlines()]
    assert "\\n" not in shown.stdout and "Traceback (most recent call last):" in lines, shown.stdout
    assert any(line.startswith("in the upgrade of worker.Topic (version 1)") for line in lines) == hasattr(ValueError, "add_note")


def test_a_module_that_cannot_be_imported_is_told(tmp_path: Path, uri: str) -> None:
    none = run("try", "no_such_module:Topic", uri, "t")
    assert none.returncode == 1 and "Traceback" not in none.stderr, none
    assert none.stderr.startswith("the module 'no_such_module' cannot be imported: there is none where Python looks"), none
    (tmp_path / "broken.py").write_text("import zeolite\n1 / 0\n")
    program = [sys.executable, "-m", "zeolite.evolve", "try", "broken:Topic", uri, "t"]
    broken = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    assert broken.returncode == 1 and "broken.py\", line 2" in broken.stderr, broken
    assert broken.stderr.splitlines()[-1].startswith("the module 'broken' cannot be imported: it failed (ZeroDivisionError"), broken


def test_a_server_that_is_not_there_is_told_in_a_line(server: Server, uri: str) -> None:
    server.stop()
    told = run("run", "test_typed_worker:Topic", f"{uri}?wait_timeout=0.2", "topics")
    assert told.returncode == 1 and told.stderr.startswith("zeolite.evolve: no connection to ") and "Traceback" not in told.stderr, told


def test_the_help_speaks_of_classes_as_well() -> None:
    told = run("--help")
    assert told.returncode == 0 and "class of Python's own" in told.stdout and "--plan" in told.stdout and "app:Topic" in told.stdout

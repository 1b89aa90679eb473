"""The fifteen lines that the package was asked for run as they stand, but for the address; the wish is kept in ``fifteen.py``."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from serving import PROGRAM, Server

import zeolite
from zeolite import database

LINES = Path(__file__).parent / "fifteen.py"


def test_they_run(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Former(zeolite.Object, cls="wiki.Page", version=1):
        title: str
        body: str
        author: str

    with zeolite.connect(server.address) as db, db.transaction() as tx:
        former = tx.create(Former(title="Old", body="as it was", author="Grace <grace@example.org>"))
        tx.root.unique("titles", Former)["Old"] = former

    text = LINES.read_text()
    assert text.count('"db:7878"') == 1
    whole = ast.parse(text.replace("db:7878", server.address))
    *before, snapshot, evolve = whole.body
    names: dict[str, object] = {"__name__": "fifteen"}
    exec(compile(ast.Module(before, []), str(LINES), "exec", dont_inherit=True), names)
    add = names["add"]
    assert callable(add)
    add("Home", "welcome")
    with pytest.raises(KeyError, match="'Home' is taken"):
        add("Home", "again")
    # The clock of the program is two hours ahead: what was written just now is as old for it.
    monkeypatch.setattr(database, "now", lambda: datetime.now(timezone.utc) + timedelta(hours=2))
    # The disk of the tests may be as full as it likes: the job is planned so, and the line works on it.
    planning, page = names["db"], names["Page"]
    assert isinstance(planning, zeolite.Database) and isinstance(page, type)
    zeolite.evolve.plan(planning, "pages-2", page, disk_pause_percent=0, disk_stop_percent=0).close()
    exec(compile(ast.Module([snapshot, evolve], []), str(LINES), "exec", dont_inherit=True), names)
    assert capsys.readouterr().out == "welcome\n"

    db = planning
    monkeypatch.undo()
    assert ("wiki.Page", 2, 2) in db._native.kinds() and former._z_oid is not None
    with db.snapshot() as now:
        old = now.root.unique("titles")["Old"]
        assert (old.author_name, old.author_mail, old.hits.value, list(old.comments)) == ("Grace", "grace@example.org", 0, [])
        assert now.root.unique("titles")["Home"].hits.value == 1
    told = subprocess.run([PROGRAM, "--server", server.address, "log"], capture_output=True, text=True, check=True).stdout
    assert "web request" in told
    db.close()


def test_they_have_types() -> None:
    """Everything of ``--strict`` but what it says of functions without annotations; docs/python.md has them with annotations."""
    arguments = ["--strict", "--allow-untyped-defs", "--allow-untyped-calls", "--no-check-untyped-defs", "--no-incremental", str(LINES)]
    told = subprocess.run([sys.executable, "-m", "mypy", *arguments], capture_output=True, text=True, cwd=LINES.parent)
    assert told.returncode == 0, told.stdout

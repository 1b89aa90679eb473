"""Zope alone: the root folder, two processes that fill it, undo, history and pack as an administrator has them."""

from __future__ import annotations

from pathlib import Path

from instance import ZOPE, Instance
from serving import Server


def test_two_processes_and_an_administrator(server: Server, tmp_path: Path) -> None:
    zope = Instance(tmp_path / "zope", server.address, ZOPE)
    # The first makes the root folder; it is there for both then.
    zope.run("zope_add", "zero", 1)
    both = [zope.begin("zope_add", prefix, 20) for prefix in ("one", "two")]
    print([zope.end(process) for process in both])
    told = zope.run("zope_operate")
    names = [f"{prefix}-{number}" for prefix in ("one", "two") for number in range(20)]
    assert told["added"] == sorted(["zero-0", *names])
    assert "changed" in told["newest"] and told["title"] == "Folder 0 of one"
    assert told["history"] == 3
    assert told["packed"] == {"history": 1, "added": 41, "undoable": 0}

"""Zope alone: the root folder, two processes that fill it, undo, history and pack as an administrator has them; a mounted database; an
instance that the server lets read only."""

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


def test_a_mounted_database(tmp_path: Path) -> None:
    server = Server(tmp_path, f"databases.archive.data_dir={tmp_path}/archive")
    try:
        zope = Instance(tmp_path / "zope", server.address, ZOPE, databases=("main", "archive"))
        told = zope.run("zope_mount")
        print(told)
        assert told["databases"] == told["jars"] == ["main", "archive"]
        assert told["mounted"]
        assert all("both" in description for description in told["both"])
        assert told["undone"] == ["both", ""]
        # What only the other database refers to stays, and nothing that is there is lost.
        assert told["packed"] == told["before"]
        assert (told["pinned"], told["pinned in"]) == ("old in the archive", "archive")
        assert told["half"] != "committed" and told["after half"] == ["both", False]
    finally:
        server.stop()


def test_an_instance_that_may_only_read(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        Instance(tmp_path / "one", server.address, ZOPE).run("zope_film")
        server.stop()
        server = Server(tmp_path, "auth.anonymous_role=read")
        other = Instance(tmp_path / "other", server.address, ZOPE, more="read-only-fallback on")
        told = other.run("zope_seen")
        print(told)
        assert (told["title"], told["film"], told["read-only"]) == ("theirs", 100_000, True)
        assert "refused" in told and told["then"] == "theirs"
    finally:
        server.stop()

"""Tools of the family, as they are: what they ask a storage for beside its interfaces. Their programs run as a site's operator runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zc.beforestorage
import zc.zodbdgc
from BTrees.OOBTree import OOBTree
from serving import Server
from ZODB import DB
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64, z64

from zeolite.zodb import Storage

Connect = Callable[..., Storage]
OLD = "import persistent\n\n\nclass Old(persistent.Persistent):\n    pass\n"
#: What zodbupdate is to find: the old name is the new class.
RENAMED = "import persistent\n\n\nclass New(persistent.Persistent):\n    pass\n\n\nOld = New\n"


def tool(tmp_path: Path, name: str, *arguments: str) -> str:
    """What a program that stands beside this Python tells."""
    command = [sys.executable, str(Path(sys.executable).parent / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def in_another_process(tmp_path: Path, server: Server, work: str) -> str:
    """Runs lines with ``root`` in a transaction: the class is imported anew."""
    program = f"""
import app, transaction
from BTrees.OOBTree import OOBTree
from ZODB import DB
from zeolite.zodb import Storage
db = DB(Storage({server.address!r}))
with db.transaction() as connection:
    root = connection.root()
    {work}
db.close()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout


def test_zodbupdate_renames_a_class(server: Server, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(OLD)
    (tmp_path / "storage.conf").write_text(f"%import zeolite.zodb\n<zeolite>\n  server {server.address}\n</zeolite>\n")
    in_another_process(tmp_path, server, "root['docs'] = OOBTree({number: app.Old() for number in range(1200)})")
    (tmp_path / "app.py").write_text(RENAMED)
    assert "app New" in tool(tmp_path, "zodbupdate", "--config", "storage.conf")
    (tmp_path / "app.py").write_text(RENAMED.replace("Old = New\n", ""))
    assert in_another_process(tmp_path, server, "print({type(doc).__name__ for doc in root['docs'].values()})") == "{'New'}\n"


def test_the_garbage_of_several_databases_is_collected(server: Server, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(OLD)
    (tmp_path / "zodb.conf").write_text(
        f"%import zeolite.zodb\n<zodb main>\n  <zeolite>\n    server {server.address}\n  </zeolite>\n</zodb>\n"
    )
    in_another_process(tmp_path, server, "root['docs'] = OOBTree({number: app.Old() for number in range(20)})")
    in_another_process(tmp_path, server, "[root['docs'].pop(number) for number in range(5)]")
    storage = Storage(server.address, pack_gc=False)
    # What any revision refers to is none to it, so the old ones go first.
    storage.pack(time.time(), referencesf)
    before = len(storage)
    # Its program takes what is older than this second; so it is told until when.
    until = storage.lastTransaction()
    garbage = zc.zodbdgc.gc_command(["--days", "0", str(tmp_path / "zodb.conf")], ptid=until, return_bad=True)
    assert len(garbage) == 5 and before - len(storage) == 5
    assert tool(tmp_path, "multi-zodb-check-refs", "zodb.conf") == ""
    storage.close()


def test_a_database_as_it_was(connect: Connect) -> None:
    db = DB(connect())
    with db.transaction() as connection:
        connection.root()["tree"] = OOBTree({1: 1})
    then = db.lastTransaction()
    with db.transaction() as connection:
        connection.root()["tree"][2] = 2
    before = DB(zc.beforestorage.Before(connect(), p64(u64(then) + 1)))
    with before.transaction() as connection:
        assert dict(connection.root()["tree"]) == {1: 1}
    before.close()
    db.close()


def test_a_walk_over_the_records_begins_at_an_oid(connect: Connect) -> None:
    storage = connect()
    db = DB(storage)
    with db.transaction() as connection:
        connection.root()["trees"] = [OOBTree() for _ in range(5)]
        for tree in connection.root()["trees"]:
            connection.add(tree)
        oids = sorted(tree._p_oid for tree in connection.root()["trees"])
    assert storage.record_iternext(z64)[0] == z64
    oid, _, _, cursor = storage.record_iternext(oids[2])
    assert oid == oids[2] and storage.record_iternext(cursor)[0] == oids[3]
    assert storage.record_iternext(oids[4])[3] is None
    db.close()

"""A commit whose end is not known: who may be asked; and Ctrl-C, which ends what has not been sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from serving import Server

import zeolite
from zeolite import aio, errors


class Note(zeolite.Object, cls="outcome.Note"):
    text: str = ""
    hits: zeolite.Counter


def noted(server: Server, wait_timeout: float) -> zeolite.Database:
    db = zeolite.connect(server.address, wait_timeout=wait_timeout)
    with db.transaction() as tx:
        tx.root["note"] = Note()
    return db


def in_doubt(server: Server, db: zeolite.Database) -> errors.AskOutcome:
    """A commit that was sent to a server which answers nothing any more."""
    with pytest.raises(errors.AskOutcome) as raised, db.transaction() as tx:
        note = tx.root["note"]
        note.hits += 1
        assert note.text == ""
        server.freeze()
    return raised.value


def test_the_server_is_asked_what_became_of_a_commit(server: Server) -> None:
    with noted(server, 1.5) as db:
        unknown = in_doubt(server, db)
        assert "db.outcome(error)" in str(unknown) and "wait_timeout" in str(unknown)
        assert "Db::outcome" not in str(unknown) and "wait-timeout" not in str(unknown)
        assert len(unknown.commit_key) == 16 and unknown.since > 0
        server.go_on()
        while True:
            try:
                tid = db.outcome(unknown)
            except errors.Wait:
                continue
            if tid is not None:
                break
        assert tid > unknown.since and db.outcome(unknown.commit_key, since=unknown.since) == tid
        with db.snapshot(tid) as then:
            assert then.root["note"].hits.value == 1

        async def asked() -> int | None:
            async with await aio.connect(server.address) as other:
                return await other.outcome(unknown)

        assert asyncio.run(asked()) == tid


def test_a_commit_that_never_came_has_not_happened(server: Server) -> None:
    with noted(server, 30) as db:
        assert db.outcome(b"k" * 16, since=db._native.position()) is None
        with pytest.raises(errors.BadValue, match="look at the data"):
            db.outcome(errors.AskOutcome("without a key"))


INTERRUPTED = """
import os, signal, sys, threading, zeolite
from test_typed_outcome import Note

db = zeolite.connect(sys.argv[1], wait_timeout=300)
for text in ("a", "b"):  # what a commit needs to know is known then
    with db.transaction(fresh=True) as tx:
        tx.root["note"].text = text
        tx.root["note"].hits += 1

def interrupt():
    while tx._open:  # until it is being committed
        pass
    os.kill(os.getpid(), signal.SIGINT)

try:
    with db.transaction() as tx:
        tx.root["note"].text = "changed"
        tx.root["note"].hits += 1
        print("commits", flush=True)
        sys.stdin.readline()
        threading.Thread(target=interrupt).start()
except KeyboardInterrupt:
    print("interrupted", tx.committed, flush=True)
"""


def let_go(server: Server) -> None:
    """Returns when nobody holds a connection to the server that was killed."""
    port = f":{int(server.address.rpartition(':')[2]):04X}"
    held = True
    while held:
        lines = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
        held = any(line[2].endswith(port) and line[3] in ("01", "08") for line in lines)


def test_one_ctrl_c_is_enough_where_nothing_was_sent(server: Server) -> None:
    noted(server, 30).close()
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, server.address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "commits\n"
    server.kill()
    let_go(server)
    told, _ = program.communicate("\n", timeout=60)
    assert (told, program.returncode) == ("interrupted None\n", 0)


def test_a_deadline_ends_the_wait_for_a_server_that_is_not_there(server: Server) -> None:
    with noted(server, 300) as db, pytest.raises(errors.Deadline), db.transaction(deadline=0.5) as tx:
        tx.root["note"].text = "changed"
        server.kill()
        let_go(server)


def test_what_has_only_read_ends_without_a_server(server: Server) -> None:
    with noted(server, 300) as db, db.transaction() as tx:
        assert tx.root["note"].text == ""
        server.kill()
        let_go(server)

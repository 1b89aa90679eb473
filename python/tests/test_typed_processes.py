"""What a site does to Python's own objects: forks, signals, servers that go away and come back, users without rights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest
from serving import PROGRAM, Server
from wiki import Page

import zeolite
from zeolite import errors

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def home(db: zeolite.Database) -> Page:
    with db.transaction(fresh=True) as tx:
        page = tx.create(Page(title="Home", body="", written=NOW))
        tx.root.unique("titles", Page)["Home"] = page
    return page


def test_a_child_connects_anew_and_leaves_what_its_parent_has_begun(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        page = home(db)
        with db.transaction() as tx:
            here = tx.get(page)
            child = os.fork()
            if child == 0:
                ended = 1
                try:
                    for use in (lambda: tx.get(page), lambda: setattr(here, "body", "child"), lambda: here.hits.value):
                        try:
                            use()
                        except errors.Forked:
                            continue
                        os._exit(2)
                    with db.transaction(fresh=True) as own:
                        own.get(page).hits += 1
                    ended = 0
                finally:
                    os._exit(ended)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            here.body = "parent"
        with db.transaction(fresh=True) as tx:
            assert (tx.get(page).hits.value, tx.get(page).body) == (1, "parent")


WAITS = """
import sys, zeolite
sys.path.insert(0, {here!r})
from wiki import Page
with zeolite.connect({address!r}) as db, db.transaction() as tx:
    print("begun", flush=True)
    sys.stdin.readline()
    try:
        print("waiting", flush=True)
        tx.root.unique("titles", Page)["Home"]
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_wait(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        home(db)
    program = WAITS.format(here=str(Path(__file__).parent), address=server.address)
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=server.directory)
    assert process.stdout is not None and process.stdin is not None and process.stdout.readline() == "begun\n"
    # The server stands still: whatever is asked for does not come.
    server.freeze()
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waiting\n"
        # If it does not wait yet, Python looks at the signal by itself.
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    finally:
        server.go_on()
    process.communicate(timeout=60)


COMMITS = """
import sys, zeolite
sys.path.insert(0, {here!r})
from wiki import Page
with zeolite.connect({address!r}) as db:
    try:
        with db.transaction() as tx:
            # Then all that is asked before a commit is known.
            tx.root["other"] = tx.create(Page(title="Other", body="", written=tx.root.unique("titles", Page)["Home"].written))
            tx.flush()
            page = tx.root.unique("titles", Page)["Home"]
            page.body = "committed"
            tx.root["other"] = other = tx.create(Page(title="Other", body="", written=page.written))
            print("begun", flush=True)
            sys.stdin.readline()
            print("committing", flush=True)
    except KeyboardInterrupt:
        print("interrupted", tx.committed is not None, other._z_oid is not None, flush=True)
"""


def test_ctrl_c_waits_for_the_end_of_a_commit(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        page = home(db)
        program = COMMITS.format(here=str(Path(__file__).parent), address=server.address)
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=server.directory)
        assert process.stdout is not None and process.stdin is not None and process.stdout.readline() == "begun\n"
        server.freeze()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "committing\n"
        sleeping = Path(f"/proc/{process.pid}/stat")
        while sleeping.read_text().rpartition(")")[2].split()[0] != "S":
            pass  # it waits for the commit, and looks at signals now and then
        process.send_signal(signal.SIGINT)
        server.go_on()
        assert process.stdout.readline() == "interrupted True True\n"
        process.communicate(timeout=60)
        with db.transaction(fresh=True) as tx:
            assert tx.get(page).body == "committed"


def test_other_threads_run_while_one_waits(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        page, done, counted = home(db), threading.Event(), [0]

        def wait() -> None:
            with db.transaction() as tx:
                tx.get(page).body = "x"
            done.set()

        server.freeze()
        thread = threading.Thread(target=wait)
        thread.start()
        while counted[0] < 100_000:
            counted[0] += 1
        assert not done.is_set()
        server.go_on()
        thread.join()
        assert done.is_set()


def test_a_server_that_comes_back_is_found_again(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        page = home(db)

        @db.transaction()
        def hit(tx: zeolite.Transaction) -> None:
            tx.get(page).hits += 1

        hit()
        server.kill()
        server.start_again()
        hit()
        with db.snapshot() as now:
            assert now.get(page).hits.value == 2


def test_the_time_of_a_transaction_ends_the_waiting_for_its_commit(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        page = home(db)
        # What is asked once about the root is known from then on.
        with db.transaction() as tx:
            tx.get(page).body = ""
        with pytest.raises(errors.AskOutcome, match="deadline") as asked, db.transaction(deadline=0.3) as tx:
            tx.get(page).body = "x"
            server.freeze()
        assert len(asked.value.commit_key) == 16
        server.go_on()
        with db.transaction(fresh=True) as tx:
            assert tx.get(page).body in ("", "x")


def test_what_connect_is_told(server: Server) -> None:
    with pytest.raises(errors.Disconnected, match="127.0.0.1:1"):
        zeolite.connect("127.0.0.1:1", wait=False)
    with zeolite.connect(f"127.0.0.1:1, {server.address}", client_label="web-3", wait_timeout=10) as db:
        home(db)
    with zeolite.connect(server.address, role="read") as db:
        with db.snapshot() as now:
            assert now.root.unique("titles", Page)["Home"].title == "Home"
        with pytest.raises(errors.GiveUp, match="role"), db.transaction() as tx:
            tx.root.counter("edits").add(1)
    with pytest.raises(errors.ZeoliteError, match="nowhere"):
        zeolite.connect(server.address, database="nowhere")


def test_a_database_that_takes_no_writes_says_so(server: Server) -> None:
    with zeolite.connect(server.address) as db:
        page = home(db)
        subprocess.run([PROGRAM, "--server", server.address, "mode", "read-only", "--banner", "back at noon"], check=True)
        with pytest.raises(errors.ReadOnly, match="back at noon"), db.transaction() as tx:
            tx.get(page).body = "x"

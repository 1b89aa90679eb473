"""Evolves of persistent objects: beside live writers, killed, failing, taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import evolving
import pytest
from evolving import catalog_is_exact, every_edit_is_kept, live, opened, stored
from migrations import index, lower, unindex
from persistent.mapping import PersistentMapping
from serving import Server
from ZODB import DB
from ZODB.blob import Blob

from zeolite import evolve
from zeolite.errors import Gated
from zeolite.evolve.__main__ import main
from zeolite.zodb import Storage

DOCS = 300
#: Where the disk of the machine is nearly full, a job would wait.
ANY_DISK = {"disk_pause_percent": 0, "disk_stop_percent": 0}


@pytest.fixture
def uri(server: Server) -> str:
    seed = evolving.process("-c", f"import cms; cms.seed({server.address!r}, {DOCS})", release=1)
    assert seed.wait(60) == 0
    return f"zeolite://{server.address}/"


def kinds(connection: Any) -> dict[int, int]:
    return {v: n for name, v, n in connection._storage._database.kinds() if name == "cms.Doc"}


def test_an_attribute_beside_live_writers(server: Server, uri: str) -> None:
    with live(server.address) as site:
        report = evolve.run(uri, "lower", lower, gate=True, **ANY_DISK)
    assert report["phase"] == "done"
    assert site.conflicts == []
    with opened(server.address) as connection:
        every_edit_is_kept(connection, site)
        assert kinds(connection) == {2: DOCS}
        for doc in connection.root()["docs"].values():
            assert stored(connection, doc)["title_lower"] == doc.title.lower()


def test_an_index_beside_live_writers(server: Server, uri: str) -> None:
    with live(server.address, "index") as site:
        report = evolve.run(uri, "index", index, **ANY_DISK)
    assert report["phase"] == "done"
    with opened(server.address) as connection:
        every_edit_is_kept(connection, site)
        catalog_is_exact(connection)
    # Who inserts meets splits of nodes that others have made, evolves or not; documents and the length are never among them.
    assert not [conflict for conflict in site.conflicts if "BTree" not in conflict and "read conflict" not in conflict]


def test_what_fails_is_in_the_quarantine_with_its_traceback(server: Server, uri: str) -> None:
    @evolve.step("cms.Doc", name="index")
    def fails(doc: Any, tx: evolve.Tx) -> None:
        tx.root()["catalog"].add(doc)
        if doc.number % 100 == 7:
            raise ValueError(f"no {doc.number}")

    report = evolve.run(uri, "index", fails, **ANY_DISK)
    assert (report["phase"], report["bad"], report["changed"] + report["kept"]) == ("failed", 3, DOCS - 3)
    with evolve.Job.find(uri, "index") as job:
        bad = job.quarantine()
        assert len(bad) == 3
        for _, name, version, why in bad:
            assert (name, version) == ("cms.Doc", 0)
            assert "in fails" in why and "ValueError: no " in why
        with opened(server.address) as connection:
            # Nothing of a step that failed is there.
            assert connection.root()["catalog"].count() == DOCS - 3
        job.resume()
        assert job.run(index)["phase"] == "done"
    with opened(server.address) as connection:
        catalog_is_exact(connection)


def test_what_ends_a_worker_is_raised_as_it_is(server: Server, uri: str) -> None:
    @evolve.step("cms.Doc", name="index")
    def exits(doc: Any, tx: evolve.Tx) -> None:
        sys.exit("enough")

    with pytest.raises(SystemExit, match="enough") as caught:
        evolve.run(uri, "index", exits, **ANY_DISK)
    assert caught.traceback[-1].name == "exits"
    assert evolve.run(uri, "index", index, **ANY_DISK)["phase"] == "done"


def test_a_dry_run_raises_what_ends_a_worker_as_it_is(uri: str) -> None:
    @evolve.step("cms.Doc")
    def exits(doc: Any, tx: evolve.Tx) -> None:
        sys.exit("enough")

    with pytest.raises(SystemExit, match="enough") as caught:
        evolve.dry_run(uri, exits)
    assert caught.traceback[-1].name == "exits"


def worker(uri: str, name: str, step: str) -> Any:
    """Another process that works on the job."""
    return evolving.process("-m", "zeolite.evolve", "run", f"migrations:{step}", uri, name)


def test_workers_that_are_killed_and_two_at_once(server: Server, uri: str) -> None:
    evolve.plan(uri, "index", index, chunk_objects_start=5, chunk_objects_max=5, rate_max=200, **ANY_DISK).close()
    with live(server.address, "index") as site, evolve.Job.find(uri, "index") as job:
        killed = worker(uri, "index", "index")
        while job.show()["done"] < 20:
            assert killed.poll() is None
        killed.kill()
        killed.wait()
        assert job.show()["done"] < DOCS
        both = [worker(uri, "index", "index"), worker(uri, "index", "index")]
        ended = [(one.communicate(timeout=120), one.returncode) for one in both]
    assert [code for _, code in ended] == [0, 0], ended
    with opened(server.address) as connection:
        every_edit_is_kept(connection, site)
        catalog_is_exact(connection)


def gone_over(connection: Any, uri: str) -> dict[str, Any]:
    """Runs a job in which a live transaction that has read a document before its step is committed behind it."""
    doc, catalog = connection.root()["docs"][7], connection.root()["catalog"]
    doc.rename("Another")
    assert "Title 7" not in catalog.titles
    chunks: list[Any] = []

    @evolve.step("cms.Doc", name="index")
    def meets(doc: Any, tx: evolve.Tx) -> None:
        index(doc, tx)
        if doc.number == 7:
            chunks.append(tx.connection._storage)
        elif len(chunks) == 1 and chunks[0] is not tx.connection._storage:
            # The chunk of the seventh is committed.
            chunks.append(tx.connection._storage)
            connection.transaction_manager.commit()

    meets.take_back(unindex)
    done = evolve.run(uri, "index", meets, chunk_objects_start=20, chunk_objects_max=20, **ANY_DISK)
    assert len(chunks) == 3, "it was stepped, gone over, and stepped anew"
    return done


def test_what_a_live_edit_goes_over_is_indexed_anew(server: Server, uri: str) -> None:
    with opened(server.address) as connection:
        done = gone_over(connection, uri)
        assert (done["phase"], done["stepped_again"]) == ("done", 1)
        connection.sync()
        assert connection.root()["docs"][7].title == "Another"
        catalog_is_exact(connection)


def test_what_a_step_read_elsewhere_counts_where_a_live_check_goes_over_it(server: Server, uri: str) -> None:
    with opened(server.address) as connection:
        root = connection.root()
        root["prefix"] = PersistentMapping(text="old ")
        connection.transaction_manager.commit()
        # A serializable transaction: it has seen the seventh as it was, and writes what that one's step reads.
        root["docs"][7]._p_activate()
        connection.readCurrent(root["docs"][7])
        root["prefix"]["text"] = "new "
        chunks: list[Any] = []

        @evolve.step("cms.Doc", name="prefixed")
        def prefixed(doc: Any, tx: evolve.Tx) -> None:
            if doc.number == 7:
                chunks.append(tx.connection._storage)
            elif len(chunks) == 1 and chunks[0] is not tx.connection._storage:
                # The chunk of the seventh is committed.
                chunks.append(tx.connection._storage)
                connection.transaction_manager.commit()
            doc.prefixed = tx.root()["prefix"]["text"] + doc.title

        few = {"chunk_objects_start": 20, "chunk_objects_max": 20}
        done = evolve.run(uri, "prefixed", prefixed, **few, **ANY_DISK)
        assert (done["phase"], done["stepped_again"], len(chunks)) == ("done", 1, 3), "as though it had been before the step"
        connection.sync()
        assert stored(connection, root["docs"][7])["prefixed"] == "new Title 7"


def test_blobs_are_made_opened_and_replaced_in_steps(server: Server, uri: str) -> None:
    @evolve.step("cms.Doc", name="attached")
    def attached(doc: Any, tx: evolve.Tx) -> None:
        if doc.number % 10:
            return
        doc.attached = Blob(f"first {doc.number}".encode())
        if doc.number == 70:
            raise ValueError("nothing of it")

    @evolve.step("cms.Doc", name="replaced")
    def replaced(doc: Any, tx: evolve.Tx) -> None:
        if (blob := getattr(doc, "attached", None)) is None:
            return
        with blob.open() as file:
            was = file.read()
        with blob.open("w") as file:
            file.write(was + b", second")

    assert evolve.dry_run(uri, attached).other_writes == DOCS // 10 - 1
    assert evolve.run(uri, "attached", attached, **ANY_DISK)["bad"] == 1
    directory = server.directory / "kept"
    done = evolve.run(f"{uri}?blob_dir={directory}", "replaced", replaced, **ANY_DISK)
    assert (done["phase"], done["bad"]) == ("done", 0)
    left = [path for path in directory.rglob("*") if path.is_file() and path.parent.name == "incoming"]
    assert [path for path in left if path.name != ".lock"] == []
    database = DB(Storage(server.address, blob_dir=str(server.directory / "blobs")))
    docs = database.open().root()["docs"]
    for number in range(0, DOCS, 10):
        if number == 70:
            assert not hasattr(docs[number], "attached")
            continue
        with docs[number].attached.open() as file:
            assert file.read() == f"first {number}, second".encode()
    database.close()


@pytest.mark.parametrize("what", ["edit", "index"])
def test_a_whole_plan_in_one_commit_beside_live_writers(server: Server, uri: str, what: str) -> None:
    step = lower if what == "edit" else index
    with live(server.address, what) as site:
        report = evolve.run(uri, "whole", step, atomic=True, **ANY_DISK)
    assert (report["phase"], report["chunks"]) == ("done", 1)
    with opened(server.address) as connection:
        every_edit_is_kept(connection, site)
        if what == "index":
            catalog_is_exact(connection)
        else:
            assert kinds(connection) == {2: DOCS}
            assert all(stored(connection, doc)["title_lower"] for doc in connection.root()["docs"].values())
        with evolve.Job.find(uri, "whole") as job:
            assert job.undo()["phase"] in ("undone",), job.not_undone()


def test_a_whole_plan_whose_worker_is_killed_has_changed_nothing(server: Server, uri: str) -> None:
    told = server.directory / "stepped"
    step = f"""
import os, signal, cms
from zeolite import evolve
from ZODB.blob import Blob

@evolve.step("cms.Doc", name="whole")
def whole(doc, tx):
    tx.root()["catalog"].add(doc)
    doc.attached = Blob(b"%d" % doc.number)
    if doc.number == {DOCS - 1} and not os.path.exists({str(told)!r}):
        open({str(told)!r}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

done = evolve.run({uri!r}, "whole", whole, atomic=True, lease_ms=1000, disk_pause_percent=0, disk_stop_percent=0)
print(done["phase"], done["chunks"])
"""
    killed = evolving.process("-c", step)
    assert killed.wait(60) == -9 and told.exists()
    with opened(server.address) as connection:
        assert connection.root()["catalog"].count() == 0
        assert not any("attached" in stored(connection, doc) for doc in connection.root()["docs"].values())
    again, _ = evolving.process("-c", step).communicate(timeout=100)
    assert again == "done 1\n"
    with opened(server.address) as connection:
        catalog_is_exact(connection)
        assert all("attached" in stored(connection, doc) for doc in connection.root()["docs"].values())


def test_a_whole_plan_fails_as_a_whole(server: Server, uri: str) -> None:
    @evolve.step("cms.Doc", name="whole")
    def fails(doc: Any, tx: evolve.Tx) -> None:
        tx.root()["catalog"].add(doc)
        if doc.number == 299:
            raise ValueError("the last one")

    assert evolve.run(uri, "whole", fails, atomic=True, **ANY_DISK)["phase"] == "failed"
    with opened(server.address) as connection:
        assert connection.root()["catalog"].count() == 0
    with evolve.Job.find(uri, "whole") as job:
        assert "the last one" in job.show()["state"]


@pytest.mark.parametrize("payments", [False, True])
def test_undo(server: Server, uri: str, payments: bool) -> None:
    with opened(server.address) as connection:
        if payments:
            assert gone_over(connection, uri)["phase"] == "done"
        else:
            assert evolve.run(uri, "index", index, **ANY_DISK)["phase"] == "done"
        with evolve.Job.find(uri, "index") as job:
            report = job.undo()
            assert (report["phase"], report["bad"]) == ("undone", 0), job.not_undone()
        connection.sync()
        catalog = connection.root()["catalog"]
        assert (dict(catalog.titles), catalog.count()) == ({}, 0)
        assert connection.root()["docs"][7].title == ("Another" if payments else "Title 7")


def test_an_attribute_is_taken_back_and_the_gate_refuses_old_code(server: Server, uri: str) -> None:
    assert evolve.run(uri, "lower", lower, gate=True, **ANY_DISK)["phase"] == "done"
    old = f"""
import cms, transaction
from ZODB import DB
from zeolite.errors import Gated
from zeolite.evolve.__main__ import main
from zeolite.zodb import Storage
connection = DB(Storage({server.address!r}, server_sync=True)).open()
connection.root()["docs"][3].views += 1
try:
    transaction.commit()
except Gated as error:
    print(error)
"""
    refused, _ = evolving.process("-c", old, release=1).communicate(timeout=60)
    assert "cms.Doc" in refused and Gated.__name__ == "Gated"
    with evolve.Job.find(uri, "lower") as job:
        assert job.undo()["phase"] == "undone"
    with opened(server.address) as connection:
        assert kinds(connection) == {0: DOCS}
        for doc in connection.root()["docs"].values():
            assert "title_lower" not in stored(connection, doc)
    taken, _ = evolving.process("-c", old, release=1).communicate(timeout=60)
    assert taken == ""


def test_a_dry_run_tells_states_and_writes_nothing(server: Server, uri: str) -> None:
    tried = evolve.dry_run(uri, lower, samples=1)
    assert (tried.total, tried.stepped, tried.changed, tried.bad) == (DOCS, DOCS, DOCS, 0)
    assert tried.samples[0].changes["title_lower"][0] is None
    assert "title_lower: None -> 'title " in str(tried)
    counted = evolve.dry_run(uri, index, limit=10)
    assert counted.stepped == 10 and counted.other_writes >= 2
    with opened(server.address) as connection:
        assert kinds(connection) == {0: DOCS}


def test_a_class_that_does_not_declare_the_version_is_refused(uri: str) -> None:
    @evolve.step("cms.Doc", to=3)
    def later(doc: Any, tx: evolve.Tx) -> None:
        """Never called."""

    with pytest.raises(ValueError, match="_zeolite_version_ = 2"):
        evolve.run(uri, "later", later)


def test_a_worker_that_is_interrupted_says_so(uri: str) -> None:
    with evolve.plan(uri, "lower", lower, rate_max=20, **ANY_DISK) as job:
        command = [sys.executable, "-m", "zeolite.evolve", "run", "migrations:lower", uri, "lower"]
        environment = {**os.environ, "CMS_RELEASE": "2", "PYTHONPATH": str(Path(__file__).parent)}
        working = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
        while job.show()["done"] == 0:
            assert working.poll() is None
        working.send_signal(signal.SIGINT)
        told = working.communicate(timeout=60)[1]
    assert working.returncode == 130 and "goes on where it stopped" in told and "Traceback" not in told
    refused = subprocess.run([*command, "--tasks", "-3"], env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert refused.returncode == 2 and "--tasks" in refused.stderr


def test_the_class_of_a_step_is_imported_by_it(uri: str, tmp_path: Path) -> None:
    step = 'from zeolite import evolve\n\n\n@evolve.step("{}", to=2)\ndef step(doc, tx):\n    doc.seen = True\n'
    (tmp_path / "alone.py").write_text(step.format("cms.Doc"))
    (tmp_path / "lost.py").write_text(step.format("nowhere.Doc"))
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])

    def tried(module: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zeolite.evolve", "try", f"{module}:step", uri, "seen"],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    done = tried("alone")
    assert done.returncode == 0 and str(DOCS) in done.stdout, done.stderr
    assert "nowhere" in tried("lost").stderr


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("run", "--set rate_max=20"),
        ("run", "--gate"),
        ("undo", "--set rate_max=20"),
        ("undo", "--plan"),
        ("undo", "--tasks 2"),
        ("plan", "--tasks 2"),
        ("run", "--limit 10"),
        ("try", "--gate"),
        ("try", "--limit 0"),
    ],
)
def test_an_option_that_does_nothing_is_refused(what: str, options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main([what, "migrations:lower", "zeolite://127.0.0.1:1/", "lower", *options.split()])
    assert refused.value.code == 2 and options.split()[0] in capsys.readouterr().err


def test_settings_of_a_job_that_was_planned_before_are_told_to_change_nothing(uri: str) -> None:
    command = [sys.executable, "-m", "zeolite.evolve", "run", "migrations:lower", uri, "lower", "--plan", "--set", "rate_max=100000"]
    environment = {**os.environ, "CMS_RELEASE": "2", "PYTHONPATH": str(Path(__file__).parent)}
    for told in ("", "change nothing now"):
        done = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
        assert done.returncode == 0 and told in done.stderr and ("planned before" in done.stderr) == bool(told), done.stderr

"""A whole site on Zeolite: two processes, writers over HTTP, a classic evolve beside them, and a server that is killed meanwhile."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from BTrees.check import check
from serving import Server
from ZODB import DB

from zeolite.zodb import Storage

HERE = Path(__file__).parent
WORDS = ["amber", "birch", "cedar", "daisy", "elder"]
SEED = int(os.environ.get("ZEOLITE_SEED") or random.randrange(1 << 32))


class Process:
    """A program of the site that tells lines."""

    def __init__(self, program: str, uri: str, cwd: Path):
        self.lines: list[str] = []
        self.told = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), uri], cwd=cwd, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.told:
                self.lines.append(line.strip())
                self.told.notify_all()
        with self.told:
            self.lines.append("ended")
            self.told.notify_all()

    def wait_for(self, begin: str) -> str:
        with self.told:
            found: list[str] = []

            def there() -> bool:
                found[:] = [line for line in self.lines if line.startswith((begin, "ended"))]
                return bool(found)

            assert self.told.wait_for(there, 60) and found[0] != "ended", self.lines
            return found[0]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self._reader.join()


class Writer(threading.Thread):
    """A visitor that adds, edits and searches; it remembers what was acknowledged."""

    def __init__(self, number: int, addresses: list[str]):
        super().__init__()
        self.number = number
        self.addresses = addresses
        self.choose = random.Random(SEED + number)
        self.enough = threading.Event()
        self.moved = threading.Condition()
        self.added: list[str] = []
        self.edited: list[tuple[str, str]] = []
        self.searched = 0
        self.refused: list[int] = []
        self.wrong: list[Any] = []

    def run(self) -> None:
        turn = 0
        while not self.enough.is_set():
            turn += 1
            address, word = self.addresses[turn % len(self.addresses)], self.choose.choice(WORDS)
            kind = self.choose.choice(["add", "edit", "edit", "edit", "search"]) if self.added else "add"
            if kind == "add":
                name = f"{self.choose.randrange(100):02}-{self.number}-{turn}"
                if self.ask(address, "add", name=name, word=word):
                    self.added.append(name)
            elif kind == "edit":
                name, edit = self.choose.choice(self.added), f"{self.number}-{turn}"
                if self.ask(address, "edit", name=name, word=word, edit=edit):
                    self.edited.append((name, edit))
            else:
                told = self.ask(address, "search", word=word)
                if told:
                    self.searched += 1
                    self.wrong += told["wrong"]
            with self.moved:
                self.moved.notify_all()

    def ask(self, address: str, what: str, **values: str) -> Any:
        body = urllib.parse.urlencode(values).encode()
        try:
            with urllib.request.urlopen(f"{address}/{what}", body, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            self.refused.append(error.code)
            return None

    def done(self) -> int:
        return len(self.added) + len(self.edited)

    def wait_for(self, more: int) -> None:
        """So many more are acknowledged."""
        goal = self.done() + more
        with self.moved:
            assert self.moved.wait_for(lambda: self.done() >= goal or not self.is_alive(), 60)
        assert self.is_alive()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.stop()


def test_a_site_goes_through_an_evolve_and_a_killed_server(server: Server, tmp_path: Path) -> None:
    print(f"ZEOLITE_SEED={SEED}")
    uri = f"zeolite://{server.address}/?wait_timeout=60&server_sync=true"
    processes = [Process("web.py", uri, tmp_path) for _ in range(2)]
    writers: list[Writer] = []
    try:
        addresses = [process.wait_for("http://") for process in processes]
        writers += [Writer(number, addresses) for number in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.wait_for(40)
        before = [name for writer in writers for name in [*writer.added]]
        evolving = Process("evolving.py", uri, tmp_path)
        processes.append(evolving)
        evolving.wait_for("chunk 2")
        server.kill()
        server.start_again()
        for writer in writers:
            writer.wait_for(20)
        told = evolving.wait_for("done")
    finally:
        for writer in writers:
            writer.enough.set()
            writer.join()
        for process in processes:
            process.stop()
    # Nobody has seen anything of it.
    assert [code for writer in writers for code in writer.refused] == []
    verify(server, writers, before)
    print(f"{told}; {sum(writer.done() for writer in writers)} acknowledged")


def verify(server: Server, writers: list[Writer], before: list[str]) -> None:
    root = DB(Storage(server.address)).open().root()
    documents, catalog, addresses = root["documents"], root["catalog"], root["map"]
    # What was acknowledged is there, once.
    for writer in writers:
        assert writer.searched and writer.wrong == []
        assert all(name in documents for name in writer.added)
        for name, edit in writer.edited:
            assert list(documents[name].history).count(edit) == 1
    # What was not acknowledged is there whole or not at all.
    assert root["count"]() == len(documents) == len(addresses.docid_to_address) == len(addresses.address_to_docid)
    for name, document in documents.items():
        docid = addresses.docid_for_address(name)
        assert catalog["word"]._rev_index[docid] == document.word
        assert docid in catalog["word"]._fwd_index[document.word]
        assert sorted(catalog["keywords"]._rev_index[docid]) == sorted({name[:2], document.word})
    assert sum(len(found) for found in catalog["word"]._fwd_index.values()) == len(documents)
    evolved = {name for name, document in documents.items() if hasattr(document, "size")}
    assert evolved >= {*before}
    assert set(catalog["size"]._rev_index) == {addresses.docid_for_address(name) for name in evolved}
    trees = [documents, addresses.docid_to_address, addresses.address_to_docid]
    for index in catalog.values():
        trees += [index._fwd_index, index._rev_index]
    for tree in trees:
        check(tree)
        tree._check()

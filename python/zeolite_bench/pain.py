"""Owns the pain: an evolve beside a live site whose documents and indexes it changes.

    documents    IOBTree of persistent objects: words, size
    indexes      words: OOBTree of IITreeSets      sizes: IOBTree of IITreeSets, and IIBTrees that know what a document was indexed under
    live         each client takes 5 documents, changes them and all their entries, and retries what conflicts
    evolve       a new field on each document, a new index on it: a classic script (100 documents a transaction, with retry), or ``zeolite.evolve``

A conflict at the site is a request that a user waits for once more. Those of documents are such as both have written; those of trees are ZODB's own affair.
A retry of the evolve is a chunk that was done for nothing, or an object that was stepped once more.
"""

from __future__ import annotations

import random
import time
from typing import Any

import persistent
import transaction
from BTrees.check import check
from BTrees.IIBTree import IIBTree, IITreeSet
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ConflictError

from . import causes
from .sides import database
from .workers import Worker

WORDS = [f"word{number}" for number in range(500)]
SIZES = 1_000
CHUNK = 100
EDITED = 5


class Document(persistent.Persistent):
    """One page of the site."""

    def __init__(self, number: int, order: random.Random):
        self.number = number
        self.words = order.sample(WORDS, 3)
        self.size = order.randrange(SIZES)
        self.text = f"document {number} " * 20
        self.edits = 0


class Index(persistent.Persistent):
    """Documents by a value, as catalogs have it."""

    def __init__(self, by_value: Any):
        self.by_value = by_value
        self.values = IOBTree()

    def put(self, number: int, values: list[Any]) -> None:
        old = self.values.get(number, ())
        for value in old:
            if value not in values:
                of_value = self.by_value[value]
                of_value.remove(number)
                if not of_value:
                    del self.by_value[value]
        for value in values:
            if value not in old:
                of_value = self.by_value.get(value)
                if of_value is None:
                    of_value = self.by_value[value] = IITreeSet()
                of_value.insert(number)
        if tuple(values) != old:
            self.values[number] = tuple(values)

    def wrong(self) -> str:
        """What does not fit, for who checks."""
        check(self.by_value)
        check(self.values)
        there = {(value, number) for value, numbers in self.by_value.items() for number in numbers}
        known = {(value, number) for number, values in self.values.items() for value in values}
        return f"{len(there ^ known)} entries that one side does not know" if there != known else ""


def fill(db: Any, documents: int) -> None:
    """The site, as it was before."""
    order = random.Random(1)
    with db.transaction() as connection:
        root = connection.root()
        root["documents"], root["words"], root["sizes"] = IOBTree(), Index(OOBTree()), Index(IOBTree())
    for first in range(0, documents, 500):
        with db.transaction() as connection:
            root = connection.root()
            for number in range(first, min(first + 500, documents)):
                document = root["documents"][number] = Document(number, order)
                root["words"].put(number, document.words)
                root["sizes"].put(number, [document.size])


def live(db: Any, start: Any, stop: Any, number: int, pause: float) -> list[tuple[float, float, list[Any]]]:
    """Edits until it is stopped: when each was asked for, how long it took, the conflicts that it met."""
    connection = db.open()
    root, order, told = connection.root(), random.Random(100 + number), []
    documents = len(root["documents"])
    next_one = start() + pause * order.random()
    while not stop.is_set():
        time.sleep(max(0.0, next_one - time.monotonic()))
        began, conflicts = time.monotonic(), []
        edits = [(order.randrange(documents), order.sample(WORDS, 3), order.randrange(SIZES)) for _ in range(EDITED)]
        while (error := _edited(root, edits)) is not None:
            conflicts.append(error)
        told.append((began, time.monotonic() - began, conflicts))
        next_one = max(next_one + pause, began)
    connection.close()
    return told


def _edited(root: Any, edits: list[tuple[int, list[str], int]]) -> Any:
    serials = {}
    try:
        transaction.begin().note(causes.LIVE)
        for number, words, size in edits:
            document = root["documents"][number]
            document._p_activate()
            serials[document] = document._p_serial
            document.words, document.size = words, size
            document.edits += 1
            root["words"].put(number, words)
            root["sizes"].put(number, [size])
        transaction.commit()
        return None
    except ConflictError as error:
        transaction.abort()
        transaction.begin()
        return causes.told(error, root._p_jar, serials)


def evolve(db: Any, start: Any, stop: Any, field: str) -> tuple[float, float, int]:
    """Gives each document a field, and the site an index on it: when it began, how long it took, how many chunks were done again."""
    connection = db.open()
    root, retries, began = connection.root(), 0, start()
    documents = len(root["documents"])
    root[field] = Index(IOBTree())
    transaction.commit()
    for first in range(0, documents, CHUNK):
        while not _evolved(root, field, range(first, min(first + CHUNK, documents))):
            retries += 1
    took = time.monotonic() - began
    connection.close()
    return began, took, retries


def own_evolve(db: Any, start: Any, stop: Any, field: str, address: str) -> tuple[float, float, int]:
    """The same by ``zeolite.evolve``."""
    from zeolite import evolve as zeolite_evolve

    with db.transaction() as connection:
        connection.root()[field] = Index(IOBTree())

    def stepped(document: Document, tx: Any) -> None:
        value = document.number % SIZES
        setattr(document, field, value)
        tx.root()[field].put(document.number, [value])

    began = start()
    step = zeolite_evolve.step(f"{Document.__module__}.{Document.__qualname__}")(stepped)
    # Where the disk is nearly full it would wait.
    any_disk: dict[str, Any] = {"disk_pause_percent": 0, "disk_stop_percent": 0}
    report = zeolite_evolve.run(f"zeolite://{address}/", field, step, **any_disk)
    return began, time.monotonic() - began, report["stepped_again"]


def _evolved(root: Any, field: str, chunk: range) -> bool:
    try:
        transaction.begin()
        for number in chunk:
            document = root["documents"][number]
            value = number % SIZES
            setattr(document, field, value)
            root[field].put(number, [value])
        transaction.commit()
        return True
    except ConflictError:
        transaction.abort()
        return False


def _check(db: Any, fields: list[str], edits: int) -> None:
    with db.transaction() as connection:
        root = connection.root()
        check(root["documents"])
        for name in ("words", "sizes", *fields):
            if wrong := root[name].wrong():
                raise SystemExit(f"index {name}: {wrong}")
        documents = list(root["documents"].items())
        found = sum(document.edits for _, document in documents)
        if found != edits * EDITED:
            raise SystemExit(f"{edits * EDITED} documents were edited, {found} say so")
        for number, document in documents:
            indexed = (root["words"].values[number], root["sizes"].values[number])
            if indexed != (tuple(document.words), (document.size,)):
                raise SystemExit(f"document {number} is indexed as something else")
        if any(len(root[field].values) != len(documents) for field in fields):
            raise SystemExit("the evolve has left documents out")


def _of(times: list[float], hundredth: int) -> float:
    return sorted(times)[len(times) * hundredth // 100] * 1e3 if times else float("nan")


def _conflicts(name: str, edits: list[tuple[float, float, list[Any]]]) -> dict[str, float]:
    errors = [error for edit in edits for error in edit[2]]
    times = [edit[1] for edit in edits]
    return {
        f"{name}edits": len(edits),
        f"{name}conflicts": len(errors),
        f"{name}of trees": sum(not both for _, _, both, _ in errors),
        f"{name}p50": _of(times, 50),
        f"{name}p99": _of(times, 99),
    }


def measure(served: tuple[str, Any], own: bool, documents: int, clients: int, pause: float, quiet: float) -> Any:
    """One round on one empty server: the evolve alone, the site alone, both. Numbers, and the causes of conflicts beside the evolve and before."""
    db = database(*served)
    fill(db, documents)
    evolved: Any = (own_evolve, served[1]) if own else (evolve,)
    alone = Worker(served, evolved[0], "alone", *evolved[1:])
    alone.start()
    _, took_alone, _ = alone.result()
    site = [Worker(served, live, number, pause) for number in range(clients)]
    for worker in site:
        worker.start()
    time.sleep(quiet)
    beside = Worker(served, evolved[0], "beside", *evolved[1:])
    beside.start()
    began, took, retries = beside.result()
    for worker in site:
        worker.stop()
    edits = [edit for worker in site for edit in worker.result()]
    _check(db, ["alone", "beside"], len(edits))
    before = [edit for edit in edits if edit[0] + edit[1] < began]
    during = [edit for edit in edits if edit[0] + edit[1] >= began and edit[0] <= began + took]
    numbers = {
        **_conflicts("", during),
        **_conflicts("quiet ", before),
        "retries": retries,
        "p99 to quiet": _of([edit[1] for edit in during], 99) / _of([edit[1] for edit in before], 99),
        "evolve": took,
        "alone": took_alone,
        "evolve to alone": took / took_alone,
    }
    errors = [[error for edit in part for error in edit[2]] for part in (before, during)]
    told = [causes.table(db.storage, some) for some in errors]
    for who, name in ((causes.LIVE, "of live"), (causes.EVOLVE, "of evolve")):
        numbers[name] = sum(count for (against, where, _), count in told[1].items() if (against, where) == (who, causes.DOCUMENT))
    db.close()
    return numbers, told

"""Owns the measurements of single operations: commits, loads, a hot spot, a copy."""

from __future__ import annotations

import gc
import random
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import persistent
import transaction
import ZODB
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from .sides import database, storage
from .workers import together

#: Objects that are committed and loaded together.
MANY = 1_000
#: Bytes of each.
PAYLOAD = 300
CLIENTS = 8
HOT = 4
#: The cache of the process whose memory is measured, in bytes.
FILLED = 8 << 20


class Thing(persistent.Persistent):
    """An object of about 300 bytes."""

    def __init__(self) -> None:
        self.count = 0
        self.text = "x" * (PAYLOAD - 60)


def fill(db: Any) -> None:
    """What is measured on."""
    with db.transaction() as connection:
        root = connection.root()
        root["many"] = persistent.list.PersistentList(Thing() for _ in range(MANY))
        root["own"] = persistent.list.PersistentList(Thing() for _ in range(CLIENTS))
        root["hot"] = persistent.list.PersistentList([Length(), OOBTree()])


def commits(db: Any, start: Any, stop: Any, number: int, seconds: float) -> list[float]:
    """Commits of one object, one after the other; how long each took."""
    connection = db.open()
    thing = connection.root()["own"][number]
    thing.count
    end, took = start() + seconds, list[float]()
    while (began := time.monotonic()) < end:
        thing.count += 1
        transaction.commit()
        took.append(time.monotonic() - began)
    connection.close()
    return took


def large_commits(db: Any, start: Any, stop: Any, number: int, seconds: float) -> list[float]:
    """Commits of many objects, at least three."""
    connection = db.open()
    things = list(connection.root()["many"])
    for thing in things:
        thing.count
    end, took = start() + seconds, list[float]()
    while (began := time.monotonic()) < end or len(took) < 3:
        for thing in things:
            thing.count += 1
        transaction.commit()
        took.append(time.monotonic() - began)
    connection.close()
    return took


def loads(db: Any, start: Any, stop: Any, number: int, prefetched: bool) -> tuple[float, float]:
    """All of the many, once with nothing in any cache of the client and once from the client's cache: objects a second."""
    connection = db.open()
    oids = [thing._p_oid for thing in connection.root()["many"]]
    rates, began = list[float](), start()
    for _ in ("cold", "warm"):
        if prefetched and not rates:
            connection.prefetch(oids)
        for oid in oids:
            connection.get(oid).count
        rates.append(len(oids) / (time.monotonic() - began))
        connection.cacheMinimize()
        began = time.monotonic()
    connection.close()
    return rates[0], rates[1]


def again(db: Any, start: Any, stop: Any, number: int, served: tuple[str, Any], directory: str) -> float:
    """All of the many by a client that was closed and is opened again, its cache kept in files: objects a second."""
    start()
    rate = 0.0
    for _ in ("first", "again"):
        kept = database(*served, kept_in=directory)
        connection = kept.open()
        oids = [thing._p_oid for thing in connection.root()["many"]]
        began = time.monotonic()
        for oid in oids:
            connection.get(oid).count
        rate = len(oids) / (time.monotonic() - began)
        connection.close()
        kept.close()
    return rate


def hot(db: Any, start: Any, stop: Any, number: int, seconds: float) -> tuple[int, int]:
    """A counter and one tree for all; commits and conflicts."""
    connection = db.open()
    length, tree = connection.root()["hot"]
    order, done, conflicts = random.Random(number), 0, 0
    end = start() + seconds
    while time.monotonic() < end:
        key = f"{order.getrandbits(60):015x}-{number}"
        while True:
            try:
                transaction.begin()
                length.change(1)
                tree[key] = done
                transaction.commit()
                break
            except ConflictError:
                transaction.abort()
                conflicts += 1
        done += 1
    connection.close()
    return done, conflicts


def _check_hot(db: Any, done: int) -> None:
    with db.transaction() as connection:
        length, tree = connection.root()["hot"]
        if not length.value == len(tree) == done:
            raise SystemExit(f"{done} commits, but the counter has {length.value} and the tree {len(tree)} keys")


def _source(path: Path, megabytes: int) -> int:
    """A Data.fs with things of 4 KiB, a hundred in each transaction; its size."""
    file = FileStorage(str(path), create=True)
    db = ZODB.DB(file)
    for part in range(megabytes * 256 // 100 + 1):
        with db.transaction() as connection:
            things = [Thing() for _ in range(100)]
            for thing in things:
                thing.text = "y" * 4096
            connection.root()[part] = persistent.list.PersistentList(things)
    db.close()
    return path.stat().st_size


def imported(served: tuple[str, Any], directory: str, megabytes: int) -> float:
    """A Data.fs copied into an empty database: MB/s."""
    path = Path(directory) / "source.fs"
    size = path.stat().st_size if path.exists() else _source(path, megabytes)
    source, target = FileStorage(str(path), read_only=True), storage(*served)
    began = time.monotonic()
    target.copyTransactionsFrom(source)
    took = time.monotonic() - began
    target.close()
    source.close()
    return size / 1e6 / took


def memory(db: Any, start: Any, stop: Any, number: int, served: tuple[str, Any], directory: str | None) -> float:
    """What a process takes more that has loaded all of an import, with a full cache (in files, or where the side has it) and hardly an
    object: MB."""
    start()
    small = database(*served, FILLED, directory)
    connection, before = small.open(), _resident()
    for part in list(connection.root()):
        for thing in connection.root()[part]:
            thing.count
        connection.cacheMinimize()
    took = _resident() - before
    connection.close()
    small.close()
    return took


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure_copies(served: tuple[str, Any], directory: str, megabytes: int) -> dict[str, float]:
    """What wants an empty database."""
    speed = imported(served, directory, megabytes)
    kept = Path(directory) / "memory"
    kept.mkdir()
    return {
        "import": speed,
        "memory": together(served, 1, memory, served, str(kept))[0],
        "in memory": together(served, 1, memory, served, None)[0],
    }


def measure(served: tuple[str, Any], directory: str, seconds: float) -> dict[str, float]:
    """One round on one server: everything but the import, which wants an empty one."""
    db = database(*served)
    fill(db)
    one = [took for part in together(served, 1, commits, seconds) for took in part]
    eight = together(served, CLIENTS, commits, seconds)
    large = together(served, 1, large_commits, seconds)[0]
    cold, warm = together(served, 1, loads, False)[0]
    prefetched, _ = together(served, 1, loads, True)[0]
    kept = Path(directory) / "again"
    kept.mkdir()
    restarted = together(served, 1, again, served, str(kept))[0]
    spot = together(served, HOT, hot, seconds)
    done = sum(commits for commits, _ in spot)
    _check_hot(db, done)
    db.close()
    return {
        "one": statistics.median(one) * 1e3,
        "eight": sum(len(part) for part in eight) / seconds,
        "large": statistics.median(large) * 1e3,
        "cold": cold,
        "prefetched": prefetched,
        "warm": warm,
        "again": restarted,
        "hot": done / seconds,
        "hot conflicts": sum(conflicts for _, conflicts in spot) * 1e3 / max(1, done),
    }

"""ZODB's own suites for storages with blobs, and for collecting garbage from outside, each test on a server of its own."""

from __future__ import annotations

import os
import tempfile
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from privilege import as_anybody
from serving import Server
from ZODB.tests import testblob
from ZODB.tests.PackableStorage import IExternalGC_suite

from zeolite.zodb import Storage

class Lenient(Storage):
    """One of ZODB's tests gives a serial of no object as text."""

    def storeBlob(self, oid: bytes, oldserial: Any, *rest: Any) -> None:
        super().storeBlob(oid, oldserial.encode() if isinstance(oldserial, str) else oldserial, *rest)


_running: list[tuple[Storage, Server]] = []


def _create(name: str, blob_dir: str, **keywords: Any) -> Storage:
    # Below the directory that the suites make for a test, and remove.
    server = Server(tempfile.mkdtemp(prefix=f"zeolite-{name}-", dir=os.getcwd()))
    storage = Lenient(server.address, blob_dir=blob_dir, **keywords)
    _running.append((storage, server))
    return storage


def _flat(suite: Any) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestCase):
        yield suite
    else:
        for one in suite:
            yield from _flat(one)


BLOBS = testblob.storage_reusable_suite(
    "Zeolite", _create, test_blob_storage_recovery=True, test_packing=True, test_undo=True
)
GARBAGE = IExternalGC_suite(lambda: _create("data", "blobs", pack_gc=False))
TESTS = [*_flat(BLOBS), *_flat(GARBAGE)]


def test_all_of_them_are_found() -> None:
    assert (len([*_flat(BLOBS)]), len([*_flat(GARBAGE)])) == (22, 1), [test.id() for test in TESTS]


@pytest.mark.parametrize("place", range(len(TESTS)), ids=[test.id().rpartition("/")[2] for test in TESTS])
def test_of_zodb(place: int) -> None:
    result = unittest.TestResult()
    try:
        with as_anybody():
            TESTS[place].run(result)
    finally:
        while _running:
            storage, server = _running.pop()
            storage.close()
            server.stop()
    assert result.testsRun == 1 and not result.skipped
    for _, told in (*result.errors, *result.failures):
        pytest.fail(told, pytrace=False)

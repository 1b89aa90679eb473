"""Owns the two sides of the comparison: a server each, in a directory of its own, and how a process opens its database.

Both listen on 127.0.0.1, on a port that the system chooses, and both answer a commit when it is on the disk: ZEO's FileStorage calls fsync
once for each transaction, Zeolite fdatasync once for all that wait.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ZODB

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

#: Of each client, in bytes.
CACHE = 64 << 20
#: Of each of ZODB's connections, in objects: what is measured must not end there.
OBJECTS = 100_000


class Zeolite:
    """The server of this repository."""

    name = "Zeolite"

    def __init__(self, directory: str, settings: list[str]):
        from serving import Server

        self._server = Server(directory, *settings)
        self.address: Any = self._server.address

    def stop(self) -> None:
        self._server.stop()


class Zeo:
    """runzeo over a FileStorage."""

    name = "ZEO"

    def __init__(self, directory: str, settings: list[str]):
        from ZEO._forker import start_zeo_server

        here = os.getcwd()
        os.chdir(directory)
        try:
            # The server that ZEO's own tests start: the same as runzeo, in a process of its own, and it says its port.
            self.address, self._stop = start_zeo_server(path=os.path.join(directory, "Data.fs"), suicide=False)
        finally:
            os.chdir(here)

    def stop(self) -> None:
        self._stop()


SIDES: list[Any] = [Zeolite, Zeo]


def storage(side: str, address: Any) -> Any:
    """A client's storage, its cache empty."""
    if side == Zeolite.name:
        from zeolite.zodb import Storage

        return Storage(address, cache_size=CACHE)
    from ZEO.ClientStorage import ClientStorage

    return ClientStorage(address, cache_size=CACHE, wait=True, wait_timeout=30)


def database(side: str, address: Any) -> Any:
    """ZODB on it."""
    return ZODB.DB(storage(side, address), cache_size=OBJECTS)
